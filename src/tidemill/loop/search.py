"""Tuning: the searches of those recipes that may have several trials, run as one race for what the plan gives them.

What a race has done stands in the studies' journals, one a recipe, and in nothing else: which trial comes next follows
from them and from the plan, so a cycle that was killed goes on with the trials that were under way.

A search tries the recipe's defaults first, then what was best in earlier cycles of the project, then what the sampler
proposes. Where a clock runs, some settings are steps from the best one and cheap ones come first
(:mod:`tidemill.loop.frugal`), new ones begin with a part of a fit, and :mod:`tidemill.loop.halving` says what gets a
larger one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from tidemill.errors import TrainingError
from tidemill.features.cache import FeatureSet
from tidemill.learners import get_learner
from tidemill.learners._base import Learner
from tidemill.learners.starting import start_of
from tidemill.loop.attempt import Attempt
from tidemill.loop.crew import Crew, Starts, starter
from tidemill.loop.frugal import AS_IT_COMES, DRAWN, SAMPLED, cheapest, steps
from tidemill.loop.halving import WHOLE, Part, cumulative, cuts, opening, parts, rising
from tidemill.loop.planning import MOST_TRIALS
from tidemill.loop.probing import usual_epochs, usual_params
from tidemill.loop.race import Terms, Trial, each, expected, race, race_together
from tidemill.loop.steps import Steps
from tidemill.loop.trial import Bench, Job, Kept, Outcome, run, watched
from tidemill.loop.working import Orders
from tidemill.records import JSON, Cycle, Dataset, Recipe, Run
from tidemill.stages.train import features_of
from tidemill.stages.tune import Asked, Study, clipped, grid, within
from tidemill.store import Store

__all__ = ["Contest", "Kept", "Search", "tuned"]

Scored = tuple[JSON, float]
"""A setting of the space, and its score."""
MOST_EARLIER = 3
"""Settings of earlier cycles that a search tries."""
_HURRY = 2.0
"""Whole trials: with less time than for these, no new setting begins with a part."""


class Search:
    """One recipe's search, a :class:`tidemill.loop.race.Runner` and a giver of jobs: its trials are recorded and told.

    Args:
        attempt: of the recipe.
        kept: is offered every fit that this process makes.
        contest: in which it takes part.
        bench: with which this process runs trials.
    """

    def __init__(self, attempt: Attempt, kept: Kept, contest: Contest, bench: Bench) -> None:
        cycle, recipe = attempt.steps.cycle, attempt.recipe
        self._attempt = attempt
        self._kept = kept
        self._contest = contest
        self._bench = bench
        journal = attempt.store.root / "studies" / f"{cycle.id}-{recipe.name}.journal"
        self._study = Study(recipe.space, seed=cycle.seed, journal=journal)
        self._grid = grid(recipe.space, MOST_TRIALS)
        learner, rows = get_learner(recipe.learner), len(attempt.dataset.rows("train"))
        self._usual = clipped(recipe.space, usual_params(learner, attempt.dataset.signature, rows, recipe.params))
        self._under_way: dict[int, Asked] = {}
        self._levels, self._cumulative = self._parts(learner, rows)
        earlier = attempt.setting.config.tuning.warm_start
        self._earlier = best_before(attempt.store, recipe, cycle.created, contest.selection) if earlier else []
        self._tried = self._study.finished()
        # One that was killed between a trial's record and the journal's line makes the same trial again.
        runs = attempt.store.find(Run, cycle_id=cycle.id, kind="trial")
        self._recorded = {run.metrics.get("trial") for run in runs if run.recipe["name"] == recipe.name}

    def _parts(self, learner: Learner, rows: int) -> tuple[tuple[Part, ...], bool]:
        recipe, work, agreed = self._attempt.recipe, self._attempt.work, self._contest.agreed
        builds_on = cumulative(learner, recipe.params, rows)
        chosen = self._attempt.dataset.signature.kind == "choice"  # whose rows say which were logged together
        if not agreed.clocked or not self._contest.halves or chosen:
            return (WHOLE,), builds_on
        epochs = usual_epochs(learner, rows, recipe.params)
        epochs = min(epochs, work["max_epochs"] or epochs)
        worth = work["trials"] * agreed.workers
        return parts(learner, epochs, rows, recipe.params, worth), builds_on

    def trials(self) -> list[Trial]:
        """Its finished trials in their order."""
        clocked = self._contest.agreed.clocked
        return [
            Trial(t.score if t.part == 1 else None, t.seconds, t.part) if clocked else Trial(t.score, 1.0)
            for t in self._tried
        ]

    def trial(self) -> None:
        """Finish one more trial in this process."""
        job = self.begin()
        outcome, made = run(job, self._bench, self._contest.selection, partial(self.heard, job))
        if made is not None and job.part == WHOLE:
            self._kept.offer(job.recipe, made)
        self.end(job, outcome)

    def begin(self) -> Job:
        """Begin one more trial."""
        asked, part = self._next()
        self._under_way[asked.place] = asked
        limits = cuts(self._tried, cumulative=self._cumulative) if part == WHOLE and self._contest.halves else {}
        self._say(asked.place, "under way")
        return Job(
            recipe=self._attempt.recipe.name,
            place=asked.place,
            params=dict(asked.params),
            part=part,
            cuts=limits,
            seconds=self._contest.allowed(self._attempt.recipe.name),
        )

    def _next(self) -> tuple[Asked, Part]:
        tried, running = self._tried, self._under_way.values()
        taken = {t.place: t.of for t in tried} | {asked.place: asked.of for asked in running}
        place = next(number for number in range(len(taken) + 1) if number not in taken)
        if place <= len(self._earlier):  # so too where one of these was under way when the cycle was killed
            return self._study.ask(place, self._earlier[place - 1] if place else {}), WHOLE
        begun = {(t.of, t.part) for t in tried} | {(asked.of, asked.part) for asked in running}
        hurry = self._contest.agreed.clocked and self._contest.left() < _HURRY * self._each()
        if (risen := rising(tried, self._levels, begun, last=hurry)) is not None:
            part = WHOLE if hurry else next(level for level in self._levels if level.share > risen.part)
            return self._study.ask(place, risen.params, part=part.share, of=risen.of), part
        fresh = sum(of == its and its > len(self._earlier) for its, of in taken.items())
        part = WHOLE if hurry else self._levels[opening(fresh, len(self._levels))]
        return self._study.ask(place, self._untried(place), part=part.share), part

    def _untried(self, place: int) -> JSON:
        """A setting that was not tried yet, where they can be counted; else one of the sampler's, frugal by a clock."""
        known = [t.params for t in self._tried] + [asked.params for asked in self._under_way.values()]
        rest = [params for params in self._grid if params not in known]
        if rest:
            drawn = np.random.default_rng([self._study.seed, place]).random()
            return rest[int(drawn * len(rest))]
        space, clocked = self._attempt.recipe.space, self._contest.agreed.clocked
        count = DRAWN if clocked and place % AS_IT_COMES else 1
        defaults, whole = self._whole()
        if clocked and place % SAMPLED and (defaults or whole):
            best, _ = max(defaults + whole, key=lambda one: one[1])
            proposals = steps(best, space, count, np.random.default_rng([self._study.seed, place]))
        else:
            proposals = self._study.proposals(place, count, defaults)
        return cheapest(proposals, space, self._tried)

    def _whole(self) -> tuple[list[Scored], list[Scored]]:
        """What was trained whole: the defaults, where the learner tells what they are, and what the search set."""
        done = [(t.params, t.score) for t in self._tried if t.part == 1 and t.score is not None]
        defaults = [] if self._usual is None else [(self._usual, score) for params, score in done if not params]
        return defaults, [one for one in done if one[0]]

    def _each(self) -> float:
        """Seconds of a whole trial."""
        return each(self._contest.agreed.shares[self._attempt.recipe.name], self.trials())

    def heard(self, job: Job, epoch: int, metrics: dict[str, float]) -> None:
        """A trial under way has come so far."""
        self._say(job.place, f"epoch {epoch}, {metrics['validation_score']:.4f}")
        if job.part == WHOLE:
            self._under_way[job.place].report(epoch, watched(metrics, self._contest.selection))

    def end(self, job: Job, outcome: Outcome) -> None:
        """A trial has ended."""
        self._record(job, outcome)
        asked = self._under_way.pop(job.place)
        if outcome.status == "failed":
            self._study.tell_failed(asked, outcome.error or "it failed")
        elif outcome.score is None:
            self._study.tell_stopped(asked)
        elif job.part == WHOLE:
            self._study.tell(asked, outcome.score)
        else:
            # where samples make it short there are no epochs to count it by: then by its level
            step = job.part.epochs or 1 + self._levels.index(job.part)
            self._study.tell_part(asked, outcome.score, step)
        self._tried = self._study.finished()
        said = "stopped early" if outcome.status == "pruned" else "failed"
        part = "" if job.part == WHOLE else f" with {_told_part(job.part)}"
        self._say(job.place, said if outcome.score is None else f"{outcome.score:.4f}{part}")

    def _record(self, job: Job, outcome: Outcome) -> None:
        if job.place + 1 in self._recorded:
            return
        metrics = {**outcome.metrics, "trial": job.place + 1}
        if job.part != WHOLE:
            metrics["part"] = {"epochs": job.part.epochs} if job.part.epochs else {"rows": job.part.rows}
        self._attempt.record(
            "trial",
            outcome.status,
            job.params,
            curve=outcome.curve,
            metrics=metrics,
            seconds=outcome.seconds,
            error=outcome.error,
        )

    def _say(self, place: int, what: str) -> None:
        self._attempt.say("tune", f"trial {place + 1}: {what}", **self._contest.standing())

    def found(self) -> JSON:
        """``{"trials", "params", "score"}`` of the best trial, or ``{"trials", "failed"}`` when none succeeded."""
        try:
            best = self._study.best()
        except TrainingError as error:
            return {"trials": len(self._tried), "failed": str(error)}
        return {"trials": best.trials, "params": best.params, "score": best.score}

    def best_place(self) -> int | None:
        """The place of the best trial."""
        whole = [t for t in self._tried if t.part == 1 and t.score is not None]
        return max(whole, key=lambda t: (t.score, -t.place)).place if whole else None


