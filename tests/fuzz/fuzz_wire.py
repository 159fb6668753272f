"""What comes over a connection before it is known to be a request."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvicorn
from fuzz_base import Decoder, join, refusing, split
from uvicorn.server import ServerState

from tidemill.errors import TidemillError
from tidemill.serving.answering import error_answer, json_answer
from tidemill.serving.asgi import Receive, Scope, Send
from tidemill.serving.connection import Connection, Shelves
from tidemill.serving.guard import Guard, RequestHead

GUARD = Guard(max_body=500)
ANSWER = re.compile(rb"HTTP/1\.1 (\d\d\d) [^\r\n]*\r\n(?:[^\r\n]+\r\n)*?content-length: (\d+)\r\n(?:[^\r\n]+\r\n)*\r\n")
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Wire(asyncio.Transport):
    """The other end of nothing: what is written is kept, and whoever closes it hears of it a moment later."""

    def __init__(self, closed: Callable[[], None]) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.written = b""
        self.closed = False
        self._closed = closed

    def write(self, data: Any) -> None:
        assert not self.closed, "nothing may follow the end"
        self.written += bytes(data)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self._closed)

    def abort(self) -> None:
        self.close()

    def is_closing(self) -> bool:
        return self.closed

    def is_reading(self) -> bool:
        return True

    def pause_reading(self) -> None:
        """Nothing reads by itself."""

    def resume_reading(self) -> None:
        """Nothing reads by itself."""


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """What the service does with every request, and then says how long the body was."""
    try:
        GUARD.check(RequestHead.of(scope))
        told = json_answer({"bytes": len(await GUARD.read_body(receive))})
    except TidemillError as error:
        told = error_answer(error)
    await told.send(send)


CONFIG = uvicorn.Config(answer, lifespan="off", ws="none", log_config=None, log_level="critical", server_header=False)


async def spoken(pieces: list[bytes]) -> bytes:
    """What a connection says to *pieces*, after which the caller goes away."""
    state, shelves = ServerState(), Shelves(10)
    connection = Connection(CONFIG, state, shelves)
    wire = Wire(lambda: connection.connection_lost(None))
    connection.connection_made(wire)
    for piece in pieces:
        if not wire.closed:
            connection.data_received(piece)
        for _ in range(4):
            await asyncio.sleep(0)
    shelves.clear(asyncio.get_running_loop().time() + 1000)
    wire.close()
    await asyncio.sleep(0)
    await asyncio.gather(*state.tasks)
    assert not any((shelves.idle, shelves.heads, shelves.bodies, shelves.slow))
    return wire.written


@refusing
def http(data: bytes, _folder: Path) -> None:
    """Any bytes in any pieces: whole answers one after the other, none of them a fault of ours."""
    said = asyncio.run(spoken(split(data, most=50))).replace(CONTINUE, b"")
    while said:
        head = ANSWER.match(said)
        assert head is not None, said[:500]
        assert head[1] in {b"200", b"400", b"403", b"408", b"413", b"431"}, said[:500]
        body = said[head.end() : head.end() + int(head[2])]
        assert len(body) == int(head[2]), said[:500]
        said = said[head.end() + len(body) :]


def requests() -> Iterator[bytes]:
    """Good ones, several at once, torn ones, chunks, upgrades, and heads that say things twice."""
    head = b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    yield head + b"Content-Length: 2\r\n\r\n{}"
    yield join(head, b"Content-Length: 2\r\n", b"\r\n{", b"}GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    yield head + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    yield head + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\nGET"
    yield head + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"
    yield head + b"Content-Length: 999999999999999999999999\r\n\r\n"
    yield head + b"Expect: 100-continue\r\nContent-Length: 1\r\n\r\n" + join(b"", b"x")
    yield b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n"
    yield b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x05hello"
    yield b"GET / HTTP/1.0\r\n\r\n" * 3
    yield b"GET / HTTP/1.1\r\nHost: [::1]:80\r\nOrigin: https://evil.example\r\nConnection: close\r\n\r\n"
    yield b"GET http://127.0.0.1/%ff%00?x=1#y HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"y" * 2000 + b"\r\n\r\n"
    yield b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    yield b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"


WIRE = [
    Decoder(
        "http",
        http,
        requests,
        (b"\r\n\r\n", b"Content-Length: ", b"Transfer-Encoding: chunked\r\n", b"Host: ", b"HTTP/1.1\r\n", b"Upgrade: "),
        quick=500,
    ),
]
