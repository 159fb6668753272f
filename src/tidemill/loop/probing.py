"""What a fit will cost: short fits on random data of the same shapes tell."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.data.arrays import Column, Ragged
from tidemill.data.schema import Signature
from tidemill.features._base import Features
from tidemill.features.cache import spec_hash
from tidemill.features.pipeline import Pipeline
from tidemill.learners import get_learner
from tidemill.learners._base import Context, Fitted, Learner, Problem, RecipeView
from tidemill.records import Recipe

FEWEST_ROWS, PROBE_ROWS, MOST_PROBE_ROWS = 32, 128, 8192
"""Rows of a probe: the fewest where their features already take long, few where a pass over them does, more where a fit
takes a moment anyway."""
_LONG, _LOOKS = 0.25, 2
"""Seconds from which on a probe is not enlarged; how often a shorter one is timed, since a busy neighbour may make a
quick fit look slow, and it is a long way from few rows to many."""
_PROBE_VALUES = 1 << 23


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one fit takes: seconds that are paid once, seconds of an epoch, and the epochs it usually runs.

    ``features`` are the seconds in which its features are made, before the first of all fits on them; ``package`` those
    in which the graph of a fit is made, which for large ensembles of trees takes longer than to grow them.

    >>> Cost(once=2.0, each=0.5, epochs=20).seconds(), Cost(once=2.0, each=0.5, epochs=20).within(6.2)
    (12.0, 8)
    """

    once: float
    each: float
    epochs: int
    features: float = 0.0
    package: float = 0.0

    def seconds(self, epochs: int | None = None) -> float:
        """Of a fit of so many epochs, or of the usual ones."""
        return self.once + self.each * (self.epochs if epochs is None else epochs)

    def within(self, seconds: float) -> int:
        """How many of the usual epochs so many seconds are worth; one at least."""
        return max(1, min(self.epochs, math.floor((seconds - self.once) / max(self.each, 1e-9))))


class Draws:
    """Random rows of a *signature*'s shapes with their features, which recipes that read the same ones share.

    Args:
        train: how many rows train.
        validation: how many validate; a draw of fewer rows has the same share of them.
    """

    def __init__(self, signature: Signature, train: int, validation: int) -> None:
        self.signature, self.train, self.rows = signature, train, max(1, train + validation)
        self._drawn: dict[tuple[str, int], tuple[Problem, float]] = {}

    def problem(self, features: Sequence[Mapping[str, Any]], rows: int) -> tuple[Problem, float]:
        """So many rows, and the seconds in which their features were made."""
        key = spec_hash(features), rows
        if key not in self._drawn:
            share = max(1, round(rows * self.train / self.rows))
            self._drawn[key] = _random_problem(features, self.signature, rows, share)
        return self._drawn[key]


