"""Tuning: the searches of those recipes that may have several trials, run as one race for what the plan gives them.

What a race has done stands in the studies' journals, one a recipe, and in nothing else: which trial comes next follows
from them and from the plan, so a cycle that was killed goes on with the trial that was under way.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from tidemill.errors import TrainingError
from tidemill.learners._base import Pruned
from tidemill.loop.attempt import Attempt, Status
from tidemill.loop.race import Terms, Trial, expected, race
from tidemill.loop.steps import Steps
from tidemill.records import JSON, Run
from tidemill.stages.train import Fit
from tidemill.stages.tune import Report, Study

MOST_KEPT = 3
"""How many recipes' best fits stay in memory until they are packaged; what is not kept is fitted once more."""


class Kept:
    """The best trial's fit of a few recipes, so that training need not repeat it.

    A fit can hold hundreds of megabytes (trees for many classes), hence the few with the best scores.
    """

    def __init__(self, most: int = MOST_KEPT) -> None:
        self._most = most
        self._fits: dict[str, Fit] = {}

    def offer(self, name: str, made: Fit) -> None:
        """Keep *made* if it is the recipe's best, and among the best of all; the earlier of equals stays."""
        before = self._fits.get(name)
        if before is not None and made.score <= before.score:
            return
        self._fits[name] = made
        if len(self._fits) > self._most:
            del self._fits[min(self._fits, key=lambda kept: self._fits[kept].score)]

    def take(self, name: str) -> Fit | None:
        """The recipe's best fit, which is not kept any longer."""
        return self._fits.pop(name, None)


class Search:
    """One recipe's search, a :class:`tidemill.loop.race.Runner`: its trials are recorded and told.

    Args:
        attempt: of the recipe.
        kept: is offered every fit.
        contest: in which it takes part.
    """

    def __init__(self, attempt: Attempt, kept: Kept, contest: Contest) -> None:
        cycle, recipe = attempt.steps.cycle, attempt.recipe
        self._attempt = attempt
        self._kept = kept
        self._contest = contest
        journal = attempt.store.root / "studies" / f"{cycle.id}-{recipe.name}.journal"
        self._study = Study(recipe.space, seed=cycle.seed, journal=journal)
        self._trials = self._read()
        # One that was killed between a trial's record and the journal's line makes the same trial again.
        runs = attempt.store.find(Run, cycle_id=cycle.id, kind="trial")
        self._recorded = sum(run.recipe["name"] == recipe.name for run in runs)

    def trials(self) -> list[Trial]:
        """Its finished trials in their order."""
        return self._trials

    def trial(self) -> None:
        """Finish one more trial."""
        number = len(self._trials) + 1
        self._say(number, "under way")
        said = "failed"

        def fit(params: JSON, report: Report) -> float:
            nonlocal said
            try:
                return self._fit(number, params, report)
            except Pruned:
                said = "stopped early"
                raise

        score = self._study.trial(fit)
        self._trials = self._read()
        self._say(number, said if score is None else f"{score:.4f}")

    def _read(self) -> list[Trial]:
        clocked = self._contest.agreed.clocked
        return [Trial(score, seconds if clocked else 1.0) for score, seconds in self._study.trials()]

    def _fit(self, number: int, params: JSON, report: Report) -> float:
        curve: list[JSON] = []
        end = time.perf_counter() + self._contest.allowed(self._attempt.recipe.name)

        def on_epoch(epoch: int, metrics: dict[str, float]) -> None:
            curve.append({"epoch": epoch, **metrics})
            self._say(number, f"epoch {epoch}, {metrics['validation_score']:.4f}")
            report(epoch, metrics["validation_score"])
            if time.perf_counter() > end:
                raise Pruned

        try:
            made = self._attempt.fit(params, on_epoch)
        except Pruned:
            self._record(number, "pruned", params, curve=tuple(curve))
            raise
        except TrainingError as error:
            self._record(number, "failed", params, curve=tuple(curve), error=str(error))
            raise
        self._record(number, "done", params, curve=made.curve, metrics=made.metrics, seconds=made.seconds)
        self._kept.offer(self._attempt.recipe.name, made)
        return made.score

    def _record(self, number: int, status: Status, params: JSON, **more: object) -> None:
        if number > self._recorded:
            self._attempt.record("trial", status, params, **more)

    def _say(self, number: int, what: str) -> None:
        self._attempt.say("tune", f"trial {number}: {what}", **self._contest.standing())

    def found(self) -> JSON:
        """``{"trials", "params", "score"}`` of the best trial, or ``{"trials", "failed"}`` when none succeeded."""
        try:
            best = self._study.best()
        except TrainingError as error:
            return {"trials": len(self._trials), "failed": str(error)}
        return {"trials": best.trials, "params": best.params, "score": best.score}


class Contest:
    """The race of a cycle.

    Args:
        agreed: who takes part, and in what.
        attempts: theirs, by name.
        kept: is left with the best fits.

    Raises:
        ConfigError: a search space is malformed.
    """

    def __init__(self, agreed: Terms, attempts: Mapping[str, Attempt], kept: Kept) -> None:
        self.agreed = agreed
        self._searches = {name: Search(attempts[name], kept, self) for name in agreed.shares}

    def run(self) -> dict[str, JSON]:
        """Race; what each :meth:`Search.found`, by name."""
        race(self.agreed, self._searches)
        return {name: search.found() for name, search in self._searches.items()}

    def allowed(self, name: str) -> float:
        """Seconds that the recipe's coming trial may take."""
        return self.agreed.allowed(name, self._finished())

    def standing(self) -> JSON:
        """``{"done", "total", "estimated"}``, as events tell it."""
        done, total = expected(self.agreed, self._finished())
        return {"done": done, "total": total, "estimated": self.agreed.clocked and done < total}

    def _finished(self) -> dict[str, list[Trial]]:
        return {name: search.trials() for name, search in self._searches.items()}


def tuned(steps: Steps, agreed: Terms, attempts: Mapping[str, Attempt], kept: Kept) -> JSON:
    """What a :class:`Contest` found, by name; it is told in one line."""
    contest = Contest(agreed, attempts, kept)
    found = contest.run()
    steps.say("tune", "; ".join(_told(name, entry) for name, entry in found.items()), **contest.standing())
    return found


def _told(name: str, found: JSON) -> str:
    """``mlp 7 trials, best 0.8512``."""
    trials = f"{name} {found['trials']} trial" + ("" if found["trials"] == 1 else "s")
    return f"{trials}, " + ("none succeeded" if "failed" in found else f"best {found['score']:.4f}")
