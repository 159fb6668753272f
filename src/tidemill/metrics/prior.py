"""What one knows of a row without looking at it: the answers that a model must beat before it may serve."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.data.schema import Kind
from tidemill.data.targets import is_labelled
from tidemill.metrics.decisions import Decisions
from tidemill.metrics.scores import row_scores
from tidemill.metrics.units import Floats

_ROWS = 50_000  # training rows by which the best constant set of labels is chosen


def prior_probabilities(target: npt.NDArray[Any], classes: int, weight: npt.NDArray[Any] | None = None) -> Floats:
    """The share of each class among training targets, float64 ``[classes]``. Negative codes (no label) do not count.

    Each row counts as much as *weight* ``[n]`` says, or once.

    >>> prior_probabilities(np.array([0, 1, 1, -1, 1]), 3).tolist()
    [0.25, 0.75, 0.0]
    """
    codes = np.asarray(target, np.int64)
    known = codes >= 0
    counts = np.bincount(codes[known], None if weight is None else weight[known], classes).astype(np.float64)
    return np.asarray(counts / (counts.sum() or 1.0), np.float64)


def spread_of(target: npt.NDArray[Any]) -> float:
    """The variance of the known training targets, the *spread* of ``r2``; 1 where they do not vary.

    >>> spread_of(np.array([1.0, 3.0, np.nan]))
    1.0
    """
    values = np.asarray(target, np.float64)
    values = values[np.isfinite(values)]
    return (float(values.var()) if len(values) else 0.0) or 1.0


def constant_scores(
    metric: str,
    kind: Kind,
    training: npt.NDArray[Any],
    target: npt.NDArray[Any],
    classes: int,
    *,
    weight: npt.NDArray[Any] | None = None,
    costs: Decisions | None = None,
    spread: float = 1.0,
) -> Floats:
    """The row scores ``[n]`` of always giving the one answer that does best on the training targets.

    That is the most frequent class with the class frequencies as probabilities, or with *costs* the cheapest answer,
    which may be none; the most frequent labels, as many of them as serve the metric best, or for ``subset_accuracy``
    the most frequent set of labels; the mean, or for ``mae`` the median.

    Args:
        metric: see :func:`tidemill.metrics.row_scores`.
        kind: of the target.
        training: the training targets; unlabelled ones do not count.
        target: the targets ``[n]`` or ``[n, labels]`` to be scored on.
        classes: number of labels; 1 for regression.
        weight: how much each training row counts, ``[m]``; all alike unless given. Where all count nothing, all alike.
        costs, spread: as for :func:`tidemill.metrics.row_scores`.

    >>> training, target = np.array([0, 1, 1]), np.array([1, 0])
    >>> constant_scores("accuracy", "classification", training, target, 2).tolist()
    [1.0, 0.0]
    >>> constant_scores("r2", "regression", np.array([1.0, 3.0]), np.array([2.0, 4.0]), 1, spread=4.0).tolist()
    [1.0, 0.0]
    """
    labelled = is_labelled(training)
    known = training[labelled]
    w = np.ones(len(known)) if weight is None else np.asarray(weight[labelled], np.float64)
    w = w if w.any() else np.ones(len(known))
    if kind == "classification":
        p = prior_probabilities(known, classes, w)
        given = (Decisions() if costs is None else costs).choose(p[None]) if metric == "utility" else None
        answers = None if given is None else np.broadcast_to(given, len(target))
        return row_scores(metric, target, np.broadcast_to(p, (len(target), classes)), answers, costs=costs)
    if kind == "multilabel":
        p = np.asarray(np.average(known, axis=0, weights=w) if len(known) else np.zeros(classes), np.float64)
        answers = np.broadcast_to(_best_set(metric, known, w, p), target.shape)
        return row_scores(metric, target, np.broadcast_to(p, target.shape), answers)
    values = np.asarray(known, np.float64)
    centre = 0.0 if not len(values) else _median(values, w) if metric == "mae" else float(np.average(values, weights=w))
    return row_scores(metric, target, np.full(len(target), centre), spread=spread)


def _median(values: Floats, weight: Floats) -> float:
    """The middle of the values, or of the two in the middle, each as often as its weight says."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weight[order])
    half = reached[-1] / 2
    low, high = np.searchsorted(reached, half, "left"), np.searchsorted(reached, half, "right")
    return float((values[order[low]] + values[order[min(high, len(order) - 1)]]) / 2)


def _best_set(metric: str, known: npt.NDArray[Any], weight: Floats, share: Floats) -> npt.NDArray[np.uint8]:
    """The most frequent labels, as many as score best on the training rows, or the most frequent set, where only whole
    sets score; uint8 ``[labels]``.
    """
    picked = np.unique(np.linspace(0, max(len(known) - 1, 0), min(len(known), _ROWS)).astype(np.int64))
    some, w = known[picked], weight[picked]
    w = w if w.any() else np.ones(len(w))
    if metric == "subset_accuracy" and len(some):
        sets, which = np.unique(some, axis=0, return_inverse=True)
        return np.asarray(sets[np.bincount(which.reshape(-1), w).argmax()], np.uint8)
    order = np.argsort(-share, kind="stable")
    chosen = np.zeros(len(share), np.uint8)
    best, best_score = chosen.copy(), -np.inf
    for code in (None, *order.tolist()):
        if code is not None:
            chosen[code] = 1
        wide = np.broadcast_to(chosen, some.shape)
        score = float(np.average(row_scores(metric, some, wide, wide), weights=w)) if len(some) else -1.0
        if score > best_score:
            best, best_score = chosen.copy(), score
        elif share[code or 0] < 0.01:
            break  # rarer labels can only be worse still
    return best