def estimate(
    recipe: Recipe, draws: Draws, *, threads: int, max_epochs: int | None = None, most: float = math.inf
) -> Cost:
    """What one fit of *recipe* takes on as many rows as *draws* are drawn for.

    Short fits on random rows of the signature's shapes tell what is paid for few epochs and for each further one, for
    a part of the rows and for each further row. A learner that stops early is counted with the epochs that it usually
    runs, not with the most it might. Where a single epoch, or the features for it, take more than *most* seconds, no
    closer look is taken.
    """
    learner, rows, signature = get_learner(recipe.learner), draws.rows, draws.signature
    epochs = usual_epochs(learner, draws.train, recipe.params)
    epochs = min(epochs, max_epochs or epochs)
    params = usual_params(learner, signature, draws.train, recipe.params)
    view = RecipeView(network=recipe.network, params=params)
    fitted: dict[tuple[int, int], Fitted] = {}

    def fit(size: int, passes: int) -> None:
        problem, _ = draws.problem(recipe.features, size)
        fitted[size, passes] = learner.fit(problem, view, Context(max_epochs=passes, threads=threads))

    @cache
    def timed(size: int, passes: int) -> float:
        return _quickest(partial(fit, size, passes), until=_LONG if passes > 1 else 4 * _LONG)

    size = FEWEST_ROWS
    draws.problem(recipe.features, size // 8)  # an encoder is loaded once
    _, features = draws.problem(recipe.features, size)
    if features < _LONG:
        size = PROBE_ROWS
        _, features = draws.problem(recipe.features, size)
    fit(size, 1)  # only warms up
    widest = min(rows, MOST_PROBE_ROWS, _PROBE_VALUES // sum(math.prod(f.shape or (1,)) for f in signature.inputs))
    while (took := timed(size, 1)) + features < _LONG and size * 2 <= widest:
        size = min(4 * size, widest)
        _, features = draws.problem(recipe.features, size)
    if rows > size:
        features = _at(rows, size, draws.problem(recipe.features, size // 4)[1], features)
    if took * rows / size > most or features > most:
        return Cost(once=0.0, each=took * rows / size, epochs=epochs, features=features)

    def at(passes: int) -> float:
        # where a pass takes long, it is the rows that take it; and from most rows to all is not far
        if rows <= 1.25 * size or (took > _LONG and not learner.quick):
            return timed(size, passes) * rows / size
        return _at(rows, size, timed(size // 4, passes), timed(size, passes))

    # the first rounds of trees grow more than the later ones: an interval, too
    few, many = (min(count, epochs) for count in ((10, 20) if learner.quick else (1, 2) if took > _LONG else (1, 4)))
    first = at(few)
    package = _quickest(fitted[size, few].export)
    if many == few:
        return Cost(once=0.0, each=first / epochs, epochs=epochs, features=features, package=package)
    last = at(many)
    each = max(last - first, last * 0.1) / (many - few)
    if learner.quick:  # more rounds are more trees; a network stays as large as it is
        package += max(0.0, _quickest(fitted[size, many].export) - package) / (many - few) * (epochs - few)
    return Cost(once=max(0.0, first - few * each), each=each, epochs=epochs, features=features, package=package)


def _quickest(work: Callable[[], object], until: float = _LONG) -> float:
    """The least seconds of a few looks; one that is too short to matter, or longer than *until*, is the last."""
    least = math.inf
    for _ in range(_LOOKS):
        started = time.perf_counter()
        work()
        least = min(least, time.perf_counter() - started)
        if not _LONG / 10 < least < until:
            break
    return least


def _at(rows: int, size: int, part: float, whole: float) -> float:
    """Seconds for *rows* rows, from what a quarter of *size* rows and *size* rows take; noise hides little."""
    slope = max(whole - part, whole * 0.1) / (size - size // 4)
    return max(whole + (rows - size) * slope, whole * min(1.0, rows / size))


def usual_params(learner: Learner, signature: Signature, rows: int, params: Mapping[str, Any]) -> dict[str, Any]:
    """The *params* over what the learner takes where they say nothing, if it has ``usual_params`` to tell that."""
    usual = getattr(learner, "usual_params", None)
    return {**({} if usual is None else usual(rows, max(1, len(signature.labels)))), **params}


def usual_epochs(learner: Learner, rows: int, params: Mapping[str, Any]) -> int:
    """The epochs that a fit usually runs: a learner's own ``usual_epochs`` where it has one, else its most."""
    usual = getattr(learner, "usual_epochs", learner.epochs)
    return max(1, int(usual(rows, params)))


def _random_problem(
    specs: Sequence[Mapping[str, Any]], signature: Signature, rows: int, train: int
) -> tuple[Problem, float]:
    """Random rows of the signature's shapes, and the seconds in which their features were made."""
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
    made: list[tuple[Pipeline, Features]] = []

    def make() -> None:
        pipeline = Pipeline(specs, signature)
        pipeline.fit([columns])
        made.append((pipeline, pipeline.transform(columns)))

    took = _quickest(make)
    pipeline, features = made[-1]
    classes = max(1, len(signature.labels))
    problem = Problem(
        kind=signature.kind,
        features=features,
        info=pipeline.info(),
        target=_learnable(signature, features, rows, classes, rng),
        train=train,
        classes=classes,
    )
    return problem, took


def _learnable(
    signature: Signature, features: Features, rows: int, classes: int, rng: np.random.Generator
) -> npt.NDArray[Any]:
    """A target that follows from a few values of each feature, with noise: what has nothing to learn stops early."""
    signal = rng.normal(size=rows)
    for array in features.values():
        if isinstance(array, np.ndarray) and array.ndim > 1:
            values = np.nan_to_num(array.reshape(rows, -1)[:, :8].astype(np.float64))
            signal += ((values - values.mean(0)) / (values.std(0) + 1e-9)).sum(1)
    if signature.kind == "regression":
        return signal.astype(np.float32)
    order = np.argsort(np.argsort(signal))
    if signature.kind == "classification":
        return order * classes // rows if rows > classes else order
    return (order[:, None] + rng.normal(0.0, rows, (rows, classes)) > rows / 2).astype(np.uint8)
