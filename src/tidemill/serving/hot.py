"""The hot routes: prediction and feedback, as plain ASGI beside FastAPI, which would cost several times the work."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from tidemill.errors import ConflictError, InputError, TooLargeError
from tidemill.records import Feedback
from tidemill.runtime.statements import parse_feedback
from tidemill.serving.answering import Answer, json_answer
from tidemill.serving.asgi import Receive
from tidemill.serving.forms import FORM, JSON, declared, parse_form, parse_image, require_readable
from tidemill.serving.guard import Guard, RequestHead
from tidemill.serving.inference import parse_inference
from tidemill.serving.protocol import Place, json_length, place_of, require_served, require_version
from tidemill.serving.repeats import Once, Repeats, header_key
from tidemill.serving.requests import PredictRequest, parse_json, parse_predict, require_short
from tidemill.serving.service import Service
from tidemill.store import FeedbackOutcome

HOT_PATHS = ("/v1/predict", "/v1/feedback")

_SHORT = 100_000
"""Bytes up to which a form or tensors are read at once: long ones can take seconds, while others want answers."""

Handler = Callable[[Service, RequestHead, Receive], Awaitable[Answer]]


class HotRoutes:
    """Answers ``POST`` to ``/v1/predict``, to ``/v1/feedback``, and to inference by the Open Inference Protocol.

    Args:
        guard: reads bodies within limits.
        max_rows: rows of inputs, or statements of feedback, that one request may hold.
    """

    def __init__(self, guard: Guard, max_rows: int) -> None:
        self._guard = guard
        self._max_rows = max_rows
        self._repeats = Repeats()
        self._handlers: dict[str, Handler] = dict(zip(HOT_PATHS, (self.predict, self.feedback), strict=True))

    def find(self, path: str) -> Handler | None:
        """What answers a POST to *path*, if that is a hot one."""
        handler = self._handlers.get(path)
        if handler is None and (place := place_of(path)) is not None:
            return partial(self.infer, place)
        return handler

    async def predict(self, service: Service, head: RequestHead, receive: Receive) -> Answer:
        """Answer rows of inputs; the predictions are on disk when this returns."""
        if head.content_type != b"application/json":
            require_readable(head.content_type)
        body = await self._guard.read_body(receive)
        if head.idempotency_key is None:
            return await self._predict(service, head, body, None)
        once = Once.of(head, "/v1/predict")
        return await self._repeats.answer(once, body, partial(self._predict, service, head, body, once))

    async def _predict(self, service: Service, head: RequestHead, body: bytes, once: Once | None) -> Answer:
        if head.content_type == b"application/json":
            request = parse_predict(body, self._max_rows)
        else:
            request = await self._read(service, head.content_type or b"", body)
        if len(body) > service.max_text:  # otherwise no text in it can be too long
            require_short(request.records, service.follower.served().predictor.signature, service.max_text)
        if once is not None:
            request = dataclasses.replace(request, once=once)
        return Answer(200, await service.batcher.predict(request))

    async def infer(self, place: Place, service: Service, head: RequestHead, receive: Receive) -> Answer:
        """Answer an inference of the Open Inference Protocol; the predictions are on disk when this returns."""
        json_length(head)
        body = await self._guard.read_body(receive)
        if head.idempotency_key is None:
            return await self._infer(place, service, head, body, None)
        once = Once.of(head, f"{place.model}/{place.version}")
        return await self._repeats.answer(once, body, partial(self._infer, place, service, head, body, once))

    async def _infer(self, place: Place, service: Service, head: RequestHead, body: bytes, once: Once | None) -> Answer:
        served = service.follower.served()
        require_served(service.project, served, place)
        read = partial(parse_inference, body, json_length(head), place.model, served.predictor, self._max_rows)
        request, written = read() if len(body) <= _SHORT else await asyncio.to_thread(read)
        if len(body) > service.max_text:
            require_short(request.records, served.predictor.signature, service.max_text)
        if once is not None or place.version is not None:
            request = dataclasses.replace(request, once=once, pinned=place.version is not None)
        answer = written.answer(await service.batcher.predict(request))
        require_version(written.version, place)  # another one may have taken over meanwhile
        return answer

    async def _read(self, service: Service, content_type: bytes, body: bytes) -> PredictRequest:
        """The request in a body that may be something else than JSON."""
        kind = declared(content_type)
        if kind == JSON:
            return parse_predict(body, self._max_rows)
        signature = service.follower.served().predictor.signature
        if kind != FORM:
            return parse_image(body, signature)
        read = partial(parse_form, body, content_type, signature, self._max_rows)
        return read() if len(body) <= _SHORT else await asyncio.to_thread(read)

    async def feedback(self, service: Service, head: RequestHead, receive: Receive) -> Answer:
        """Take one statement of feedback, or a list of them; they are committed when this returns.

        A list is checked whole before anything of it is written. After that only a conflict can refuse a statement,
        and it refuses that one alone.
        """
        self._guard.require_json(head)
        content = parse_json(await self._guard.read_body(receive))
        header = header_key(head)
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
