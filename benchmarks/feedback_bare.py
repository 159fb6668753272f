"""The peer of the single door: a bare ASGI application that decodes a statement and commits what has gathered.

    python benchmarks/feedback_bare.py STORE.db PORT

It checks nothing, knows no keys and replaces nothing; its rows and its commits are those of the door.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import sys
import threading
import time
from typing import Any

import orjson

from tidemill.records import new_id

COLUMNS = (
    *("id", "created", "subject", "kind", "value", "author", "asked", "key", "superseded_by", "predictions", "via"),
)
SETTINGS = ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL")
LIMIT = 200

Row = tuple[Any, ...]


def insertion() -> str:
    return f"INSERT INTO feedback ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"


class Committer(threading.Thread):
    """Commits the rows that have gathered, without a fixed wait."""

    def __init__(self, database: str, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(daemon=True)
        self._database = database
        self._loop = loop
        self.waiting: queue.SimpleQueue[tuple[Row, asyncio.Future[None]]] = queue.SimpleQueue()

    def run(self) -> None:
        connection = sqlite3.connect(self._database, isolation_level=None)
        for setting in SETTINGS:
            connection.execute(setting)
        statement = insertion()
        while True:
            group = [self.waiting.get()]
            while len(group) < LIMIT and not self.waiting.empty():
                group.append(self.waiting.get())
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(statement, [row for row, _ in group])
            connection.execute("COMMIT")
            self._loop.call_soon_threadsafe(self._resolve, [future for _, future in group])

    def _resolve(self, futures: list[asyncio.Future[None]]) -> None:
        for future in futures:
            if not future.done():
                future.set_result(None)


class App:
    def __init__(self, database: str) -> None:
        self._database = database
        self._committer: Committer | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        body = message["body"]
        while message["more_body"]:
            message = await receive()
            body += message["body"]
        said = orjson.loads(body)
        loop = asyncio.get_running_loop()
        if self._committer is None:
            self._committer = Committer(self._database, loop)
            self._committer.start()
        identifier, value = new_id("fb"), orjson.dumps(said["value"]).decode()
        place = (identifier, time.time(), said["prediction"], said["kind"], value, said["author"])
        done: asyncio.Future[None] = loop.create_future()
        self._committer.waiting.put(((*place, 0, said["key"], None, "[]", None), done))
        await done
        answer = orjson.dumps({"feedback": identifier, "status": "accepted", "superseded": None})
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 201, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


def main() -> None:
    import uvicorn

    database, port = sys.argv[1:]
    uvicorn.run(App(database), port=int(port), lifespan="off", access_log=False, log_level="error")


if __name__ == "__main__":
    main()
