"""One score a row, larger is better: what tuning maximises, the gate compares, and reports rank mistakes by."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.errors import ConfigError
from tidemill.metrics.decisions import Decisions
from tidemill.metrics.units import Floats

FLOOR = 1e-7
"""Probabilities are held in ``[FLOOR, 1]`` under a logarithm, so that one overconfident row cannot outvote the rest."""

CLASSIFICATION = ("accuracy", "balanced_accuracy", "log_loss", "brier", "utility")
MULTILABEL = ("f1_samples", "subset_accuracy", "hamming", "label_log_loss")
REGRESSION = ("r2", "mae", "mse")


def row_scores(
    metric: str,
    target: npt.NDArray[Any],
    probabilities: npt.NDArray[Any],
    answers: npt.NDArray[Any] | None = None,
    *,
    costs: Decisions | None = None,
    spread: float = 1.0,
) -> Floats:
    """The score of every row; larger is better for every metric, and the mean is the metric (or minus it).

    Args:
        metric: for classification ``accuracy`` (0 or 1), ``balanced_accuracy`` (0, or the inverse share of the row's
            class, so that the plain mean is the mean recall), ``log_loss`` and ``brier`` (negated), ``utility`` (1
            minus the row's cost as a share of the largest cost); for multilabel ``f1_samples`` (twice the labels in
            common over the labels on both sides; 1 where neither has any), ``subset_accuracy`` (1 where all labels
            agree), ``hamming`` (the share of labels that agree), ``label_log_loss`` (negated, mean over labels); for
            regression ``r2`` (1 minus the squared error over *spread*), ``mae`` and ``mse`` (negated).
        target: codes ``[n]``, 0 and 1 ``[n, labels]``, or values ``[n]``.
        probabilities: ``[n, classes]`` or ``[n, labels]``, or predicted values ``[n]`` or ``[n, 1 or 3]``.
        answers: what was answered: codes ``[n]`` with -1 for none, or 0 and 1 ``[n, labels]``. Unless given, the rule
            of *costs* decides, or the most probable label, or the labels of at least one half. Where there is no
            answer the most probable label stands for it, except under ``utility``, where silence has its cost.
        costs: what ``utility`` is measured in.
        spread: for ``r2``, the variance of the training targets, so that 0 is what always answering one number earns.

    Returns:
        float64 ``[n]``.

    Raises:
        ConfigError: there is no metric of that name.

    >>> p = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    >>> row_scores("accuracy", np.array([0, 1, 1]), p).tolist()
    [1.0, 0.0, 1.0]
    >>> row_scores("f1_samples", np.array([[1, 1], [0, 0]]), np.array([[0.9, 0.1], [0.2, 0.3]])).round(3).tolist()
    [0.667, 1.0]
    """
    if metric in REGRESSION:
        return _regression(metric, target, probabilities, spread)
    if metric in MULTILABEL:
        return _multilabel(metric, target, probabilities, answers)
    if metric not in CLASSIFICATION:
        known = (*CLASSIFICATION, *MULTILABEL, *REGRESSION)
        raise ConfigError(f"there is no metric {metric!r}", mend=f"Choose one of {', '.join(known)}.")
    codes, p = np.asarray(target, np.int64), np.asarray(probabilities)
    if not len(codes):
        return np.zeros(0)
    if metric == "log_loss":
        return np.log(np.clip(p[np.arange(len(codes)), codes].astype(np.float64), FLOOR, 1.0))
    if metric == "brier":
        squares = np.einsum("ij,ij->i", p, p, dtype=np.float64)
        return np.asarray(2.0 * p[np.arange(len(codes)), codes].astype(np.float64) - squares - 1.0, np.float64)
    if metric == "utility":
        rule = Decisions() if costs is None else costs
        paid = rule.cost(codes, rule.choose(p) if answers is None else answers)
        return np.asarray(1.0 - paid / rule.largest, np.float64)
    best = p.argmax(axis=1)
    given = best if answers is None else np.where(answers < 0, best, answers)
    correct: Floats = (given == codes).astype(np.float64)
    if metric == "balanced_accuracy":
        counts = np.bincount(codes, minlength=p.shape[1])
        correct *= len(codes) / (np.count_nonzero(counts) * np.maximum(counts[codes], 1))
    return correct


def _multilabel(
    metric: str, target: npt.NDArray[Any], probabilities: npt.NDArray[Any], answers: npt.NDArray[Any] | None
) -> Floats:
    true = np.asarray(target, np.bool_)
    if metric == "label_log_loss":
        right = np.where(true, probabilities, 1.0 - probabilities).astype(np.float64)
        return np.asarray(np.log(np.clip(right, FLOOR, 1.0)).mean(axis=1), np.float64)
    given = np.asarray(probabilities) >= 0.5 if answers is None else np.asarray(answers, np.bool_)
    if metric == "subset_accuracy":
        return np.asarray((given == true).all(axis=1), np.float64)
    if metric == "hamming":
        return np.asarray((given == true).mean(axis=1), np.float64)
    both = (given & true).sum(axis=1)
    either = given.sum(axis=1) + true.sum(axis=1)
    return np.asarray(np.where(either > 0, 2.0 * both / np.maximum(either, 1), 1.0), np.float64)


def _regression(metric: str, target: npt.NDArray[Any], predicted: npt.NDArray[Any], spread: float) -> Floats:
    value = np.asarray(predicted, np.float64)
    error = (value[:, 0] if value.ndim == 2 else value) - np.asarray(target, np.float64)
    if metric == "mae":
        return -np.abs(error)
    return -np.square(error) if metric == "mse" else 1.0 - np.square(error) / spread
