"""One connection: how long a request may take to arrive, how large its head may be, and who makes room for whom.

Uvicorn waits for ever for the rest of a head or a body, and takes heads of any size. A few hundred connections that
send a byte now and then would keep everybody else out. Here every connection lies on a shelf while it is waited for,
the longest waited for in front: one look now and then clears what has lain for too long, and when there are too many
connections, one that is not being answered makes room for the newcomer. No request pays for a timer of its own.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from tidemill.serving.answering import CLOSE, Answer, Headers, RequestError, error_answer, retry_after
from tidemill.serving.asgi import ASGIApp, Receive, Scope, Send
from tidemill.serving.describing import BULK
from tidemill.serving.wire import header_lines

MOST_HEADERS = 100
LARGEST_HEAD = 32_768

Shelf = dict["Connection", float]


@dataclass(frozen=True)
class Shelves:
    """The connections that are waited for, by what is awaited, each with the time since when; and for how long at most.

    Attributes:
        most: connections in all.
        head_seconds: until a request's head is there.
        body_seconds: from then on until its body is there; of a body of any size, until its next piece is.
        answer_seconds: until a caller who stopped reading its answer goes on reading.
        idle: nothing has come since the last answer.
        heads: a head has begun, or a connection.
        bodies: a head is there, but not all of the body.
        slow: an answer is there, but nobody reads it.
    """

    most: int
    head_seconds: float = 10.0
    body_seconds: float = 30.0
    answer_seconds: float = 30.0
    idle: Shelf = field(default_factory=dict)
    heads: Shelf = field(default_factory=dict)
    bodies: Shelf = field(default_factory=dict)
    slow: Shelf = field(default_factory=dict)

    def clear(self, now: float) -> None:
        """Give up what has lain for too long; *now* is the event loop's time."""
        for connection in _older(self.heads, now - self.head_seconds):
            connection.give_up("the request's head", self.head_seconds)
        for connection in _older(self.bodies, now - self.body_seconds):
            connection.give_up("the body", self.body_seconds)
        for connection in _older(self.slow, now - self.answer_seconds):
            connection.transport.abort()

    def make_room(self, newcomer: Connection) -> bool:
        """Close the connection that has been of no use for longest; whether there was one."""
        for shelf in (self.idle, self.heads):
            for connection in shelf:
                if connection is not newcomer:
                    connection.take_off()
                    connection.transport.abort()
                    return True
        return False


def _older(shelf: Shelf, than: float) -> list[Connection]:
    found = []
    for connection, since in shelf.items():
        if since > than:
            break
        found.append(connection)
    return found


