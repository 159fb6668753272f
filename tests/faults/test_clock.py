"""A clock that jumps a day forward and back, beneath real processes: what goes by it, and what does not."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import tidemill
from tidemill.records import Cycle, Deployment, Feedback, Model, Prediction, id_time, new_id
from tidemill.serving.tokens import make_token
from tidemill.store import create_store
from tidemill.tasks import get_task
from tidemill.testing.tasks import write_records

sys.path.insert(0, str(Path(__file__).parents[1] / "serving"))

from small_project import SmallProject, digit

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None, reason="needs Linux and a C compiler for the shim"
)
SERVE = """
import json, pathlib, sys
sys.path.insert(0, sys.argv[1])
from small_project import SmallProject, serve
project = SmallProject.open(pathlib.Path(sys.argv[2]), **json.loads(sys.argv[3]))
serve(project, on_ready=lambda port: print(port, flush=True))
"""
DAY = 86_400.0


class Clock:
    """The time of day of processes that are started with :attr:`environment`."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "off"
        library = folder / "clock_shim.so"
        source = Path(__file__).with_name("clock_shim.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
        self.environment = {**os.environ, "LD_PRELOAD": str(library), "CLOCK_OFF": str(self._file)}
        self.environment["OMP_NUM_THREADS"] = self.environment["TIDEMILL_THREADS"] = "1"
        self._file.write_bytes(struct.pack("d", 0.0))

    def jump(self, seconds: float) -> None:
        """Be off by so many *seconds* from now on."""
        with self._file.open("r+b") as file:  # in its place: processes have it mapped
            file.write(struct.pack("d", seconds))


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path)


@contextlib.contextmanager
def process(folder: Path, clock: Clock, **settings: Any) -> Iterator[str]:
    """A service of the project in *folder*; where it answers."""
    arguments = [Path(__file__).parents[1] / "serving", folder, json.dumps(settings)]
    command = [sys.executable, "-c", SERVE, *map(str, arguments)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=clock.environment)
    assert child.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(child.stdout.readline())}"
        child.send_signal(signal.SIGTERM)
        assert child.wait(timeout=60) == 0
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


class Caller:
    """Predicts and speaks, with a token or without."""

    def __init__(self, client: httpx.Client, token: str | None = None) -> None:
        self._client = client
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    def ask(self) -> httpx.Response:
        return self._client.post("/v1/predict", json={"inputs": digit(0)}, headers=self._headers)

    def predict(self) -> str:
        answer = self.ask()
        assert answer.status_code == 200, answer.text
        return str(answer.json()["predictions"][0]["id"])

    def say(self, prediction: str, value: str) -> dict[str, Any]:
        body = {"prediction": prediction, "kind": "correction", "value": value, "author": "ann"}
        answer = self._client.post("/v1/feedback", json=body, headers=self._headers)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())


def test_a_service_goes_on_and_the_newest_word_counts(clock: Clock, tmp_path: Path) -> None:
    project = SmallProject.create(tmp_path / "p")
    models = [project.add_model(name) for name in ("ridge", "naive-bayes")]
    project.deploy(models[0])
    ids: list[str] = []
    with process(tmp_path / "p", clock) as url, httpx.Client(base_url=url, timeout=30) as client:
        caller = Caller(client)
        first = caller.predict()
        words = [caller.say(first, "1")]
        for number, off in enumerate((DAY, -DAY, DAY, 0.0)):
            clock.jump(off)
            ids += [caller.predict() for _ in range(3)]
            words.append(caller.say(first, str(number + 2)))
            assert client.get("/readyz").status_code == client.get("/healthz").status_code == 200
        project.deploy(models[1])  # by the clock of this process, which never jumped
        deadline = time.monotonic() + 20
        while client.get("/readyz").json()["model"] != models[1].id:
            assert time.monotonic() < deadline, "a promotion is followed whatever the clock says"
            time.sleep(0.02)
    assert ids == sorted(ids) and len(set(ids)) == len(ids), "ids grow, also when the clock goes back"
    assert id_time(ids[0]) > time.time() + DAY / 2, "the shim was there"
    store = project.store
    assert {p.id for p in store.find(Prediction)} == {first, *ids}
    (in_force,) = store.find(Feedback, subject=first, superseded_by=None)
    assert in_force.value == "5" and in_force.id == words[-1]["feedback"], "the last word counts"
    assert [w["superseded"] for w in words] == [None, *(w["feedback"] for w in words[:-1])]
    store.close()


