"""A disk that fills under a service, and one whose files may not grow: what callers see, and what is kept."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from _disk import disk
from tidemill.records import Feedback, Prediction
from tidemill.store import damaged, fold

sys.path.insert(0, str(Path(__file__).parents[1] / "serving"))

from small_project import SmallProject, digit

PROGRAM = Path(__file__).parents[1] / "serving" / "small_project.py"


@contextlib.contextmanager
def service(folder: Path) -> Iterator[tuple[httpx.Client, subprocess.Popen[str]]]:
    """The project in *folder*, served by a process of its own until it is told to end."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen([sys.executable, PROGRAM, folder], stdout=subprocess.PIPE, text=True, env=environment)
    assert child.stdout is not None
    try:
        url = f"http://127.0.0.1:{int(child.stdout.readline())}"
        with httpx.Client(base_url=url, timeout=30) as client:
            yield client, child
        child.send_signal(signal.SIGTERM)
        assert child.wait(timeout=60) == 0
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


class Notes:
    """Asks and says, and notes what was acknowledged and what was refused."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self.predicted: list[str] = []
        self.said: list[str] = []
        self.refused: list[httpx.Response] = []

    def ask(self, rows: int = 20) -> bool:
        """Whether a request of several rows was answered."""
        answer = self._client.post("/v1/predict", json={"inputs": [digit(row) for row in range(rows)]})
        if answer.status_code == 200:
            self.predicted += [given["id"] for given in answer.json()["predictions"]]
        else:
            self.refused.append(answer)
        return answer.status_code == 200

    def say(self) -> bool:
        """Whether a list of statements, each about an earlier answer, was taken."""
        statements: list[dict[str, Any]] = [
            {"prediction": self.predicted[i % len(self.predicted)], "kind": "comment", "value": "x" * 3000}
            for i in range(20)
        ]
        answer = self._client.post("/v1/feedback", json={"feedback": statements})
        if answer.status_code == 201:
            self.said += [one["feedback"] for one in answer.json()["feedback"]]
        else:
            self.refused.append(answer)
        return answer.status_code == 201

    def fill(self) -> None:
        """Ask and say until both are refused."""
        deadline = time.monotonic() + 60
        while (self.ask(), self.say()) != (False, False):
            assert time.monotonic() < deadline, "the disk was never full"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "disk"
    place.mkdir()
    return place


def champion(folder: Path) -> None:
    project = SmallProject.create(folder)
    project.deploy(project.add_model("ridge"))
    project.store.close()


def kept(folder: Path, notes: Notes) -> None:
    """Exactly what was acknowledged is there: a refused list may be there too, but no half of a statement."""
    project = SmallProject.open(folder)
    with contextlib.closing(project.store) as store:
        fold(store)
        predicted, said = store.ids(Prediction), store.ids(Feedback)
        assert len(predicted) == len(set(predicted)) and set(notes.predicted) <= set(predicted)
        assert len(said) == len(set(said)) and set(notes.said) <= set(said)
        assert damaged(store) == []


def test_a_full_disk_is_told_and_the_service_goes_on_by_itself_when_there_is_room(folder: Path) -> None:
    with disk(folder, "3m") as enlarge:
        champion(folder)
        with service(folder) as (client, _):
            notes = Notes(client)
            assert notes.ask() and notes.say()
            notes.fill()
            for answer in notes.refused:
                assert answer.status_code == 503 and int(answer.headers["retry-after"]) >= 1, answer.text
                error = answer.json()["error"]
                assert error["code"] == "store" and "space" in f"{error['what']} {error['mend']}", error
            assert client.get("/readyz").status_code == 503
            assert client.get("/healthz").status_code == 200, "the process lives"
            assert client.get("/v1/models").status_code == 200, "what was written can be read"
            enlarge()
            deadline = time.monotonic() + 20
            while client.get("/readyz").status_code != 200:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert notes.ask() and notes.say()
        kept(folder, notes)


def test_files_that_may_not_grow_are_told_as_well(folder: Path) -> None:
    """The same without mounting: a limit on the size of every file, which is lifted again."""
    champion(folder)
    with service(folder) as (client, child):
        notes = Notes(client)
        assert notes.ask() and notes.say()
        largest = (folder / ".tidemill" / "store.db-wal").stat().st_size
        resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
        deadline = time.monotonic() + 60
        while notes.say():
            assert time.monotonic() < deadline
        for answer in notes.refused:
            assert answer.status_code == 503 and "retry-after" in answer.headers, answer.text
            assert answer.json()["error"]["code"] == "store", answer.text
        resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        while not notes.say():
            assert time.monotonic() < deadline, notes.refused[-1].text
        assert notes.ask()
    kept(folder, notes)
