"""The plan: what a budget is shared into, and probes that any kind of target and input lets through."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tidemill.data.schema import Field, Signature
from tidemill.errors import ConfigError
from tidemill.learners import get_learner
from tidemill.loop import planning
from tidemill.loop.crew import starter
from tidemill.loop.estimating import Work, estimates
from tidemill.loop.planning import plan
from tidemill.loop.probing import Cost, Draws, estimate, usual_epochs
from tidemill.loop.race import terms
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
    """Estimates that are not measured, and so take no part of the budget that could be seen."""
    costs = {
        "ridge": Cost(once=0.0, each=1.0, epochs=1),
        "fixed": Cost(once=0.0, each=3.0, epochs=1),
        "trees": Cost(once=0.4, each=0.02, epochs=80),
        "slow": Cost(once=10.0, each=4.5, epochs=20),
    }
    monkeypatch.setattr(planning, "estimates", lambda recipes, *_: [(r.name, costs[r.name]) for r in recipes])


def test_a_budget_is_shared_and_what_is_not_needed_goes_to_those_that_search(known: None) -> None:
    planned = plan(RECIPES, signature(), 5000, validation=2500, budget=100.0)
    work = planned.recipes
    assert work["ridge"]["share"] is None and work["ridge"]["trials"] == 1
    assert work["fixed"]["share"] == 3.0 and work["fixed"]["most"] == 1
    raced = terms(work)
    assert list(raced.shares) == ["trees", "slow"]
    assert raced.budget == pytest.approx(100 - 1 - 3, rel=1e-3)
    assert raced.kept == 9.0  # the fixed one may be chosen, and is refitted thrice
    # a refit of the slowest is kept back: 33 s, its share when all three had the same
    for_fits = (raced.budget - 33) / 2
    assert work["trees"]["trials"] == int(for_fits / 2.0) and work["trees"]["most"] > work["trees"]["trials"]
    assert work["slow"]["max_epochs"] == int((for_fits - 10.0) / 4.5) == 4
    assert work["slow"]["seconds"] == work["slow"]["refit"] == 10.0 + 4 * 4.5
    assert work["trees"]["refit"] == pytest.approx(3 * 2.0)
    assert planned.seconds == pytest.approx(100.0, rel=1e-3)
    assert json.loads(json.dumps(work)) == work


def test_few_validation_rows_make_a_refit_dearer(known: None) -> None:
    few, many = (plan(RECIPES, signature(), 5000, validation=n, probe=True) for n in (500, 2500))
    assert few.recipes["trees"]["refit"] > many.recipes["trees"]["refit"]
    assert few.recipes["slow"]["refit"] == many.recipes["slow"]["refit"] == few.recipes["slow"]["seconds"]


def test_the_estimate_counts_every_trial_and_the_dearest_refit(known: None) -> None:
    assert plan(RECIPES, signature(), 5000, probe=True).seconds == pytest.approx(1 + 3 + 2 + 100 + 100, rel=1e-3)
    four = plan(RECIPES, signature(), 5000, max_trials=4, probe=True)
    assert four.seconds == pytest.approx(1 + 3 + 4 * (2 + 100) + 100, rel=1e-3)
    # a race of few cheap trials ends before its budget
    cheap = plan(RECIPES[:3], signature(), 5000, validation=2500, budget=1000.0, max_trials=4)
    assert cheap.seconds == pytest.approx(1 + 3 + 4 * 2 + 3 * 3, rel=1e-3)
    assert plan(RECIPES, signature(), 5000).seconds is None


def test_features_that_several_recipes_read_are_made_once() -> None:
    work = plan(RECIPES[:2], signature(), 600, probe=True).recipes
    assert work["ridge"]["features"] > 0 == work["fixed"]["features"]


def test_what_is_trained_already_is_not_probed(known: None) -> None:
    work = plan(RECIPES, signature(), 5000, validation=2500, done={"ridge": 40.0}, budget=100.0).recipes
    assert work["ridge"]["seconds"] == 40.0 and work["ridge"]["refit"] == 120.0
    assert terms(work).budget == pytest.approx(100 - 40 - 3, rel=1e-3)


def test_what_has_no_room_for_one_epoch_is_left_out(known: None) -> None:
    planned = plan(RECIPES, signature(), 5000, validation=2500, budget=40.0)
    work = planned.recipes
    assert work["slow"]["trials"] == work["slow"]["most"] == 0 and work["slow"]["seconds"] == 10.0 + 4.5
    assert terms(work).shares.keys() == {"trees"} and terms(work).kept == work["fixed"]["refit"]
    assert planned.seconds == pytest.approx(40.0, rel=1e-3)
    # the only one that is no baseline is tried whatever it takes
    alone = plan([RECIPES[0], RECIPES[3]], signature(), 5000, budget=5.0).recipes["slow"]
    assert alone["trials"] == 1 and alone["max_epochs"] == 1


def test_no_trials_are_won_where_none_are_wanted(known: None) -> None:
    work = plan(RECIPES, signature(), 5000, budget=100.0, max_trials=0).recipes
    assert all(entry["most"] == entry["trials"] == 1 for entry in work.values())
    assert not terms(work).shares


def test_limits_without_a_clock_are_followed_to_the_letter() -> None:
    work = plan(RECIPES, signature(), 5000, max_trials=7, max_epochs=3).recipes
    assert {name: entry["trials"] for name, entry in work.items()} == {"ridge": 1, "fixed": 1, "trees": 7, "slow": 7}
    assert all(entry["max_epochs"] == 3 and entry["seconds"] is None for entry in work.values())
    raced = terms(work)
    assert not raced.clocked and raced.budget == sum(share.most for share in raced.shares.values()) == 14


def test_limits_bound_a_budget(known: None) -> None:
    work = plan(RECIPES, signature(), 5000, budget=1000.0, max_trials=4, max_epochs=5).recipes
    assert work["trees"]["most"] == work["slow"]["most"] == 4
    assert work["slow"]["max_epochs"] == 5


def test_what_cannot_be_probed_is_attempted_once_and_the_others_are_planned() -> None:
    mistyped = recipe("mistyped", "gradient", network={"name": "mlp", "widht": 3}, space=SPACE)
    planned = plan([*RECIPES[:2], mistyped], signature(), 600, budget=5.0)
    work = planned.recipes
    assert "widht" in planned.failed["mistyped"] and set(planned.failed) == {"mistyped"}
    assert work["mistyped"]["most"] == work["mistyped"]["max_epochs"] == 1 and work["mistyped"]["share"] is None
    assert work["fixed"]["seconds"] > 0 and planned.seconds is not None
    assert not terms(work).shares
    assert plan([mistyped], signature(), 600, max_trials=3, probe=True).recipes["mistyped"]["trials"] == 3


def test_several_recipes_are_probed_side_by_side_and_one_that_dies_is_attempted_once(tmp_path: Path) -> None:
    mistyped = recipe("mistyped", "gradient", network={"name": "mlp", "widht": 3})
    code = tmp_path / "deadly.py"
    code.write_text("import os, signal\n\n\ndef make():\n    os.kill(os.getpid(), signal.SIGKILL)\n")
    deadly = recipe("deadly", "sklearn", network={"ref": f"{code}:make"})
    given = [*RECIPES[1:3], mistyped, deadly]
    work = Work(signature=signature(), train=500, validation=100, threads=1)
    with starter(RECIPES[1:], 1, tmp_path / "log") as starts:
        found = dict(estimates(given, work, starts, workers=2))
        with pytest.raises(ConfigError, match="no learner 'gradeint'"):
            list(estimates([*given, recipe("unknown", "gradeint")], work, starts, workers=2))
    assert sorted(found) == sorted(r.name for r in given)
    assert "widht" in found["mistyped"] and "status -9" in found["deadly"]
    for one in given[:2]:
        cost = found[one.name]
        assert (
            isinstance(cost, Cost)
            and cost.seconds() > 0
            and cost.epochs == dict(estimates([one], work))[one.name].epochs
        )


@pytest.mark.parametrize("kind", ["classification", "multilabel", "regression"])
def test_any_kind_of_target_and_input_is_probed(kind: str) -> None:
    given = signature(kind, "number", "date", "category", "text")
    features = ({"step": "numbers", "raw": True}, {"step": "dates"}, {"step": "categories"})
    trees = Recipe(name="trees", task="t", learner="trees", features=features, params={"n_estimators": 20})
    draws = Draws(given, 9_000, 1_000)
    cost = estimate(trees, draws, threads=1)
    assert cost.seconds() > 0 and cost.epochs == 2 and cost.features > 0
    assert estimate(trees, draws, threads=1, max_epochs=1).epochs == 1
    bound = estimate(trees, draws, threads=1, most=0.0)
    assert bound.once == bound.package == 0.0 and bound.each > 0, "what takes too long is looked at once"
    assert bound.features == cost.features, "features are made once for all recipes that read them"


def test_early_stopping_is_counted() -> None:
    trees = get_learner("trees")
    assert usual_epochs(trees, 1000, {}) < trees.epochs(1000, {})
    assert usual_epochs(trees, 1000, {"learning_rate": 0.1}) == usual_epochs(trees, 1000, {})  # of half as many rounds
    assert usual_epochs(trees, 1000, {"n_estimators": 30}) == 3
