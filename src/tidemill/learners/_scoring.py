"""How good scores are on validation rows, and the scale that makes them honest probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

Array = npt.NDArray[Any]


def log_loss(scores: Array, target: Array, weight: Array | None = None) -> float:
    """Mean negative log-probability of the targets under softmax(*scores*), in nats.

    Args:
        scores: ``[n, k]``, unnormalised log-probabilities.
        target: int64 ``[n]``.
        weight: ``[n]``, or ``None`` for all one.
    """
    wide = scores.astype(np.float64)
    losses = logsumexp(wide, axis=1) - wide[np.arange(len(wide)), target]
    return float(np.average(losses, weights=weight))


def validation(kind: str, scores: Array, target: Array, weight: Array | None = None) -> dict[str, float]:
    """``validation_loss`` and ``validation_score``: log loss and accuracy, or mean squared error and minus that error.

    For several labels both are means over labels, each a question of its own.
    """
    if kind == "multilabel":
        signed = np.where(target > 0, scores, -scores.astype(np.float64))
        return {
            "validation_loss": float(np.average(np.logaddexp(0, -signed).mean(axis=1), weights=weight)),
            "validation_score": float(np.average((signed > 0).mean(axis=1), weights=weight)),
        }
    if kind == "regression":
        error = float(np.average(np.square(scores[:, 0].astype(np.float64) - target), weights=weight))
        return {"validation_loss": error, "validation_score": -error}
    right = scores.argmax(axis=1) == target
    return {
        "validation_loss": log_loss(scores, target, weight),
        "validation_score": float(np.average(right, weights=weight)),
    }


def best_scale(scores: Array, target: Array, weight: Array | None = None) -> float:
    """The factor on *scores* that minimises the log loss: temperature scaling (Guo et al., 2017), before softmax.

    >>> scores = np.array([[9.0, 0.0], [9.0, 0.0], [9.0, 0.0], [9.0, 0.0]])
    >>> round(9 * best_scale(scores, np.array([0, 0, 0, 1])), 3) == round(float(np.log(3)), 3)
    True
    """
    spread = float(np.abs(scores - scores.mean(axis=1, keepdims=True)).max(initial=0))
    if spread == 0:
        return 1.0
    # softmax of ±1e-3 is flat and of ±1e4 certain: the optimum lies between, whatever the scores' own scale
    low, high = np.log(1e-3 / spread), np.log(1e4 / spread)
    found = minimize_scalar(
        lambda power: log_loss(scores * np.exp(power), target, weight),
        bounds=(low, high),
        method="bounded",
        options={"xatol": 1e-4},
    )
    return float(np.exp(found.x))
