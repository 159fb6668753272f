"""Lines on stderr about each request, as text or as JSON, when ``serve.log`` asks for them.

A line says who asked for what, how it ended and how long it took, with the ids of the predictions and statements that
were made: from an id to its inputs leads ``tidemill trace``. Tokens, inputs, answers and the address's query are never
in it. Lines are written by a thread of their own, so that a terminal that nobody reads holds up no answer.
"""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import queue
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Literal, TextIO, cast

import orjson

from tidemill.records import new_id
from tidemill.serving.asgi import ASGIApp, Message, Receive, Scope, Send
from tidemill.serving.protocol import place_of

requests = logging.getLogger("tidemill.requests")

MOST_IDS = 50
_WAITING_LINES = 10_000
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_BODY_LOOKED_AT = 1_000_000
_INFERRED = re.compile(
    rb'\{"model_name":"[^"]*","model_version":"(?P<model>\w+)".*?"predictions":"(?P<ids>[\w,]+)"\}', re.DOTALL
)


@contextlib.contextmanager
def logged_to(stream: TextIO, form: Literal["text", "json"] | None) -> Iterator[None]:
    """While inside, what ``tidemill`` logs goes to *stream* in this form; with ``None`` nothing is changed."""
    if form is None:
        yield
        return
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    lines: queue.Queue[logging.LogRecord] = queue.Queue(_WAITING_LINES)
    writer = _Writer(lines, handler)
    root, entry = logging.getLogger("tidemill"), _Dropping(lines)
    before = root.level
    root.addHandler(entry)
    root.setLevel(logging.INFO)
    writer.start()
    try:
        yield
    finally:
        root.removeHandler(entry)
        root.setLevel(before)
        writer.stop()


class _Dropping(logging.handlers.QueueHandler):
    """Rather loses lines than memory or time."""

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record  # the formatter is in this process, so the traceback may stay what it is

    def enqueue(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(queue.Full):
            self.queue.put_nowait(record)


class _Writer(logging.handlers.QueueListener):
    """Writes what is queued, to the last line."""

    def enqueue_sentinel(self) -> None:
        cast("queue.Queue[Any]", self.queue).put(None)  # the end waits for room, where a line would be dropped


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and what else is known."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


class TextLines(logging.Formatter):
    """The same for people."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        when = time.strftime("%H:%M:%S", time.localtime(record.created))
        fields = " ".join(f"{name}={_short(value)}" for name, value in getattr(record, "fields", {}).items())
        text = " ".join(filter(None, [when, record.levelname.lower(), record.getMessage(), fields]))
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def _short(value: Any) -> str:
    text = ",".join(value) if isinstance(value, list) else str(value)
    return text if text.isascii() and text.isprintable() and " " not in text else repr(text)


class RequestLog:
    """*app*, with a line for each request.

    The caller's ``X-Request-Id`` (up to 64 letters, digits, ``.``, ``_`` and ``-``), or a new one, stands in the line
    and in the answer, so that the logs of several services can be laid side by side.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status, body = time.perf_counter(), 0, b""
        identifier = _given_id(scope) or new_id("req").encode()

        async def noting(message: Message) -> None:
            nonlocal status, body
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], (b"x-request-id", identifier)]}
            elif not body:
                body = message.get("body", b"")
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            fields = {
                "request": identifier.decode(),
                "method": scope["method"],
                "path": scope["path"][:200],
                "status": status,
                "ms": round((time.perf_counter() - started) * 1000, 2),
                "address": client[0] if (client := scope.get("client")) else None,
                "token": scope.get("tidemill.token"),
                "trace": scope.get("tidemill.trace"),
                **_ids(scope["method"], scope["path"], status, body),
            }
            fields = {name: value for name, value in fields.items() if value is not None}
            requests.log(logging.INFO if status < 500 else logging.WARNING, "request", extra={"fields": fields})


def _given_id(scope: Scope) -> bytes | None:
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), None)
    return given if given is not None and _REQUEST_ID.fullmatch(given) else None


def _ids(method: str, path: str, status: int, body: bytes) -> dict[str, Any]:
    """The ids of what a request made, read from its answer; an answer that cannot be read leaves a line without."""
    if method != "POST" or not 200 <= status < 300 or len(body) > _BODY_LOOKED_AT:
        return {}
    try:
        return _read(path, body)
    except Exception:  # whatever it is, a line in the log must not fail a request that is answered
        return {}


def _read(path: str, body: bytes) -> dict[str, Any]:
    if place_of(path) is not None:
        return _inferred(body)
    if path not in ("/v1/predict", "/v1/feedback", "/v1/answers"):
        return {}
    answer = orjson.loads(body)
    if path == "/v1/answers":
        return {"answers": [one["id"] for one in answer["answers"]][:MOST_IDS]}
    if path == "/v1/predict":
        made = [prediction["id"] for prediction in answer["predictions"]]
        return {"model": answer["model"], "predictions": made[:MOST_IDS], "rows": len(made)}
    said = answer["feedback"]
    made = [said] if isinstance(said, str) else [one["feedback"] for one in said]
    return {"feedback": made[:MOST_IDS]}


def _inferred(body: bytes) -> dict[str, Any]:
    """The ids of an inference, whose answer may have bytes behind its JSON."""
    found = _INFERRED.match(body)
    if found is None:
        return {}
    made = found["ids"].decode().split(",")
    return {"model": found["model"].decode(), "predictions": made[:MOST_IDS], "rows": len(made)}
