"""What was acknowledged is there, whatever happens to the process."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from small_project import SmallProject, digit, served

from tidemill.records import Feedback, Prediction
from tidemill.serving.folding import Folder
from tidemill.store import JournalWriter, fold, new_prediction_id, seam

PROGRAM = Path(__file__).with_name("small_project.py")
CALLERS = 6


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    project = SmallProject.create(tmp_path)
    project.deploy(project.add_model("ridge"))
    project.store.close()
    return tmp_path


@contextlib.contextmanager
def process(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen([sys.executable, PROGRAM, folder], stdout=subprocess.PIPE, text=True, env=environment)
    assert child.stdout is not None
    try:
        yield child, f"http://127.0.0.1:{int(child.stdout.readline())}"
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


class Callers:
    """Predict and give feedback without pause, and note what was acknowledged."""

    def __init__(self, url: str) -> None:
        self.predictions: dict[str, str] = {}
        self.feedback: dict[str, str] = {}
        self.odd: list[int] = []
        self.stop = threading.Event()
        self._url = url
        self._threads = [threading.Thread(target=self._call, args=(seed,)) for seed in range(CALLERS)]
        for thread in self._threads:
            thread.start()

    def _call(self, seed: int) -> None:
        with httpx.Client(base_url=self._url, timeout=30) as client, contextlib.suppress(httpx.TransportError):
            row = seed * 100
            while not self.stop.is_set():
                row += 1
                answer = client.post("/v1/predict", json={"inputs": digit(row)})
                if answer.status_code != 200:
                    self.odd.append(answer.status_code)
                    continue
                (given,) = answer.json()["predictions"]
                self.predictions[given["id"]] = given["label"]
                body = {"prediction": given["id"], "kind": "correction", "value": "1", "key": f"key-{given['id']}"}
                answer = client.post("/v1/feedback", json=body)
                if answer.status_code != 201:
                    self.odd.append(answer.status_code)
                    continue
                self.feedback[answer.json()["feedback"]] = given["id"]

    def join(self) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join()


def test_kill_9_loses_nothing_that_was_acknowledged(folder: Path) -> None:
    predictions: dict[str, str] = {}
    feedback: dict[str, str] = {}
    for seed in range(2):
        with process(folder) as (child, url):
            callers = Callers(url)
            while len(callers.feedback) < 50:
                time.sleep(0.01)
            time.sleep(random.Random(seed).uniform(0, 1.2))  # the folder may be at work, or not
            child.send_signal(signal.SIGKILL)
            callers.join()
        assert callers.odd == []
        predictions |= callers.predictions
        feedback |= callers.feedback
    project = SmallProject.open(folder)
    fold(project.store)
    stored = {p.id: p.answer["label"] for p in project.store.find(Prediction)}
    assert {key: stored.get(key) for key in predictions} == predictions
    assert project.store.count(Prediction) == len(stored)
    said = {f.id: f.subject for f in project.store.find(Feedback)}
    assert {key: said.get(key) for key in feedback} == feedback
    assert set(said.values()) <= set(stored), "no feedback without its prediction"
    project.store.close()


def test_sigterm_answers_what_is_in_flight_then_flushes_and_folds(folder: Path) -> None:
    with process(folder) as (child, url):
        callers = Callers(url)
        while len(callers.feedback) < 50:
            time.sleep(0.01)
        child.send_signal(signal.SIGTERM)
        assert child.wait(timeout=60) == 0
        callers.join()
    assert callers.odd == []
    project = SmallProject.open(folder)
    stored = {p.id for p in project.store.find(Prediction)}  # without folding: the server did it
    assert set(callers.predictions) <= stored
    assert {f.id for f in project.store.find(Feedback)} >= set(callers.feedback)
    assert list((project.store.root / "journal").glob("*.journal")) == []
    project.store.close()


def test_no_answer_leaves_before_fsync(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = SmallProject.open(folder)
    with served(project) as running:
        reached, release = threading.Event(), threading.Event()
        answers: list[httpx.Response] = []
        sync = seam.sync

        def held(descriptor: int) -> None:
            reached.set()
            assert release.wait(30)
            sync(descriptor)

        monkeypatch.setattr(seam, "sync", held)
        body: dict[str, Any] = {"inputs": digit(0)}
        caller = threading.Thread(target=lambda: answers.append(running.client.post("/v1/predict", json=body)))
        caller.start()
        assert reached.wait(30)
        caller.join(0.2)
        assert answers == []
        release.set()
        caller.join()
        assert answers[0].status_code == 200
    project.store.close()


def test_after_a_failed_fsync_nothing_is_acknowledged_and_readiness_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = SmallProject.open(folder)
    with served(project) as running:

        def failing(_descriptor: int) -> None:
            raise OSError(errno.EIO, "input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(seam, "sync", failing)
            first = running.client.post("/v1/predict", json={"inputs": digit(0)})
        second = running.client.post("/v1/predict", json={"inputs": digit(1)})  # the disk is well again: too late
        ready = running.client.get("/readyz")
        for answer in (first, second, ready):
            assert answer.status_code == 503
            assert "fsync" in answer.json()["error"]["what"]
            assert "retry-after" in answer.headers
    project.store.close()


def test_after_a_full_disk_it_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = SmallProject.open(folder)
    with served(project) as running:

        def full(_descriptor: int, _content: bytes | memoryview) -> int:
            raise OSError(errno.ENOSPC, "no space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(seam, "write", full)
            refused = running.client.post("/v1/predict", json={"inputs": digit(0)})
            ready = running.client.get("/readyz")
        for answer in (refused, ready):
            assert answer.status_code == 503
            assert "space" in answer.text
        assert running.client.post("/v1/predict", json={"inputs": digit(0)}).status_code == 200
        assert running.client.get("/readyz").status_code == 200
    assert project.store.count(Prediction) == 1
    project.store.close()


def test_much_traffic_is_folded_by_a_process_of_its_own(folder: Path) -> None:
    project = SmallProject.open(folder)
    store = project.store
    writer = JournalWriter(store.root)
    folder_thread = Folder(store, None, interval=0.05, much=1)

    def write(name: str) -> str:
        prediction = Prediction(
            id=new_prediction_id(store.secret), deployment="d", model_id="m", key=name, inputs={}, answer={}
        )
        writer.submit(prediction).result()
        return prediction.id

    folder_thread.start()
    try:
        first = write("a")
        wait_until(lambda: store.exists(Prediction, first))
        wait_until(lambda: folder_thread.helper is not None)
        second = write("b")
        wait_until(lambda: store.exists(Prediction, second))  # this time by the other process
        helper = folder_thread.helper
        assert helper is not None
        assert helper.poll() is None
    finally:
        writer.close()
        last = JournalWriter(store.root)
        last.submit(Prediction(id="pred_last", deployment="d", model_id="m", key="c", inputs={}, answer={})).result()
        last.close()
        folder_thread.close()
    assert helper.poll() is not None
    assert store.exists(Prediction, "pred_last")
    assert store.count(Prediction) == 3
    store.close()


def wait_until(true: Callable[[], bool]) -> None:
    for _ in range(400):
        if true():
            return
        time.sleep(0.05)
    pytest.fail("it did not happen within twenty seconds")
