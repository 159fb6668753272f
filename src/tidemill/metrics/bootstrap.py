"""Intervals by reweighting units: resample whole units, add up their sums, compute every metric from the totals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse, special

from tidemill.metrics.units import Floats

Statistic = Callable[[Floats], Floats]
"""From sums ``[..., s]`` to values ``[..., v]``; NaN where a value is not defined."""

REPLICATES = 2000
_BLOCK = 100
_DRAWN = 2_000_000  # draws held at once: a few arrays of 16 MB
_WORK = 4e8  # multiply-adds that all replicates may cost together: about a second


@dataclass(frozen=True, slots=True)
class Intervals:
    """Point estimates and two-sided intervals, float64 ``[v]`` each; NaN where there is none."""

    value: Floats
    low: Floats
    high: Floats


def replicate_sums(sums: Any, replicates: int = REPLICATES, *, seed: int = 0) -> Floats:
    """Totals of *replicates* resamples of the units, each unit drawn with a multinomial weight.

    Args:
        sums: scipy sparse ``[s, units]``, what each unit adds to each of ``s`` sums.
        replicates: how many resamples.
        seed: of the draws.

    Returns:
        float64 ``[replicates, s]``.
    """
    units = sums.shape[1]
    rng = np.random.default_rng(seed)
    totals = np.empty((replicates, sums.shape[0]))
    block = max(1, min(_BLOCK, _DRAWN // max(units, 1)))
    for start in range(0, replicates, block):
        count = min(block, replicates - start)
        drawn = rng.integers(0, units, (count, units), np.int32).astype(np.int64)
        drawn += np.arange(count)[:, None] * units
        weights = np.bincount(drawn.ravel(), minlength=count * units).reshape(count, units)
        totals[start : start + count] = (sums @ np.ascontiguousarray(weights.T, np.float64)).T
    return totals


def bca(
    sums: Any, statistic: Statistic, *, replicates: int | None = None, confidence: float = 0.95, seed: int = 0
) -> Intervals:
    """Bias-corrected and accelerated bootstrap intervals (Efron, *JASA* 82, 1987), clustered by unit.

    The acceleration comes from the jackknife over units, which for sums is one subtraction a unit. A metric that no
    resample changes (all right, or all wrong) has an interval without width here; see :func:`certain`.

    Args:
        sums: scipy sparse ``[s, units]``.
        statistic: what to compute from the totals.
        replicates: 2000 unless said, fewer for very large sets.
        confidence: two-sided level.
        seed: of the draws; the same seed and sums give the same intervals.
    """
    matrix = sparse.csr_array(sums)
    if replicates is None:
        replicates = int(np.clip(_WORK / max(matrix.nnz, 1), 200, REPLICATES))
    total = np.asarray(matrix.sum(axis=1), np.float64).reshape(-1)
    value = statistic(total)
    if matrix.shape[1] < 2:
        nothing = np.full_like(value, np.nan)
        return Intervals(value, nothing, nothing)
    drawn = statistic(replicate_sums(matrix, replicates, seed=seed))
    defined = np.isfinite(drawn)
    count = np.maximum(defined.sum(axis=0), 1)
    below = ((drawn < value) & defined).sum(axis=0) + 0.5 * (np.isclose(drawn, value, rtol=1e-12) & defined).sum(axis=0)
    bias = special.ndtri(np.clip(below / count, 1 / (count + 1), 1 - 1 / (count + 1)))
    acceleration = _acceleration(matrix, total, statistic)
    edges = []
    for z in (special.ndtri((1 - confidence) / 2), special.ndtri((1 + confidence) / 2)):
        shifted = bias + (bias + z) / np.maximum(1 - acceleration * (bias + z), 1e-3)
        edges.append(_quantile(drawn, special.ndtr(shifted)))
    known = np.isfinite(value)
    return Intervals(value, np.where(known, edges[0], np.nan), np.where(known, edges[1], np.nan))


def _acceleration(matrix: Any, total: Floats, statistic: Statistic) -> Floats:
    """Skewness of the jackknife values over six (Efron 1987, eq. 6.6); units without a value do not count."""
    columns = matrix.tocsc()
    value = statistic(total)
    moments = np.zeros((4, len(value)))
    for start in range(0, columns.shape[1], 1024):
        left = statistic(total - columns[:, start : start + 1024].toarray().T)
        known = np.isfinite(left)
        pull = np.nan_to_num(np.where(known, value - left, 0.0))
        moments += np.stack([known.sum(axis=0), pull.sum(axis=0), (pull**2).sum(axis=0), (pull**3).sum(axis=0)])
    n, first, second, third = moments
    n = np.maximum(n, 1)
    mean = first / n
    variance = np.maximum(second / n - mean**2, 0)
    skew = third / n - 3 * mean * second / n + 2 * mean**3
    scale = 6 * np.sqrt(n) * variance**1.5
    return np.asarray(np.where(scale > 0, skew / np.where(scale > 0, scale, 1.0), 0.0), np.float64)


def _quantile(drawn: Floats, levels: Floats) -> Floats:
    """Each column's quantile at its own level, by the nearest order statistic; undefined replicates do not count."""
    ordered = np.sort(drawn, axis=0)  # NaN sorts last
    known = np.isfinite(ordered).sum(axis=0)
    level = np.nan_to_num(levels, nan=0.5)
    position = np.clip(np.rint(level * (known - 1)), 0, np.maximum(known - 1, 0)).astype(np.int64)
    picked = ordered[position, np.arange(ordered.shape[1])]
    return np.asarray(np.where(known > 0, picked, np.nan), np.float64)


def certain(intervals: Intervals, effective: npt.NDArray[Any], *, confidence: float = 0.95) -> Intervals:
    """Widen the intervals of shares that no resample changed: 30 right of 30 is not certainty.

    Uses the exact binomial limit (Clopper and Pearson, *Biometrika* 26, 1934) at the effective number of units ``[v]``
    behind each share; values that are not shares carry NaN there and stay as they are.
    """
    flat = (intervals.low == intervals.high) & (effective > 0)
    n = np.where(flat, np.maximum(effective, 1e-9), 1.0)
    reach = 1 - ((1 - confidence) / 2) ** (1 / n)
    low = np.where(flat & (intervals.value > 0.5), np.minimum(intervals.low, 1 - reach), intervals.low)
    high = np.where(flat & (intervals.value <= 0.5), np.maximum(intervals.high, reach), intervals.high)
    return Intervals(intervals.value, low, high)
