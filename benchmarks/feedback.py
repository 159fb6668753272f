"""Feedback through both doors beside what the disk allows, on SQLite.

    python benchmarks/feedback.py                    # about 4 minutes
    python benchmarks/feedback.py --rows 20000 --seconds 2 --rounds 1    # a quick look

The bulk door gets one request of many statements, and stands beside raw group commit, twice: the same rows, ready-made,
into the same tables by Python's sqlite3 alone, in groups as large as the door's; and one by one from 64 producers, each
of which waits until its row is committed, with whatever has gathered in one group. The single door gets one statement a
request from 64 connections that wait for their answers, and stands beside a bare ASGI application that decodes the same
bodies and commits the same rows in groups, too (feedback_bare.py). Stores lie in one folder, so on one disk. Servers
and the raw commit have the first core, the load the second. Rounds alternate; shown are medians.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import select
import shutil
import socket
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import tidemill
from _common import HERE, in_process, machine, table
from feedback_bare import SETTINGS, Committer, Row, insertion
from serving import free_port, load, on_first_core, wait
from serving_load import WARM_UP
from tidemill.records import Feedback, new_id
from tidemill.serving.feedback import AT_ONCE
from tidemill.store import Store, new_prediction_id

PRODUCERS = 64
MOST_RATE = 30_000
LABELS = [str(digit) for digit in range(10)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000, help="of a bulk request")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each measurement of the single door")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where the stores lie; the system's temporary folder unless given")
    for hidden in ("--raw", "--waiting", "--send"):
        parser.add_argument(hidden, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.raw:
        print(json.dumps({"rate": raw(Path(arguments.raw[0]), Path(arguments.raw[1]))}))
        return
    if arguments.waiting:
        print(json.dumps({"rate": asyncio.run(waiting(Path(arguments.waiting[0]), Path(arguments.waiting[1])))}))
        return
    if arguments.send:
        print(json.dumps(send(arguments.send[0], Path(arguments.send[1]))))
        return
    print(machine(), flush=True)
    runs: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as place:
        made = project(Path(place) / "project")
        for number in range(arguments.rounds):
            runs.append(one_round(Path(place), made, arguments.rows, arguments.seconds))
            print(json.dumps({"round": number, **runs[-1]}), file=sys.stderr, flush=True)
    print(shown(runs))


def project(folder: Path) -> tidemill.Project:
    """A project that has learnt the digits, quickly."""
    made = tidemill.init(
        folder,
        data="sklearn:digits",
        target="label",
        recipes={"include": []},
        serve={"address_rate": None, "rate": {"predict": None, "feedback": None}},
    )
    made.cycle(max_trials=0)
    return made


def one_round(place: Path, made: tidemill.Project, rows: int, seconds: float) -> dict[str, float]:
    """Each of the four, once, on a store without feedback."""
    found = {}
    lines = place / "statements.jsonl"
    lines.write_text("".join(json.dumps(said) + "\n" for said in statements(made.store, rows)))
    for name in ("raw", "waiting"):
        with fresh(place, made) as folder:
            database, source = folder / ".tidemill" / "store.db", str(lines)
            command = ["taskset", "-c", "0", sys.executable, __file__, f"--{name}", str(database), source]
            found[name] = float(told(command)["rate"])
    with fresh(place, made) as folder, served(folder) as port:
        last = str(max(os.sched_getaffinity(0)))
        sent = told(["taskset", "-c", last, sys.executable, __file__, "--send", f"127.0.0.1:{port}", str(lines)])
        found["bulk"] = float(sent["rate"])
    for name in ("single", "bare"):
        bodies = place / f"{name}.json"
        enough = int(MOST_RATE * (seconds + WARM_UP))  # none is sent twice: their keys are unique
        bodies.write_text(json.dumps([json.dumps(said) for said in statements(made.store, enough)]))
        with fresh(place, made) as folder, served(folder, bare=name == "bare") as port:
            answered = load(port, "/v1/feedback", bodies, PRODUCERS, seconds, 0)
            if answered["failed"]:
                sys.exit(f"{answered['failed']} requests failed")
            found |= {name: answered["rate"], f"{name} p99 ms": answered["p99_ms"]}
    return found


def statements(store: Store, rows: int) -> list[dict[str, Any]]:
    """Corrections by 500 authors, each of a prediction of its own, under keys of their own."""
    return [
        {
            "prediction": new_prediction_id(store.secret),
            "kind": "correction",
            "value": LABELS[row % 10],
            "author": f"user {row % 500}",
            "key": new_id("key"),
        }
        for row in range(rows)
    ]


@contextlib.contextmanager
def fresh(place: Path, made: tidemill.Project) -> Iterator[Path]:
    """A copy of the project in which nobody has said anything."""
    folder = place / "copy"
    with made.store.database.reading() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copytree(made.dir, folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def served(folder: Path, *, bare: bool = False) -> Iterator[int]:
    """The service, or the bare application over its store, on the first core; its port."""
    port = free_port()
    command = [sys.executable, "-m", "tidemill", "serve", "-C", str(folder), "--port", str(port)]
    if bare:
        command = [sys.executable, str(HERE / "feedback_bare.py"), str(folder / ".tidemill" / "store.db"), str(port)]
    log = folder / "server.log"
    with on_first_core(command, log) as process:
        with tidemill.open(folder).store as store:
            first = json.dumps(statements(store, 1)[0])
        wait(process, port, "/v1/feedback", first, log)
        yield port


def told(command: Sequence[str]) -> dict[str, Any]:
    """What the last line of a command's output says as JSON."""
    return in_process(command[0], Path(command[1]), *command[2:])


