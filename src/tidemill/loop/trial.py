"""One trial: what is asked, what comes of it, and how it is run, in this process or in another."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from tidemill.data.dataset import DatasetArrays
from tidemill.errors import TrainingError
from tidemill.learners._base import Context, Pruned
from tidemill.loop.halving import WHOLE, Part
from tidemill.records import JSON, Recipe
from tidemill.stages.train import Aim, Fit, fit
from tidemill.stages.tune import finite

Heard = Callable[[int, dict[str, float]], None]
"""Told of each epoch: its number, and its metrics."""
Ended = Literal["done", "pruned", "failed"]

MOST_KEPT = 3
"""How many recipes' best fits stay in memory until they are packaged; what is not kept is fitted once more."""
_LOSSES = frozenset({"log_loss", "brier", "label_log_loss", "r2", "mse", "mae"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A trial to run.

    Attributes:
        recipe: its name.
        place: its place in the recipe's search, from 0 on.
        params: over the recipe's defaults.
        part: what it trains of a whole fit.
        cuts: by epoch, what its curve must have come to by then; see :func:`tidemill.loop.halving.cuts`.
        seconds: after which it is given up at the end of an epoch.
    """

    recipe: str
    place: int
    params: JSON
    part: Part = WHOLE
    cuts: Mapping[int, float] = field(default_factory=dict)
    seconds: float = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a trial.

    Attributes:
        status: ``pruned`` where it was stopped early.
        score: the selection's mean over validation rows; ``None`` unless it is done.
        curve: ``{"epoch", …metrics}``, one entry an epoch.
        metrics: as :class:`tidemill.stages.train.Fit` has them.
        seconds: wall time.
        error: why it failed.
    """

    status: Ended
    score: float | None = None
    curve: tuple[JSON, ...] = ()
    metrics: JSON = field(default_factory=dict)
    seconds: float = 0.0
    error: str | None = None


class Runs(Protocol):
    """Fits a job's recipe with its parameters and its part."""

    def __call__(self, job: Job, on_epoch: Heard, /) -> Fit:
        """Fit it.

        Raises:
            TrainingError: the learner could not train it.
            Pruned: *on_epoch* gave up on it.
        """


def run(job: Job, runs: Runs, selection: str, heard: Heard) -> tuple[Outcome, Fit | None]:
    """Run a trial; its fit where it is done.

    Args:
        job: the trial.
        runs: fits it.
        selection: the score that tuning maximises.
        heard: told of each epoch before it is judged.
    """
    curve: list[JSON] = []
    started = time.perf_counter()
    best = -math.inf

    def on_epoch(epoch: int, metrics: dict[str, float]) -> None:
        nonlocal best
        curve.append({"epoch": epoch, **metrics})
        heard(epoch, metrics)
        best = max(best, watched(metrics, selection))
        if best < job.cuts.get(epoch, -math.inf) or time.perf_counter() - started > job.seconds:
            raise Pruned

    try:
        made = runs(job, on_epoch)
        finite(made.score)
    except Pruned:
        return Outcome(status="pruned", curve=tuple(curve), seconds=time.perf_counter() - started), None
    except TrainingError as error:
        seconds = time.perf_counter() - started
        return Outcome(status="failed", curve=tuple(curve), seconds=seconds, error=str(error)), None
    outcome = Outcome(
        status="done", score=made.score, curve=made.curve, metrics=made.metrics, seconds=time.perf_counter() - started
    )
    return outcome, made


def watched(metrics: Mapping[str, float], selection: str) -> float:
    """What of an epoch's metrics says most of the score to come: the loss where that is a loss, else the share right.

    >>> watched({"validation_loss": 0.3, "validation_score": 0.9}, "log_loss")
    -0.3
    """
    if selection in _LOSSES and "validation_loss" in metrics:
        return -metrics["validation_loss"]
    return metrics["validation_score"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What every trial of a cycle is run with.

    Attributes:
        root: the store's folder, where features are cached.
        aim: what the models are made for.
        dataset: what they learn from.
        recipes: by name.
        max_epochs: of a whole fit, by recipe.
        seed: of every fit.
        threads: that one fit may use.
    """

    root: Path
    aim: Aim
    dataset: DatasetArrays
    recipes: Mapping[str, Recipe]
    max_epochs: Mapping[str, int | None]
    seed: int
    threads: int

    def __call__(self, job: Job, on_epoch: Heard, /) -> Fit:
        """See :class:`Runs`."""
        most = self.max_epochs[job.recipe]
        epochs = job.part.epochs
        context = Context(
            seed=self.seed,
            max_epochs=most if epochs is None else epochs if most is None else min(epochs, most),
            threads=self.threads,
            report=on_epoch,
        )
        recipe = self.recipes[job.recipe]
        return fit(self, self.aim, self.dataset, recipe, job.params, context, share=job.part.rows)


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
