"""``kill -9`` at random moments, of a service under load and of a cycle beside it, in every stage of it.

Nothing that was acknowledged is lost, nothing is there twice, and the cycle that was killed goes on where it was.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

import tidemill
from _postgres import Server
from _results import note
from tidemill.data.dataset import DatasetArrays
from tidemill.records import Cycle, Dataset, Decision, Feedback, Generation, Model, Prediction, Run
from tidemill.runtime import load
from tidemill.store import damaged, fold
from tidemill.tasks import get_task
from tidemill.testing.tasks import write_records

PROGRAM = Path(__file__).with_name("_forker.py")
STAGES = ("feedback", "prepare", "tune", "train", "evaluate", "deploy", "annotate")
PATIENCE = 300.0
"""Seconds for what takes one: a cycle has a low priority, and on a busy machine waits for a minute at times."""
DROPPED = 255


class Forker:
    """Starts services and cycles of a project, and kills them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TIDEMILL_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(folder / "mill")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def close(self) -> None:
        """End it, and what a test that failed has left running."""
        assert self._process.stdin is not None and self._process.stdout is not None
        for child in psutil.Process(self._process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        self._process.stdin.close()
        assert self._process.wait(timeout=60) == 0
        self._process.stdout.close()

    def start(self, what: str) -> Child:
        words = self._folder / f"words-{next(self._numbers)}"
        words.touch()
        return Child(self, int(self.ask(f"{what} {words}")), words)

    def ask(self, line: object) -> str:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()


class Child:
    """A service or a cycle."""

    def __init__(self, forker: Forker, pid: int, words: Path) -> None:
        self._forker = forker
        self.pid = pid
        self._words = words

    def words(self) -> list[str]:
        return self._words.read_text().split()

    def wait_for(self, goal: Callable[[list[str]], bool]) -> list[str]:
        deadline = time.monotonic() + PATIENCE
        while not goal(words := self.words()):
            assert time.monotonic() < deadline, words
            time.sleep(0.005)
        return words

    def kill(self, number: signal.Signals = signal.SIGKILL) -> int:
        """End it and what it has started; what it ended with."""
        with contextlib.suppress(ProcessLookupError):  # it has ended, and nobody has waited for it yet
            os.killpg(self.pid, number)
        return int(self._forker.ask(self.pid))


class Callers:
    """Predict, and give feedback one by one, in lists and in bulk; note what was acknowledged."""

    def __init__(self, port: str, said: dict[str, str]) -> None:
        self.predicted: dict[str, Any] = {}
        self.said = said
        self.odd: list[str] = []
        self._stop = threading.Event()
        self._url = f"http://127.0.0.1:{port}"
        self._threads = [
            threading.Thread(target=self._run, args=(w,), daemon=True) for w in (self._one, self._list, self._bulk)
        ]
        for thread in self._threads:
            thread.start()

    def __len__(self) -> int:
        return len(self.predicted)

    def join(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, work: Callable[[httpx.Client, int], None]) -> None:
        draw = random.Random(id(self))
        with httpx.Client(base_url=self._url, timeout=60) as client, contextlib.suppress(httpx.TransportError):
            while not self._stop.is_set():
                work(client, draw.randrange(10**6))
                time.sleep(0.05)  # every cycle that follows reads all that was said

    def _predict(self, client: httpx.Client, rows: list[dict[str, Any]]) -> list[str]:
        answer = client.post("/v1/predict", json={"inputs": rows})
        if answer.status_code != 200:
            self.odd.append(answer.text)
            return []
        given = answer.json()["predictions"]
        self.predicted |= {one["id"]: one["label"] for one in given}
        return [one["id"] for one in given]

    def _one(self, client: httpx.Client, number: int) -> None:
        for identifier in self._predict(client, [row(number)]):
            self._state(client, "/v1/feedback", statement(identifier), [f"key-{identifier}"])

    def _list(self, client: httpx.Client, number: int) -> None:
        ids = self._predict(client, [row(number + i) for i in range(5)])
        if ids:
            keys = [f"key-{i}" for i in ids]
            self._state(client, "/v1/feedback", {"feedback": [statement(i) for i in ids]}, keys)

    def _bulk(self, client: httpx.Client, number: int) -> None:
        lines = [json.dumps(statement(i)) for i in self._predict(client, [row(number + i) for i in range(20)])]
        kind = {"Content-Type": "application/x-ndjson"}
        with client.stream("POST", "/v1/feedback/bulk", content="\n".join(lines), headers=kind) as answer:
            if answer.status_code != 200:
                self.odd.append(answer.read().decode())
                return
            for told, line in zip(map(json.loads, answer.iter_lines()), lines, strict=False):  # until the kill
                if told["status"] == "accepted":
                    self.said[json.loads(line)["key"]] = told["feedback"]
                else:
                    self.odd.append(str(told))

    def _state(self, client: httpx.Client, path: str, body: dict[str, Any], keys: list[str]) -> None:
        answer = client.post(path, json=body)
        if answer.status_code not in (200, 201):
            self.odd.append(answer.text)
            return
        told = answer.json()
        for key, one in zip(keys, told.get("feedback") if "feedback" in body else [told], strict=True):
            self.said[key] = one["feedback"]


def row(number: int) -> dict[str, Any]:
    return {"size": round(number % 400 / 100 - 2, 2), "kind": ("ebb", "flood", "slack")[number % 3]}


def statement(identifier: str) -> dict[str, Any]:
    label = "yes" if int(identifier[-3:], 36) % 2 else "no"
    author = f"author-{int(identifier[-2:], 36) % 7}"
    said = {"prediction": identifier, "kind": "correction", "value": label, "author": author}
    return {**said, "asked": True, "key": f"key-{identifier}"}


@pytest.fixture(params=["sqlite", "postgresql"])
def make(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[], Path]:
    """Makes a folder of a project with a champion, its tables in it or on a server; long tests tune a network, too."""
    server: Server | None = request.getfixturevalue("postgres") if request.param == "postgresql" else None
    exclude = ["lightgbm", *(() if request.node.get_closest_marker("long") else ("mlp",))]
    numbers = itertools.count()

    def made() -> Path:
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        data = write_records(folder / "data", get_task("tabular-classification").sample_data(0, 300))
        url = server.make() if server else None
        project = tidemill.init(folder / "mill", data=data, target="label", store=url, recipes={"exclude": exclude})
        config = folder / "mill" / "tidemill.yaml"
        config.write_text(config.read_text().replace("\naudit:", "\naudit:\n  rate: 0.3", 1))
        with contextlib.closing(project.store):
            project.cycle(max_trials=0, seed=1)
        return folder

    return made


def killed(folder: Path, rounds: int, seed: int = 11) -> collections.Counter[str]:
    """Kill the service and its cycle *rounds* times each; how often, in which stages, what was acknowledged."""
    draw = random.Random(seed)
    stages: collections.Counter[str] = collections.Counter()
    predicted: dict[str, Any] = {}
    said: dict[str, str] = {}
    services = 0
    with contextlib.closing(Forker(folder)) as forker:
        for turn in range(rounds):
            service = forker.start("serve")
            callers = Callers(service.wait_for(bool)[0], said)
            deadline = time.monotonic() + PATIENCE
            while len(callers) < 20:
                assert not callers.odd and time.monotonic() < deadline, callers.odd
                time.sleep(0.005)
            cycle = forker.start("cycle")
            stage = STAGES[turn % len(STAGES)]
            words = cycle.wait_for(lambda words, goal=stage: goal in words or "end" in words)  # type: ignore[misc]
            time.sleep(draw.choice((0.0, draw.uniform(0, 0.05))))  # some stages are over in a moment
            first, second = (cycle, service) if draw.random() < 0.5 else (service, cycle)
            status = {first: first.kill()}
            time.sleep(draw.choice((0.0, draw.uniform(0, 0.05))))
            status[second] = second.kill()
            callers.join()
            assert callers.odd == []
            assert status[service] == -signal.SIGKILL
            services += 1
            predicted |= callers.predicted
            ended = "end" in words or status[cycle] == 0
            stages.update([cycle.words()[-1]] if not ended and status[cycle] == -signal.SIGKILL else [])
            assert ended or status[cycle] == -signal.SIGKILL, "the cycle failed by itself"
        for _ in range(2):  # the one that was killed last, and one with all that was said
            last = forker.start("cycle")
            last.wait_for(lambda words: "end" in words)
            assert last.kill() in {0, -signal.SIGKILL}
    kept(folder / "mill", predicted, said)
    told = collections.Counter(services=services, cycles=stages.total(), predictions=len(predicted), feedback=len(said))
    return told + collections.Counter({f"in {stage}": count for stage, count in stages.items()})


def kept(folder: Path, predicted: dict[str, Any], said: dict[str, str]) -> None:
    """All that was acknowledged is there, once; each cycle is whole, and went on instead of beginning anew."""
    project = tidemill.open(folder)
    with contextlib.closing(project.store) as store:
        fold(store)
        rows = store.find(Prediction)
        assert len(rows) == len({p.id for p in rows}) == store.count(Prediction)
        stored = {p.id: p.answer["label"] for p in rows}
        assert {i: stored.get(i) for i in predicted} == predicted, "an acknowledged prediction is lost or another one"
        feedback = store.find(Feedback)
        by_key = {f.key: f.id for f in feedback}
        assert len(by_key) == len({f.id for f in feedback}) == store.count(Feedback)
        assert {key: by_key.get(key) for key in said} == said, "acknowledged feedback is lost"
        assert {f.subject for f in feedback} <= set(stored), "no feedback without its prediction"
        assert damaged(store) == [] and list((store.root / "journal").iterdir()) == []

        cycles = store.find(Cycle)
        assert {c.status for c in cycles} == {"done"}, [c.error for c in cycles]
        decisions = store.find(Decision)
        decided = [(d.cycle_id, d.challenger_id) for d in decisions]
        assert len(set(decided)) == len(decided), "a cycle decides about a model once"
        for generation in store.find(Generation):
            spent = sum(d.alpha for d in decisions if d.generation == generation.number)
            assert generation.spent == pytest.approx(spent), "what was spent is what was decided with"
        made = [(r.cycle_id, r.kind, r.recipe["name"]) for r in store.find(Run, kind=["train", "refit"])]
        assert len(made) == len(set(made)), "no model is made twice"
        for model in store.find(Model):
            load(store.root / model.path).warm_up()
        newest = DatasetArrays(store.root, store.find(Dataset, newest_first=True, limit=1)[0].path)
        used = newest.samples[newest.split != DROPPED]
        assert len(used) > 200 and len(np.unique(used)) == len(used), "no sample is in a version twice"


@pytest.mark.parametrize("make", ["sqlite"], indirect=True)
def test_a_few_kills(make: Callable[[], Path]) -> None:
    figures = killed(make(), 2)
    assert figures["services"] == 2 and figures["feedback"] > 0


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_hundreds_of_kills(make: Callable[[], Path], request: pytest.FixtureRequest) -> None:
    """In one project after another, since a cycle on all that was said before takes longer and longer."""
    rounds = 2 * len(STAGES)
    projects = int(os.environ.get("TIDEMILL_TEST_KILLS", "10"))
    database = request.node.callspec.params["make"]
    figures: collections.Counter[str] = collections.Counter()
    for seed in range(projects):
        figures += killed(make(), rounds, seed)
        note(f"kills of a service and its cycle, {database}", projects=seed + 1, lost=0, doubled=0, **figures)
    assert figures["services"] + figures["cycles"] >= projects * 20, figures
    assert {f"in {stage}" for stage in ("feedback", "prepare", "tune", "train", "evaluate")} <= set(figures), figures
