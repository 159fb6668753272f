"""What was best in earlier cycles is tried first; and search spaces that cannot be searched are refused at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from _scene import Scene

from tidemill.errors import ConfigError
from tidemill.loop.planning import MOST_TRIALS, check_space, plan
from tidemill.loop.search import Kept, best_before
from tidemill.records import Cycle, Recipe, new_id
from tidemill.stages.tune import Study

Make = Callable[[], Scene]


def next_cycle(scene: Scene) -> None:
    scene.cycle = Cycle(id=new_id(Cycle.prefix), status="running", trigger="asked", seed=4, plan={})


def test_the_best_of_earlier_cycles_come_after_the_defaults(scene: Make) -> None:
    here, bests = scene(), []
    trees = {"lightgbm": here.recipes["lightgbm"]}
    store = here.project.store
    for _ in range(2):
        found = here.race(trees, 4, Kept())["lightgbm"]
        bests.append(found["params"])
        next_cycle(here)
    assert bests[0] and bests[1], "better than the defaults"
    earlier = best_before(store, trees["lightgbm"], here.cycle.created, "r2")
    assert earlier == ([bests[1]] if bests[1] == bests[0] else [bests[1], bests[0]])
    here.race(trees, 4, Kept())
    tried = [params for _, _, params, _ in here.trials()]
    assert tried[0] == trees["lightgbm"].params
    assert tried[1] == {**trees["lightgbm"].params, **bests[1]}

    narrow = dataclasses.replace(trees["lightgbm"], space={"num_leaves": {"type": "int", "low": 300, "high": 400}})
    assert best_before(store, narrow, here.cycle.created, "r2") == [], "the space no longer holds them"
    other = dataclasses.replace(trees["lightgbm"], name="other")
    assert best_before(store, other, here.cycle.created, "r2") == []


def test_a_space_of_few_settings_is_tried_out_once(scene: Make) -> None:
    here = scene()
    space = {
        "num_leaves": {"type": "categorical", "choices": [4, 15]},
        "max_depth": {"type": "int", "low": 2, "high": 3},
    }
    small = dataclasses.replace(here.recipes["lightgbm"], space=space)
    work = plan([small], here.dataset.signature, 1000, max_trials=50).recipes["lightgbm"]
    assert work["most"] == work["trials"] == 5 < MOST_TRIALS
    here.race({"lightgbm": small}, 5, Kept())
    tried = [{name: params[name] for name in space if name in params} for _, _, params, _ in here.trials()]
    assert tried[0] == {} and len({str(sorted(one.items())) for one in tried}) == 5


@pytest.mark.parametrize(
    ("space", "why"),
    [
        ({"a": {"type": "categorical", "choices": []}}, "there must be one at least"),
        ({"a": {"type": "categorical", "choices": [1, 1]}}, "twice"),
        ({"a": {"type": "float", "low": 3.0, "high": 1.0}}, "low is 3.0 and high is 1.0"),
        ({"a": {"type": "float", "low": 0.0, "high": 1.0, "log": True}}, "log is true and low is 0.0"),
        ({"a": {"type": "float", "low": float("nan"), "high": 1.0}}, "low is nan"),
        ({"a": {"type": "int", "low": 1.5, "high": 3}}, "no whole number"),
        ({"a": {"type": "int", "low": 1, "high": 3, "step": 2}}, "unknown key 'step'"),
        (
            {"a": {"type": "categorical", "choices": ["x"]}, "b": {"type": "int", "low": 2, "high": 2}},
            "nothing to choose",
        ),
        ({"a": 5}, "unknown type 5"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused_before_any_work(space: Any, why: str) -> None:
    recipe = Recipe(name="mine", task="t", learner="trees", features=({"step": "numbers"},), space=space)
    with pytest.raises(ConfigError, match=r"recipe 'mine', space") as refused:
        check_space(recipe)
    assert why in str(refused.value) and refused.value.mend


def test_trials_that_were_under_way_when_it_was_killed_keep_their_places(tmp_path: Any) -> None:
    space = {"x": {"type": "float", "low": 0.0, "high": 1.0}}
    study = Study(space, seed=1, journal=tmp_path / "a.journal")
    for place, params in ((0, {}), (1, {"x": 0.25}), (2, None)):
        asked = study.ask(place, params)
        if place != 1:
            study.tell(asked, 0.5)
    again = Study(space, seed=1, journal=tmp_path / "a.journal")
    assert [(tried.place, tried.of) for tried in again.finished()] == [(0, 0), (2, 2)]
    asked = again.ask(1, {"x": 0.25}, part=1 / 3, of=2)
    again.tell_part(asked, 0.75, 3)
    (late,) = [tried for tried in again.finished() if tried.place == 1]
    assert (late.params, late.part, late.of, late.score, late.curve) == ({"x": 0.25}, 1 / 3, 2, 0.75, {3: 0.75})
    assert again.best().score == 0.5, "a part of a fit is never the best"
