"""The same client for programs that do other things meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, overload

import httpx

from tidemill.client.answers import Answer, Receipt, answers_of
from tidemill.client.calls import (
    Call,
    PredictCalls,
    bulk_calls,
    content_of,
    feedback_call,
    identifier,
    path_of_trace,
    receipts_of,
    settings,
    statement,
)
from tidemill.client.retrying import Retries, Tries
from tidemill.errors import TooLargeError


class AsyncClient:
    """As :class:`~tidemill.client.synchronous.Client`, with methods to be awaited.

    >>> async def ask() -> bool:
    ...     async with AsyncClient("http://127.0.0.1:9", retries=Retries(most=0)) as client:
    ...         return await client.ready()
    >>> asyncio.run(ask())
    False
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8321",
        token: str | None = None,
        *,
        timeout: float = 10.0,
        retries: Retries | None = None,
        ca: str | Path | None = None,
    ) -> None:
        self._retries = retries or Retries()
        self._http = httpx.AsyncClient(**settings(url, token, timeout, ca))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    @overload
    async def predict(
        self,
        inputs: Mapping[str, Any],
        *,
        key: str | None = None,
        caller: str | None = None,
        idempotency_key: str | None = None,
    ) -> Answer: ...

    @overload
    async def predict(
        self,
        inputs: Iterable[Mapping[str, Any]],
        *,
        key: str | None = None,
        caller: str | None = None,
        idempotency_key: str | None = None,
    ) -> list[Answer]: ...

    async def predict(
        self,
        inputs: Mapping[str, Any] | Iterable[Mapping[str, Any]],
        *,
        key: str | None = None,
        caller: str | None = None,
        idempotency_key: str | None = None,
    ) -> Answer | list[Answer]:
        """The answer to one row, or to several in their order.

        More than 500 rows, or 8 MB of them, are sent in several requests, and what the service finds too large for one
        request is sent in two.

        Args:
            inputs: a mapping, or several: field to value. An image is a :class:`~pathlib.Path`, the bytes of a file, an
                array of 0 to 255, or a picture of Pillow's.
            key: your own split key for all rows, such as a user's id.
            caller: who asks.
            idempotency_key: the same for a request that is to be answered once only; one of its own unless given.

        Raises:
            InputError: a row does not fit; the message names row and field.
            TooLargeError: a row is over a limit.
            AccessError: the token is missing or not good.
            ConflictError: the idempotency key came with other rows before.
            NotReadyError: nothing has been promoted yet.
            BusyError: the service is overloaded, or asked too often.
            ServiceError: the service cannot be reached.
        """
        rows = [inputs] if isinstance(inputs, Mapping) else inputs
        answers: list[Answer] = []
        calls = PredictCalls(rows, key, caller, idempotency_key)
        for call in calls:
            try:
                answers += answers_of(content_of(await self._call(call)))
            except TooLargeError as error:
                calls.halve(error)
        return answers[0] if isinstance(inputs, Mapping) else answers

    async def feedback(
        self,
        prediction: Answer | str,
        value: Any = None,
        *,
        kind: str = "correction",
        author: str | None = None,
        asked: bool = False,
        key: str | None = None,
    ) -> Receipt:
        """State something about a prediction; committed when this returns.

        Args:
            prediction: the answer, or its id.
            value: what the kind asks for.
            kind: ``confirmation``, ``correction``, ``rating``, ``comment``, ``preference`` or ``reward``.
            author: who says it.
            asked: it answers an audit request.
            key: idempotency key; one of its own unless given.

        Raises:
            InputError: the statement does not fit; the message names the nearest label.
            NotFoundError: no prediction has this id.
            ConflictError: the key was used before with another statement.
            TidemillError: see :meth:`predict`.
        """
        said = statement(prediction, kind, value, author, key, asked=asked)
        return Receipt.of(content_of(await self._call(feedback_call(said))))

    async def confirm(self, prediction: Answer | str, *, author: str | None = None, asked: bool = False) -> Receipt:
        """The answer was right."""
        return await self.feedback(prediction, kind="confirmation", author=author, asked=asked)

    async def correct(
        self, prediction: Answer | str, value: Any, *, author: str | None = None, asked: bool = False
    ) -> Receipt:
        """The answer was wrong, and *value* is right: a label, the list of all right ones, or a number."""
        return await self.feedback(prediction, value, author=author, asked=asked)

    async def rate(self, prediction: Answer | str, value: float, *, author: str | None = None) -> Receipt:
        """How good the answer was."""
        return await self.feedback(prediction, value, kind="rating", author=author)

    async def reward(self, prediction: Answer | str, value: float, *, author: str | None = None) -> Receipt:
        """What came of the answer."""
        return await self.feedback(prediction, value, kind="reward", author=author)

    async def comment(self, prediction: Answer | str, text: str, *, author: str | None = None) -> Receipt:
        """Something about the answer, in words."""
        return await self.feedback(prediction, text, kind="comment", author=author)

    async def prefer(self, prediction: Answer | str, over: Answer | str, *, author: str | None = None) -> Receipt:
        """The answer was better than another one."""
        return await self.feedback(prediction, {"over": identifier(over)}, kind="preference", author=author)

    async def feedback_many(self, statements: Iterable[Mapping[str, Any]]) -> AsyncIterator[Receipt]:
        """Many statements, each with ``prediction``, ``kind`` and so on; what became of each, in their order.

        They are read and sent bit by bit, so there may be any number. One that does not fit stops no other: its receipt
        says why.

        Raises:
            TidemillError: the service cannot be reached, or lets nothing in.
        """
        for call in bulk_calls(statements):
            for receipt in receipts_of(await self._call(call)):
                yield receipt

    async def models(self) -> list[dict[str, Any]]:
        """The project's models, newest first; ``champion`` marks the one that answers."""
        found: list[dict[str, Any]] = content_of(await self._call(Call("GET", "/v1/models")))["data"]
        return found

    async def trace(self, identifier: str) -> dict[str, Any]:
        """The whole line that an id stands in; this needs the scope ``admin``.

        Raises:
            NotFoundError: no record has this id.
        """
        found: dict[str, Any] = content_of(await self._call(Call("GET", path_of_trace(identifier))))
        return found

    async def ready(self) -> bool:
        """Whether the service can predict now; asked once."""
        try:
            return (await self._http.get("/readyz")).is_success
        except httpx.TransportError:
            return False

    async def _call(self, call: Call) -> httpx.Response:
        tries = Tries(self._retries, str(self._http.base_url), call.lines)
        while True:
            outcome: httpx.Response | httpx.TransportError
            try:
                outcome = await self._http.request(call.method, call.path, content=call.content, headers=call.headers)
            except httpx.TransportError as error:
                outcome = error
            result = tries.after(outcome)
            if isinstance(result, httpx.Response):
                return result
            await asyncio.sleep(result)
