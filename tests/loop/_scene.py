"""A cycle that has come to its race, on California's housing."""

from __future__ import annotations

import dataclasses
from typing import Any

import tidemill
from tidemill.api.running import setting_of
from tidemill.data.dataset import DatasetArrays, open_dataset
from tidemill.loop import Setting
from tidemill.loop.attempt import Attempt
from tidemill.loop.race import Share, Terms
from tidemill.loop.search import Kept, tuned
from tidemill.loop.steps import Steps
from tidemill.records import JSON, Cycle, Dataset, Recipe, Run, new_id


class Scene:
    """A cycle that has come to its race."""

    def __init__(self, project: tidemill.Project, cycle: Cycle | None = None) -> None:
        self.project = project
        self.setting: Setting = dataclasses.replace(setting_of(project), threads=1)
        self.terms: dict[str, Any] = {}
        self.work: JSON = {}
        (record,) = project.store.find(Dataset)
        self.dataset: DatasetArrays = open_dataset(project.store.root, record)
        self.cycle = cycle or Cycle(id=new_id(Cycle.prefix), status="running", trigger="asked", seed=3, plan={})
        self.events: list[dict[str, Any]] = []
        offered = self.project.task.recipes(self.dataset.signature)
        self.recipes = {recipe.name: recipe for recipe in offered if recipe.space}

    def race(self, recipes: dict[str, Recipe], trials: int, kept: Kept, stop_at: int | None = None) -> JSON:
        """Race for so many trials; it is stopped when so many are done, at the first epoch of the next.

        ``terms`` and ``work`` say what is other than in a race of one process without a clock.
        """

        def on_event(event: dict[str, Any]) -> None:
            self.events.append(event)
            if stop_at is not None and event["done"] >= stop_at and "epoch" in event["what"]:
                raise KeyboardInterrupt

        steps = Steps(self.project.store, self.cycle, on_event)
        work = {"trials": trials, "most": trials, "max_epochs": 6, "seconds": None, "share": None} | self.work
        attempts = {name: Attempt(self.setting, steps, self.dataset, r, work) for name, r in recipes.items()}
        shares = {name: Share(seconds=1.0, most=trials) for name in recipes}
        given: dict[str, Any] = {"budget": float(trials), "clocked": False} | self.terms
        agreed = Terms(shares=shares, **given)
        return tuned(steps, agreed, attempts, kept)

    def trials(self) -> list[tuple[str, str, JSON, list[float]]]:
        runs = self.project.store.find(Run, cycle_id=self.cycle.id, kind="trial")
        return [
            (run.recipe["name"], run.status, run.params, [e["validation_score"] for e in run.curve]) for run in runs
        ]

    def begun(self) -> int:
        return sum(event["what"].endswith("under way") for event in self.events)
