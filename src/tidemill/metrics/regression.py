"""Regression metrics from sums per unit, with clustered intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from tidemill.metrics.bootstrap import bca
from tidemill.metrics.units import Floats, Units


def regression_metrics(
    target: npt.NDArray[Any],
    predicted: npt.NDArray[Any],
    keys: npt.NDArray[Any] | None = None,
    weights: npt.NDArray[Any] | None = None,
    *,
    replicates: int | None = None,
    seed: int = 0,
) -> dict[str, tuple[float, float, float]]:
    """Mean absolute error, root mean squared error (both in the target's unit) and R², each ``(value, low, high)``.

    Arguments as for :func:`tidemill.metrics.classification.classification_metrics`.

    >>> found = regression_metrics(np.array([1.0, 2, 3, 4]), np.array([1.0, 2, 3, 6]))
    >>> found["mae"][0], found["rmse"][0], round(found["r2"][0], 6)
    (0.5, 1.0, 0.2)
    """
    y, answer = np.asarray(target, np.float64), np.asarray(predicted, np.float64).reshape(-1)
    n = len(y)
    units = Units.of(np.arange(n) if keys is None else keys)
    w = np.ones(n) if weights is None else np.asarray(weights, np.float64)
    centred, error = y - np.average(y, weights=w), answer - y  # centred, so that its variance does not cancel away
    columns = (w, w * np.abs(error), w * error**2, w * centred, w * centred**2)
    sums = sparse.csr_array(np.stack([units.sum(column) for column in columns]))
    found = bca(sums, _statistic, replicates=replicates, seed=seed)
    triples = zip(found.value, found.low, found.high, strict=True)
    return {
        name: (float(v), float(a), float(b)) for name, (v, a, b) in zip(("mae", "rmse", "r2"), triples, strict=True)
    }


def _statistic(totals: Floats) -> Floats:
    weight, absolute, square, first, second = (totals[..., i] for i in range(5))
    some = np.where(weight > 0, weight, np.nan)
    variance = second / some - np.square(first / some)
    r2 = 1 - square / some / np.where(variance > 0, variance, np.nan)
    return np.stack([absolute / some, np.sqrt(square / some), r2], axis=-1)
