"""The door for what people say: one statement, or a list of them; the bulk door is :mod:`tidemill.serving.bulk`."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tidemill.errors import ConflictError, InputError, TooLargeError
from tidemill.records import Feedback
from tidemill.runtime.statements import parse_feedback, require_answer
from tidemill.serving.answering import Answer, json_answer
from tidemill.serving.asgi import Receive
from tidemill.serving.guard import Guard, RequestHead
from tidemill.serving.marks import marked
from tidemill.serving.repeats import header_key
from tidemill.serving.requests import parse_json
from tidemill.serving.service import Service
from tidemill.store import FeedbackOutcome

AT_ONCE = 500
"""Statements of one caller that are committed together: they hold the write lock for some ten milliseconds."""


class FeedbackDoor:
    """Answers ``POST /v1/feedback``.

    Args:
        guard: reads bodies within limits.
        max_rows: statements that one request may hold.
    """

    def __init__(self, guard: Guard, max_rows: int) -> None:
        self._guard = guard
        self._max_rows = max_rows

    async def answer(self, service: Service, head: RequestHead, receive: Receive) -> Answer:
        """Take one statement of feedback, or a list of them; they are committed when this returns.

        A list is checked whole before anything of it is written. After that only a conflict can refuse a statement,
        and it refuses that one alone.
        """
        body = await self._guard.read_body(receive)
        self._guard.require_json(head)
        content = parse_json(body)
        header = header_key(head)
        if "feedback" not in content:
            item = parse_feedback(content, "body", service.follower.feedback_spec(), service.knows, via=head.via)
            await require_answers(service, [item], ["body"])
            with marked("commit"):
                outcome = await service.deadlines.keep(service.lone.submit(_keyed(item, content, header, header)))
            if outcome.status == "conflict":
                raise conflict(outcome, "body.key")
            return json_answer(told(outcome), 201 if outcome.status == "accepted" else 200)
        items = self._parse_list(service, content, header, head.via)
        await require_answers(service, items, [f"feedback[{i}]" for i in range(len(items))])
        portions = [items[start : start + AT_ONCE] for start in range(0, len(items), AT_ONCE)]
        waiting = [asyncio.wrap_future(service.feedback.submit_all(portion)) for portion in portions]
        with marked("commit"):
            done = await service.deadlines.keep(asyncio.gather(*waiting))
        return _answer_list([outcome for outcomes in done for outcome in outcomes])

    def _parse_list(
        self, service: Service, content: Mapping[str, Any], header: str | None, via: str | None
    ) -> list[Feedback]:
        statements = content["feedback"]
        if not isinstance(statements, list) or not statements or len(content) > 1:
            raise InputError(
                "feedback is not a list of statements, or not alone",
                where="body",
                mend='Give {"feedback": [{…}, …]} and nothing beside it, or one statement as the body itself.',
            )
        if len(statements) > self._max_rows:
            raise TooLargeError(
                f"{len(statements)} statements are over the limit of {self._max_rows}",
                where="feedback",
                mend="Send them to /v1/feedback/bulk, split them, or raise serve.max_rows in tidemill.yaml.",
            )
        answer = service.follower.feedback_spec()
        items = []
        for i, statement in enumerate(statements):
            where = f"feedback[{i}]"
            if not isinstance(statement, dict):
                raise InputError("the statement is not an object", where=where, mend="Give {FIELD: VALUE, …}.")
            item = parse_feedback(statement, where, answer, service.knows, via=via)
            items.append(_keyed(item, statement, header, None if header is None else f"{header}#{i}"))
        return items


async def require_answers(service: Service, items: Sequence[Feedback], places: Sequence[str]) -> None:
    """Refuse to confirm what the model did not answer, as far as the tables tell.

    What they do not hold yet is taken: a confirmation of no answer settles on no label.

    Raises:
        InputError: an item confirms a prediction on which the model abstained.
    """
    if not service.may_abstain():
        return
    confirmed = {item.subject for item in items if item.kind == "confirmation"}
    if not confirmed:
        return
    answers = await service.deadlines.keep(asyncio.wrap_future(service.given(confirmed)))
    for item, place in zip(items, places, strict=True):
        if item.kind == "confirmation":
            require_answer(answers.get(item.subject), f"{place}.kind")


def told(outcome: FeedbackOutcome) -> dict[str, Any]:
    """What became of a statement, as callers are told."""
    return {"feedback": outcome.feedback.id, "status": outcome.status, "superseded": outcome.superseded}


def conflict(outcome: FeedbackOutcome, where: str) -> ConflictError:
    """The error of a key that was used before with another body."""
    return ConflictError(
        f"the key {outcome.feedback.key!r} was used before with another body",
        where=where,
        mend="Send the same body to repeat a statement, or a new key to make another one.",
    )


def _keyed(item: Feedback, content: Mapping[str, Any], header: str | None, key: str | None) -> Feedback:
    """*item* under the key of the header, unless its body has the same or its own."""
    if key is None:
        return item
    if content.get("key") is None:
        return dataclasses.replace(item, key=key)
    if item.key != header:
        raise ConflictError(
            "the Idempotency-Key header and the body's key differ", where="key", mend="Send one of them only."
        )
    return item


def _answer_list(outcomes: list[FeedbackOutcome]) -> Answer:
    said = [told(outcome) for outcome in outcomes]
    conflicts = [i for i, outcome in enumerate(outcomes) if outcome.status == "conflict"]
    if conflicts:
        error = conflict(outcomes[conflicts[0]], f"feedback[{conflicts[0]}].key")
        return json_answer({**error.to_json(), "feedback": said}, error.status)
    return json_answer({"feedback": said}, 201 if any(o.status == "accepted" for o in outcomes) else 200)
