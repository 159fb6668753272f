"""One recipe in one cycle: tuned where it has a search space and trials, trained, and packaged as a candidate."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

from tidemill.data.dataset import DatasetArrays
from tidemill.errors import TrainingError
from tidemill.learners._base import Context, Pruned
from tidemill.loop._base import Setting
from tidemill.loop.steps import Steps
from tidemill.records import JSON, Model, Recipe, Run, new_id, to_json
from tidemill.stages.train import Fit, fit, train
from tidemill.stages.tune import Report, tune

OnEpoch = Callable[[int, dict[str, float]], None]


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
        self.best: Fit | None = None  # the best trial's, so that training need not repeat it

    def run(self) -> JSON:
        """``{"recipe", "baseline", "model", "validation", "size_bytes", "params", "seconds"}``, or with ``failed``."""
        name, params = self.recipe.name, {}
        try:
            if self.work["trials"] > 1:
                params = self.steps.once(f"tune {name}", self._tune, stage="tune")["params"]
            return self.steps.once(f"train {name}", partial(self._train, params), stage="train")
        except TrainingError as error:
            self._say("train", f"failed: {error}")
            self._record("train", "failed", params, error=str(error))
            return {"recipe": name, "baseline": self.recipe.baseline, "failed": str(error)}

    def _tune(self, _token: str) -> JSON:
        total = self.work["trials"]

        def trial(params: JSON, report: Report) -> float:
            curve: list[JSON] = []

            def on_epoch(epoch: int, metrics: dict[str, float]) -> None:
                curve.append({"epoch": epoch, **metrics})
                report(epoch, metrics["validation_score"])

            try:
                made = self._fit(params, on_epoch)
            except Pruned:
                self._record("trial", "pruned", params, curve=tuple(curve))
                raise
            except TrainingError as error:
                self._record("trial", "failed", params, curve=tuple(curve), error=str(error))
                raise
            self._record("trial", "done", params, curve=made.curve, metrics=made.metrics, seconds=made.seconds)
            if self.best is None or made.score > self.best.score:
                self.best = made
            return made.score

        def on_trial(number: int, score: float | None) -> None:
            said = "stopped early" if score is None else f"{score:.4f}"
            self._say("tune", f"trial {number + 1}: {said}", done=number + 1, total=total)

        self._say("tune", "searching", done=0, total=total)
        journal = self.store.root / "studies" / f"{self.steps.cycle.id}-{self.recipe.name}.journal"
        seed = self.steps.cycle.seed
        found = tune(trial, self.recipe.space, trials=total, seed=seed, journal=journal, on_trial=on_trial)
        return {"params": found.params, "score": found.score, "trials": found.trials}

    def _train(self, params: JSON, token: str) -> JSON:
        started = time.perf_counter()
        # The token stays the same when a killed step starts again, so it is the same run, and makes the same model.
        run_id = f"{Run.prefix}_{token.partition('_')[2]}"
        workdir = self.store.root / "work" / run_id

        def make() -> Fit:
            if self.best is not None and self.best.params == {**self.recipe.params, **params}:
                return self.best
            return self._fit(params, self._on_epoch, workdir)

        self._say("train", "training")
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
        shutil.rmtree(workdir, ignore_errors=True)
        model, run = self.store.get(Model, model_id), self.store.get(Run, run_id)
        metric = self.setting.metric
        score = model.metrics["validation"].get(metric, 0.0)
        self._say("train", f"validation {metric} {score:.4f}")
        return {
            "recipe": self.recipe.name,
            "baseline": self.recipe.baseline,
            "model": model_id,
            "validation": score,
            "size_bytes": model.size_bytes,
            "params": run.params,
            "seconds": time.perf_counter() - started,
        }

    def _fit(self, params: JSON, on_epoch: OnEpoch, workdir: Path | None = None) -> Fit:
        context = Context(
            seed=self.steps.cycle.seed,
            max_epochs=self.work["max_epochs"],
            threads=self.setting.threads,
            workdir=workdir,
            report=on_epoch,
        )
        return fit(self.store, self.setting.aim(self.dataset.signature), self.dataset, self.recipe, params, context)

    def _on_epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        total = self.work["max_epochs"]
        more = {"done": epoch, "total": total} if total else {}
        score = metrics.get("validation_score")
        self._say("train", f"epoch {epoch}" + ("" if score is None else f": validation {score:.4f}"), **more)

    def _record(self, kind: str, status: Literal["done", "failed", "pruned"], params: JSON, **more: Any) -> None:
        """Record a run that leaves no model."""
        run = Run(
            id=new_id(Run.prefix),
            kind=kind,
            status=status,
            cycle_id=self.steps.cycle.id,
            dataset_id=self.dataset.id,
            recipe=to_json(self.recipe),
            params={**self.recipe.params, **params},
            seed=self.steps.cycle.seed,
            **more,
        )
        self.store.insert(run)

    def _say(self, stage: str, what: str, **more: object) -> None:
        self.steps.say(stage, what, recipe=self.recipe.name, **more)
