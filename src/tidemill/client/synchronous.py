"""The client for programs that wait for an answer."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
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


class Client:
    """Asks a service for predictions, and tells it how good they were.

    Every call may be made again safely, and is when the connection breaks or the service asks for patience: it carries
    a key, under which the service gives the first answer again and stores nothing twice. It may be used by several
    threads.

    Args:
        url: of the service.
        token: to be shown at the door; what ``TIDEMILL_TOKEN`` holds unless given.
        timeout: seconds that one try may wait for the connection, and for each part of the answer.
        retries: how patient to be.
        ca: a PEM file of certificates to be trusted, for a service with one of its own.

    Raises:
        InputError: the address or the token is none, or the file holds no certificates.
        NotFoundError: there is no such file.

    >>> with Client("http://127.0.0.1:9", retries=Retries(most=0)) as client:
    ...     client.ready()
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
        self._http = httpx.Client(**settings(url, token, timeout, ca))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    @overload
    def predict(
        self,
        inputs: Mapping[str, Any],
        *,
        key: str | None = None,
        caller: str | None = None,
        idempotency_key: str | None = None,
    ) -> Answer: ...

    @overload
    def predict(
        self,
        inputs: Iterable[Mapping[str, Any]],
        *,
        key: str | None = None,
        caller: str | None = None,
        idempotency_key: str | None = None,
    ) -> list[Answer]: ...

    def predict(
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
                answers += answers_of(content_of(self._call(call)))
            except TooLargeError as error:
                calls.halve(error)
        return answers[0] if isinstance(inputs, Mapping) else answers

    def feedback(
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
        return Receipt.of(content_of(self._call(feedback_call(said))))

    def confirm(self, prediction: Answer | str, *, author: str | None = None, asked: bool = False) -> Receipt:
        """The answer was right."""
        return self.feedback(prediction, kind="confirmation", author=author, asked=asked)

    def correct(
        self, prediction: Answer | str, value: Any, *, author: str | None = None, asked: bool = False
    ) -> Receipt:
        """The answer was wrong, and *value* is right: a label, the list of all right ones, or a number."""
        return self.feedback(prediction, value, author=author, asked=asked)

    def rate(self, prediction: Answer | str, value: float, *, author: str | None = None) -> Receipt:
        """How good the answer was."""
        return self.feedback(prediction, value, kind="rating", author=author)

    def reward(self, prediction: Answer | str, value: float, *, author: str | None = None) -> Receipt:
        """What came of the answer."""
        return self.feedback(prediction, value, kind="reward", author=author)

    def comment(self, prediction: Answer | str, text: str, *, author: str | None = None) -> Receipt:
        """Something about the answer, in words."""
        return self.feedback(prediction, text, kind="comment", author=author)

    def prefer(self, prediction: Answer | str, over: Answer | str, *, author: str | None = None) -> Receipt:
        """The answer was better than another one."""
        return self.feedback(prediction, {"over": identifier(over)}, kind="preference", author=author)

    def feedback_many(self, statements: Iterable[Mapping[str, Any]]) -> Iterator[Receipt]:
        """Many statements, each with ``prediction``, ``kind`` and so on; what became of each, in their order.

        They are read and sent bit by bit, so there may be any number. One that does not fit stops no other: its receipt
        says why.

        Raises:
            TidemillError: the service cannot be reached, or lets nothing in.
        """
        for call in bulk_calls(statements):
            yield from receipts_of(self._call(call))

    def models(self) -> list[dict[str, Any]]:
        """The project's models, newest first; ``champion`` marks the one that answers."""
        found: list[dict[str, Any]] = content_of(self._call(Call("GET", "/v1/models")))["data"]
        return found

    def trace(self, identifier: str) -> dict[str, Any]:
        """The whole line that an id stands in; this needs the scope ``admin``.

        Raises:
            NotFoundError: no record has this id.
        """
        found: dict[str, Any] = content_of(self._call(Call("GET", path_of_trace(identifier))))
        return found

    def ready(self) -> bool:
        """Whether the service can predict now; asked once."""
        try:
            return self._http.get("/readyz").is_success
        except httpx.TransportError:
            return False

    def _call(self, call: Call) -> httpx.Response:
        tries = Tries(self._retries, str(self._http.base_url), call.lines)
        while True:
            outcome: httpx.Response | httpx.TransportError
            try:
                outcome = self._http.request(call.method, call.path, content=call.content, headers=call.headers)
            except httpx.TransportError as error:
                outcome = error
            result = tries.after(outcome)
            if isinstance(result, httpx.Response):
                return result
            time.sleep(result)
