"""How much work a cycle does: planned before it starts, journaled, and followed by a cycle that resumes."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.data.arrays import Column, Ragged
from tidemill.data.schema import Signature
from tidemill.features.pipeline import Pipeline
from tidemill.learners import get_learner
from tidemill.learners._base import Context, Learner, Problem, RecipeView
from tidemill.records import JSON, Recipe

PROBE_ROWS = 512
QUICK_PROBE_ROWS = 4096
"""Rows of a probe: more where a fit takes a moment anyway, so that what is paid for each row can be seen."""
_PROBE_VALUES = 1 << 23
MOST_TRIALS = 100
REFIT_FITS, FOLD_FITS, FOLDED_ROWS = 3, 10, 20_000
"""What a quick recipe that is chosen costs in further fits: trees average three on all rows, and where there are fewer
rows than these, the validation part is too small to calibrate on, so that five folds are fitted, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is done for each recipe, and how long it may take.

    ``{name: {"trials": n, "most": n, "max_epochs": n | None, "seconds": estimate | None, "share": seconds | None}}``:
    ``seconds`` is the estimate for one fit, ``share`` is what the recipe brings into the race for trials
    (:mod:`tidemill.loop.race`), ``trials`` is how many that is worth, and ``most`` how many it may win.
    """

    recipes: dict[str, JSON]

    @property
    def seconds(self) -> float | None:
        """The estimate for all recipes together; ``None`` when no clock was asked for."""
        estimates = [entry["seconds"] * entry["trials"] for entry in self.recipes.values() if entry["seconds"]]
        return sum(estimates) if estimates else None


def plan(
    recipes: Sequence[Recipe],
    signature: Signature,
    rows: int,
    *,
    budget: float | None = None,
    max_trials: int | None = None,
    max_epochs: int | None = None,
    threads: int = 1,
    probe: bool = False,
) -> Plan:
    """Share out the work.

    Without a budget every recipe is trained once, or tuned with *max_trials* trials where it has a search space. With
    one, the baselines come first, the last of it is kept for the refit of what is chosen, and the others share what is
    left: fewer epochs where one fit would not fit, more trials where several do. What a recipe without a search space
    does not need goes to those that have one. How long a fit takes is probed on random data of the same shapes, so
    planning changes nothing and takes a second or two.

    Args:
        rows: number of labelled training and validation rows.
        budget: seconds for training and tuning together.
        probe: estimate durations also where no budget asks for it (for ``tidemill plan``).
    """
    estimates: dict[str, tuple[float, int]] = {}
    if budget is not None or probe:
        estimates = {r.name: estimate(r, signature, rows, threads=threads) for r in recipes}
    shares = {} if budget is None else _shares(recipes, estimates, budget, rows)
    entries: dict[str, JSON] = {}
    for recipe in recipes:
        trials, epochs, share = 1, max_epochs, shares.get(recipe.name)
        if recipe.space and max_trials is not None:
            trials = max(1, max_trials)
        most = trials
        seconds, full_epochs = estimates.get(recipe.name, (None, 0))
        if share is not None and seconds is not None:
            if seconds > share:
                epochs = max(1, math.floor(full_epochs * share / seconds))
                epochs = min(epochs, max_epochs or epochs)
                seconds *= epochs / full_epochs
            if recipe.space:
                # The first trial is trained anyway; a cycle whose trials are pruned early ends before its budget.
                most = MOST_TRIALS if max_trials is None else max(1, max_trials)
                trials = min(most, max(1, math.floor(share / max(seconds, 0.01))))
        entries[recipe.name] = {
            "trials": trials,
            "most": most,
            "max_epochs": epochs,
            "seconds": seconds,
            "share": share,
        }
    return Plan(recipes=entries)


def _shares(
    recipes: Sequence[Recipe], estimates: Mapping[str, tuple[float, int]], budget: float, rows: int
) -> dict[str, float]:
    """Seconds for each recipe that is no baseline."""
    tuned = [r for r in recipes if not r.baseline]
    if not tuned:
        return {}
    left = max(0.0, budget - sum(estimates[r.name][0] for r in recipes if r.baseline))
    equal = left / len(tuned)
    fits = FOLD_FITS if rows < FOLDED_ROWS else REFIT_FITS
    again = [min(estimates[r.name][0], equal) * (fits if get_learner(r.learner).quick else 1) for r in tuned]
    left -= min(max(again), left / 3)
    equal = left / len(tuned)
    fixed = {r.name: min(estimates[r.name][0], equal) for r in tuned if not r.space}
    searching = [r.name for r in tuned if r.space]
    return fixed | {name: (left - sum(fixed.values())) / len(searching) for name in searching}


def estimate(recipe: Recipe, signature: Signature, rows: int, *, threads: int) -> tuple[float, int]:
    """Seconds that one fit of *recipe* takes on *rows* rows, and the epochs it then runs.

    Short fits on random rows of the signature's shapes tell what is paid once, for each row, and for each row in each
    epoch. A learner that stops early is counted with the epochs that it usually runs, not with the most it might.
    """
    learner = get_learner(recipe.learner)
    view = RecipeView(network=recipe.network, params=recipe.params)
    size = PROBE_ROWS
    if learner.quick:
        pixels = sum(math.prod(field.shape or (1,)) for field in signature.inputs)
        size = max(PROBE_ROWS, min(QUICK_PROBE_ROWS, _PROBE_VALUES // pixels))

    def timed(problem: Problem, epochs: int) -> float:
        started = time.perf_counter()
        learner.fit(problem, view, Context(max_epochs=epochs, threads=threads))
        return time.perf_counter() - started

    half, full = (_random_problem(recipe, signature, rows) for rows in (size // 2, size))
    timed(half, 1)  # only warms up
    few, many = timed(half, 1), timed(full, 1)
    epochs = usual_epochs(learner, rows, recipe.params)
    each = _slope(few, many, size)  # a row with its first epoch
    if not learner.quick or epochs == 1:
        return few + rows * each * epochs, epochs
    # what is paid for an epoch and for a row in it, without what is paid for a row once
    short, long = ((timed(part, 4) - once) / 3 for part, once in ((half, few), (full, many)))
    long = max(long, 0.0)
    further = _slope(max(short, 0.0), long, size)
    a_further_epoch = max(long + (rows - size) * further, long * min(1.0, rows / size))
    return few + rows * each + (epochs - 1) * a_further_epoch, epochs


def _slope(half: float, full: float, size: int) -> float:
    """Seconds a row more, from what ``size // 2`` and *size* rows take; what noise hides counts as a little."""
    return max(full - half, full * 0.1) / (size // 2)


def usual_epochs(learner: Learner, rows: int, params: Mapping[str, Any]) -> int:
    """The epochs that a fit usually runs: a learner's own ``usual_epochs`` where it has one, else its most."""
    usual = getattr(learner, "usual_epochs", learner.epochs)
    return max(1, int(usual(rows, params)))


def _random_problem(recipe: Recipe, signature: Signature, rows: int) -> Problem:
    rng = np.random.default_rng(0)
    columns: dict[str, Column] = {}
    for field in signature.inputs:
        if field.type == "image":
            columns[field.name] = rng.integers(0, 256, (rows, *(field.shape or (1, 1, 1))), dtype=np.uint8)
        elif field.type in ("number", "date"):
            columns[field.name] = rng.normal(size=rows)
        elif field.type == "text":
            # words as often as words are (Zipf's law), twenty a text
            words = np.minimum(rng.zipf(1.3, (rows, 20)), 20_000)
            columns[field.name] = Ragged.from_strings([" ".join(f"word{n}" for n in row) for row in words.tolist()])
        else:
            columns[field.name] = Ragged.from_strings([f"value {n}" for n in rng.integers(0, 20, rows)])
    pipeline = Pipeline(recipe.features, signature)
    pipeline.fit([columns])
    classes = max(1, len(signature.labels))
    return Problem(
        kind=signature.kind,
        features=pipeline.transform(columns),
        info=pipeline.info(),
        target=_random_target(signature, rows, classes, rng),
        train=rows * 4 // 5,
        classes=classes,
    )


def _random_target(signature: Signature, rows: int, classes: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    if signature.kind == "classification":
        return np.arange(rows, dtype=np.int64) % classes
    if signature.kind == "multilabel":
        return rng.integers(0, 2, (rows, classes)).astype(np.uint8)
    return rng.normal(size=rows).astype(np.float32)
