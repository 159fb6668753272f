"""``kill -9`` at random moments: nothing acknowledged is lost, nothing is doubled."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidemill.records import Feedback, LiveKey, Prediction, new_id
from tidemill.store import Store, damaged, fold

WRITER = Path(__file__).with_name("crash_writer.py")


@contextlib.contextmanager
def forker(store: Store) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(WRITER), str(store.root), store.database.url or ""]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        yield process
        process.stdin.close()
    assert process.returncode == 0


def kill_once(process: subprocess.Popen[str], log: Path, delay: float) -> list[list[str]]:
    """Start a writer, kill it *delay* seconds after its first acknowledgements; what it was acknowledged."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(f"{log}\n")
    process.stdin.flush()
    pid = int(process.stdout.readline())
    deadline = time.monotonic() + 60
    while not (log.exists() and all(kind in log.read_text() for kind in ("prediction", "feedback"))):
        assert time.monotonic() < deadline, "the writer acknowledged nothing"
        time.sleep(0.001)
    time.sleep(delay)
    os.kill(pid, signal.SIGKILL)
    assert process.stdout.readline() == "dead\n"
    return [line.split() for line in log.read_text().splitlines()]


def check(store: Store, acknowledged: list[list[str]]) -> tuple[int, int]:
    """How many predictions and pieces of feedback were acknowledged; all are there, once."""
    fold(store)
    predicted = [words[1] for words in acknowledged if words[0] == "prediction"]
    rows = [p.id for p in store.find(Prediction)]
    assert len(rows) == len(set(rows)) == store.count(Prediction)
    assert set(predicted) <= set(rows), "an acknowledged prediction is lost"
    assert store.count(LiveKey) == len({p.key for p in store.find(Prediction)})

    said = {words[1]: int(words[2]) for words in acknowledged if words[0] == "feedback"}
    stored = {f.key: f for f in store.find(Feedback)}
    assert len(stored) == store.count(Feedback)
    assert {key: stored[key].value for key in said if key in stored} == said, "acknowledged feedback is lost"
    sample = random.Random(0).sample(sorted(said), min(50, len(said)))
    retries = [
        Feedback(id=new_id("fb"), subject=stored[k].subject, kind="correction", value=said[k], key=k) for k in sample
    ]
    assert {o.status for o in store.add_feedback(retries)} <= {"repeated"}, (
        "a caller that asks again gets the first result"
    )
    assert store.count(Feedback) == len(stored)
    return len(predicted), len(said)


def rounds(store: Store, tmp_path: Path, number: int) -> None:
    draw = random.Random(7)
    acknowledged: list[list[str]] = []
    with forker(store) as process:
        for turn in range(number):
            acknowledged += kill_once(process, tmp_path / f"log-{turn}", draw.uniform(0, 0.12))
            if turn % 5 == 4:
                check(store, acknowledged)
    predictions, feedback = check(store, acknowledged)
    assert predictions >= number and feedback >= number
    assert damaged(store) == []
    in_force = store.find(Feedback, superseded_by=None)
    assert len(in_force) == len({f.subject for f in in_force}), "one statement of the author is in force on a subject"
    assert list((store.root / "journal").iterdir()) == []


def test_ten_kills(store: Store, tmp_path: Path) -> None:
    rounds(store, tmp_path, 10 if store.database.is_sqlite else 5)


@pytest.mark.long
def test_two_hundred_kills(store: Store, tmp_path: Path) -> None:
    rounds(store, tmp_path, 200)
