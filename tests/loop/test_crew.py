"""Trials in processes of their own: as many at a time as asked for, watched, and with the same result every time."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _scene import Scene

from tidemill.engines.local import LocalEngine
from tidemill.engines.nursery import Nursery
from tidemill.errors import StoreError
from tidemill.loop.crew import Crew, starter
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


@contextlib.contextmanager
def crew_of(scene: Scene, workers: int, log: Path) -> Iterator[Crew]:
    recipes = list(scene.recipes.values())[:1]
    with starter(recipes, 1, log) as starts, contextlib.closing(Crew(orders(scene), workers, starts)) as crew:
        yield crew


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
    one.work = other.work = {"max_epochs": 2}
    recipes = {name: one.recipes[name] for name in ("lightgbm", "mlp")}
    found = one.race(recipes, 3, kept)
    assert sorted(entry["trials"] for entry in found.values()) == [1, 2]
    for name in recipes:  # the fit came over the line, networks too
        best = kept.take(name)
        assert best is not None and best.score == found[name]["score"]
        assert len(best.features.rows) == len(one.dataset.rows("train")) + len(one.dataset.rows("validation"))
        assert np.isfinite(best.fitted.scores({key: array[:3] for key, array in best.features.arrays.items()})).all()

    with pytest.raises(KeyboardInterrupt):
        other.race(recipes, 3, Kept(), stop_at=2)
    assert other.race(recipes, 3, Kept()) == found
    assert other.trials() == one.trials()
    assert not list((one.project.store.root / "studies").glob("*.log")), "nothing was said, so nothing is kept"


def test_a_process_that_dies_is_replaced_and_its_trial_run_once_more(scene: Make, tmp_path: Path) -> None:
    jobs = [job(0), job(1)]
    with crew_of(scene(), 2, tmp_path / "log") as crew:
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


def test_a_trial_that_kills_its_process_twice_has_failed_and_the_others_go_on(scene: Make, tmp_path: Path) -> None:
    with crew_of(scene(), 1, tmp_path / "log") as crew:

        def heard(one: Job, _epoch: int, _metrics: dict[str, float]) -> None:
            if one.place == 0:
                os.kill(crew._team[0].process.pid, signal.SIGKILL)

        for place in (0, 1):
            crew.start(job(place))
        found = waited(crew, heard)
        assert found[0].status == "failed" and "died 2 times: it ended with status -9" in str(found[0].error)
        assert found[1].status == "done" and crew.deaths == 2


def test_where_the_process_is_killed_that_starts_them_another_takes_its_place(scene: Make, tmp_path: Path) -> None:
    with crew_of(scene(), 2, tmp_path / "log") as crew:
        nursery = crew._starts
        assert isinstance(nursery, Nursery)
        crew.open()
        os.kill(nursery.pid, signal.SIGKILL)
        os.kill(crew._team[0].process.pid, signal.SIGKILL)
        for place in (0, 1):
            crew.start(dataclasses.replace(job(place), params={"n_estimators": 5}))
        assert {outcome.status for outcome in waited(crew).values()} == {"done"}


def test_where_no_process_stays_alive_that_is_said(scene: Make, tmp_path: Path) -> None:
    class Dying(LocalEngine):
        def submit(self, target: str, arguments: dict[str, Any], *, keep: Any = ()) -> Any:
            return super().submit("os:abort", {}, keep=keep)

    starts = Dying(threads=1, nice=0, log=tmp_path / "log")
    with contextlib.closing(Crew(orders(scene()), 1, starts)) as crew:
        for place in range(4):
            crew.start(job(place))
        with pytest.raises(StoreError, match=r"tuning\.workers to 1"):
            for _ in range(4):
                crew.wait(lambda *_: None)
