"""How much work a cycle does: planned before it starts, journaled, and followed by a cycle that resumes."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tidemill.data.arrays import Column, Ragged
from tidemill.data.schema import Signature
from tidemill.features.pipeline import Pipeline
from tidemill.learners import get_learner
from tidemill.learners._base import Context, Problem, RecipeView
from tidemill.records import JSON, Recipe

PROBE_ROWS = 512
MOST_TRIALS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is done for each recipe: ``{name: {"trials": n, "max_epochs": n | None, "seconds": estimate | None}}``."""

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
    one, the baselines come first, and the others share what is left: fewer epochs where one fit would not fit, more
    trials where several do. How long a fit takes is probed on random data of the same shapes, so planning changes
    nothing and takes a second or two.

    Args:
        rows: number of labelled training and validation rows.
        budget: seconds for training and tuning together.
        probe: estimate durations also where no budget asks for it (for ``tidemill plan``).
    """
    entries: dict[str, JSON] = {}
    estimates: dict[str, tuple[float, int]] = {}
    if budget is not None or probe:
        estimates = {r.name: estimate(r, signature, rows, threads=threads) for r in recipes}
    tuned = [r for r in recipes if not r.baseline]
    left = (budget or 0.0) - sum(estimates[r.name][0] for r in recipes if r.baseline and estimates)
    for recipe in recipes:
        trials, epochs = 1, max_epochs
        if recipe.space and max_trials is not None:
            trials = max(1, max_trials)
        seconds, full_epochs = estimates.get(recipe.name, (None, 0))
        if budget is not None and not recipe.baseline and seconds is not None:
            share = max(left, 0.0) / len(tuned)
            if seconds > share:
                epochs = max(1, math.floor(full_epochs * share / seconds))
                epochs = min(epochs, max_epochs or epochs)
                seconds *= epochs / full_epochs
            elif recipe.space:
                # The first trial is trained anyway; a cycle whose trials are pruned early ends before its budget.
                trials = min(max_trials or MOST_TRIALS, max(1, math.floor(share / max(seconds, 0.01))))
        entries[recipe.name] = {"trials": trials, "max_epochs": epochs, "seconds": seconds}
    return Plan(recipes=entries)


def estimate(recipe: Recipe, signature: Signature, rows: int, *, threads: int) -> tuple[float, int]:
    """Seconds that one fit of *recipe* takes on *rows* rows, and the epochs it then runs.

    Two short fits on random rows of the signature's shapes, one of them with twice the rows, tell what is paid once and
    what is paid for each row and epoch.
    """
    learner = get_learner(recipe.learner)
    view = RecipeView(network=recipe.network, params=recipe.params)
    times = []
    for size in (PROBE_ROWS // 2, PROBE_ROWS // 2, PROBE_ROWS):  # the first one only warms up
        problem = _random_problem(recipe, signature, size)
        started = time.perf_counter()
        learner.fit(problem, view, Context(max_epochs=1, threads=threads))
        times.append(time.perf_counter() - started)
    epochs = learner.epochs(rows, recipe.params)
    each = max(times[2] - times[1], times[2] * 0.1) / (PROBE_ROWS // 2)
    return times[1] + each * rows * epochs, epochs


def _random_problem(recipe: Recipe, signature: Signature, rows: int) -> Problem:
    rng = np.random.default_rng(0)
    columns: dict[str, Column] = {}
    for field in signature.inputs:
        if field.type == "image":
            columns[field.name] = rng.integers(0, 256, (rows, *(field.shape or (1, 1, 1))), dtype=np.uint8)
        elif field.type in ("number", "date"):
            columns[field.name] = rng.normal(size=rows)
        else:
            columns[field.name] = Ragged.from_strings([f"value {n}" for n in rng.integers(0, 20, rows)])
    pipeline = Pipeline(recipe.features, signature)
    pipeline.fit([columns])
    classes = max(1, len(signature.labels))
    labels = np.arange(rows, dtype=np.int64) % classes
    return Problem(
        kind=signature.kind,
        features=pipeline.transform(columns),
        info=pipeline.info(),
        target=labels if signature.kind == "classification" else rng.normal(size=rows).astype(np.float32),
        train=rows * 4 // 5,
        classes=classes,
    )
