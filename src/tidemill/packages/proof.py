"""When two forms of one model count as equal."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit

TOLERANCE = 1e-4
"""The most by which a probability, or a regression's value relative to the largest, may differ."""

_SCORE_SLACK = 30
"""How much coarser raw scores are held: the logarithm of a tiny probability magnifies float32's last digit."""


def difference(kind: str, got: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    """How far *got* is from *expected*, both raw scores ``[n, k]``; NaN or infinite when they cannot be compared.

    For classification and multilabel the larger of two: of the probabilities' difference, and of the scores' relative
    to the largest over 30. For regression and choices the values' difference, relative to the largest where that is
    above 1.

    >>> difference("classification", np.array([[0.0, 30.0]]), np.array([[0.0, 30.05]])) < TOLERANCE
    True
    >>> difference("regression", np.array([[1.0]]), np.array([[1.1]])) < TOLERANCE
    False
    """
    if got.shape != expected.shape:
        return float("inf")
    if not got.size:
        return 0.0
    got, expected = got.astype(np.float64), expected.astype(np.float64)
    far = float(np.abs(got - expected).max()) / max(1.0, float(np.abs(expected).max()))
    if kind in ("regression", "choice"):
        return far
    likelihood = expit if kind == "multilabel" else _softmax
    probable = float(np.abs(likelihood(got) - likelihood(expected)).max())
    return max(probable, far / _SCORE_SLACK)


def _softmax(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
