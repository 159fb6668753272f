"""How answers leave: one small value for a whole HTTP answer, and the one form that every error has."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import orjson

from tidemill.errors import BusyError, InputError, NotReadyError, StoreError, TidemillError, TooLargeError
from tidemill.records import new_id
from tidemill.serving.asgi import Message, Scope, Send

logger = logging.getLogger("tidemill.serving")

Headers = tuple[tuple[bytes, bytes], ...]

_JSON: Headers = ((b"content-type", b"application/json"), (b"x-content-type-options", b"nosniff"))
CLOSE: Headers = ((b"connection", b"close"),)
_RETRY_AFTER: dict[type[TidemillError], bytes] = {NotReadyError: b"2", StoreError: b"5", BusyError: b"1"}


class RequestError(InputError):
    """A request that is wrong as HTTP or as JSON, before its content is looked at; ``status`` says how."""

    def __init__(
        self, status: int, what: str, *, where: str | None = None, mend: str | None = None, headers: Headers = ()
    ) -> None:
        super().__init__(what, where=where, mend=mend)
        self.http_status = status
        self.headers = headers


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole HTTP answer.

    Attributes:
        status: the HTTP status.
        body: JSON bytes.
        headers: besides content type and length.
    """

    status: int
    body: bytes
    headers: Headers = ()

    async def send(self, send: Send) -> None:
        """Hand the answer to the server."""
        length = (b"content-length", str(len(self.body)).encode())
        start: Message = {
            "type": "http.response.start",
            "status": self.status,
            "headers": [*_JSON, length, *self.headers],
        }
        await send(start)
        await send({"type": "http.response.body", "body": self.body})


def json_answer(content: Any, status: int = 200, headers: Headers = ()) -> Answer:
    """An answer with *content* as JSON."""
    return Answer(status, orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY), headers)


def error_answer(error: TidemillError) -> Answer:
    """The answer that tells of *error*: its status, its what, where and mend, and when to try again if that helps.

    >>> error_answer(InputError("age is not a number", where="inputs", mend="Give a number.")).status
    422
    """
    if isinstance(error, RequestError):
        return json_answer(error.to_json(), error.http_status, error.headers)
    if isinstance(error, TooLargeError):  # the rest of the body may still be on its way, and is not wanted
        return json_answer(error.to_json(), error.status, CLOSE)
    for kind, seconds in _RETRY_AFTER.items():
        if isinstance(error, kind):
            return json_answer(error.to_json(), 503, ((b"retry-after", seconds),))
    return json_answer(error.to_json(), error.status)


def log_fault(scope: Scope, error: Exception) -> Answer:
    """Log a fault of ours with its traceback under a new id, and answer with that id and nothing else."""
    fault = new_id("fault")
    logger.error("%s: %s %s failed", fault, scope["method"], scope["path"], exc_info=error)
    body = {
        "code": "internal",
        "what": "the server met a fault of its own while answering",
        "where": fault,
        "mend": f"Look for {fault} in the server's log: it says what happened.",
    }
    return json_answer({"error": body}, 500)
