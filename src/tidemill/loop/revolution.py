"""One revolution of the loop: prepare, tune and train, evaluate, judge, deploy, annotate.

Each step's output is committed when it is done. A cycle that was killed or stopped goes on after its last finished
step, with the plan and the seed it began with, and comes to the same result.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.config import Goal
from tidemill.data.dataset import DatasetArrays, open_dataset
from tidemill.data.settled import Settled, Tried
from tidemill.errors import TrainingError
from tidemill.loop._base import STARTING, OnEvent, Setting
from tidemill.loop.attempt import Attempt
from tidemill.loop.crew import Starts, starter
from tidemill.loop.fitting import unfit
from tidemill.loop.goals import Point, front, over, picked
from tidemill.loop.judging import Bench
from tidemill.loop.planning import check_space, plan
from tidemill.loop.race import terms
from tidemill.loop.refit import refitted
from tidemill.loop.robust import look_at_robustness
from tidemill.loop.search import Kept, log_of, tuned
from tidemill.loop.steps import Steps
from tidemill.metrics import row_scores
from tidemill.monitor.label_errors import known_suspects
from tidemill.records import JSON, Cycle, Dataset, Model, Recipe, Step, from_json, to_json
from tidemill.runtime import Predictor, load
from tidemill.stages.annotate import annotate
from tidemill.stages.evaluate import Evaluation, RowOutcomes, evaluate, timed, training_spread
from tidemill.stages.feedback import feedback
from tidemill.stages.prepare import prepare
from tidemill.stages.sift import sift

MOST_RIVALS = 2
"""Models besides the champion that are asked what they would say."""


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
        self.steps = Steps(setting.store, cycle, on_event, setting.span)
        self._tried: JSON = {}
        self._notes: list[str] = []

    def run(self) -> Cycle:
        """Go through all steps; the finished cycle's record, not yet stored."""
        steps = self.steps
        settled = steps.timed("feedback", self._feedback)
        dataset = steps.timed("prepare", partial(self._prepare, settled))
        if not varied(dataset.target[dataset.rows("train")]):
            asked = steps.timed("annotate", partial(self._annotate, dataset, settled))
            return self._finished(dataset, {"needs_labels": True, "questions": asked, "candidates": []})
        recipes = self._recipes(dataset)
        with self._starter(recipes) as starts:
            baselines = self._baselines(dataset, recipes)
            work: JSON = steps.once("plan", lambda _: self._plan(dataset, recipes, baselines, starts))
            self._overdrawn(baselines, work)
            candidates = self._candidates(dataset, recipes, work, baselines, starts)
        chosen = steps.timed("evaluate", partial(self._select, dataset, candidates))
        steps.timed("evaluate", partial(look_at_robustness, self.setting, steps, dataset, chosen["model"]))
        by_name = {recipe.name: recipe for recipe in recipes}

        def made_final(candidate: JSON) -> str:
            name = candidate["recipe"]
            model = refitted(self.setting, steps, dataset, by_name[name], work[name], candidate)
            return self._keeping_to_the_goal(dataset, candidate, model)

        chosen["final"] = made_final(chosen)
        decision = steps.once(
            "deploy", lambda _: self._judge(dataset, settled, candidates, chosen, made_final), stage="deploy"
        )
        asked = steps.timed("annotate", partial(self._annotate, dataset, settled))
        summary = {"candidates": candidates, "questions": asked, "challenger": chosen["final"]}
        return self._finished(dataset, summary, decision["decision"])

    def _feedback(self) -> Settled:
        self.steps.say("feedback", "reading what people said")
        setting, until = self.setting, self.cycle.created
        read = partial(feedback, self.store, setting.task, until=until, config=setting.config)
        settled = read()

        def sifted(_token: str) -> JSON:
            doubts = settled.doubts
            released = sift(
                self.store, setting.task, doubts, until=until, seed=self.cycle.seed, threads=setting.threads
            )
            return {"released": released, "harmful": [d.mark for d in doubts if d.mark not in released]}

        self._tried = self.steps.once("sift", sifted)
        return read(tried=Tried(**self._tried)) if settled.doubts else settled

    def _prepare(self, settled: Settled) -> DatasetArrays:
        setting, listener = self.setting, self.steps.on_event
        done = self.steps.once(
            "prepare",
            lambda _: {
                "dataset": prepare(
                    self.store,
                    setting.task,
                    setting.config,
                    setting.sources,
                    settled,
                    on_event=listener,
                    functions=setting.functions,
                )
            },
        )
        return open_dataset(self.store.root, self.store.get(Dataset, done["dataset"]))

    def _recipes(self, dataset: DatasetArrays) -> list[Recipe]:
        """What is tried; a resumed cycle keeps to it."""

        def offered(_token: str) -> JSON:
            notes: list[str] = []
            found = self.setting.recipes(dataset.signature, some_texts(dataset), notes.append)
            return {"recipes": [to_json(recipe) for recipe in found], "notes": notes}

        found = self.steps.once("recipes", offered)
        recipes = [from_json(Recipe, recipe) for recipe in found["recipes"]]
        for note in found.get("notes", ()):
            self._notes.append(note)
            self.steps.say("tune", note)
        for recipe in recipes:
            check_space(recipe)
        return recipes

    def _starter(self, recipes: Sequence[Recipe]) -> contextlib.AbstractContextManager[Starts | None]:
        """What starts the processes of a race, from now on: it imports beside the baselines and the plan."""
        workers = self.setting.workers(self.cycle.plan["budget"])
        searched = [recipe for recipe in recipes if recipe.space]
        if workers == 1 or not searched or self.store.find(Step, cycle_id=self.cycle.id, name="race", status="done"):
            return contextlib.nullcontext()
        return starter(searched, max(1, self.setting.threads // workers), log_of(self.store, self.cycle))

    def _baselines(self, dataset: DatasetArrays, recipes: Sequence[Recipe]) -> dict[str, JSON]:
        """Their candidates by name. They come first, so that what is planned then is what they left."""
        work = {"max_epochs": self.cycle.plan["max_epochs"]}
        return {r.name: Attempt(self.setting, self.steps, dataset, r, work).run() for r in recipes if r.baseline}

    def _plan(
        self,
        dataset: DatasetArrays,
        recipes: Sequence[Recipe],
        baselines: Mapping[str, JSON],
        starts: Starts | None,
    ) -> JSON:
        asked, validating = self.cycle.plan, len(dataset.rows("validation"))
        workers, budget = self.setting.workers(asked["budget"]), asked["budget"]
        self.steps.say("tune", "planning the work")
        return plan(
            recipes,
            dataset.signature,
            len(dataset.rows("train")) + validating,
            validation=validating,
            done={name: made.get("seconds", 0.0) for name, made in baselines.items()},
            budget=budget if budget is None or workers == 1 else budget - STARTING,
            max_trials=asked["max_trials"] if validating else 0,  # what no rows judge cannot be searched
            max_epochs=asked["max_epochs"],
            threads=max(1, self.setting.threads // workers),
            starts=starts,
            workers=workers,
        ).recipes

    def _overdrawn(self, baselines: Mapping[str, JSON], work: JSON) -> None:
        """Say so where the baselines, which every cycle runs, took all of the budget."""
        budget, took = self.cycle.plan["budget"], sum(made.get("seconds", 0.0) for made in baselines.values())
        if budget is not None and took >= budget and len(baselines) < len(work):
            note = (
                f"a budget of {budget:g} s is too short: the baselines alone, which every cycle runs, took "
                f"{took:.1f} s; of the other recipes only the cheapest was tried, once"
            )
            self._notes.append(note)
            self.steps.say("tune", note)

    def _candidates(
        self,
        dataset: DatasetArrays,
        recipes: Sequence[Recipe],
        work: JSON,
        baselines: Mapping[str, JSON],
        starts: Starts | None,
    ) -> list[JSON]:
        """A candidate of each recipe, in their order; those that are not searched are made first."""
        made = dict(baselines) | {r.name: _left_out(r, work[r.name]) for r in recipes if not work[r.name]["trials"]}
        attempts = {r.name: Attempt(self.setting, self.steps, dataset, r, work[r.name]) for r in recipes}
        workers = self.setting.workers(self.cycle.plan["budget"])
        agreed = terms({recipe.name: work[recipe.name] for recipe in recipes}, workers)
        made |= {name: one.run() for name, one in attempts.items() if name not in agreed.shares and name not in made}
        if agreed.shares:
            kept = Kept()
            found = self.steps.once("race", lambda _: tuned(self.steps, agreed, attempts, kept, starts), stage="tune")
            for name in agreed.shares:
                ended = found[name]
                if "failed" in ended:
                    made[name] = attempts[name].give_up(ended["failed"])
                else:
                    made[name] = attempts[name].run(ended["params"], kept.take(name))
        return [made[recipe.name] for recipe in recipes]

    def _select(self, dataset: DatasetArrays, candidates: list[JSON]) -> JSON:
        """The best candidate on validation, pooled with recent-validation where there is one."""
        splits = [split for split in ("validation", "recent-validation") if len(dataset.rows(split))]
        rivals: list[JSON] = []
        points: list[Point] = []
        for candidate in candidates:
            if "model" not in candidate:
                continue
            model = self.store.get(Model, candidate["model"])
            self.steps.say("evaluate", "on validation", recipe=candidate["recipe"])
            predictor = self._open(model)
            judged = [self._evaluated(dataset, predictor, split, model) for split in splits]
            outcomes = [evaluation.outcomes for evaluation in judged]
            names = dict.fromkeys((self.setting.metric, self.setting.selection))
            means = {name: self._mean(dataset, outcomes, name) for name in names} if outcomes else {}
            candidate["validation"] = means.get(self.setting.metric, 0.0)
            # What models are chosen by is also what lists of models show.
            self.store.update(dataclasses.replace(model, metrics={**model.metrics, "validation": means}))
            latency: float | None = None
            if judged:
                latency = judged[0].report.content["latency"]["single"]["p50_ms"]
            elif self.setting.goal.latency_ms is not None:
                latency = timed(dataset, predictor, dataset.rows("train"))["single"]["p50_ms"]
            candidate["latency_ms"] = latency
            rivals.append(candidate)
            points.append(
                Point(
                    name=candidate["recipe"],
                    quality=means.get(self.setting.selection, 0.0),
                    latency_ms=latency,
                    size_bytes=model.size_bytes,
                )
            )
        if not rivals:
            failed = "; ".join(f"{c['recipe']}: {c.get('failed')}" for c in candidates)
            raise TrainingError("no recipe could be trained", where=failed, mend="Mend the data or the recipes.")
        for candidate, point, best in zip(rivals, points, front(points), strict=True):
            candidate |= {"front": best, "over": over(self.setting.goal, point)}
        return rivals[picked(self.setting.goal, self.setting.config.goal, points)]

    def _keeping_to_the_goal(self, dataset: DatasetArrays, candidate: JSON, model_id: str) -> str:
        """The refit, or the candidate where the refit misses the goal: what is averaged is larger than its parts."""
        goal, model = self.setting.goal, self.store.get(Model, model_id)
        if model_id == candidate["model"] or goal == Goal():
            return model_id

        def look(_token: str) -> JSON:
            rows = dataset.rows("validation")
            timed_now = timed(dataset, self._open(model), rows)["single"]["p50_ms"] if goal.latency_ms else None
            point = Point(name=model.recipe, quality=0.0, latency_ms=timed_now, size_bytes=model.size_bytes)
            return {"over": over(goal, point)}

        why = self.steps.once(f"goal {model.recipe}", look, stage="evaluate")["over"]
        if why is None:
            return model_id
        note = f"refitted on all rows, {model.recipe} {why}: the model before the refit goes to the gate"
        self._notes.append(note)
        self.steps.say("evaluate", note)
        return str(candidate["model"])

    def _evaluated(self, dataset: DatasetArrays, predictor: Predictor, split: str, model: Model) -> Evaluation:
        return evaluate(
            self.store,
            dataset,
            predictor,
            split,
            model_id=model.id,
            task=self.setting.task,
            metric=self.setting.metric,
            costs=self.setting.costs(dataset.signature),
            on_event=self.steps.on_event,
        )

    def _mean(self, dataset: DatasetArrays, outcomes: Sequence[RowOutcomes], name: str) -> float:
        """The weighted mean of a per-row score over all the outcomes' rows."""
        costs, spread = self.setting.costs(dataset.signature), training_spread(dataset)
        scores = [
            found.scores
            if found.hindsight is not None
            else row_scores(name, found.target, found.probabilities, found.answers, costs=costs, spread=spread)
            for found in outcomes
        ]
        return float(np.average(np.concatenate(scores), weights=np.concatenate([found.weights for found in outcomes])))

    def _judge(
        self,
        dataset: DatasetArrays,
        settled: Settled,
        candidates: list[JSON],
        chosen: JSON,
        made_final: Callable[[JSON], str],
    ) -> JSON:
        """Put the challenger before the gate; when it is refused and nothing serves yet, then the best baseline."""
        bench = Bench(self.setting, self.cycle, dataset, settled, self.steps.on_event)
        baselines = [c for c in candidates if c["baseline"] and "model" in c and c.get("over") is None]
        best = max(baselines, key=lambda c: float(c["validation"]), default=None)
        rival = best if best is not None and not chosen["baseline"] else None
        decision = bench.decide(chosen["final"], rival["model"] if rival else None)
        if decision.outcome == "refused" and decision.champion_id is None and rival is not None:
            decision = bench.decide(made_final(rival), None)
        return {"decision": decision.id}

    def _annotate(self, dataset: DatasetArrays, settled: Settled) -> JSON:
        self.steps.say("annotate", "choosing the most useful questions")
        in_force = self.store.champion()
        model = self.store.get(Model, in_force.model_id) if in_force else None
        if model is not None and unfit(self.store.root / model.path, dataset.signature) is not None:
            model = None
        predictor = None if model is None else self._open(model)
        return dict(
            annotate(
                self.store,
                dataset,
                predictor,
                settled,
                seed=self.cycle.seed,
                policy=self.setting.config.annotation,
                rivals=[] if model is None else self._rivals(dataset, model),
                doubtful=self._doubtful(dataset),
            )
        )

    def _doubtful(self, dataset: DatasetArrays) -> list[JSON]:
        """The labels of a version that are probably wrong, as far as anybody knows."""
        if not self.setting.config.annotation.check_labels:
            return []
        return known_suspects(self.store.root, self.store.get(Dataset, dataset.id))

    def _rivals(self, dataset: DatasetArrays, champion: Model) -> list[tuple[str, Predictor]]:
        """The newest model of another recipe or two, whose disagreement tells something."""
        found: dict[str, Model] = {}
        for model in self.store.find(Model, newest_first=True, limit=20, dataset_id=dataset.id):
            if model.recipe != champion.recipe and unfit(self.store.root / model.path, dataset.signature) is None:
                found.setdefault(model.recipe, model)
        return [(recipe, self._open(model)) for recipe, model in list(found.items())[:MOST_RIVALS]]

    def _open(self, model: Model) -> Predictor:
        return load(self.store.root / model.path, threads=self.setting.threads)

    def _finished(self, dataset: DatasetArrays, summary: JSON, decision_id: str | None = None) -> Cycle:
        return dataclasses.replace(
            self.cycle,
            status="done",
            dataset_id=dataset.id,
            decision_id=decision_id,
            summary={**summary, "notes": self._notes, "tried": self._tried, "stages": self.steps.seconds},
            finished=time.time(),
        )


def some_texts(dataset: DatasetArrays, most: int = 200) -> list[str]:
    """An even sample of the texts that models learn from: what tells their language."""
    names = [field.name for field in dataset.signature.inputs if field.type == "text"]
    rows = dataset.rows("train", labelled=None)
    if not names or not len(rows):
        return []
    columns = dataset.columns(rows[:: -(-len(rows) // most)])
    return [str(columns[name][row]) for name in names for row in range(len(columns[name]))]


def _left_out(recipe: Recipe, work: JSON) -> JSON:
    """The candidate of a recipe for which the budget has no room."""
    why = f"left out: a single pass takes about {work['seconds']:.0f} s, and the budget leaves less for it"
    return {"recipe": recipe.name, "baseline": recipe.baseline, "failed": why}


def varied(target: npt.NDArray[Any]) -> bool:
    """Whether the labelled training rows hold more than one answer, so that there is something to learn."""
    return len(target) > 1 and bool((target != target[0]).any())
