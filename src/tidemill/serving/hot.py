"""The hot routes: prediction and feedback, as plain ASGI beside FastAPI, which would cost several times the work."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from tidemill.errors import ConflictError, InputError, TooLargeError
from tidemill.records import Feedback
from tidemill.runtime.statements import name, parse_feedback
from tidemill.serving.answering import Answer, json_answer
from tidemill.serving.asgi import Receive
from tidemill.serving.guard import Guard, RequestHead
from tidemill.serving.requests import parse_json, parse_predict, require_short
from tidemill.serving.service import Service
from tidemill.store import FeedbackOutcome

HOT_PATHS = ("/v1/predict", "/v1/feedback")

Handler = Callable[[Service, RequestHead, Receive], Awaitable[Answer]]


class HotRoutes:
    """Answers ``POST /v1/predict`` and ``POST /v1/feedback``.

    Args:
        guard: reads bodies within limits.
        max_rows: rows of inputs, or statements of feedback, that one request may hold.
    """

    def __init__(self, guard: Guard, max_rows: int) -> None:
        self._guard = guard
        self._max_rows = max_rows
        self.handlers: dict[str, Handler] = dict(zip(HOT_PATHS, (self.predict, self.feedback), strict=True))

    async def predict(self, service: Service, head: RequestHead, receive: Receive) -> Answer:
        """Answer rows of inputs; the predictions are on disk when this returns."""
        self._guard.require_json(head)
        body = await self._guard.read_body(receive)
        request = parse_predict(body, self._max_rows)
        if len(body) > service.max_text:  # otherwise no text in it can be too long
            require_short(request.records, service.follower.served().predictor.signature, service.max_text)
        return Answer(200, await service.batcher.predict(request))

    async def feedback(self, service: Service, head: RequestHead, receive: Receive) -> Answer:
        """Take one statement of feedback, or a list of them; they are committed when this returns.

        A list is checked whole before anything of it is written. After that only a conflict can refuse a statement,
        and it refuses that one alone.
        """
        self._guard.require_json(head)
        content = parse_json(await self._guard.read_body(receive))
        header = _header_key(head)
        if "feedback" not in content:
            item = parse_feedback(content, "body", service.follower.feedback_spec(), service.knows, service.given)
            submitted = service.feedback.submit(_keyed(item, content, header, header))
            outcome = await service.deadlines.keep(asyncio.wrap_future(submitted))
            if outcome.status == "conflict":
                raise _conflict(outcome, "body.key")
            return json_answer(_told(outcome), 201 if outcome.status == "accepted" else 200)
        items = self._parse_list(service, content, header)
        waiting = [asyncio.wrap_future(service.feedback.submit(item)) for item in items]
        return _answer_list(await service.deadlines.keep(asyncio.gather(*waiting)))

    def _parse_list(self, service: Service, content: Mapping[str, Any], header: str | None) -> list[Feedback]:
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
                mend="Split them over several requests, or raise serve.max_rows in tidemill.yaml.",
            )
        answer = service.follower.feedback_spec()
        items = []
        for i, statement in enumerate(statements):
            where = f"feedback[{i}]"
            if not isinstance(statement, dict):
                raise InputError("the statement is not an object", where=where, mend="Give {FIELD: VALUE, …}.")
            item = parse_feedback(statement, where, answer, service.knows, service.given)
            items.append(_keyed(item, statement, header, None if header is None else f"{header}#{i}"))
        return items


def _header_key(head: RequestHead) -> str | None:
    if head.idempotency_key is None:
        return None
    return name({"Idempotency-Key": head.idempotency_key.decode("latin-1").strip('"')}, "Idempotency-Key", "headers")


def _keyed(item: Feedback, content: Mapping[str, Any], header: str | None, key: str | None) -> Feedback:
    """*item* under the key of the header, unless its body has the same or its own."""
    if key is None:
        return item
    if content.get("key") is None:
        return dataclasses.replace(item, key=key)
    if item.key != header:
        raise InputError(
            "the Idempotency-Key header and the body's key differ", where="key", mend="Send one of them only."
        )
    return item


def _told(outcome: FeedbackOutcome) -> dict[str, Any]:
    return {"feedback": outcome.feedback.id, "status": outcome.status, "superseded": outcome.superseded}


def _conflict(outcome: FeedbackOutcome, where: str) -> ConflictError:
    return ConflictError(
        f"the key {outcome.feedback.key!r} was used before with another body",
        where=where,
        mend="Send the same body to repeat a statement, or a new key to make another one.",
    )


def _answer_list(outcomes: list[FeedbackOutcome]) -> Answer:
    told = [_told(outcome) for outcome in outcomes]
    conflicts = [i for i, outcome in enumerate(outcomes) if outcome.status == "conflict"]
    if conflicts:
        error = _conflict(outcomes[conflicts[0]], f"feedback[{conflicts[0]}].key")
        return json_answer({**error.to_json(), "feedback": told}, error.status)
    return json_answer({"feedback": told}, 201 if any(o.status == "accepted" for o in outcomes) else 200)
