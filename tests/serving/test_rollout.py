"""A challenger beside the champion: in the shadow, as a canary, promoted, rolled back, and failing in every way."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import httpx
import numpy as np
import pytest
from onnx import TensorProto
from small_project import TRAINING, Served, SmallProject, digit, digits, served

from tidemill.data.arrays import Columns
from tidemill.features.pipeline import Pipeline
from tidemill.learners._base import Export
from tidemill.learners._graph import Graph
from tidemill.monitor.rollout import replay
from tidemill.monitor.rollout_start import judge_of, new_rollout
from tidemill.packages import Manifest, write_package
from tidemill.records import Deployment, Model, Prediction, QueueItem, Rollout, new_id
from tidemill.runtime import Predictor, load
from tidemill.serving.rolling import CANARY_ROWS, SHADOW_ROWS, Challenger, Job
from tidemill.stages.deploy import begin_rollout, change_rollout, end_rollout, put_into_force
from tidemill.store import canary_draw, fold

PROGRAM = Path(__file__).with_name("small_project.py")
WORSE = {1: 7, 3: 8, 4: 6, 5: 9}
"""A model that takes these digits for others is wrong in two cases of five."""
NO_TEST = {"min_callers": 10_000}
UNSEEN = range(TRAINING, 1797)


def started(
    project: SmallProject, challenger: Model, phase: Literal["shadow", "canary"], share: float = 0.5
) -> Rollout:
    champion = project.store.champion()
    assert champion is not None
    judge = judge_of(project.task, project.config, 1.0)
    made = new_rollout(
        project.store,
        project.config,
        judge,
        champion=champion.model_id,
        challenger=challenger.id,
        reason="a test",
        phase=phase,
        share=share,
    )
    return begin_rollout(project.store, made)


def until(what: Callable[[], Any], seconds: float = 20.0) -> Any:
    """What *what* gives as soon as it gives something."""
    last = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < last, "it never came"
        time.sleep(0.02)
    return found


def asked(client: httpx.Client, row: int, caller: str | None = None) -> dict[str, Any]:
    body: dict[str, Any] = {"inputs": digit(row)} if caller is None else {"inputs": digit(row), "caller": caller}
    answer = client.post("/v1/predict", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def taken_up(running: Served) -> None:
    """Wait until the server answers with both models: then an audited answer has a shadow, or comes from the canary."""

    rows = itertools.count()

    def both() -> bool:
        asked(running.client, next(rows))
        fold(running.project.store)
        return any(p.shadow is not None for p in running.project.store.find(Prediction, audited=True))

    until(both)


def rollout_of(project: SmallProject, rollout: Rollout) -> Rollout:
    return project.store.get(Rollout, rollout.id)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose champion is a ridge, with a naive Bayes and a ridge that mistakes some digits."""
    folder = tmp_path_factory.mktemp("template")
    made = SmallProject.create(folder)
    with contextlib.closing(made.store):
        made.deploy(made.add_model("ridge"))
        made.add_model("naive-bayes")
        made.add_model("ridge", taken_for=WORSE)
    return folder


@pytest.fixture
def project(template: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SmallProject]:
    """A copy of it; ``rollout`` of its settings by parameter."""
    folder = tmp_path / "project"
    shutil.copytree(template, folder)
    settings = {"rollout": getattr(request, "param", NO_TEST), "feedback": {"trust": False}}
    made = SmallProject.open(folder, audit_rate=0.5, **settings)
    with contextlib.closing(made.store):
        yield made


def test_in_the_shadow_answers_are_logged_and_nobody_is_given_them(project: SmallProject) -> None:
    champion, _, challenger = project.store.find(Model)
    right = load(project.store.root / champion.path).predict([digit(row) for row in UNSEEN])
    wrong = load(project.store.root / challenger.path).predict([digit(row) for row in UNSEEN])
    assert [a["label"] for a in right] != [b["label"] for b in wrong]
    with served(project) as running:
        rollout = started(project, challenger, "shadow")
        taken_up(running)
        given = {}
        for row in UNSEEN[:40]:
            answer = asked(running.client, row)
            assert (answer["model"], answer["deployment"]) == (champion.id, project.store.champion().id)  # type: ignore[union-attr]
            given[answer["predictions"][0]["id"]] = row
        many = running.client.post("/v1/predict", json={"inputs": [digit(row) for row in UNSEEN[40:90]]}).json()
        given |= {made["id"]: row for made, row in zip(many["predictions"], UNSEEN[40:90], strict=True)}

    stored = {p.id: p for p in project.store.find(Prediction, id=list(given))}
    assert {p.model_id for p in stored.values()} == {champion.id}
    for identifier, row in given.items():
        answer = stored[identifier].answer
        assert answer["label"] == right[row - TRAINING]["label"]
        assert answer["scores"] == pytest.approx(right[row - TRAINING]["scores"], abs=1e-5)
    drawn = {i: p for i, p in stored.items() if p.audited}
    assert len(drawn) > 20 and all(p.shadow is not None for p in drawn.values())
    for identifier, prediction in drawn.items():
        assert prediction.shadow is not None and prediction.shadow["model_id"] == challenger.id
        assert prediction.shadow["answer"]["label"] == wrong[given[identifier] - TRAINING]["label"]
    assert rollout_of(project, rollout).status == "running"


