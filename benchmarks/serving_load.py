"""The load for serving.py, a process of its own: keeps connections busy, or sends at a fixed rate whatever comes back.

    python benchmarks/serving_load.py HOST:PORT PATH BODIES.json CONNECTIONS SECONDS RATE [PID [ANSWERS]]

BODIES.json holds a list of bodies, which are sent in turn. A rate of 0 is a closed loop: every connection sends its
next request as soon as its answer is there. Any other is an open loop: requests fall due at that many a second, evenly,
and an answer's time counts from when its request was due, so that waiting for a free connection is part of it. The
first second is not counted. With PID, the processor seconds of that process and its children are told too. ANSWERS is a
file that gets a line an answer: when its request was due (``time.perf_counter``), its seconds, and its deployment.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import deque
from pathlib import Path
from typing import cast

import numpy as np
import psutil
import uvloop

WARM_UP = 1.0


def deployment_of(answer: bytearray) -> str:
    """The id of the deployment that an answer of Tidemill's names."""
    start = answer.index(b'"deployment":"') + 14
    return answer[start : answer.index(b'"', start)].decode()


class Connection(asyncio.Protocol):
    """One kept-alive connection, one request at a time."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.transport: asyncio.WriteTransport
        self.due = 0.0
        self.length = -1
        self.received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are none by name

    def send(self, due: float) -> None:
        self.due = due
        self.length = -1
        self.transport.write(self.load.next_request())

    def data_received(self, data: bytes) -> None:
        self.received += data
        if self.length < 0:
            end = self.received.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self.received[:end]).lower()
            place = head.find(b"content-length:")
            if place < 0:
                raise SystemExit(f"an answer without its length: {head!r}")
            self.length = end + 4 + int(head[place + 15 :].split(b"\r\n", 1)[0])
        if len(self.received) >= self.length:
            good = self.received[9:11] == b"20"
            if self.load.answers is not None:
                taken = time.perf_counter() - self.due
                self.load.answers.append((self.due, taken, deployment_of(self.received) if good else ""))
            if not good and self.load.failed < 3:
                print(bytes(self.received[:500]), file=sys.stderr)
            self.received.clear()
            self.load.answered(self, good)

    def connection_lost(self, _error: Exception | None) -> None:
        self.load.lost(self)


class Load:
    """All connections, what is due, and what came back."""

    def __init__(self, path: str, host: str, bodies: list[str], rate: float) -> None:
        self.requests = [
            f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body.encode())}\r\n\r\n{body}".encode()
            for body in bodies
        ]
        self.rate = rate
        self.sent = 0
        self.failed = 0
        self.times: list[tuple[float, float]] = []
        self.answers: list[tuple[float, float, str]] | None = None
        self.idle: deque[Connection] = deque()
        self.waiting: deque[float] = deque()
        self.ends = 0.0

    def next_request(self) -> bytes:
        self.sent += 1
        return self.requests[self.sent % len(self.requests)]

    def answered(self, connection: Connection, good: bool) -> None:
        now = time.perf_counter()
        if good:
            self.times.append((now, now - connection.due))
        else:
            self.failed += 1
        if self.rate:
            if self.waiting:
                connection.send(self.waiting.popleft())
            else:
                self.idle.append(connection)
        elif now < self.ends:
            connection.send(now)

    def lost(self, connection: Connection) -> None:
        if time.perf_counter() < self.ends:
            self.failed += 1
            print("a connection was closed", file=sys.stderr)

    async def run(self, address: tuple[str, int], connections: int, seconds: float) -> float:
        """Send; when counting began."""
        loop = asyncio.get_running_loop()
        made = []
        for _ in range(connections):
            transport, connection = await loop.create_connection(lambda: Connection(self), *address)
            connection.transport = transport
            made.append(connection)
        began = time.perf_counter()
        counted = began + WARM_UP
        self.ends = counted + seconds
        if not self.rate:
            for connection in made:
                connection.send(time.perf_counter())
            await asyncio.sleep(WARM_UP + seconds + 0.5)
            return counted
        self.idle.extend(made)
        number = 0
        while (now := time.perf_counter()) < self.ends:
            while (due := began + number / self.rate) <= now:
                number += 1
                if self.idle:
                    self.idle.popleft().send(due)
                else:
                    self.waiting.append(due)
            await asyncio.sleep(max(0.0, began + number / self.rate - time.perf_counter()))
        await asyncio.sleep(0.5)
        return counted


def main() -> None:
    address, path, bodies, connections, seconds, rate = sys.argv[1:7]
    host, port = address.rsplit(":", 1)
    load = Load(path, address, json.loads(Path(bodies).read_text()), float(rate))
    if len(sys.argv) > 8:
        load.answers = []
    family = [] if len(sys.argv) < 8 else [psutil.Process(int(sys.argv[7]))]
    family += [child for parent in family for child in parent.children(recursive=True)]
    before = sum(sum(p.cpu_times()[:2]) for p in family)
    counted = uvloop.run(load.run((host, int(port)), int(connections), float(seconds)))
    after = sum(sum(p.cpu_times()[:2]) for p in family if p.is_running())
    window = [taken for at, taken in load.times if counted <= at < counted + float(seconds)]
    quantiles = np.quantile(window, [0.5, 0.99]) if window else [float("inf")] * 2
    told = {
        "rate": len(window) / float(seconds),
        "p50_ms": 1000 * quantiles[0],
        "p99_ms": 1000 * quantiles[1],
        "failed": load.failed,
        "left": len(load.waiting),
        "cpu": after - before,
    }
    if load.answers is not None:
        lines = [f"{due} {taken} {deployment}\n" for due, taken, deployment in load.answers]
        Path(sys.argv[8]).write_text("".join(lines))
    print(json.dumps(told))


if __name__ == "__main__":
    main()
