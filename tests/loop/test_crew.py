"""Trials in processes of their own: as many at a time as asked for, watched, and with the same result every time."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from _scene import Scene

from tidemill.errors import StoreError
from tidemill.loop import crew as crews
from tidemill.loop.crew import Crew
from tidemill.loop.search import Kept
from tidemill.loop.trial import Job, Outcome
from tidemill.loop.working import Orders
from tidemill.records import Dataset

Make = Callable[[], Scene]


def orders(scene: Scene) -> Orders:
    return Orders(
        root=scene.project.store.root,
        aim=scene.setting.aim(scene.dataset.signature),
        dataset=scene.project.store.get(Dataset, scene.dataset.id),
        recipes={"lightgbm": scene.recipes["lightgbm"]},
        max_epochs={"lightgbm": None},
        seed=3,
        threads=1,
    )


def job(place: int) -> Job:
    """A trial that takes a few seconds, of trees, for which a process need not import torch."""
    params = {"learning_rate": 0.01 + 0.001 * place, "n_estimators": 1000, "early_stopping_rounds": 0}
    return Job(recipe="lightgbm", place=place, params=params)


def waited(crew: Crew, heard: Callable[..., None] = lambda *_: None) -> dict[int, Outcome]:
    found: dict[int, Outcome] = {}
    while len(found) < 2:
        found |= {one.place: outcome for one, outcome in crew.wait(heard)}
    return found


def test_processes_share_a_race_and_come_to_the_same_result_every_time(scene: Make) -> None:
    one, other, kept = scene(), scene(), Kept()
    one.terms = other.terms = {"workers": 2}
    trees = one.recipes["lightgbm"]
    recipes = {"lightgbm": trees, "bushes": dataclasses.replace(trees, name="bushes", params={"num_leaves": 4})}
    found = one.race(recipes, 5, kept)
    assert sorted(entry["trials"] for entry in found.values()) == [2, 3]
    best = kept.take("lightgbm")
    assert best is not None and best.score == found["lightgbm"]["score"]
    assert len(best.features.rows) == len(one.dataset.rows("train")) + len(one.dataset.rows("validation"))

    with pytest.raises(KeyboardInterrupt):
        other.race(recipes, 5, Kept(), stop_at=2)
    assert other.race(recipes, 5, Kept()) == found
    assert other.trials() == one.trials()
    assert not list((one.project.store.root / "studies").glob("*.log")), "nothing was said, so nothing is kept"


def test_a_process_that_dies_is_replaced_and_its_trial_run_once_more(scene: Make, tmp_path: Path) -> None:
    jobs = [job(0), job(1)]
    crew = Crew(orders(scene()), 2, tmp_path / "log")
    try:
        for one in jobs:
            crew.start(one)
        calm = waited(crew)
        assert {outcome.status for outcome in calm.values()} == {"done"} and crew.deaths == 0

        hit: list[int] = []

        def heard(one: Job, _epoch: int, _metrics: dict[str, float]) -> None:
            if one.place == 1 and not hit:
                hit.append(next(worker.process.pid for worker in crew._team if worker.job == one))
                os.kill(hit[0], signal.SIGKILL)

        for one in jobs:
            crew.start(one)
        again = waited(crew, heard)
        assert hit and crew.deaths == 1
        assert {place: outcome.score for place, outcome in again.items()} == {
            place: outcome.score for place, outcome in calm.items()
        }

        # who says nothing any more is dead, too
        for worker in crew._team:
            os.kill(worker.process.pid, signal.SIGSTOP)
        crew._patience = 3.0
        for one in jobs:
            crew.start(one)
        assert {outcome.status for outcome in waited(crew).values()} == {"done"} and crew.deaths == 3
    finally:
        crew.close()


def test_a_trial_that_kills_its_process_twice_has_failed_and_the_others_go_on(scene: Make, tmp_path: Path) -> None:
    crew = Crew(orders(scene()), 1, tmp_path / "log")

    def heard(one: Job, _epoch: int, _metrics: dict[str, float]) -> None:
        if one.place == 0:
            os.kill(crew._team[0].process.pid, signal.SIGKILL)

    try:
        for place in (0, 1):
            crew.start(job(place))
        found = waited(crew, heard)
    finally:
        crew.close()
    assert found[0].status == "failed" and "died 2 times: it ended with status -9" in str(found[0].error)
    assert found[1].status == "done" and crew.deaths == 2


def test_where_no_process_stays_alive_that_is_said(
    scene: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dying(crews.LocalEngine):
        def submit(self, target: str, arguments: dict[str, Any], *, keep: Any = ()) -> crews.LocalJob:
            return super().submit("os:abort", {}, keep=keep)

    monkeypatch.setattr(crews, "LocalEngine", Dying)
    crew = Crew(orders(scene()), 1, tmp_path / "log")
    try:
        for place in range(4):
            crew.start(job(place))
        with pytest.raises(StoreError, match=r"tuning\.workers to 1"):
            for _ in range(4):
                crew.wait(lambda *_: None)
    finally:
        crew.close()