def test_a_canary_keeps_its_callers_and_a_larger_share_keeps_them_too(project: SmallProject) -> None:
    champion, challenger, _ = project.store.find(Model)
    callers = [f"caller-{n}" for n in range(80)]
    with served(project) as running:
        rollout = started(project, challenger, "canary", share=0.3)
        taken_up(running)

        def of_the_canary(row: int) -> set[str]:
            found = set()
            for caller in callers:
                answer = asked(running.client, row, caller)
                by = {champion.id: project.store.champion().id, challenger.id: rollout.id}  # type: ignore[union-attr]
                assert answer["deployment"] == by[answer["model"]]
                if answer["model"] == challenger.id:
                    found.add(caller)
            return found

        few = of_the_canary(1500)
        assert 8 < len(few) < 45 and of_the_canary(1501) == few
        assert few == {c for c in callers if canary_draw(project.store.secret, rollout.id, f"caller:{c}", 0.3)}
        change_rollout(project.store, rollout.id, share=0.6)
        until(lambda: len(of_the_canary(1502)) > len(few))
        more = of_the_canary(1503)
        assert few < more and 30 < len(more) < 66
        # Without a caller the key decides, and without a key the content; a request has one model.
        models = {running.client.post("/v1/predict", json=body).json()["model"] for body in 3 * [
            {"inputs": [digit(row) for row in UNSEEN[:30]], "key": "patient 7"}
        ]}  # fmt: skip
        assert len(models) == 1
        by_content = [asked(running.client, row)["model"] for row in UNSEEN[:30]]
        assert set(by_content) == {champion.id, challenger.id}
        assert [asked(running.client, row)["model"] for row in UNSEEN[:30]] == by_content

    drawn = project.store.find(Prediction, audited=True, created_after=rollout.created)
    paired = [p for p in drawn if p.shadow is not None]
    assert len(paired) > 0.9 * len(drawn) > 50
    assert {(p.model_id, p.shadow["model_id"]) for p in paired if p.shadow} == {
        (champion.id, challenger.id), (challenger.id, champion.id),
    }  # fmt: skip
    assert {p.deployment for p in paired if p.model_id == challenger.id} == {rollout.id}
    questions = project.store.find(QueueItem, purpose="audit")
    assert questions and {q.subject for q in questions} <= {p.id for p in paired}


QUICK = {"shadow_rows": 20, "canary_rows": 10, "min_callers": 20}


def corrected(running: Served, rollout: Rollout) -> Rollout:
    """Ask, and say what is right about each answer that the audit drew, until the roll-out has ended."""
    _, shown = digits()
    last = time.monotonic() + 60
    for row in itertools.cycle(UNSEEN):
        if (now := rollout_of(running.project, rollout)).status != "running":
            break
        assert time.monotonic() < last, now
        answer = asked(running.client, row, f"caller-{row}")
        (made,) = answer["predictions"]
        if made["audit"]:
            body = {"prediction": made["id"], "kind": "correction", "value": str(shown[row]), "asked": True}
            said = running.client.post("/v1/feedback", json={**body, "author": f"author-{row % 7}"})
            assert said.status_code == 201, said.text
        time.sleep(0.01)
    return now


@pytest.mark.parametrize("project", [QUICK], indirect=True)
def test_live_labels_roll_a_worse_model_back(project: SmallProject) -> None:
    champion, challenger = project.store.champion(), project.store.find(Model)[2]
    with served(project) as running:
        rollout = started(project, challenger, "shadow")
        taken_up(running)
        ended = corrected(running, rollout)
        assert ended.status == "rolled-back", ended.reason
        assert ended.reason.startswith("The challenger is worse: on ")
        until(lambda: asked(running.client, 0)["model"] == champion.model_id)  # type: ignore[union-attr]
    assert project.store.champion() == champion and ended.deployment_id is None
    assert replay(ended.evidence).outcome == "roll back"
    assert ended.evidence["scores"]["challenger"] < ended.evidence["scores"]["champion"]


