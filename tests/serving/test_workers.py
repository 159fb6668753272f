"""Several processes on one socket: they share the work, follow every promotion, and outlive one another's deaths."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

import tidemill
from _served import url_of
from tidemill.records import Deployment, Feedback, Model, Prediction, new_id

ROW = {
    "sepal length (cm)": 5.1,
    "sepal width (cm)": 3.5,
    "petal length (cm)": 1.4,
    "petal width (cm)": 0.2,
}
PROMISE = 1.0
"""Seconds within which every worker follows the store."""
PATIENCE = 30.0


class Service:
    """``tidemill serve --workers 2`` and connections to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tidemill", "serve", "-C", str(folder), "--port", "0", "--workers", "2", "--json"],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self.url = url_of(self.process)

    def workers(self) -> list[psutil.Process]:
        living = [c for c in psutil.Process(self.process.pid).children() if c.status() != psutil.STATUS_ZOMBIE]
        return [child for child in living if "tidemill.api.worker" in child.cmdline()]

    def predict(self, client: httpx.Client | None = None) -> dict[str, Any]:
        """One answer, over a connection of its own unless one is given."""
        given = client or httpx.Client()
        try:
            answer = given.post(f"{self.url}/v1/predict", json={"inputs": ROW}, timeout=PATIENCE)
        finally:
            if client is None:
                given.close()
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(timeout=60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("workers") / "mill"
    project = tidemill.init(place, data="sklearn:iris", target="target", recipes={"include": ["lightgbm"]})
    project.cycle(max_trials=0)
    assert project.store.champion() is not None
    project.store.close()
    return place


@pytest.fixture
def service(folder: Path) -> Iterator[Service]:
    running = Service(folder)
    yield running
    if running.process.poll() is None:
        assert running.end() == 0


def until(condition: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def test_both_answer_and_what_they_acknowledged_is_in_the_tables_at_the_end(service: Service, folder: Path) -> None:
    def writers() -> set[str]:
        return {path.stem.rsplit("-", 1)[1] for path in (folder / ".tidemill" / "journal").glob("*.journal")}

    assert {str(worker.pid) for worker in service.workers()} <= writers()
    given = [service.predict()["predictions"][0]["id"] for _ in range(40)]
    with httpx.Client(base_url=service.url) as client:
        said = client.post("/v1/feedback", json={"prediction": given[0], "kind": "confirmation", "author": "ann"})
    assert said.status_code == 201, said.text
    assert service.end() == 0
    with tidemill.open(folder).store as store:
        assert len(store.find(Prediction, id=set(given))) == 40
        assert store.find(Feedback, subject=given[0])


def test_a_killed_worker_is_replaced_and_the_others_go_on(service: Service) -> None:
    first, second = service.workers()
    first.kill()
    until(lambda: {worker.pid for worker in service.workers()} > {second.pid})
    until(lambda: len(service.workers()) == 2)
    for _ in range(20):
        service.predict()
    assert second.is_running()


def test_every_worker_follows_a_promotion(service: Service, folder: Path) -> None:
    clients = [httpx.Client() for _ in range(24)]  # with so many connections no worker is left out
    before = {service.predict(client)["model"] for client in clients}
    assert len(before) == 1
    with tidemill.open(folder).store as store:
        (other,) = [model.id for model in store.find(Model) if model.id not in before][:1]
        store.deploy(
            Deployment(id=new_id("deploy"), name="default", model_id=other, action="promote", reason="a test's wish")
        )
        committed = time.monotonic()
        while time.monotonic() < committed + PROMISE:
            assert {service.predict(client)["model"] for client in clients} <= before | {other}
        assert {service.predict(client)["model"] for client in clients} == {other}
    for client in clients:
        client.close()


def test_workers_end_with_their_parent_even_when_it_is_killed(service: Service) -> None:
    workers = service.workers()
    assert len(workers) == 2
    service.process.kill()
    service.process.wait()
    psutil.wait_procs(workers, timeout=PATIENCE)
    assert not any(worker.is_running() for worker in workers)
    assert service.process.stdout is not None
    service.process.stdout.close()


def test_no_workers_at_all_are_refused(folder: Path) -> None:
    command = [sys.executable, "-m", "tidemill", "serve", "-C", str(folder), "--port", "0", "--workers", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--workers" in done.stderr
    assert "Traceback" not in done.stderr
