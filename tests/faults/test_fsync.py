"""At every door of a real service, below its C library: fsync has returned before the answer leaves."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "serving"))

from small_project import SmallProject, digit

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None, reason="needs Linux and a C compiler for the shim"
)
SHIM = Path(__file__).parents[1] / "store" / "sync_shim.c"
PROGRAM = Path(__file__).parents[1] / "serving" / "small_project.py"
JOURNAL, TABLES = ".journal", "db-wal"


class Watched:
    """A service whose every fsync is noted, and fails while it is told to."""

    def __init__(self, client: httpx.Client, log: Path, fail: Path) -> None:
        self.client = client
        self.log = log
        self.fail = fail
        (given,) = self.predict().json()["predictions"]
        self.prediction = given["id"]

    def predict(self) -> httpx.Response:
        return self.client.post("/v1/predict", json={"inputs": digit(0)})

    def infer(self) -> httpx.Response:
        pixels = [value for line in digit(0)["image"] for value in line]
        tensor = {"name": "image", "shape": [1, 8, 8, 1], "datatype": "UINT8", "data": pixels}
        return self.client.post("/v2/models/default/infer", json={"inputs": [tensor]})

    def say(self) -> httpx.Response:
        return self.client.post("/v1/feedback", json=self._statement())

    def say_several(self) -> httpx.Response:
        return self.client.post("/v1/feedback", json={"feedback": [self._statement() for _ in range(3)]})

    def say_in_bulk(self) -> httpx.Response:
        content = "\n".join(json.dumps(self._statement()) for _ in range(3))
        return self.client.post("/v1/feedback/bulk", content=content, headers={"Content-Type": "application/x-ndjson"})

    def _statement(self) -> dict[str, Any]:
        return {"prediction": self.prediction, "kind": "comment", "value": "wet"}

    def synced(self, ask: Callable[[], httpx.Response]) -> tuple[httpx.Response, str]:
        """The answer, and the names of the files that were synced while it was waited for."""
        before = self.log.stat().st_size
        answer = ask()
        with self.log.open() as file:
            file.seek(before)
            return answer, file.read()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    library = tmp_path / "sync_shim.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, SHIM, "-ldl"], check=True)
    project = SmallProject.create(tmp_path / "p")
    project.deploy(project.add_model("ridge"))
    project.store.close()
    log, fail = tmp_path / "syncs", tmp_path / "fail"
    log.touch()
    names = {"LD_PRELOAD": library, "SYNC_LOG": log, "SYNC_FAIL": fail, "OMP_NUM_THREADS": 1}
    environment = {**os.environ, **{name: str(value) for name, value in names.items()}}
    child = subprocess.Popen([sys.executable, PROGRAM, tmp_path / "p"], stdout=subprocess.PIPE, env=environment)
    assert child.stdout is not None
    with contextlib.closing(child.stdout):
        url = f"http://127.0.0.1:{int(child.stdout.readline())}"
        with httpx.Client(base_url=url, timeout=30) as client:
            yield Watched(client, log, fail)
        child.send_signal(signal.SIGTERM)
        child.wait(timeout=60)


def test_fsync_returns_before_any_answer_leaves_and_no_good_answer_follows_one_that_failed(watched: Watched) -> None:
    doors: list[tuple[Callable[[], httpx.Response], str]] = [
        (watched.predict, JOURNAL), (watched.infer, JOURNAL), (watched.say, TABLES), (watched.say_several, TABLES),
        (watched.say_in_bulk, TABLES),
    ]  # fmt: skip
    for _ in range(10):
        for ask, place in doors:
            answer, synced = watched.synced(ask)
            assert answer.status_code in {200, 201}, answer.text
            assert any(line.endswith(place) for line in synced.splitlines()), (ask.__name__, synced)
    watched.fail.touch()
    for turn in range(3):
        for ask, _ in doors:
            answer = ask()
            if ask == watched.say_in_bulk:
                assert {json.loads(line)["status"] for line in answer.text.splitlines()} == {"refused"}, answer.text
            else:
                assert answer.status_code == 503 and "retry-after" in answer.headers, answer.text
            assert "fsync" in answer.text or turn == 0, answer.text
        watched.fail.unlink(missing_ok=True)  # the disk is well again, which is too late: nobody knows what it holds
