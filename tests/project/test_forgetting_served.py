"""A person is forgotten while the service answers others: nobody is kept waiting, and nothing of others is lost."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from _person import MARK, NAME, OTHER, traces

import tidemill
from tidemill.records import Prediction
from tidemill.serving.server import serve
from tidemill.tasks import get_task
from tidemill.testing.tasks import write_records


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = write_records(tmp_path / "data", get_task("text-classification").sample_data(0, 80))
    project = tidemill.init(tmp_path / "p", data=data, target="label", recipes={"include": []})
    with contextlib.closing(project.store):
        project.cycle(max_trials=0)
    return tmp_path / "p"


@pytest.fixture
def client(folder: Path) -> Iterator[httpx.Client]:
    """The service in this process, with a project of its own."""
    served, ready, stop = tidemill.open(folder), queue.SimpleQueue[int](), threading.Event()
    settings = served.serve_settings(port=0)
    thread = threading.Thread(target=lambda: serve(served, on_ready=ready.put, stop=stop, settings=settings))
    thread.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{ready.get(timeout=60)}", timeout=30) as made:
            yield made
    finally:
        stop.set()
        thread.join()
        served.store.close()


def predict(client: httpx.Client, text: str, caller: str) -> str:
    answer = client.post("/v1/predict", json={"inputs": {"text": text}, "caller": caller})
    assert answer.status_code == 200, answer.text
    identifier: str = answer.json()["predictions"][0]["id"]
    return identifier


def say(client: httpx.Client, prediction: str, **fields: Any) -> httpx.Response:
    return client.post("/v1/feedback", json={"prediction": prediction, "kind": "comment", **fields})


def test_it_is_forgotten_under_load(client: httpx.Client, folder: Path) -> None:
    hers = [predict(client, f"{MARK} {i}", NAME) for i in range(3)]
    first = predict(client, f"{OTHER} first", "bob")
    assert say(client, hers[0], value=f"{MARK} says", author=NAME).status_code == 201
    assert say(client, first, value=f"{OTHER} says", author="bob").status_code == 201
    his, stop = [first], threading.Event()

    def others() -> None:
        with httpx.Client(base_url=client.base_url, timeout=30) as another:
            while not stop.is_set():
                his.append(predict(another, f"{OTHER} {len(his)}", "bob"))

    thread = threading.Thread(target=others)
    thread.start()
    project = tidemill.open(folder)
    with contextlib.closing(project.store) as store:
        done = project.forget(author=NAME)
        stop.set()
        thread.join()
        assert done["counts"]["predictions"] == 3 and done["counts"]["feedback"] == 1
        assert traces(store.root, MARK, NAME) == set(), "also of the segment that is being written"
        line = client.get(f"/v1/trace/{hers[0]}")
        assert line.status_code == 200 and line.json()["kind"] == "erased"
        until = time.monotonic() + 20
        while (refused := say(client, hers[0], value="again", author="bob")).status_code != 404:
            assert time.monotonic() < until, refused.text
            time.sleep(0.1)
        assert refused.json()["error"]["what"] == f"{hers[0]} was erased, and nothing more is kept about it"
        assert say(client, first, value="more", author="carl").status_code == 201
        later = predict(client, f"{MARK} came back", NAME)
        project.status()  # folds the journal
        assert len(his) > 1 and {p.id for p in store.find(Prediction, caller="bob")} == set(his)
        assert store.get(Prediction, later).caller == NAME, "what comes afterwards is kept"
