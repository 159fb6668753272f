"""The hot routes: prediction and feedback, as plain ASGI beside FastAPI, which would cost several times the work."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from functools import partial

from tidemill.serving.answering import Answer
from tidemill.serving.asgi import Receive
from tidemill.serving.bulk import BulkAnswer, BulkDoor
from tidemill.serving.describing import BULK
from tidemill.serving.feedback import FeedbackDoor
from tidemill.serving.forms import FORM, JSON, declared, parse_form, parse_image, require_readable
from tidemill.serving.guard import Guard, RequestHead
from tidemill.serving.inference import parse_inference
from tidemill.serving.protocol import Place, json_length, place_of, require_name, require_served, require_version
from tidemill.serving.repeats import Once, Repeats
from tidemill.serving.requests import PredictRequest, parse_predict, require_short
from tidemill.serving.service import Service

HOT_PATHS = ("/v1/predict", "/v1/feedback", BULK)

_SHORT = 100_000
"""Bytes up to which a form or tensors are read at once: long ones can take seconds, while others want answers."""

Handler = Callable[[Service, RequestHead, Receive], Awaitable[Answer | BulkAnswer]]


class HotRoutes:
    """Answers ``POST`` to ``/v1/predict``, to both doors of feedback, and to inference by the Open Inference Protocol.

    Args:
        guard: reads bodies within limits.
        max_rows: rows of inputs, or statements of feedback, that one request may hold.
    """

    def __init__(self, guard: Guard, max_rows: int) -> None:
        self._guard = guard
        self._max_rows = max_rows
        self._repeats = Repeats()
        feedback = FeedbackDoor(guard, max_rows)
        answers: tuple[Handler, ...] = (self.predict, feedback.answer, BulkDoor().answer)
        self._handlers: dict[str, Handler] = dict(zip(HOT_PATHS, answers, strict=True))

    def find(self, path: str) -> Handler | None:
        """What answers a POST to *path*, if that is a hot one."""
        handler = self._handlers.get(path)
        if handler is None and (place := place_of(path)) is not None:
            return partial(self.infer, place)
        return handler

    async def predict(self, service: Service, head: RequestHead, receive: Receive) -> Answer:
        """Answer rows of inputs; the predictions are on disk when this returns."""
        body = await self._guard.read_body(receive)  # unread, it would cost the connection and with it the answer
        if head.content_type == b"application/json":
            request = parse_predict(body, self._max_rows)
        else:
            require_readable(head.content_type)
            request = await self._read(service, head.content_type or b"", body)
        if len(body) > service.max_text:  # otherwise no text in it can be too long
            require_short(request.records, service.follower.served().predictor.signature, service.max_text)
        if head.idempotency_key is None:
            return Answer(200, await service.batcher.predict(request))
        once = Once.of(head, "/v1/predict")
        request = dataclasses.replace(request, once=once)
        return await self._repeats.answer(once, request.content(), partial(self._predict, service, request))

    async def _predict(self, service: Service, request: PredictRequest) -> Answer:
        return Answer(200, await service.batcher.predict(request))

    async def infer(self, place: Place, service: Service, head: RequestHead, receive: Receive) -> Answer:
        """Answer an inference of the Open Inference Protocol; the predictions are on disk when this returns."""
        require_name(service.project, service.follower.served(), place)
        body = await self._guard.read_body(receive)
        length = json_length(head)
        if head.idempotency_key is None:
            return await self._infer(place, service, body, length, None)
        once = Once.of(head, f"{place.model}/{place.version}")
        return await self._repeats.answer(once, body, partial(self._infer, place, service, body, length, once))

    async def _infer(
        self, place: Place, service: Service, body: bytes, length: int | None, once: Once | None
    ) -> Answer:
        served = service.follower.served()
        require_served(service.project, served, place)
        read = partial(parse_inference, body, length, place.model, served.predictor, self._max_rows)
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