class Contest:
    """The race of a cycle.

    Args:
        agreed: who takes part, and in what.
        attempts: theirs, by name.
        kept: is left with the best fits.
        starts: starts the processes that run trials; ``None``: they are started when the race begins.

    Raises:
        ConfigError: a search space is malformed.
    """

    def __init__(
        self, agreed: Terms, attempts: Mapping[str, Attempt], kept: Kept, starts: Starts | None = None
    ) -> None:
        self.agreed = agreed
        some = attempts[next(iter(agreed.shares))]
        self.halves = some.setting.config.tuning.stopping == "halving"
        self.selection = some.setting.selection
        self._store, self._dataset, self._kept = some.store, some.dataset, kept
        self._bench = Bench(
            root=some.store.root,
            aim=some.setting.aim(some.dataset.signature),
            dataset=some.dataset,
            recipes={name: attempts[name].recipe for name in agreed.shares},
            max_epochs={name: attempts[name].work["max_epochs"] for name in agreed.shares},
            seed=some.steps.cycle.seed,
            threads=max(1, some.setting.threads // agreed.workers),
        )
        self._starts = starts
        self._log = log_of(some.store, some.steps.cycle)
        self._failed: dict[str, str] = {}
        self._searches: dict[str, Search] = {}
        for name in agreed.shares:
            self._searches[name] = Search(attempts[name], kept, self, self._bench)

    def run(self) -> dict[str, JSON]:
        """Race; what each :meth:`Search.found`, by name."""
        if self.agreed.workers == 1:
            race(self.agreed, self._searches)
        else:
            self._together()
        failed = {name: {"trials": 0, "failed": why} for name, why in self._failed.items()}
        return {name: failed.get(name) or search.found() for name, search in self._searches.items()}

    def _together(self) -> None:
        bench = self._bench
        features = self._features()
        shares = {name: share for name, share in self.agreed.shares.items() if name in features}
        self.agreed = dataclasses.replace(self.agreed, shares=shares)
        if not shares:
            return
        orders = Orders(
            root=bench.root,
            aim=bench.aim,
            dataset=self._store.get(Dataset, self._dataset.id),
            recipes=bench.recipes,
            max_epochs=bench.max_epochs,
            seed=bench.seed,
            threads=bench.threads,
        )
        with self._crew(orders) as crew:
            crew.open()
            race_together(self.agreed, self._searches, _Team(crew, self._searches))
            for name in shares:
                place = self._searches[name].best_place()
                made = None if place is None else crew.take(name, place, features[name])
                if made is not None:
                    self._kept.offer(name, made)

    def _features(self) -> dict[str, Callable[[], FeatureSet]]:
        """What gives each recipe's features, made here once, so that no two processes make them at the same time.

        A recipe that cannot start, or whose features cannot be made, is not among them: each trial would say the same.
        """
        found: dict[str, Callable[[], FeatureSet]] = {}
        for name, recipe in self._bench.recipes.items():
            try:
                begin = start_of(recipe, self._dataset.signature, self._bench.root)
                make = partial(features_of, self._bench, self._dataset, recipe, begin)
                make()
            except TrainingError as error:
                self._failed[name] = str(error)
            else:
                found[name] = make
        return found

    @contextlib.contextmanager
    def _crew(self, orders: Orders) -> Iterator[Crew]:
        with contextlib.ExitStack() as held:
            recipes = list(orders.recipes.values())
            starts = self._starts or held.enter_context(starter(recipes, orders.threads, self._log))
            yield held.enter_context(contextlib.closing(Crew(orders, self.agreed.workers, starts)))

    def left(self) -> float:
        """Seconds that trials may yet take."""
        return self.agreed.left(self._finished())

    def allowed(self, name: str) -> float:
        """Seconds that the recipe's coming trial may take."""
        return self.agreed.allowed(name, self._finished())

    def standing(self) -> JSON:
        """``{"done", "total", "estimated"}``, as events tell it; nothing where nobody is left in the race."""
        if not self.agreed.shares:
            return {}
        done, total = expected(self.agreed, self._finished())
        return {"done": done, "total": total, "estimated": self.agreed.clocked and done < total}

    def _finished(self) -> dict[str, list[Trial]]:
        return {name: search.trials() for name, search in self._searches.items()}


class _Team:
    """A crew, as the race sees it: what it hears goes to the searches."""

    def __init__(self, crew: Crew, searches: Mapping[str, Search]) -> None:
        self.workers = crew.workers
        self._crew, self._searches = crew, searches

    def start(self, job: Job) -> None:
        self._crew.start(job)

    def wait(self) -> Sequence[tuple[Job, Outcome]]:
        return self._crew.wait(lambda job, epoch, metrics: self._searches[job.recipe].heard(job, epoch, metrics))


def log_of(store: Store, cycle: Cycle) -> Path:
    """Where the processes that run a cycle's trials write what libraries print."""
    return store.root / "studies" / f"{cycle.id}.log"


def best_before(store: Store, recipe: Recipe, before: float, selection: str) -> list[JSON]:
    """The best settings of a recipe in earlier cycles, one a cycle, the newest first; those that the space still holds.

    Args:
        before: when the present cycle began (UTC seconds).
        selection: the score that tuning maximises.
    """
    best: dict[str, tuple[float, JSON]] = {}
    for trial in store.find(Run, kind="trial", status="done", created_before=before):
        score = trial.metrics.get("validation", {}).get(selection)
        if trial.recipe["name"] != recipe.name or trial.cycle_id is None or score is None or "part" in trial.metrics:
            continue
        params = within(recipe.space, trial.params)
        if params is not None and score > best.get(trial.cycle_id, (-math.inf, {}))[0]:
            best[trial.cycle_id] = (score, params)
    found: list[JSON] = []
    for _, (_, params) in sorted(best.items(), reverse=True):  # ids sort by time
        if params not in found:
            found.append(params)
    return found[:MOST_EARLIER]


def tuned(
    steps: Steps, agreed: Terms, attempts: Mapping[str, Attempt], kept: Kept, starts: Starts | None = None
) -> JSON:
    """What a :class:`Contest` found, by name; it is told in one line."""
    contest = Contest(agreed, attempts, kept, starts)
    found = contest.run()
    steps.say("tune", "; ".join(_told(name, entry) for name, entry in found.items()), **contest.standing())
    return found


def _told_part(part: Part) -> str:
    if part.epochs:
        return f"{part.epochs} epoch{'' if part.epochs == 1 else 's'}"
    return f"{part.rows:.0%} of the samples"


def _told(name: str, found: JSON) -> str:
    """``mlp 7 trials, best 0.8512``."""
    trials = f"{name} {found['trials']} trial" + ("" if found["trials"] == 1 else "s")
    return f"{trials}, " + ("none succeeded" if "failed" in found else f"best {found['score']:.4f}")
