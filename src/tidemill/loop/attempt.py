"""One recipe in one cycle: fitted with some parameters, and packaged as a candidate."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

from tidemill.data.dataset import DatasetArrays
from tidemill.errors import TrainingError
from tidemill.learners._base import Context
from tidemill.loop._base import Setting
from tidemill.loop.steps import Steps
from tidemill.records import JSON, Model, Recipe, Run, new_id, to_json
from tidemill.stages.train import Fit, fit, train

OnEpoch = Callable[[int, dict[str, float]], None]
Status = Literal["done", "failed", "pruned"]


class Attempt:
    """The attempt to make a model of *recipe*.

    Args:
        setting: store, task and threads.
        steps: of the cycle.
        dataset: what it learns from.
        recipe: what is tried.
        work: its share of the plan, ``{"trials", "max_epochs", …}``.
    """

    def __init__(self, setting: Setting, steps: Steps, dataset: DatasetArrays, recipe: Recipe, work: JSON) -> None:
        self.setting = setting
        self.store = setting.store
        self.steps = steps
        self.dataset = dataset
        self.recipe = recipe
        self.work = work

    def run(self, params: JSON | None = None, best: Fit | None = None) -> JSON:
        """Train and package it.

        Args:
            params: what tuning found, over the recipe's defaults.
            best: a fit with these parameters, so that training need not repeat it.

        Returns:
            ``{"recipe", "baseline", "model", "validation", "size_bytes", "params", "seconds"}``, or with ``failed``.
        """
        return self.steps.once(f"train {self.recipe.name}", partial(self._train, params or {}, best), stage="train")

    def give_up(self, why: str) -> JSON:
        """What :meth:`run` returns where tuning found nothing that could be trained."""
        return self.steps.once(f"train {self.recipe.name}", lambda token: self._failed({}, why, token), stage="train")

    def _train(self, params: JSON, best: Fit | None, token: str) -> JSON:
        started = time.perf_counter()
        run_id = _run_id(token)
        workdir = self.store.root / "work" / run_id

        def make() -> Fit:
            if best is not None and best.params == {**self.recipe.params, **params}:
                return best
            return self.fit(params, self._on_epoch, workdir)

        self.say("train", "training")
        try:
            model_id = train(
                self.store,
                self.setting.aim(self.dataset.signature),
                self.dataset,
                self.recipe,
                make,
                run_id=run_id,
                cycle_id=self.steps.cycle.id,
                seed=self.steps.cycle.seed,
            )
        except TrainingError as error:
            shutil.rmtree(workdir, ignore_errors=True)
            return self._failed(params, str(error), token)
        shutil.rmtree(workdir, ignore_errors=True)
        model, run = self.store.get(Model, model_id), self.store.get(Run, run_id)
        metric = self.setting.metric
        score = model.metrics["validation"].get(metric, 0.0)
        self.say("train", f"validation {metric} {score:.4f}")
        return {
            "recipe": self.recipe.name,
            "baseline": self.recipe.baseline,
            "model": model_id,
            "validation": score,
            "size_bytes": model.size_bytes,
            "params": run.params,
            "seconds": time.perf_counter() - started,
        }

    def _failed(self, params: JSON, why: str, token: str) -> JSON:
        self.say("train", f"failed: {why}")
        if not self.store.exists(Run, _run_id(token)):
            self.record("train", "failed", params, id=_run_id(token), error=why)
        return {"recipe": self.recipe.name, "baseline": self.recipe.baseline, "failed": why}

    def fit(self, params: JSON, on_epoch: OnEpoch, workdir: Path | None = None) -> Fit:
        """Fit it with *params* over its defaults.

        Raises:
            TrainingError: the learner could not train it.
            Pruned: *on_epoch* gave up on it.
        """
        context = Context(
            seed=self.steps.cycle.seed,
            max_epochs=self.work["max_epochs"],
            threads=self.setting.threads,
            workdir=workdir,
            report=on_epoch,
            team=self.setting.team,
        )
        return fit(self.store, self.setting.aim(self.dataset.signature), self.dataset, self.recipe, params, context)

    def record(self, kind: str, status: Status, params: JSON, **more: Any) -> None:
        """Record a run that leaves no model."""
        run = Run(
            **{"id": new_id(Run.prefix), **more},
            kind=kind,
            status=status,
            cycle_id=self.steps.cycle.id,
            dataset_id=self.dataset.id,
            recipe=to_json(self.recipe),
            params={**self.recipe.params, **params},
            seed=self.steps.cycle.seed,
        )
        self.store.insert(run)

    def say(self, stage: str, what: str, **more: object) -> None:
        """Tell whoever listens, in the recipe's name."""
        self.steps.say(stage, what, recipe=self.recipe.name, **more)

    def _on_epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        total = self.work["max_epochs"]
        more = {"done": epoch, "total": total} if total else {}
        score = metrics.get("validation_score")
        self.say("train", f"epoch {epoch}" + ("" if score is None else f": validation {score:.4f}"), **more)


def _run_id(token: str) -> str:
    """The token stays the same when a killed step starts again, so it is the same run, and makes the same model."""
    return f"{Run.prefix}_{token.partition('_')[2]}"