def test_a_token_expires_by_the_clock_and_rates_do_not_wait_for_it(clock: Clock, tmp_path: Path) -> None:
    project = SmallProject.create(tmp_path / "p")
    project.deploy(project.add_model("ridge"))
    short = make_token(project.store, "short", ["predict"], lifetime=DAY / 2)[1]
    always = make_token(project.store, "always", ["predict"])[1]
    with process(tmp_path / "p", clock, rate={"predict": 0.5}) as url, httpx.Client(base_url=url, timeout=30) as client:
        assert Caller(client, short).ask().status_code == 200
        clock.jump(DAY)
        assert Caller(client, short).ask().status_code == 401
        waited = until(429, Caller(client, always))
        assert int(waited.headers["retry-after"]) <= 2
        clock.jump(0)
        until(200, Caller(client, short))  # the clock was set right, so it is good again
        clock.jump(-DAY)
        until(200, Caller(client, always))  # nobody waits for the day that the clock went back
    project.store.close()


def until(status: int, caller: Caller) -> httpx.Response:
    """The first answer of this status; before it there may be others that say or keep to the rate."""
    deadline = time.monotonic() + 30
    while (answer := caller.ask()).status_code != status:
        assert answer.status_code in {200, 429} and time.monotonic() < deadline, answer.text
    return answer


def test_a_statement_of_a_time_to_come_does_not_outlive_the_words_after_it(tmp_path: Path) -> None:
    """Made while the clock was wrong, by another process that has ended since."""
    now = time.time()

    def statement(value: str, created: float) -> Feedback:
        made = new_id("fb")
        return Feedback(id=made, subject="pred_1", kind="correction", value=value, created=created, key=made)

    with create_store(tmp_path / "s") as store:
        store.add_feedback([statement("wrong clock", now + DAY)])
        store.add_feedback([statement("right clock", now)])
        store.add_feedback([statement("arrives late", now - DAY)])
        (in_force,) = store.find(Feedback, superseded_by=None)
        assert in_force.value == "right clock"


KILLED = Path(__file__).parents[1] / "loop" / "_killed.py"


@pytest.mark.parametrize("off", [DAY, -DAY])
def test_a_cycle_that_was_killed_goes_on_under_another_clock(off: float, clock: Clock, tmp_path: Path) -> None:
    data = write_records(tmp_path / "data", get_task("tabular-classification").sample_data(0, 300))
    recipes = {"exclude": ["lightgbm", "mlp"]}
    tidemill.init(tmp_path / "p", data=data, target="label", recipes=recipes).store.close()
    clock.jump(off)
    command = [sys.executable, KILLED, tmp_path / "p", "evaluate", "0"]
    killed = subprocess.run(command, env=clock.environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    project = tidemill.open(tmp_path / "p")
    with contextlib.closing(project.store) as store:
        (begun,) = store.find(Cycle)
        assert abs(begun.created - time.time() - off) < DAY / 2
        made = store.count(Model)
        done = project.cycle(max_trials=0)
        assert done["cycle"] == begun.id and done["decision"]["outcome"] == "promoted"
        assert store.count(Cycle, status="done") == store.count(Cycle) == 1 and made > 0
        again = project.cycle(max_trials=0)
        assert again["cycle"] != begun.id, "and the next one is a new one"
        assert store.champion() == store.find(Deployment, newest_first=True, limit=1)[0]
