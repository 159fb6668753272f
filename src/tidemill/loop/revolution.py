"""One revolution of the loop: prepare, tune and train, evaluate, judge, deploy, annotate.

Each step's output is committed when it is done. A cycle that was killed or stopped goes on after its last finished
step, with the plan and the seed it began with, and comes to the same result.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from tidemill.data.dataset import DatasetArrays, open_dataset
from tidemill.data.settled import Settled
from tidemill.errors import TrainingError
from tidemill.learners._base import Context
from tidemill.loop._base import OnEvent, Setting
from tidemill.loop.judging import Bench
from tidemill.loop.planning import plan
from tidemill.records import JSON, Cycle, Dataset, Model, Recipe, Run, new_id, to_json
from tidemill.runtime import Predictor, load
from tidemill.stages.annotate import annotate
from tidemill.stages.evaluate import evaluate
from tidemill.stages.feedback import feedback
from tidemill.stages.prepare import prepare
from tidemill.stages.train import Fit, fit, train
from tidemill.stages.tune import Report, tune

T = TypeVar("T")


class Revolution:
    """The steps of one cycle, in order.

    Args:
        setting: what does not change during the cycle.
        cycle: its record; its ``plan`` holds the limits it was asked for.
        on_event: told what happens.
    """

    def __init__(self, setting: Setting, cycle: Cycle, on_event: OnEvent) -> None:
        self.setting = setting
        self.store = setting.store
        self.cycle = cycle
        self.on_event = on_event
        self.seconds: dict[str, float] = {}

    def run(self) -> Cycle:
        """Go through all steps; the finished cycle's record, not yet stored."""
        settled = self._timed("feedback", self._feedback)
        dataset = self._timed("prepare", partial(self._prepare, settled))
        if self._needs_labels(dataset):
            asked = self._timed("annotate", partial(self._annotate, dataset, settled))
            return self._finished(dataset, {"needs_labels": True, "questions": asked, "candidates": []})
        recipes = self.setting.recipes(dataset.signature)
        work = self._step("plan", lambda _: self._plan(dataset, recipes))
        candidates = [self._candidate(dataset, recipe, work[recipe.name]) for recipe in recipes]
        chosen = self._timed("evaluate", partial(self._select, dataset, candidates))
        decision = self._step("deploy", lambda _: self._judge(dataset, settled, candidates, chosen), stage="deploy")
        asked = self._timed("annotate", partial(self._annotate, dataset, settled))
        summary = {"candidates": candidates, "questions": asked, "challenger": chosen}
        return self._finished(dataset, summary, decision["decision"])

    # -- steps ---------------------------------------------------------------------------------------------

    def _feedback(self) -> Settled:
        self._say("feedback", "reading what people said")
        return feedback(self.store, self.setting.task, until=self.cycle.created)

    def _prepare(self, settled: Settled) -> DatasetArrays:
        setting = self.setting
        done = self._step(
            "prepare",
            lambda _: {
                "dataset": prepare(
                    self.store, setting.task, setting.config, setting.sources, settled, on_event=self.on_event
                )
            },
        )
        return open_dataset(self.store.root, self.store.get(Dataset, done["dataset"]))

    def _needs_labels(self, dataset: DatasetArrays) -> bool:
        labelled = dataset.target[dataset.rows("train")]
        return len(np.unique(labelled)) < 2

    def _plan(self, dataset: DatasetArrays, recipes: Sequence[Recipe]) -> JSON:
        asked = self.cycle.plan
        rows = len(dataset.rows("train")) + len(dataset.rows("validation"))
        self._say("tune", "planning the work")
        return plan(
            recipes,
            dataset.signature,
            rows,
            budget=asked["budget"],
            max_trials=asked["max_trials"],
            max_epochs=asked["max_epochs"],
            threads=self.setting.threads,
        ).recipes

    def _candidate(self, dataset: DatasetArrays, recipe: Recipe, work: JSON) -> JSON:
        """Tune and train one recipe; ``{"recipe", "model" | "failed", "score", …}``."""
        best: list[Fit] = []  # the best trial's fit, so that training need not repeat it

        def trial(params: JSON, report: Report) -> float:
            made = self._fit(dataset, recipe, params, work, None, report)
            if not best or made.score > best[0].score:
                best[:] = [made]
            return made.score

        params: JSON = {}
        try:
            if work["trials"] > 1:
                params = self._step(
                    f"tune {recipe.name}", lambda token: self._tune(recipe, trial, work, token), stage="tune"
                )["params"]

            def make(token: str) -> Fit:
                if best and best[0].params == {**recipe.params, **params}:
                    return best[0]
                return self._fit(dataset, recipe, params, work, token, None)

            return self._step(
                f"train {recipe.name}", lambda token: self._train(dataset, recipe, make, token), stage="train"
            )
        except TrainingError as error:
            self._say("train", f"{recipe.name} failed: {error}", recipe=recipe.name)
            self.store.insert(
                Run(
                    id=new_id(Run.prefix),
                    kind="train",
                    status="failed",
                    cycle_id=self.cycle.id,
                    dataset_id=dataset.id,
                    recipe=to_json(recipe),
                    params={**recipe.params, **params},
                    seed=self.cycle.seed,
                    error=str(error),
                )
            )
            return {"recipe": recipe.name, "baseline": recipe.baseline, "failed": str(error)}

    def _tune(self, recipe: Recipe, trial: Callable[[JSON, Report], float], work: JSON, token: str) -> JSON:
        total = work["trials"]

        def on_trial(number: int, score: float | None) -> None:
            said = "stopped early" if score is None else f"{score:.4f}"
            self._say("tune", f"trial {number + 1}: {said}", recipe=recipe.name, done=number + 1, total=total)

        self._say("tune", "searching", recipe=recipe.name, done=0, total=total)
        journal = self.store.root / "studies" / f"{self.cycle.id}-{recipe.name}.journal"
        found = tune(trial, recipe.space, trials=total, seed=self.cycle.seed, journal=journal, on_trial=on_trial)
        return {"params": found.params, "score": found.score, "trials": found.trials, "study": token}

    def _train(self, dataset: DatasetArrays, recipe: Recipe, make: Callable[[str], Fit], token: str) -> JSON:
        run_id = f"{Run.prefix}_{token.partition('_')[2]}"
        self._say("train", "training", recipe=recipe.name)
        started = time.perf_counter()
        model_id = train(
            self.store,
            self.setting.task,
            dataset,
            recipe,
            partial(make, run_id),
            run_id=run_id,
            cycle_id=self.cycle.id,
            seed=self.cycle.seed,
        )
        shutil.rmtree(self._workdir(run_id), ignore_errors=True)
        model, run = self.store.get(Model, model_id), self.store.get(Run, run_id)
        score = model.metrics["validation"][self.setting.task.metric]
        self._say("train", f"validation {self.setting.task.metric} {score:.4f}", recipe=recipe.name)
        return {
            "recipe": recipe.name,
            "baseline": recipe.baseline,
            "model": model_id,
            "validation": score,
            "size_bytes": model.size_bytes,
            "params": run.params,
            "seconds": time.perf_counter() - started,
        }

    def _fit(
        self,
        dataset: DatasetArrays,
        recipe: Recipe,
        params: JSON,
        work: JSON,
        run_id: str | None,
        report: Report | None,
    ) -> Fit:
        total = work["max_epochs"]

        def on_epoch(epoch: int, metrics: dict[str, float]) -> None:
            score = metrics["validation_score"]
            if report is not None:
                report(epoch, score)
            self._say(
                "train" if report is None else "tune",
                f"epoch {epoch}: validation {score:.4f}",
                recipe=recipe.name,
                **({"done": epoch, "total": total} if report is None and total else {}),
            )

        context = Context(
            seed=self.cycle.seed,
            max_epochs=work["max_epochs"],
            threads=self.setting.threads,
            workdir=self._workdir(run_id) if run_id else None,
            report=on_epoch,
        )
        return fit(self.store, self.setting.task, dataset, recipe, params, context)

    def _select(self, dataset: DatasetArrays, candidates: list[JSON]) -> str:
        """The challenger: the best on validation, pooled with recent-validation where there is one."""
        ranking = []
        for candidate in candidates:
            if "model" not in candidate:
                continue
            model = self.store.get(Model, candidate["model"])
            self._say("evaluate", "on validation", recipe=candidate["recipe"])
            predictor = self._open(model)
            score = weight = 0.0
            for split in ("validation", "recent-validation"):
                if not len(dataset.rows(split)):
                    continue
                outcomes = evaluate(
                    self.store,
                    dataset,
                    predictor,
                    split,
                    model_id=model.id,
                    task=self.setting.task,
                    on_event=self.on_event,
                ).outcomes
                score += float(outcomes.scores.sum())
                weight += len(outcomes.rows)
            candidate["validation"] = score / max(weight, 1.0)
            ranking.append((candidate["validation"], -model.size_bytes, model.id))
        if not ranking:
            failed = "; ".join(f"{c['recipe']}: {c.get('failed')}" for c in candidates)
            raise TrainingError("no recipe could be trained", where=failed, mend="Mend the data or the recipes.")
        return max(ranking)[2]

    def _judge(self, dataset: DatasetArrays, settled: Settled, candidates: list[JSON], chosen: str) -> JSON:
        """Put the challenger before the gate; when it is refused and nothing serves yet, then the best baseline."""
        bench = Bench(self.setting, self.cycle, dataset, settled, self.on_event)
        baselines = [c for c in candidates if c["baseline"] and "model" in c]
        best = max(baselines, key=lambda c: float(c["validation"]), default=None)
        baseline = best["model"] if best and all(c["model"] != chosen for c in baselines) else None
        decision = bench.decide(chosen, baseline)
        if decision.outcome == "refused" and decision.champion_id is None and baseline is not None:
            decision = bench.decide(baseline, None)
        return {"decision": decision.id}

    def _annotate(self, dataset: DatasetArrays, settled: Settled) -> JSON:
        self._say("annotate", "choosing the most useful questions")
        in_force = self.store.champion()
        predictor = self._open(self.store.get(Model, in_force.model_id)) if in_force else None
        return dict(annotate(self.store, dataset, predictor, settled, seed=self.cycle.seed))

    # -- what the steps share ------------------------------------------------------------------------------

    def _open(self, model: Model) -> Predictor:
        return load(self.store.root / model.path, threads=self.setting.threads)

    def _workdir(self, run_id: str) -> Path:
        return self.store.root / "work" / run_id

    def _step(self, name: str, work: Callable[[str], JSON], *, stage: str | None = None) -> JSON:
        """The output of a step: committed earlier, or made now and committed."""
        step = self.store.begin_step(self.cycle.id, name, new_id("token"))
        if step.status == "done" and step.output is not None:
            return step.output
        output = self._timed(stage, partial(work, step.token)) if stage else work(step.token)
        self.store.finish_step(step, output)
        return output

    def _timed(self, stage: str, work: Callable[[], T]) -> T:
        started = time.perf_counter()
        try:
            return work()
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - started

    def _say(self, stage: str, what: str, **more: object) -> None:
        self.on_event({"stage": stage, "what": what, **more})

    def _finished(self, dataset: DatasetArrays, summary: JSON, decision_id: str | None = None) -> Cycle:
        return dataclasses.replace(
            self.cycle,
            status="done",
            dataset_id=dataset.id,
            decision_id=decision_id,
            summary={**summary, "stages": self.seconds},
            finished=time.time(),
        )
