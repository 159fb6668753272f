"""A promotion or rollback by any process is followed without a restart and without a failed request."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from dataclasses import dataclass

import httpx
import pytest
from small_project import Served, SmallProject, digit, served

from tidemill.records import Deployment, Generation, Model, Prediction, new_id
from tidemill.serving.following import Follower

SWAPS = 3
CONNECTIONS = 16


@dataclass(frozen=True)
class Seen:
    """One answer under load: when it was asked for, and by which deployment it was given."""

    asked: float
    status: int
    deployment: str | None
    model: str | None


async def load(url: str, seen: list[Seen], stop: threading.Event) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        rows = itertools.count()

        async def caller() -> None:
            while not stop.is_set():
                asked = time.monotonic()
                answer = await client.post("/v1/predict", json={"inputs": digit(next(rows))})
                body = answer.json()
                seen.append(Seen(asked, answer.status_code, body.get("deployment"), body.get("model")))

        await asyncio.gather(*(caller() for _ in range(CONNECTIONS)))


def test_swaps_under_load_drop_nothing_and_are_followed_within_a_second(tmp_path: object) -> None:
    project = SmallProject.create(tmp_path)  # type: ignore[arg-type]
    models = [project.add_model("ridge"), project.add_model("naive-bayes")]
    project.deploy(models[0])
    seen: list[Seen] = []
    stop = threading.Event()
    commits: list[tuple[float, Deployment]] = []
    with served(project) as running:
        thread = threading.Thread(target=lambda: asyncio.run(load(running.url, seen, stop)))
        thread.start()
        for swap in range(SWAPS):
            deployment = project.deploy(models[(swap + 1) % 2])
            commits.append((time.monotonic(), deployment))
            time.sleep(1.2)
        stop.set()
        thread.join()
    assert {answer.status for answer in seen} == {200}
    known = {deployment.id: deployment for _, deployment in commits}
    order = {deployment.id: place for place, (_, deployment) in enumerate(commits)}
    for place, (committed, _) in enumerate(commits):
        late = [answer for answer in seen if answer.asked > committed + 1]
        assert late, "the load went on"
        assert min(order.get(answer.deployment or "", -1) for answer in late) >= place
    # model and deployment never mix
    assert all(answer.model == known[answer.deployment].model_id for answer in seen if answer.deployment in known)
    stored = project.store.find(Prediction)
    assert len(stored) == len(seen)
    assert {p.deployment for p in stored} >= set(known)
    project.store.close()


@pytest.fixture
def project(tmp_path_factory: pytest.TempPathFactory) -> SmallProject:
    return SmallProject.create(tmp_path_factory.mktemp("swap"))


def test_a_model_that_cannot_be_taken_up_leaves_the_old_one_in_place(
    project: SmallProject, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = project.add_model("ridge"), project.add_model("naive-bayes")
    with (project.store.root / bad.path / "model.onnx").open("ab") as file:
        file.write(b"altered")
    project.deploy(good)
    follower = Follower(project)
    follower.look()
    first = follower.served()
    project.deploy(bad)
    follower.look()
    assert follower.served() is first
    assert follower.fault is not None
    assert "model.onnx" in follower.fault
    assert follower.fault in caplog.text
    follower.look()  # not yet tried again, and not said again
    assert caplog.text.count("the old one stays") == 1
    back = project.deploy(good)
    follower.look()
    assert (follower.served().deployment.id, follower.fault) == (back.id, None)


def test_readiness_tells_of_the_failed_swap(project: SmallProject) -> None:
    good, bad = project.add_model("ridge"), project.add_model("ridge")
    (project.store.root / bad.path / "manifest.json").unlink()
    project.deploy(good)
    with served(project) as running:
        project.deploy(bad)
        for _ in range(100):
            told = running.client.get("/readyz").json()
            if told["detail"] is not None:
                break
            time.sleep(0.05)
        assert "manifest.json" in told["detail"]
        assert told["model"] == good.id
        answer = running.client.post("/v1/predict", json={"inputs": digit(0)})
        assert (answer.status_code, answer.json()["model"]) == (200, good.id)


def test_a_new_generation_of_the_test_sets_is_followed_without_loading_again(service: Served) -> None:
    follower = Follower(service.project)
    follower.look()
    before = follower.served()
    service.project.store.insert(Generation(id=new_id(Generation.prefix), number=1, alpha=0.05))
    follower.look()
    assert (before.generation, follower.served().generation) == (0, 1)
    assert follower.served().predictor is before.predictor


def test_feedback_may_name_labels_that_only_the_project_knows(service: Served) -> None:
    follower = Follower(service.project)
    assert follower.feedback_spec()["labels"] == list("0123456789")  # nothing loaded: the project's own
    follower.look()
    assert follower.feedback_spec()["labels"] == list("0123456789")
    assert service.project.store.count(Model) == 2
