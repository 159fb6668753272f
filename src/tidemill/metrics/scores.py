"""One score a row, larger is better: what tuning maximises, the gate compares, and reports rank mistakes by."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.errors import ConfigError
from tidemill.metrics.units import Floats

FLOOR = 1e-7
"""Probabilities are held in ``[FLOOR, 1]`` under a logarithm, so that one overconfident row cannot outvote the rest."""

CLASSIFICATION = ("accuracy", "balanced_accuracy", "log_loss", "brier")
REGRESSION = ("mae", "mse")


def row_scores(metric: str, target: npt.NDArray[Any], probabilities: npt.NDArray[Any]) -> Floats:
    """The score of every row; larger is better for every metric, and the mean is the metric (or minus it).

    Args:
        metric: ``accuracy`` (0 or 1), ``balanced_accuracy`` (0, or the inverse share of the row's class, so that the
            plain mean is the mean recall), ``log_loss`` and ``brier`` (negated), ``mae`` and ``mse`` (negated).
        target: int codes ``[n]``, or float values ``[n]`` for the last two.
        probabilities: ``[n, classes]``, or predicted values ``[n]`` or ``[n, 1]`` for the last two.

    Returns:
        float64 ``[n]``.

    Raises:
        ConfigError: there is no metric of that name.

    >>> p = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    >>> row_scores("accuracy", np.array([0, 1, 1]), p).tolist()
    [1.0, 0.0, 1.0]
    """
    if metric in REGRESSION:
        error = np.asarray(probabilities, np.float64).reshape(len(target)) - np.asarray(target, np.float64)
        return -np.abs(error) if metric == "mae" else -np.square(error)
    if metric not in CLASSIFICATION:
        raise ConfigError(
            f"there is no metric {metric!r}", mend=f"Choose one of {', '.join((*CLASSIFICATION, *REGRESSION))}."
        )
    codes = np.asarray(target, np.int64)
    p = np.asarray(probabilities, np.float64)
    if metric == "log_loss":
        return np.log(np.clip(p[np.arange(len(codes)), codes], FLOOR, 1.0))
    if metric == "brier":
        wanted = np.zeros_like(p)
        wanted[np.arange(len(codes)), codes] = 1.0
        return np.asarray(-np.square(p - wanted).sum(axis=1), np.float64)
    correct = (p.argmax(axis=1) == codes).astype(np.float64) if len(codes) else np.zeros(0)
    if metric == "balanced_accuracy":
        counts = np.bincount(codes, minlength=p.shape[1])
        correct *= len(codes) / (np.count_nonzero(counts) * np.maximum(counts[codes], 1))
    return correct


def prior_probabilities(target: npt.NDArray[Any], classes: int) -> Floats:
    """The share of each class among training targets, float64 ``[classes]``: what one knows without any inputs.

    Its most probable class is the majority, so ``row_scores(metric, y, np.tile(prior, (len(y), 1)))`` is what the
    gate's rule for a first deployment compares with. Negative codes (no label) do not count.

    >>> prior_probabilities(np.array([0, 1, 1, -1, 1]), 3).tolist()
    [0.25, 0.75, 0.0]
    """
    codes = np.asarray(target, np.int64)
    counts = np.bincount(codes[codes >= 0], minlength=classes).astype(np.float64)
    return np.asarray(counts / max(counts.sum(), 1.0), np.float64)
