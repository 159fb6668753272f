"""Frugal proposals: near the best setting, inside the space, and the one first that takes least."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from _scene import Scene

from tidemill.loop.frugal import SAMPLED, STEP, cheapest, steps
from tidemill.loop.search import Kept
from tidemill.records import Run
from tidemill.stages.tune import Study, Tried, clipped, within
from tidemill.tasks._tables import TREE_SPACE

SPACE = {**TREE_SPACE, "kind": {"type": "categorical", "choices": ["gbdt", "dart", None]}}
BEST = {
    "learning_rate": 0.05,
    "num_leaves": 31,
    "min_child_samples": 5,
    "colsample_bytree": 0.5,
    "reg_lambda": 10.0,
    "kind": None,
}


def tried(place: int, seconds: float, score: float = 0.5, **params: float) -> Tried:
    return Tried(place=place, params={**BEST, **params}, score=score, seconds=seconds, curve={})


def test_steps_stay_in_the_space_and_near_where_they_start() -> None:
    found = steps(BEST, SPACE, 400, np.random.default_rng(1))
    assert all(within(SPACE, params) == params for params in found)
    share = np.array([np.log(params["learning_rate"] / 0.05) / np.log(30) for params in found])
    assert abs(share.mean()) < STEP / 5 and 0.8 * STEP < share.std() < 1.2 * STEP
    assert {type(params["num_leaves"]) for params in found} == {int} and len({p["num_leaves"] for p in found}) > 20
    kinds = [params["kind"] for params in found]
    assert set(kinds) == {"gbdt", "dart", None} and 0.7 < kinds.count(None) / 400 < 0.9
    assert 0.3 < np.mean([params["min_child_samples"] == 5 for params in found]) < 0.7, "from an end it goes one way"


def test_the_cheapest_is_told_from_what_trials_took_whatever_part_they_trained() -> None:
    slow, quick = {**BEST, "learning_rate": 0.02}, {**BEST, "learning_rate": 0.2}
    known = [tried(n, 0.1 / rate, learning_rate=rate) for n, rate in enumerate((0.01, 0.05, 0.3))]
    assert cheapest([slow, quick], SPACE, known) == quick
    assert cheapest([slow, quick], SPACE, known[:1]) == slow, "one tells nothing of another"
    leaves = [tried(n, seconds, num_leaves=many) for n, (seconds, many) in enumerate(((9.0, 200), (1.0, 8), (3.0, 40)))]
    assert cheapest([{**slow, "num_leaves": 90}, {**slow, "num_leaves": 9}], SPACE, leaves)["num_leaves"] == 9
    failed = [Tried(place=n, params=t.params, score=None, seconds=t.seconds, curve={}) for n, t in enumerate(known)]
    assert cheapest([slow, quick], SPACE, failed) == slow, "what ended early does not tell what a whole fit takes"


def test_proposals_are_the_same_for_a_place_begin_nothing_and_learn_from_what_is_known(tmp_path: Path) -> None:
    study = Study(TREE_SPACE, seed=4, journal=tmp_path / "a.journal")
    before = (tmp_path / "a.journal").read_bytes()
    assert study.proposals(3, 2) == study.proposals(3, 2) != study.proposals(4, 2)
    assert (tmp_path / "a.journal").read_bytes() == before
    # good where few columns are drawn, bad elsewhere: proposals follow
    drawn = np.random.default_rng(0)
    known = []
    for _ in range(40):
        (params,) = steps({**BEST, "colsample_bytree": drawn.uniform(0.4, 1.0)}, TREE_SPACE, 1, drawn)
        known.append((params, -abs(params["colsample_bytree"] - 0.5)))
    found = [study.proposals(place, 1, known)[0]["colsample_bytree"] for place in range(20)]
    assert np.median(np.abs(np.array(found) - 0.5)) < 0.1


def test_by_a_clock_a_search_of_trees_steps_from_their_defaults(scene: Callable[[], Scene]) -> None:
    here = scene()
    here.terms = {"clocked": True, "budget": 20.0}
    here.work = {"trials": 5, "most": 5}
    here.race({"lightgbm": here.recipes["lightgbm"]}, 5, Kept())
    runs = here.project.store.find(Run, cycle_id=here.cycle.id, kind="trial")
    assert runs[0].params == {} and 2 <= len(runs) <= 5
    stepped = [run.params for place, run in enumerate(runs) if place and place % SAMPLED]
    defaults = {"learning_rate": 0.05, "num_leaves": 31, "min_child_samples": 20, "colsample_bytree": 0.5}
    best = [defaults] + [run.params for run in runs if run.params]
    for params in stepped:
        away = [abs(np.log(params["learning_rate"] / other["learning_rate"])) / np.log(30) for other in best]
        assert min(gap for gap, other in zip(away, best, strict=True) if other is not params) < 5 * STEP


def test_what_a_learner_takes_is_brought_into_the_space_or_is_unknown() -> None:
    assert clipped(SPACE, {**BEST, "reg_lambda": 0.0}) == {**BEST, "reg_lambda": 1e-3}
    assert clipped(SPACE, {**BEST, "kind": "rf"}) is None and clipped(SPACE, {"num_leaves": 31}) is None
    assert clipped(SPACE, {**BEST, "num_leaves": "many"}) is None
