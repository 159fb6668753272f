"""Regression metrics from sums per unit, with clustered intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from tidemill.metrics.bootstrap import bca, certain
from tidemill.metrics.units import Floats, Units, kish, ratio

_VALUE = ("mae", "rmse", "r2")
_INTERVAL = ("interval_coverage", "interval_width", "pinball_loss")


def regression_metrics(
    target: npt.NDArray[Any],
    predicted: npt.NDArray[Any],
    keys: npt.NDArray[Any] | None = None,
    weights: npt.NDArray[Any] | None = None,
    *,
    level: float | None = None,
    replicates: int | None = None,
    seed: int = 0,
) -> dict[str, tuple[float, float, float]]:
    """Metrics of predicted numbers, each ``(value, low, high)``.

    ``mae``, mean absolute error, and ``rmse``, root mean squared error, in the target's unit; ``r2``. Where there are
    intervals also ``interval_coverage``, the share of true values inside, ``interval_width``, their mean width, and
    ``pinball_loss``, the mean quantile loss of both ends (Koenker and Bassett, *Econometrica* 46, 1978): the smaller,
    the better do the ends keep to their quantiles.

    Args:
        target: values ``[n]``.
        predicted: values ``[n]`` or ``[n, 1]``, or ``[n, 3]``: value, low, high.
        keys, weights, replicates, seed: as for :func:`tidemill.metrics.classification.classification_metrics`.
        level: share of true values that the intervals are to cover; ``None`` leaves intervals out.

    >>> found = regression_metrics(np.array([1.0, 2, 3, 4]), np.array([1.0, 2, 3, 6]))
    >>> found["mae"][0], found["rmse"][0], round(found["r2"][0], 6)
    (0.5, 1.0, 0.2)
    """
    y, given = np.asarray(target, np.float64), np.asarray(predicted)
    given = given.reshape(len(y), -1)
    n = len(y)
    units = Units.of(np.arange(n) if keys is None else keys)
    groups = units.grouped(seed)
    w = np.ones(n) if weights is None else np.asarray(weights, np.float64)
    # Centred, so that the variance does not cancel away.
    centred, error = y - np.average(y, weights=w), given[:, 0] - y
    columns = [w, w * np.abs(error), w * error**2, w * centred, w * centred**2]
    ends = level is not None and given.shape[1] == 3
    if level is not None and ends:
        low, high = given[:, 1].astype(np.float64), given[:, 2].astype(np.float64)
        tail = (1 - level) / 2
        pinball = (_pinball(y - low, tail) + _pinball(y - high, 1 - tail)) / 2
        columns += [w * ((y >= low) & (y <= high)), w * (high - low), w * pinball]
    sums = sparse.csr_array(np.stack([groups.sum(column) for column in columns]))
    found = bca(sums, _statistic, replicates=replicates, seed=seed)
    shares = np.full(len(found.value), np.nan)
    if ends:
        shares[len(_VALUE)] = kish(units.sum(w))
    found = certain(found, shares)
    triples = zip(found.value, found.low, found.high, strict=True)
    names = (*_VALUE, *_INTERVAL) if ends else _VALUE
    return {name: (float(v), float(a), float(b)) for name, (v, a, b) in zip(names, triples, strict=True)}


def _pinball(above: Floats, quantile: float) -> Floats:
    return np.asarray(np.maximum(quantile * above, (quantile - 1) * above), np.float64)


def _statistic(totals: Floats) -> Floats:
    weight, absolute, square, first, second = (totals[..., i] for i in range(5))
    some = np.where(weight > 0, weight, np.nan)
    variance = second / some - np.square(first / some)
    # a target that varies by rounding alone does not vary
    r2 = 1 - square / some / np.where((variance > 0) & (variance > 1e-20 * square / some), variance, np.nan)
    value = np.stack([absolute / some, np.sqrt(square / some), r2], axis=-1)
    return np.concatenate([value, ratio(totals[..., 5:], weight[..., None])], axis=-1)
