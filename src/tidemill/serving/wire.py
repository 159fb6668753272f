"""The way back to a caller: uvicorn's, and a short one for answers that lie ready as a whole.

Uvicorn reads each header of each answer with two regular expressions and writes head and body one after the other. Our
own headers are always the same, and under small requests that was a fifth of what the event loop did for each.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import TYPE_CHECKING, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from tidemill.serving.asgi import ASGIApp, Message, Receive, Scope, Send

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent


def header_lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """*headers* as they go over the wire, a line each."""
    return b"".join([b"%s: %s\r\n" % header for header in headers])


class Wire:
    """What an application sends the answer to one request with. Its cycle must not hold it: collecting both takes long.

    Whatever wraps it to see or change what is sent is no ``Wire``, so that nothing goes past it.

    Args:
        cycle: uvicorn's account of the request.
    """

    __slots__ = ("_cycle",)

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle

    async def __call__(self, message: Message) -> None:
        """Send *message*, as every ASGI server does."""
        await RequestResponseCycle.send(self._cycle, cast("ASGISendEvent", message))

    async def whole(self, status: int, head: bytes, body: bytes) -> None:
        """Send a whole answer at once.

        Args:
            status: of HTTP.
            head: lines of headers with the body's length among them, and nothing about the connection.
            body: all of it.
        """
        cycle = self._cycle
        if cycle.flow.write_paused and not cycle.disconnected:
            await cycle.flow.drain()
        if cycle.disconnected:
            return
        always = header_lines(cycle.default_headers)
        end = b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n"
        said = b"" if cycle.scope["method"] == "HEAD" else body
        cycle.transport.write(b"".join([STATUS_LINE[status], always, head, end, said]))
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()


def wired(app: ASGIApp) -> ASGIApp:
    """*app*, as uvicorn calls it, with a :class:`Wire` to answer by."""

    def answering(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        cycle = getattr(send, "__self__", None)
        return app(scope, receive, Wire(cycle) if isinstance(cycle, RequestResponseCycle) else send)

    return answering
