"""A policy over HTTP: it logs how likely each action was, learns from rewards in a moment, and can be put back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from choosing_project import ACTIONS, Choosing, choose, eventually, reward
from small_project import Served, served

from tidemill.records import Deployment, Prediction, StateSnapshot, new_id
from tidemill.runtime.heads import Heads
from tidemill.store import current_state, last_state


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Served]:
    project = Choosing.new(tmp_path)
    with served(project) as service:
        yield service
    project.store.close()


def test_every_choice_is_logged_with_the_probability_of_every_action(running: Served) -> None:
    """What is answered sums to one, and the journal keeps all of it."""
    for choice in choose(running, *[{"age": 0.1 * n} for n in range(20)]):
        shares = choice["propensities"]
        assert set(shares) == set(ACTIONS) and sum(shares.values()) == pytest.approx(1.0)
        assert min(shares.values()) >= 0.02 / 3 - 1e-12
        assert choice["propensity"] == shares[choice["action"]]
    stored = eventually(lambda: len(found := running.project.store.find(Prediction)) == 20 and found)
    assert all(p.propensity == p.answer["propensities"][p.answer["action"]] for p in stored)
    assert not any(p.audited for p in stored)


def test_a_reward_changes_the_policy_and_each_state_is_a_version(running: Served) -> None:
    """The next choices are made by a snapshot that stands in their log, and knows what was said."""
    (choice,) = choose(running)
    assert choice["expected"][choice["action"]] == 0.0
    assert reward(running, choice, 1.0) == 201
    later = eventually(lambda: (c := choose(running)[0])["expected"][choice["action"]] > 0.1 and c)
    store = running.project.store
    stored = eventually(lambda: store.find(Prediction, id=[later["id"]]))
    snapshot = store.get(StateSnapshot, stored[0].state_id)
    assert snapshot.parent is None and snapshot.facts["updates"] == 1
    (second,) = choose(running)
    reward(running, second, 0.0)
    newest = eventually(lambda: _other(store, snapshot))
    assert newest.parent == snapshot.id and newest.facts["updates"] == 2


def _other(store: Any, known: StateSnapshot) -> StateSnapshot | None:
    found = store.find(StateSnapshot, newest_first=True, limit=1)[0]
    return None if found.id == known.id else found


def test_a_newer_reward_by_the_same_author_takes_the_place_of_the_older(running: Served) -> None:
    """As if it had been said at first."""
    (choice,) = choose(running)
    reward(running, choice, 1.0, author="ann")
    eventually(lambda: choose(running)[0]["expected"][choice["action"]] > 0.1)
    reward(running, choice, 0.25, author="ann")
    z = np.array([[0.5, 1.0]])
    code = ACTIONS.index(choice["action"])
    wanted = Heads.blank(ACTIONS, 2).learned(z, np.array([code]), np.array([0.25])).expected(z)[0, code]
    eventually(lambda: abs(choose(running)[0]["expected"][choice["action"]] - wanted) < 1e-5)


def test_an_action_that_was_never_seen_has_its_chance_and_is_learned(running: Served) -> None:
    """Its head begins with nothing."""
    offer = {"age": 0.5, "actions": ["news", "weather"]}
    found = choose(running, *[offer] * 40)
    assert set(found[0]["propensities"]) == {"news", "weather"}
    new = next(choice for choice in found if choice["action"] == "weather")
    reward(running, new, 1.0)
    eventually(lambda: choose(running, offer)[0]["expected"]["weather"] > 0.1)


def test_the_positions_of_a_slate_do_not_repeat(running: Served) -> None:
    """Each position draws among what those above it have left, with the probability of that draw."""
    for _ in range(10):
        slate = choose(running, *[{"age": 0.5, "slate": "page"}] * 3)
        assert {choice["action"] for choice in slate} == set(ACTIONS)
        assert [len([p for p in c["propensities"].values() if p > 0]) for c in slate] == [3, 2, 1]
        assert all(choice["propensity"] == choice["propensities"][choice["action"]] for choice in slate)


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"age": 1, "actions": []}, "no action is offered"),
        ({"age": 1, "actions": ["a", "a"]}, "offered twice"),
        ({"age": 1, "propensity": 0.5}, "there is no field 'propensity'"),
        ({"age": 1, "actions": 3}, "no list"),
    ],
)
def test_requests_that_cannot_be_are_refused(running: Served, inputs: dict[str, Any], said: str) -> None:
    answer = running.client.post("/v1/predict", json={"inputs": inputs})
    assert answer.status_code == 422 and said in answer.json()["error"]["what"]


def test_statements_that_cannot_be_are_refused(running: Served) -> None:
    """Out of range, of an unknown choice, or a label where only rewards can be told; the choice is not lost."""
    (choice,) = choose(running)

    def said(**content: Any) -> tuple[int, str]:
        answer = running.client.post("/v1/feedback", json={"prediction": choice["id"], **content})
        return answer.status_code, answer.json().get("error", {}).get("what", "")

    assert said(kind="reward", value=7) == (422, "the reward 7 is outside its range, which is 0 to 1")
    assert said(kind="correction", value="news")[1].startswith("a correction says what was right")
    assert said(kind="reward", value=1, prediction="pred_" + "0" * 32)[0] == 404
    assert said(kind="rating", value=1)[0] == 201


def test_a_reward_after_its_horizon_is_refused(tmp_path: Path) -> None:
    """And silence until then counts as stated."""
    project = Choosing.new(tmp_path, horizon="1s", silence=0.5)
    with served(project) as service:
        (choice,) = choose(service)
        time.sleep(1.1)
        answer = service.client.post("/v1/feedback", json={"prediction": choice["id"], "kind": "reward", "value": 1})
        assert answer.status_code == 422 and "the horizon is 1" in answer.json()["error"]["what"]
        z = np.array([[0.5, 1.0]])
        code = ACTIONS.index(choice["action"])
        wanted = Heads.blank(ACTIONS, 2).learned(z, np.array([code]), np.array([0.5])).expected(z)[0, code]
        eventually(lambda: abs(choose(service)[0]["expected"][choice["action"]] - wanted) < 1e-5)
    project.store.close()


def test_a_state_is_put_back_together_with_its_model(tmp_path: Path) -> None:
    """Another model takes over with nothing learned; a deployment that names the old state brings it back."""
    project = Choosing.new(tmp_path)
    first = project.store.champion()
    assert first is not None
    with served(project) as service:
        (choice,) = choose(service)
        reward(service, choice, 1.0)
        eventually(lambda: choose(service)[0]["expected"][choice["action"]] > 0.1)
        state = last_state(project.store, first.model_id)
        project.deploy(project.add_blank())
        eventually(lambda: choose(service)[0]["expected"][choice["action"]] == 0.0)
        back = Deployment(
            id=new_id(Deployment.prefix),
            name="default",
            model_id=first.model_id,
            action="rollback",
            reason="a test",
            state_id=state,
        )
        project.store.deploy(back)
        eventually(lambda: choose(service)[0]["expected"][choice["action"]] > 0.1)
        assert current_state(project.store, back).id == state
    project.store.close()


def test_what_the_gate_allowed_bounds_what_is_learned(tmp_path: Path) -> None:
    """After as many rewards as it may learn from, it stops."""
    project = Choosing.new(tmp_path, updates=2)
    with served(project) as service:
        for _ in range(4):
            for choice in choose(service):
                reward(service, choice, 1.0)
        eventually(lambda: (found := project.store.find(StateSnapshot)) and found[-1].facts["updates"] == 2)
        time.sleep(0.5)
        assert project.store.find(StateSnapshot)[-1].facts["updates"] == 2
    project.store.close()


def repeated(service: Served, key: str, *rows: dict[str, Any]) -> list[dict[str, Any]]:
    answer = service.client.post("/v1/predict", json={"inputs": [*rows]}, headers={"Idempotency-Key": key})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["predictions"]
    return found


def test_what_stands_above_in_a_slate_belongs_to_the_id_of_a_choice(tmp_path: Path) -> None:
    """It says what was left to choose among."""
    project = Choosing.new(tmp_path)
    pages = []
    for age in (0.1, 0.9):
        with served(project) as service:
            pages.append(repeated(service, "order", *({"age": a, "slate": "page"} for a in (age, 0.5))))
    assert pages[0][1]["id"] != pages[1][1]["id"]
    project.store.close()


def test_a_choice_that_is_asked_for_again_elsewhere_is_the_same_choice(tmp_path: Path) -> None:
    """Two services of one project, as two workers are: one id never means two actions, nor those of two states."""
    project = Choosing.new(tmp_path)
    rows = [*[{"age": 0.5}] * 4, *[{"age": 0.5, "slate": "page"}] * 3]
    with served(project) as one, served(project) as other:
        first = [repeated(one, f"order {n}", *rows) for n in range(8)]
        assert [repeated(other, f"order {n}", *rows) for n in range(8)] == first
        assert {choice["action"] for answer in first for choice in answer[:4]} == set(ACTIONS), "they are drawn"
        assert all({choice["action"] for choice in answer[4:]} == set(ACTIONS) for answer in first)
        assert reward(one, first[0][0], 1.0) == 201
        eventually(lambda: choose(one)[0]["expected"] != first[0][0]["expected"])
        with served(project) as later:
            again = repeated(later, "order 0", *rows)
    assert again[0]["expected"] != first[0][0]["expected"]
    assert not {choice["id"] for choice in again} & {choice["id"] for choice in first[0]}
    stored = {p.id: p.answer["action"] for p in project.store.find(Prediction)}
    assert all(stored[choice["id"]] == choice["action"] for answer in (*first, again) for choice in answer)
    project.store.close()
