"""Short trials: what is short, what rises, what is cut, and that few are trained whole."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from _scene import Scene

from tidemill.learners import get_learner
from tidemill.loop.halving import ETA, WHOLE, Part, cuts, opening, parts, rising
from tidemill.loop.search import Kept
from tidemill.records import Run
from tidemill.stages.tune import Tried

LEVELS = (Part(share=1 / 9, epochs=3), Part(share=1 / 3, epochs=9), WHOLE)


def tried(place: int, score: float | None, level: int, of: int | None = None, curve: dict[int, float] | None = None):
    return Tried(
        place=place,
        params={"x": place},
        score=score,
        seconds=1.0,
        curve=curve or {},
        part=LEVELS[level].share,
        of=place if of is None else of,
    )


def begun(found: list[Tried]) -> set[tuple[int, float]]:
    return {(t.of, t.part) for t in found}


def test_of_three_that_ended_a_level_the_best_goes_up_once() -> None:
    found = [tried(0, 0.5, 2), tried(1, 0.1, 0), tried(2, 0.9, 0)]
    assert rising(found, LEVELS, begun(found), last=False) is None
    found.append(tried(3, 0.4, 0))
    risen = rising(found, LEVELS, begun(found), last=False)
    assert risen is not None and risen.place == 2
    found.append(tried(4, 0.8, 1, of=2))
    assert rising(found, LEVELS, begun(found), last=False) is None, "it has gone up, and one is too few up there"
    found += [tried(5, 0.2, 0), tried(6, 0.3, 0), tried(7, 0.95, 0)]
    risen = rising(found, LEVELS, begun(found), last=False)
    assert risen is not None and risen.place == 7
    found += [tried(8, 0.7, 1, of=7), tried(9, 0.6, 1, of=3)]
    risen = rising(found, LEVELS, begun(found), last=False)
    assert risen is not None and (risen.place, risen.of) == (4, 2), "the higher level comes first"
    assert rising(found, LEVELS, begun(found) | {(2, 1.0)}, last=False) is None, "it is under way"


def test_at_the_end_the_best_short_one_is_trained_whole() -> None:
    found = [tried(0, 0.5, 2), tried(1, 0.1, 0), tried(2, 0.9, 0)]
    risen = rising(found, LEVELS, begun(found), last=True)
    assert risen is not None and risen.place == 2
    failed = [tried(0, 0.5, 2), tried(1, None, 0)]
    assert rising(failed, LEVELS, begun(failed), last=True) is None


def test_nine_settings_cost_what_three_whole_trials_cost() -> None:
    found: list[Tried] = []
    fresh, cost = 0, 0.0
    while not any(t.part == 1 for t in found):
        risen = rising(found, LEVELS, begun(found), last=False)
        if risen is None:
            level = 0
            found.append(tried(len(found), 1 / (2 + fresh), level))
            fresh += 1
        else:
            level = 1 + next(n for n, part in enumerate(LEVELS) if part.share == risen.part)
            found.append(tried(len(found), risen.score, level, of=risen.of))
        cost += LEVELS[level].share
    assert fresh == 9 and cost == pytest.approx(3.0)
    assert found[-1].of == 0, "the best of the nine"


def test_what_is_short_follows_from_the_learner_and_the_time() -> None:
    net, linear, trees = (get_learner(name) for name in ("gradient", "linear", "trees"))
    assert [p.epochs for p in parts(net, 16, 4000, {}, worth=12)] == [2, 5, None]
    assert parts(net, 16, 4000, {}, worth=2) == parts(net, 16, 4000, {}, worth=60) == (WHOLE,)
    assert [p.epochs for p in parts(net, 4, 30_000, {}, worth=12)] == [1, None], "a ninth and a third are one epoch"
    assert [p.rows for p in parts(net, 2, 90_000, {}, worth=12)] == pytest.approx([1 / 9, 1 / 3, 1])
    assert [p.rows for p in parts(linear, 1, 4000, {}, worth=12)] == pytest.approx([1 / 3, 1]), (
        "too few rows in a ninth"
    )
    assert parts(trees, 80, 4000, {}, worth=12) == (WHOLE,)
    assert [opening(n, 1) for n in range(8)] == [0] * 8


def test_a_curve_must_be_at_the_median_and_of_trees_only_where_curves_have_foretold_the_end() -> None:
    curves = [{6: 0.1 * n, 14: 0.2 * n, 20: 0.3 * n} for n in range(1, 6)]
    found = [tried(n, 0.3 * n, 2, curve=curve) for n, curve in enumerate(curves, 1)]
    assert cuts(found, cumulative=True) == pytest.approx({6: 0.3, 9: 0.3, 14: 0.6})
    assert cuts(found[:3], cumulative=True) == {}, "three tell too little"
    # who begins slowly ends well here: the first look says the opposite, and nobody is stopped there
    crossing = [tried(n, 0.3 * n, 2, curve={**curve, 6: 0.2 - 0.03 * n}) for n, curve in enumerate(curves, 1)]
    assert sorted(cuts(crossing, cumulative=True)) == [14]
    stopped = [*found, tried(9, None, 2, curve={6: 0.05}), tried(10, None, 2, curve={6: 0.02})]
    left = cuts(stopped, cumulative=True)
    assert left == pytest.approx({6: 0.2, 9: 0.3, 14: 0.6}), "one that was stopped at 6 never came to 14"
    assert cuts(found, cumulative=False) == pytest.approx({6: 0.3, 14: 0.6, 20: 0.9})
    assert cuts([*found, tried(9, 0.9, 0, curve={3: 5.0})], cumulative=False) == cuts(found, cumulative=False)


def test_a_race_by_the_clock_begins_with_short_trials(scene: Callable[[], Scene]) -> None:
    here = scene()
    here.terms = {"clocked": True, "budget": 4.0}
    here.work = {"trials": 20, "most": 60, "max_epochs": 9}
    found = here.race({"mlp": here.recipes["mlp"]}, 60, Kept())
    runs = here.project.store.find(Run, cycle_id=here.cycle.id, kind="trial")
    short = [run for run in runs if "part" in run.metrics]
    assert "part" not in runs[0].metrics and runs[0].params == here.recipes["mlp"].params
    assert {run.metrics["part"]["epochs"] for run in short} <= {1, 3} and len(short) >= 3
    assert all(len(run.curve) == run.metrics["part"]["epochs"] for run in short)
    assert found["mlp"]["trials"] == len(runs)
    whole = [run for run in runs if "part" not in run.metrics and run.status == "done"]
    scores = [run.metrics["validation"]["r2"] for run in whole]
    assert found["mlp"]["score"] == max(scores), "a short trial is never the best one"
    assert ETA == 3