def raw(database: Path, lines: Path) -> float:
    """Rows a second of ready-made rows, in groups of the door's size, by the driver alone."""
    rows = ready_made(lines)
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
        for setting in SETTINGS:
            connection.execute(setting)
        statement = insertion()
        began = time.perf_counter()
        for start in range(0, len(rows), AT_ONCE):
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(statement, rows[start : start + AT_ONCE])
            connection.execute("COMMIT")
        return len(rows) / (time.perf_counter() - began)


async def waiting(database: Path, lines: Path) -> float:
    """Rows a second of ready-made rows from producers that wait for each, in groups of whatever has gathered."""
    rows = ready_made(lines)
    loop = asyncio.get_running_loop()
    committer = Committer(str(database), loop)
    committer.start()

    async def produce(own: list[Row]) -> None:
        for row in own:
            done: asyncio.Future[None] = loop.create_future()
            committer.waiting.put((row, done))
            await done

    began = time.perf_counter()
    await asyncio.gather(*[produce(rows[start::PRODUCERS]) for start in range(PRODUCERS)])
    return len(rows) / (time.perf_counter() - began)


def ready_made(lines: Path) -> list[Row]:
    """The rows that the door makes of a file of statements."""
    rows: list[Row] = []
    for line in lines.read_text().splitlines():
        said = json.loads(line)
        value = json.dumps(said["value"])
        item = Feedback(id=new_id("fb"), subject=said["prediction"], kind="correction", key=said["key"])
        rows.append(
            (item.id, item.created, item.subject, item.kind, value, said["author"], 0, item.key, None, "[]", None)
        )
    return rows


def send(address: str, lines: Path) -> dict[str, Any]:
    """Send a file to the bulk door while reading what it answers; statements acknowledged a second."""
    host, port = address.rsplit(":", 1)
    body = lines.read_bytes()
    head = f"POST /v1/feedback/bulk HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/x-ndjson\r\n"
    with socket.create_connection((host, int(port))) as wire:
        began = time.perf_counter()
        wire.sendall(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode())
        accepted, tail, view = 0, b"", memoryview(body)
        wire.setblocking(False)
        while True:
            ready, writable, _ = select.select([wire], [wire] if view else [], [])
            if writable:
                view = view[wire.send(view[:262_144]) :]
            if ready:
                data = wire.recv(262_144)
                if not data:
                    break
                joined = tail + data
                accepted += joined.count(b'"accepted"') - tail.count(b'"accepted"')
                tail = joined[-20:]
        seconds = time.perf_counter() - began
    if accepted != len(body.splitlines()):
        sys.exit(f"{accepted} statements were accepted")
    return {"rate": accepted / seconds}


def shown(runs: Sequence[dict[str, float]]) -> str:
    middle = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    ratio = {
        pair: statistics.median(run[pair[0]] / run[pair[1]] for run in runs)
        for pair in (("bulk", "raw"), ("bulk", "waiting"), ("single", "bare"))
    }
    rows = [
        ["bulk door", f"{middle['bulk']:,.0f}", "", f"{ratio['bulk', 'raw']:.2f} and {ratio['bulk', 'waiting']:.2f}"],
        ["raw group commit of ready-made groups", f"{middle['raw']:,.0f}", "", ""],
        [f"raw group commit, {PRODUCERS} producers that wait", f"{middle['waiting']:,.0f}", "", ""],
        [
            "single door",
            f"{middle['single']:,.0f}",
            f"{middle['single p99 ms']:.1f} ms",
            f"{ratio['single', 'bare']:.2f} of the bare application",
        ],
        ["bare application", f"{middle['bare']:,.0f}", f"{middle['bare p99 ms']:.1f} ms", ""],
    ]
    return table(["", "rows a second", "p99", ""], rows)


if __name__ == "__main__":
    main()
