"""A policy proves itself beside another: callers, their rewards, and the sequential test, over HTTP."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from choosing_project import ACTIONS, Choosing, choose, eventually, reward
from small_project import Served, served
from test_rollout import started

from tidemill.monitor.rollout import replay
from tidemill.records import Deployment, Prediction, Rollout
from tidemill.runtime.heads import Heads
from tidemill.store import fold

TERMS = {"margin": 0.25, "min_callers": 30, "canary_rows": 40, "shadow_rows": 20}


def likes(action: str) -> Heads:
    """Heads that are sure that one action always earns, and the others seldom."""
    mean = np.array([[0.0, 0.9 if name == action else 0.1] for name in ACTIONS])
    return Heads(ACTIONS, mean, np.tile(np.eye(2) * 1e-6, (3, 1, 1)), 0.3, np.full(3, 100.0))


@pytest.fixture
def project(tmp_path: Path) -> Any:
    """A champion that always says news, which nobody reads."""
    made = Choosing.new(tmp_path, fast=False, rollout=TERMS)
    made.deploy(made.add_blank(likes("news")))
    yield made
    made.store.close()


def visits(service: Served, liked: str, rollout: Rollout, most: int = 1500) -> Rollout:
    """Callers, one after the other, each rewarding nine times in ten what is liked, until the roll-out has ended."""
    rng = np.random.default_rng(0)
    store = service.project.store
    for visit in range(most):
        row = {"inputs": {"age": float(rng.random())}, "caller": f"visitor {visit}"}
        answer = service.client.post("/v1/predict", json=row)
        assert answer.status_code == 200, answer.text
        (choice,) = answer.json()["predictions"]
        reward(service, choice, float(rng.random() < (0.9 if choice["action"] == liked else 0.1)))
        if visit % 10 == 0 and (found := store.get(Rollout, rollout.id)).status != "running":
            return found
    return store.get(Rollout, rollout.id)


def judged(store: Any, rollout: Rollout) -> list[Prediction]:
    fold(store)
    return [p for p in store.find(Prediction) if p.shadow is not None and p.shadow.get("share")]


def test_a_policy_that_earns_more_is_promoted_by_its_rewards(project: Choosing) -> None:
    """Both policies say of each choice how likely they make what; the evidence gives the verdict again."""
    better = project.add_blank(likes("sport"))
    with served(project) as service:
        rollout = started(project, better, "canary", share=0.5)
        ended = visits(service, "sport", rollout)
        assert ended.status == "promoted", ended.reason
        assert "rewarded choices" in ended.reason
        champion = eventually(lambda: (c := project.store.champion()) and c.model_id == better.id and c)
        assert champion.id == ended.deployment_id
        eventually(lambda: choose(service)[0]["propensities"]["sport"] > 0.9)
    rows = judged(project.store, rollout)
    assert {p.model_id for p in rows} == {ended.champion_id, better.id}
    assert all(p.shadow is not None and p.shadow["share"] == 0.5 for p in rows)
    assert replay(ended.evidence).outcome == "promote"
    scores = ended.evidence["scores"]
    assert scores["challenger"] == pytest.approx(0.89, abs=0.15) and scores["champion"] == pytest.approx(0.11, abs=0.15)


def test_a_policy_that_earns_less_is_rolled_back(project: Choosing) -> None:
    """Nobody has to look."""
    worse = project.add_blank(likes("culture"))
    with served(project) as service:
        rollout = started(project, worse, "canary", share=0.5)
        ended = visits(service, "news", rollout)
    assert ended.status == "rolled-back" and "is worse" in ended.reason
    champion = project.store.champion()
    assert isinstance(champion, Deployment) and champion.model_id == ended.champion_id


def test_the_shadow_gives_nobody_its_choices_and_rewards_do_not_judge_it(project: Choosing) -> None:
    """It advances when it has answered often enough, and only what a canary could have chosen counts."""
    same = project.add_blank(likes("sport"))
    with served(project) as service:
        rollout = started(project, same, "shadow", share=0.5)

        def advanced() -> bool:
            for choice in choose(service, *[{"age": 0.5}] * 4):
                reward(service, choice, 0.0)
            return project.store.get(Rollout, rollout.id).phase == "canary"

        eventually(advanced)
        kept = judged(project.store, rollout)
        assert project.store.get(Rollout, rollout.id).evidence["asked"] <= len(kept)
        before = [p for p in project.store.find(Prediction) if p.shadow and not p.shadow.get("share")]
        assert before and all(p.model_id == rollout.champion_id for p in before)


def test_slates_of_different_callers_have_nothing_to_do_with_one_another(project: Choosing) -> None:
    """Requests that are answered in one batch and call their slates alike: none takes from another's actions."""
    with served(project) as service:
        pages: list[list[dict[str, Any]]] = []

        def visit() -> None:
            pages.append(choose(service, *[{"age": 0.5, "slate": "page"}] * 3))

        threads = [threading.Thread(target=visit) for _ in range(24)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(pages) == 24
    for page in pages:
        assert {choice["action"] for choice in page} == set(ACTIONS)
        assert [len([p for p in choice["propensities"].values() if p > 0]) for choice in page] == [3, 2, 1]


def test_a_canary_that_is_asked_again_elsewhere_makes_the_same_choices(project: Choosing) -> None:
    """Each worker has a challenger of its own."""
    better = project.add_blank()
    with served(project) as one, served(project) as other:
        started(project, better, "canary", share=1.0)
        answers = []
        for service in (one, other):
            eventually(lambda: asked(service)["model"] == better.id)  # noqa: B023 - it is called here
            answers.append([asked(service, f"order {n}") for n in range(8)])
        assert [a["predictions"] for a in answers[0]] == [a["predictions"] for a in answers[1]]
        assert len({choice["action"] for answer in answers[0] for choice in answer["predictions"]}) > 1


def asked(service: Served, key: str | None = None) -> Any:
    body = {"inputs": [{"age": 0.5}] * 3, "caller": "ann"}
    return service.client.post("/v1/predict", json=body, headers={} if key is None else {"Idempotency-Key": key}).json()
