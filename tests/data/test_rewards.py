"""Rewards settled: the newest within the horizon counts, silence means what is stated, and each choice stands alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tidemill.config import Config, make_config
from tidemill.data.rewards import as_logged, settled_for, split_of
from tidemill.records import Feedback, Prediction, new_id
from tidemill.store import Store, create_store
from tidemill.tasks import get_task

TASK = get_task("contextual-bandit")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return create_store(tmp_path / ".tidemill")


def settings(**bandit: Any) -> Config:
    return make_config(task="contextual-bandit", data=["log.csv"], target="click", bandit=bandit)


def choice(store: Store, created: float, **inputs: Any) -> Prediction:
    made = Prediction(
        id=new_id("pred"),
        created=created,
        deployment="deploy_1",
        model_id="model_1",
        key="0" * 16,
        inputs={"age": 30, **inputs},
        answer={"action": "news", "propensity": 0.4, "propensities": {"news": 0.4, "sport": 0.6}},
    )
    store.insert(made)
    return made


def say(
    store: Store, about: Prediction, value: float, created: float, author: str = "ann", kind: Any = "reward"
) -> None:
    store.add_feedback(
        [
            Feedback(
                id=(i := new_id("fb")), created=created, subject=about.id, kind=kind, value=value, author=author, key=i
            )
        ]
    )


def rewards(store: Store, config: Config, until: float) -> dict[str, float]:
    found = settled_for(store, "choice", TASK.label, config, until=until)
    return {sample.prediction.id: sample.label for sample in found.live}


def test_two_choices_in_one_context_earn_two_rewards(store: Store) -> None:
    """Equal inputs are no reason to settle on one of them."""
    first, second = choice(store, 100.0), choice(store, 101.0)
    say(store, first, 1.0, 102.0)
    say(store, second, 0.0, 103.0, kind="rating")
    assert rewards(store, settings(), 200.0) == {first.id: 1.0, second.id: 0.0}


def test_the_newest_statement_within_the_horizon_counts(store: Store) -> None:
    """A later one is as if it had never been said."""
    made = choice(store, 100.0)
    say(store, made, 0.2, 110.0)
    say(store, made, 0.8, 130.0)
    say(store, made, 0.5, 500.0)
    assert rewards(store, settings(horizon="60s"), 1000.0) == {made.id: 0.8}
    assert rewards(store, settings(), 1000.0) == {made.id: 0.5}
    assert rewards(store, settings(), 120.0) == {made.id: 0.2}


def test_silence_counts_once_the_horizon_is_over(store: Store) -> None:
    """Until then nothing is known; without a horizon it never counts."""
    made = choice(store, 100.0)
    assert rewards(store, settings(horizon="60s", silence=0.25), 150.0) == {}
    assert rewards(store, settings(horizon="60s", silence=0.25), 161.0) == {made.id: 0.25}
    assert rewards(store, settings(), 1e6) == {}


def test_a_choice_carries_what_its_log_says(store: Store) -> None:
    """Action, propensity and its own id beside the context; features of the chosen action where its offer has any."""
    offered = [{"name": "news", "price": 2}, {"name": "sport", "price": 3}]
    logged = as_logged(choice(store, 100.0, actions=offered))
    assert logged.inputs["action"] == "news" and logged.inputs["propensity"] == 0.4
    assert logged.inputs["event"] == logged.id and logged.inputs["action.price"] == 2


def test_a_choice_judges_or_trains_for_good() -> None:
    """By its id, in the shares that the splits have."""
    found = [split_of(f"pred_{n}", 0.1, 0.2) for n in range(2000)]
    assert found == [split_of(f"pred_{n}", 0.1, 0.2) for n in range(2000)]
    assert 0.17 < found.count("recent-test") / 2000 < 0.23 and 0.07 < found.count("recent-validation") / 2000 < 0.13
