"""A race of real searches: the better recipe gets more trials, and one that was stopped goes on to the same end."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from _scene import Scene

import tidemill
from tidemill.loop.attempt import Attempt
from tidemill.loop.search import Kept
from tidemill.loop.steps import Steps
from tidemill.records import Run

TRIALS = 8


def test_the_better_recipe_gets_more_trials_and_a_stopped_race_goes_on_to_the_same_end(
    scene: Callable[[], Scene],
) -> None:
    whole, kept = scene(), Kept()
    found = whole.race(whole.recipes, TRIALS, kept)
    assert set(found) == {"lightgbm", "mlp"}
    assert found["lightgbm"]["score"] > found["mlp"]["score"]
    counts = {name: entry["trials"] for name, entry in found.items()}
    assert counts["lightgbm"] > counts["mlp"] >= 1 and sum(counts.values()) == TRIALS == len(whole.trials())
    assert whole.begun() == TRIALS

    for name, entry in found.items():
        best = kept.take(name)
        assert best is not None and best.score == entry["score"]
        assert best.params == {**whole.recipes[name].params, **entry["params"]}
        assert kept.take(name) is None, "what was taken is kept no longer"

    cut, kept = scene(), Kept()
    for stop_at in (1, 5):
        with pytest.raises(KeyboardInterrupt):
            cut.race(cut.recipes, TRIALS, Kept(), stop_at)
    assert cut.race(cut.recipes, TRIALS, kept) == found
    assert cut.trials() == whole.trials()
    assert cut.begun() == TRIALS + 2, "no finished trial was repeated"
    assert cut.race(cut.recipes, TRIALS, Kept()) == found and cut.begun() == TRIALS + 2

    done = [event["done"] for event in whole.events]
    assert done == sorted(done) and done[-1] == TRIALS
    assert {event["total"] for event in whole.events} == {TRIALS}
    assert whole.events[-1]["what"].startswith(f"lightgbm {counts['lightgbm']} trials, best 0.")


def test_few_fits_are_kept(scene: Callable[[], Scene]) -> None:
    here, kept = scene(), Kept(most=1)
    found = here.race(here.recipes, 4, kept)
    assert kept.take("mlp") is None
    best = kept.take("lightgbm")
    assert best is not None and best.score == found["lightgbm"]["score"]


def test_a_recipe_whose_trials_all_fail_is_told_and_costs_the_others_little(scene: Callable[[], Scene]) -> None:
    here = scene()
    broken = dataclasses.replace(here.recipes["mlp"], name="broken", params={"epoch": 3})
    found = here.race({"broken": broken, "mlp": here.recipes["mlp"]}, 6, Kept())
    assert "unknown parameter 'epoch'" in found["broken"]["failed"]
    assert found["mlp"]["trials"] >= 3 and found["mlp"]["score"] > 0
    assert {status for name, status, *_ in here.trials() if name == "broken"} == {"failed"}
    assert any(event["what"] == "trial 1: failed" for event in here.events)

    steps = Steps(here.project.store, here.cycle, here.events.append)
    attempt = Attempt(here.setting, steps, here.dataset, broken, {"max_epochs": 1})
    candidate = attempt.give_up(found["broken"]["failed"])
    assert candidate == attempt.give_up("said once") and candidate["failed"] == found["broken"]["failed"]
    (run,) = here.project.store.find(Run, cycle_id=here.cycle.id, kind="train")
    assert (run.status, run.error) == ("failed", candidate["failed"])


def test_a_recipe_that_cannot_start_leaves_the_race_of_several_processes_alone(scene: Callable[[], Scene]) -> None:
    here = scene()
    here.terms, here.work = {"workers": 2}, {"max_epochs": 1}
    trees = here.recipes["lightgbm"]
    bushes = dataclasses.replace(trees, name="bushes", init={"model": "model_000"})
    alone = here.race({"bushes": bushes}, 2, Kept())["bushes"]
    assert alone["trials"] == 0 and "the learner trees cannot start from a model" in alone["failed"]
    found = here.race({"bushes": bushes, "lightgbm": trees}, 2, Kept())
    assert found["bushes"] == alone and found["lightgbm"]["trials"] == 2
    assert {name for name, *_ in here.trials()} == {"lightgbm"}


def test_a_budget_without_room_leaves_out_the_dearest_and_says_so(prepared: Path, tmp_path: Path) -> None:
    project = tidemill.init(tmp_path, data=prepared.parent / "housing.csv", target="median_house_value")
    candidates = {c["recipe"]: c for c in project.cycle(budget=0.01)["candidates"]}
    project.store.close()
    assert list(candidates) == ["ridge", "lightgbm", "mlp"]
    left_out = [name for name, c in candidates.items() if c.get("failed", "").startswith("left out: a single pass")]
    assert len(left_out) == 1 and left_out != ["ridge"]
    assert all("model" in c for name, c in candidates.items() if name not in left_out)