@pytest.mark.parametrize("project", [QUICK], indirect=True)
def test_live_labels_promote_a_better_model(project: SmallProject) -> None:
    better, _, worse = project.store.find(Model)
    project.deploy(worse)
    with served(project) as running:
        rollout = started(project, better, "shadow")
        taken_up(running)
        ended = corrected(running, rollout)
        assert (ended.status, ended.phase) == ("promoted", "canary"), ended.reason
        deployment = project.store.champion()
        assert deployment is not None and deployment.id == ended.deployment_id
        assert (deployment.model_id, deployment.reason) == (better.id, ended.reason)
        until(lambda: asked(running.client, 0)["deployment"] == deployment.id)
        assert asked(running.client, 1, "anybody")["model"] == better.id
    assert replay(ended.evidence).outcome == "promote"
    assert ended.evidence["challenger"] >= QUICK["canary_rows"]


@contextlib.contextmanager
def processes(folder: Path, count: int) -> Iterator[list[str]]:
    """Serve the project by so many processes; where each listens."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(PROGRAM), str(folder)]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(count)]
    try:
        yield [f"http://127.0.0.1:{int(child.stdout.readline())}" for child in children if child.stdout]
    finally:
        for child in children:
            child.terminate()
            child.communicate(timeout=60)
    assert [child.returncode for child in children] == [0] * count


class Load:
    """Asks each of several servers without pause, and notes when it asked and which model answered."""

    def __init__(self, urls: list[str]) -> None:
        self.seen: dict[str, list[tuple[float, str]]] = {url: [] for url in urls}
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(url,)) for url in urls]
        for thread in self._threads:
            thread.start()

    def _ask(self, url: str) -> None:
        seen = self.seen[url]
        with httpx.Client(base_url=url, timeout=30) as client:
            while not self._stop.is_set():
                moment = time.monotonic()
                seen.append((moment, asked(client, len(seen))["model"]))

    def until(self, model: str) -> None:
        """Wait until every server answers by *model*."""
        until(lambda: all(answers and answers[-1][1] == model for answers in self.seen.values()))

    def since(self, moment: float) -> list[set[str]]:
        """Which models answered what was asked after *moment*, by server."""
        return [{model for asked, model in answers if asked > moment} for answers in self.seen.values()]

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_the_end_of_a_rollout_reaches_every_process_within_a_second(project: SmallProject) -> None:
    champion, challenger, third = project.store.find(Model)
    first = started(project, challenger, "canary", share=1.0)
    with processes(project.dir, 2) as urls, contextlib.closing(Load(urls)) as load_on:
        load_on.until(challenger.id)
        end_rollout(project.store, first.id, "rolled-back", "a test")
        committed = time.monotonic()
        time.sleep(1.3)
        assert load_on.since(committed + 1) == [{champion.id}] * 2
        second = started(project, challenger, "canary", share=1.0)
        load_on.until(challenger.id)
        by_hand = Deployment(id=new_id("deploy"), name="default", model_id=third.id, action="promote", reason="a test")
        put_into_force(project.store, by_hand)
        committed = time.monotonic()
        time.sleep(1.3)
        assert load_on.since(committed + 1) == [{third.id}] * 2
    assert [rollout_of(project, one).status for one in (first, second)] == ["rolled-back", "stopped"]


def add_faulty(project: SmallProject) -> Model:
    """A model that starts, and gives no finite score to anything but an empty image."""
    identifier = new_id(Model.prefix)
    pipeline = Pipeline([{"step": "pixels"}], project.signature)
    pipeline.fit([{"image": digits()[0][:8]}])
    blank = {name: item.blank(4) for name, item in pipeline.info().items()}
    (name,) = blank
    graph = Graph()
    dark = graph.add("Neg", graph.cast(graph.add("Flatten", name), TensorProto.FLOAT))
    scores = graph.add("MatMul", graph.add("Sqrt", dark), graph.constant(np.ones((64, 10), np.float32)))
    manifest = Manifest(
        id=identifier,
        created=time.time(),
        task=project.task.name,
        recipe="faulty",
        runtime="onnx",
        signature=project.signature.to_json(),
        features=pipeline.to_json(),
        answer=project.task.answer(project.signature),
    )
    export = Export(onnx=graph.model(pipeline.info(), scores, 10).SerializeToString())
    path = f"models/{identifier}"
    size = write_package(project.store.root / path, manifest, export, blank, np.zeros((4, 10), np.float32))
    model = Model(
        id=identifier, run_id=None, dataset_id=None, task=project.task.name, recipe="faulty", path=path, size_bytes=size
    )
    project.store.insert(model)
    return model


def test_a_challenger_that_fails_costs_nobody_an_answer_and_is_rolled_back(
    project: SmallProject, caplog: pytest.LogCaptureFixture
) -> None:
    champion, challenger = project.store.find(Model)[0], add_faulty(project)
    with served(project) as running:
        rollout = started(project, challenger, "canary", share=1.0)
        for row in UNSEEN:
            assert asked(running.client, row)["model"] == champion.id
            if rollout_of(project, rollout).status != "running":
                break
            time.sleep(0.02)
    ended = rollout_of(project, rollout)
    assert ended.status == "rolled-back"
    assert "failed 3 times" in ended.reason and "not finite" in ended.reason
    assert "not finite" in caplog.text
    stored = project.store.find(Prediction)
    assert {p.model_id for p in stored} == {champion.id}


def test_a_challenger_whose_package_is_broken_is_rolled_back(project: SmallProject) -> None:
    challenger = project.store.find(Model)[1]
    with (project.store.root / challenger.path / "model.onnx").open("ab") as file:
        file.write(b"altered")
    rollout = started(project, challenger, "canary", share=1.0)
    with served(project) as running:
        ended = until(lambda: None if (now := rollout_of(project, rollout)).status == "running" else now)
        assert ended.status == "rolled-back" and "model.onnx" in ended.reason
        assert running.client.get("/readyz").json()["detail"] is None
        assert asked(running.client, 0)["model"] == rollout.champion_id


class Slow(Predictor):
    """A model that answers when it is let."""

    def __init__(self, of: Predictor, free: threading.Event) -> None:
        self.__dict__.update(of.__dict__)
        self._free = free

    def scores(self, columns: Columns) -> Any:
        self._free.wait(timeout=30)
        return super().scores(columns)


def test_callers_of_a_challenger_that_hangs_are_answered_by_the_champion(project: SmallProject) -> None:
    rollout = started(project, project.store.find(Model)[1], "canary")
    opened = load(project.store.root / project.store.find(Model)[0].path)
    free, broken, told = threading.Event(), [], []
    columns = opened.encode([digit(0)])

    def job(name: str) -> Job:
        return Job(columns, [digit(0)], lambda _: told.append((name, "done")), lambda: told.append((name, "failed")))

    challenger = Challenger(
        rollout,
        Slow(opened, free),
        opened.signature,
        patience=0.05,
        max_pixels=10**6,
        on_broken=lambda identifier, reason: broken.append((identifier, reason)),
    )
    for name in ("a", "b", "c"):
        assert challenger.answer(job(name))
        until(lambda: challenger.look() or len(told) > "abc".index(name))  # noqa: B023 - called within the loop
    assert told == [("a", "failed"), ("b", "failed"), ("c", "failed")]
    assert broken == [
        (rollout.id, "The challenger failed 3 times, the last time: it had not answered after 0.05 seconds.")
    ]
    assert not challenger.answer(job("late")), "it takes on nothing more"
    free.set()
    challenger.close()
    assert len(told) == 3, "what came too late is thrown away"


def test_a_challenger_with_too_much_to_do_leaves_callers_to_the_champion(project: SmallProject) -> None:
    rollout = started(project, project.store.find(Model)[1], "canary")
    opened = load(project.store.root / project.store.find(Model)[0].path)
    free, told = threading.Event(), []
    columns = opened.encode([digit(0)] * 256)
    challenger = Challenger(
        rollout, Slow(opened, free), opened.signature, patience=60, max_pixels=10**6, on_broken=lambda *_: None
    )

    def job() -> Job:
        return Job(columns, [digit(0)] * 256, lambda answers: told.append(len(answers)), lambda: told.append(0))

    taken = [challenger.answer(job()) for _ in range(6)]
    assert taken == [True] * (CANARY_ROWS // 256) + [False] * 2
    rows = [(f"pred_{row}", digit(0)) for row in range(256)]
    logged: list[str] = []
    for _ in range(SHADOW_ROWS // 256 + 4):
        challenger.shadow(rows, lambda ids, answers: logged.extend(ids[: len(answers)]), audited=False)
    assert challenger.shed == 4 * 256
    challenger.shadow(rows, lambda ids, answers: logged.extend(ids[: len(answers)]), audited=True)
    assert challenger.shed == 4 * 256, "what the audit drew has room"
    free.set()
    until(lambda: len(logged) == SHADOW_ROWS + 256)
    assert told == [256] * (CANARY_ROWS // 256)
    challenger.close()