class Connection(HttpToolsProtocol):
    """Uvicorn's connection on the shelves; what it refuses by itself has the form of every other error.

    Args:
        config: uvicorn's settings.
        state: what uvicorn's connections share.
        shelves: what these connections share.
    """

    def __init__(self, config: uvicorn.Config, state: ServerState, shelves: Shelves) -> None:
        super().__init__(config, state, {})
        self._shelves = shelves
        self._shelf: Shelf | None = None
        self._answers: ASGIApp = self.app
        self._running: RequestResponseCycle | None = None
        self._head_bytes = 0
        self._large = False
        self._streams = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a caller in, if there is room or some can be made."""
        super().connection_made(transport)
        self._lay(self._shelves.heads)
        if len(self.connections) > self._shelves.most and not self._shelves.make_room(self):
            self._refuse(
                RequestError(
                    503,
                    "there are too many connections",
                    mend="Connect again after Retry-After seconds.",
                    headers=retry_after(1),
                )
            )

    def connection_lost(self, exc: Exception | None) -> None:
        """The caller has gone, or was sent away."""
        self.take_off()
        self._shelves.slow.pop(self, None)
        if self._running is not None:  # uvicorn tells only the last one of several requests in a row
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, and note what is still missing."""
        self._large = self._head_bytes + len(data) > LARGEST_HEAD  # with the pieces that came before
        super().data_received(data)
        if self.transport.is_closing() or self.pipeline:  # with requests in a row, it is we who do not read on
            self.take_off()
        elif self.cycle is None or self.cycle.response_complete or "method" not in self.scope:
            self._lay(self._shelves.heads)
            self._head_bytes += len(data)
            if self._head_bytes > LARGEST_HEAD:
                self._refuse(_LARGE_HEAD)
        else:
            self._head_bytes = 0
            if self.cycle.more_body:
                if self._streams:
                    self._lay_anew()
                self._lay(self._shelves.bodies)
            else:
                self.take_off()

    def on_headers_complete(self) -> None:
        """A head is there: answer it, or say that it is too large."""
        if len(self.headers) > MOST_HEADERS or (self._large and self._head_size() > LARGEST_HEAD):
            self.app = _refuse_head
            super().on_headers_complete()
            self.app = self._answers
        else:
            super().on_headers_complete()
        self._streams = self.scope["path"] == BULK
        if self.parser.should_upgrade():  # to what nobody speaks here: what follows could be anything
            self.cycle.keep_alive = False

    def on_response_complete(self) -> None:
        """An answer is on its way; without the rest of its request nothing can follow it."""
        super().on_response_complete()
        if self.cycle.more_body and self.cycle.response_complete:
            self.transport.close()
        if self.transport.is_closing():
            self._shelves.slow.setdefault(self, self.loop.time())
        elif self.cycle.response_complete:
            self._lay(self._shelves.idle)

    def pause_writing(self) -> None:
        """The caller does not read."""
        super().pause_writing()
        self._shelves.slow.setdefault(self, self.loop.time())

    def resume_writing(self) -> None:
        """The caller reads again."""
        super().resume_writing()
        if not self.transport.is_closing():
            self._shelves.slow.pop(self, None)

    def timeout_keep_alive_handler(self) -> None:
        """Nothing came for a long time; nor does the last answer leave, perhaps."""
        super().timeout_keep_alive_handler()
        self._shelves.slow.setdefault(self, self.loop.time())

    def send_400_response(self, msg: str) -> None:
        """What came is not HTTP."""
        self._refuse(RequestError(400, "this is no proper HTTP request", mend="Speak HTTP/1.1, as clients do."))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _unsupported_upgrade_warning(self) -> None:
        """Whoever asks for another protocol gets an answer in this one, and no line in the log."""

    def give_up(self, what: str, seconds: float) -> None:
        """Wait no longer for *what*."""
        self._refuse(
            RequestError(408, f"{what} did not arrive within {seconds:g} seconds", mend="Send it without pausing.")
        )

    def take_off(self) -> None:
        """Nothing is awaited from this caller."""
        if self._shelf is not None:
            self._shelf.pop(self, None)
            self._shelf = None

    def _lay(self, shelf: Shelf) -> None:
        if self._shelf is not shelf:
            self.take_off()
            shelf[self] = self.loop.time()
            self._shelf = shelf

    def _lay_anew(self) -> None:
        """Of a body of any size each piece is awaited by itself; while it comes its caller need not read."""
        self.take_off()
        if self._shelves.slow.pop(self, None) is not None:
            self._shelves.slow[self] = self.loop.time()

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _refuse(self, error: RequestError) -> None:
        """Say *error* and close, unless an earlier request is being answered: then close after that."""
        self.take_off()
        self._shelves.slow.setdefault(self, self.loop.time())
        running = self._running
        if running is not None and not running.response_complete:
            if running is not self.cycle or not running.more_body:
                running.keep_alive = False
                return
            started = running.response_started
            running.disconnected = True
            running.message_event.set()
            if started:
                self.transport.close()
                return
        self.transport.write(_written(error_answer(error), self.server_state.default_headers))
        self.transport.close()


_LARGE_HEAD = RequestError(
    431,
    f"the request's head has more than {LARGEST_HEAD:,} bytes or {MOST_HEADERS} headers",
    mend="Send inputs in the body.",
    headers=CLOSE,
)


async def _refuse_head(_scope: Scope, _receive: Receive, send: Send) -> None:
    await error_answer(_LARGE_HEAD).send(send)


def _written(answer: Answer, always: list[tuple[bytes, bytes]]) -> bytes:
    """A whole answer as it goes over the wire, after which the connection is closed."""
    headers: Headers = (*always, *answer.all_headers(), *CLOSE)
    return b"HTTP/1.1 %d \r\n%s\r\n%s" % (answer.status, header_lines(dict(headers).items()), answer.body)


def connect(config: uvicorn.Config, state: ServerState, shelves: Shelves) -> Any:
    """What makes a :class:`Connection` for each caller, as an event loop takes it."""
    return lambda: Connection(config, state, shelves)
