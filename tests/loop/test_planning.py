"""The plan: what a budget is shared into, and probes that any kind of target and input lets through."""

from __future__ import annotations

import json

import pytest

from tidemill.data.schema import Field, Signature
from tidemill.learners import get_learner
from tidemill.loop import planning
from tidemill.loop.planning import estimate, plan, usual_epochs
from tidemill.loop.race import entrants
from tidemill.records import Recipe

SPACE = {"learning_rate": {"type": "float", "low": 0.01, "high": 0.3}}


def recipe(name: str, learner: str = "closed_form", **more) -> Recipe:
    return Recipe(name=name, task="t", learner=learner, features=({"step": "numbers"},), **more)


def signature(kind: str = "classification", *types: str) -> Signature:
    inputs = tuple(Field(name=f"c{i}", type=t) for i, t in enumerate(types or ("number",)))
    return Signature(inputs=inputs, target="y", kind=kind, labels=() if kind == "regression" else ("a", "b", "c"))


RECIPES = [
    recipe("ridge", params={"method": "ridge"}, baseline=True),
    recipe("fixed"),
    recipe("trees", "trees", space=SPACE),
    recipe("slow", "gradient", space=SPACE),
]


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Estimates that are not measured: seconds of a fit, and its epochs."""
    seconds = {"ridge": (1.0, 1), "fixed": (3.0, 1), "trees": (2.0, 80), "slow": (100.0, 20)}
    monkeypatch.setattr(planning, "estimate", lambda r, *_args, **_more: seconds[r.name])


def test_a_budget_is_shared_and_what_is_not_needed_goes_to_those_that_search(known: None) -> None:
    planned = plan(RECIPES, signature(), 5000, budget=100.0)
    work = planned.recipes
    assert work["ridge"]["share"] is None and work["ridge"]["trials"] == 1
    assert work["fixed"]["share"] == 3.0 and work["fixed"]["most"] == 1
    shares, budget = entrants(work)
    assert list(shares) == ["trees", "slow"]
    # a refit of the slowest is kept back: 33 s, its share when all three had the same
    assert budget == pytest.approx(100 - 1 - 33 - 3)
    assert work["trees"]["trials"] == int(budget / 2 / 2.0) and work["trees"]["most"] > work["trees"]["trials"]
    assert work["slow"]["max_epochs"] == int(20 * (budget / 2) / 100.0) == 6
    assert work["slow"]["seconds"] == pytest.approx(30.0)
    assert planned.seconds is not None and planned.seconds <= 100
    assert json.loads(json.dumps(work)) == work


def test_limits_without_a_clock_are_followed_to_the_letter() -> None:
    work = plan(RECIPES, signature(), 5000, max_trials=7, max_epochs=3).recipes
    assert {name: entry["trials"] for name, entry in work.items()} == {"ridge": 1, "fixed": 1, "trees": 7, "slow": 7}
    assert all(entry["max_epochs"] == 3 and entry["seconds"] is None for entry in work.values())
    shares, budget = entrants(work)
    assert budget == sum(share.most for share in shares.values()) == 14


def test_limits_bound_a_budget(known: None) -> None:
    work = plan(RECIPES, signature(), 5000, budget=1000.0, max_trials=4, max_epochs=5).recipes
    assert work["trees"]["most"] == work["slow"]["most"] == 4
    assert work["slow"]["max_epochs"] == 5


@pytest.mark.parametrize("kind", ["classification", "multilabel", "regression"])
def test_any_kind_of_target_and_input_is_probed(kind: str) -> None:
    given = signature(kind, "number", "date", "category", "text")
    features = ({"step": "numbers", "raw": True}, {"step": "dates"}, {"step": "categories"})
    trees = Recipe(name="trees", task="t", learner="trees", features=features, params={"n_estimators": 20})
    seconds, epochs = estimate(trees, given, 10_000, threads=1)
    assert seconds > 0 and epochs == 2


def test_early_stopping_is_counted() -> None:
    trees = get_learner("trees")
    assert usual_epochs(trees, 1000, {}) < trees.epochs(1000, {})
    assert usual_epochs(trees, 1000, {"learning_rate": 0.1}) == usual_epochs(trees, 1000, {})  # of half as many rounds
    assert usual_epochs(trees, 1000, {"n_estimators": 30}) == 3
