"""How answers leave: one small value for a whole HTTP answer, and the one form that every error has."""

from __future__ import annotations

import logging
import math
from typing import Any, NamedTuple

import orjson

from tidemill.errors import BusyError, InputError, NotReadyError, StoreError, TidemillError, TooLargeError
from tidemill.records import new_id
from tidemill.serving.asgi import Message, Scope, Send
from tidemill.serving.wire import Wire, header_lines

logger = logging.getLogger("tidemill.serving")

Headers = tuple[tuple[bytes, bytes], ...]

SECURE: Headers = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)
"""What every answer tells browsers and caches: it is data and no page, and it is for whoever asked for it alone."""
CLOSE: Headers = ((b"connection", b"close"),)
LONGEST_RETRY = 60
_JSON: Headers = ((b"content-type", b"application/json"), *SECURE)
_HEAD = header_lines(_JSON)
_RETRY_AFTER: dict[type[TidemillError], bytes] = {NotReadyError: b"2", StoreError: b"5", BusyError: b"1"}


class RequestError(InputError):
    """A request that is wrong as HTTP or as JSON, before its content is looked at; ``status`` says how."""

    def __init__(
        self, status: int, what: str, *, where: str | None = None, mend: str | None = None, headers: Headers = ()
    ) -> None:
        super().__init__(what, where=where, mend=mend)
        self.http_status = status
        self.headers = headers


class RetryError(RequestError):
    """A request that is right, at a wrong moment; it may be sent again after *seconds*."""

    def __init__(self, status: int, what: str, seconds: float, *, where: str | None = None, mend: str) -> None:
        super().__init__(status, what, where=where, mend=mend, headers=retry_after(seconds))


class Answer(NamedTuple):
    """A whole HTTP answer.

    Attributes:
        status: the HTTP status.
        body: JSON bytes.
        headers: besides content type and length.
    """

    status: int
    body: bytes
    headers: Headers = ()

    def all_headers(self) -> Headers:
        """Every header, with the content's type and length."""
        return (*_JSON, (b"content-length", str(len(self.body)).encode()), *self.headers)

    async def send(self, send: Send) -> None:
        """Hand the answer to the server."""
        if isinstance(send, Wire) and not self.headers:
            await send.whole(self.status, b"%scontent-length: %d\r\n" % (_HEAD, len(self.body)), self.body)
            return
        start: Message = {"type": "http.response.start", "status": self.status, "headers": self.all_headers()}
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


def retry_after(seconds: float) -> Headers:
    """The header that says so: whole seconds, at least 1, and not so many that nobody would come back.

    >>> retry_after(0.01), retry_after(1e9)
    (((b'retry-after', b'1'),), ((b'retry-after', b'60'),))
    """
    return ((b"retry-after", str(min(max(1, math.ceil(seconds)), LONGEST_RETRY)).encode()),)


def secured(message: Message) -> Message:
    """*message*, the start of an answer, with those of :data:`SECURE` that it does not have yet."""
    given = {name for name, _ in message["headers"]}
    missing = [(name, value) for name, value in SECURE if name not in given]
    return {**message, "headers": [*message["headers"], *missing]}


def log_fault(scope: Scope, error: Exception) -> Answer:
    """Log a fault of ours with its traceback under a new id, and answer with that id and nothing else."""
    fault = new_id("fault")
    logger.error("%s: %s %.200r failed", fault, scope["method"], scope["path"], exc_info=error)
    body = {
        "code": "internal",
        "what": "the server met a fault of its own while answering",
        "where": fault,
        "mend": f"Look for {fault} in the server's log: it says what happened.",
    }
    return json_answer({"error": body}, 500)
