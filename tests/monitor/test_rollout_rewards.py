"""What rewards say of two policies that share the callers: the truth, and more than a comparison of groups does."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tidemill.config import make_config
from tidemill.monitor.rollout import decide, replay
from tidemill.monitor.rollout_evidence import Doubts, gather
from tidemill.monitor.rollout_start import judge_of, new_rollout
from tidemill.records import JSON, Deployment, Feedback, Prediction, Rollout, new_id
from tidemill.stages.deploy import begin_rollout
from tidemill.store import Store, create_store, new_prediction_id
from tidemill.store.rollouts import newest_row
from tidemill.tasks import get_task

CHAMPION, CHALLENGER = "model_old", "model_new"
ACTIONS = ("a", "b", "c")
EARNS = np.array([0.2, 0.5, 0.6])
OLD, NEW = np.array([0.25, 0.7, 0.05]), np.array([0.05, 0.7, 0.25])
TRUTH = float((NEW - OLD) @ EARNS)
TASK = get_task("contextual-bandit")


class Rolled:
    """A store with a canary of a policy."""

    def __init__(self, store: Store, share: float = 0.3, **bandit: Any) -> None:
        self.store, self.share = store, share
        self.config = make_config(task=TASK.name, data=["a.csv"], target="y", bandit=bandit)
        first = Deployment(id=new_id("deploy"), name="default", model_id=CHAMPION, action="promote", reason="first")
        store.deploy(first)
        made = new_rollout(
            store,
            self.config,
            judge_of(TASK, self.config, 1.0),
            champion=CHAMPION,
            challenger=CHALLENGER,
            reason="a test",
            phase="canary",
            share=share,
        )
        self.rollout = begin_rollout(store, made)

    def choices(self, count: int, seed: int, *, slate: bool = False, share: bool = True) -> list[Prediction]:
        """So many callers' choices, one each."""
        rng = np.random.default_rng(seed)
        made = []
        for number in range(count):
            theirs = bool(rng.random() < self.share)
            action = int(rng.choice(3, p=NEW if theirs else OLD))
            answers = {m: _answer(p, action) for m, p in ((CHAMPION, OLD), (CHALLENGER, NEW))}
            by, other = (CHALLENGER, CHAMPION) if theirs else (CHAMPION, CHALLENGER)
            shadow: JSON = {"model_id": other, "answer": answers[other]}
            made.append(
                Prediction(
                    id=new_prediction_id(self.store.secret),
                    deployment=self.rollout.id if theirs else first_of(self.store),
                    model_id=by,
                    key=f"{number:016x}",
                    caller=f"caller {seed} {number}",
                    inputs={"x": 1, "slate": "page"} if slate else {"x": 1},
                    answer=answers[by],
                    shadow={**shadow, "share": self.share} if share else shadow,
                )
            )
        self.store.insert(*made)
        return made

    def rewarded(self, choices: list[Prediction], seed: int) -> None:
        rng = np.random.default_rng(1000 + seed)
        items = []
        for choice in choices:
            value = float(rng.random() < EARNS[ACTIONS.index(choice.answer["action"])])
            items.append(Feedback(id=new_id("fb"), subject=choice.id, kind="reward", value=value, key=new_id("k")))
        self.store.add_feedback(items)

    def evidence(self, now: float | None = None) -> JSON:
        doubts = Doubts(self.config.feedback)
        return gather(self.store, self.rollout, TASK.label, doubts, now=time.time() if now is None else now)


def _answer(likely: np.ndarray, action: int) -> JSON:
    return {
        "action": ACTIONS[action],
        "propensity": float(likely[action]),
        "propensities": dict(zip(ACTIONS, likely.tolist(), strict=True)),
        "expected": {"a": 0.3, "b": 0.3, "c": 0.3},
    }


def first_of(store: Store) -> str:
    found = store.champion()
    assert found is not None
    return found.id


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with contextlib.closing(create_store(tmp_path / "store")) as made:
        yield made


def test_rewards_tell_the_difference_and_more_of_it_than_two_groups_do(store: Store) -> None:
    """The interval holds the truth, and is less than half as wide as where only who chose is looked at."""
    rolled = Rolled(store)
    alone = rolled.choices(1200, 1)
    rolled.rewarded(alone, 1)
    found = rolled.evidence()
    assert found["asked"] == found["responded"] == 1200 and found["labels"]["callers"] == 1200
    told = found["interval"]
    assert told["low"] < TRUTH < told["high"]
    assert told["difference"] == pytest.approx(TRUTH, abs=0.05)
    assert found["scores"]["champion"] == pytest.approx(float(OLD @ EARNS), abs=0.08)
    assert replay(found) == decide(found)
    rolled.rollout = _after(rolled)
    rolled.rewarded(rolled.choices(1200, 1, slate=True), 1)
    wide = rolled.evidence()["interval"]
    assert wide["low"] < TRUTH < wide["high"]
    assert told["high"] - told["low"] < 0.5 * (wide["high"] - wide["low"])


def _after(rolled: Rolled) -> Rollout:
    """The roll-out as if it began now."""
    evidence = {**rolled.rollout.evidence, "start": newest_row(rolled.store), "seq": newest_row(rolled.store)}
    return replace(rolled.rollout, evidence=evidence)


def test_only_choices_that_either_could_have_made_and_with_rewards_judge(store: Store) -> None:
    """What was chosen in the shadow does not, and too few rewards hold a promotion back."""
    rolled = Rolled(store)
    rolled.choices(50, 2, share=False)
    rewarded = rolled.choices(30, 3)
    rolled.rewarded(rewarded[:10], 3)
    found = rolled.evidence()
    assert (found["asked"], found["responded"], found["labels"]["rows"]) == (30, 10, 10.0)
    held = {**found, "elapsed": 1e9, "challenger": 1000, "interval": {**_sure(), "low": 0.0}}
    assert "33% of the choices got a reward" in decide({**held, "policy": {**held["policy"], "margin": 0.5}}).reason


def _sure() -> JSON:
    return {"difference": 0.1, "low": 0.05, "high": 0.15, "callers": 500.0}


def test_silence_after_the_horizon_is_what_was_stated(store: Store) -> None:
    """Nothing was said of the choices: before the horizon they tell nothing, and after it they earned 0.5."""
    rolled = Rolled(store, horizon="1h", silence=0.5)
    choices = rolled.choices(40, 4)
    assert rolled.evidence()["responded"] == 0
    late = rolled.evidence(now=choices[-1].created + 3601)
    assert late["responded"] == 40 and late["labels"] is not None
