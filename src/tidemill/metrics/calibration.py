"""Does a model that says 90 % turn out right nine times in ten? Reliability bins and calibration error.

The usual expected calibration error (ECE) grows as samples shrink, also for a perfectly calibrated model: within a bin,
chance alone parts confidence from accuracy. The debiased form takes the variance of that gap off its square (Kumar,
Liang and Ma, *Verified Uncertainty Calibration*, NeurIPS 2019), here with the variance over units.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from tidemill.metrics.bootstrap import replicate_sums
from tidemill.metrics.units import Floats, Units

BINS = 15


@dataclass(frozen=True, slots=True)
class Calibration:
    """How confidence and accuracy agree.

    Attributes:
        ece: mean absolute gap over bins of equal weight, 0 to 1; without an interval, because resampling adds to its
            bias once more.
        debiased: root mean square gap without the part that chance explains, 0 to 1.
        low, high: 95 % percentile interval of ``debiased``.
        bins: one entry a bin, ``{"confidence", "accuracy", "low", "high", "weight"}``; ``low`` to ``high`` is the
            95 % interval of the accuracy, ``weight`` the bin's share of all rows.
    """

    ece: float
    debiased: float
    low: float
    high: float
    bins: list[dict[str, float]]


def calibration(
    confidence: Floats,
    correct: npt.NDArray[Any],
    units: Units,
    weights: Floats,
    *,
    replicates: int = 1000,
    seed: int = 0,
) -> Calibration:
    """Compare the confidence ``[n]`` of each answer with whether it was right.

    >>> rng = np.random.default_rng(0)
    >>> p = rng.uniform(0.5, 1, 2000)
    >>> result = calibration(p, rng.random(2000) < p, Units.of(np.arange(2000)), np.ones(2000))
    >>> result.ece > 0.015 > result.debiased  # perfectly calibrated; only chance parts the two
    True
    """
    index, count = _bins(confidence, weights)
    ones = np.asarray(correct, np.float64)
    rows = len(confidence)

    def per_unit(values: Floats) -> Any:
        return sparse.coo_array((values, (index, units.index)), shape=(count, units.count)).tocsr()

    mass, sure, right = per_unit(weights), per_unit(weights * confidence), per_unit(weights * ones)
    total = np.asarray(mass.sum(axis=1)).reshape(-1)
    mean_sure, mean_right = (np.asarray(m.sum(axis=1)).reshape(-1) / total for m in (sure, right))
    gap = mean_sure - mean_right
    share = total / total.sum()
    gap_noise = _variance(per_unit(weights * (confidence - ones - gap[index])), total)
    right_noise = _variance(per_unit(weights * (ones - mean_right[index])), total)
    drawn = replicate_sums(sparse.vstack([mass, sure, right]).tocsr(), replicates, seed=seed)
    drawn_mass = drawn[:, :count]
    some = np.where(drawn_mass > 0, drawn_mass, 1.0)
    drawn_gap = np.where(drawn_mass > 0, (drawn[:, count : 2 * count] - drawn[:, 2 * count :]) / some, 0.0)
    # A resample's gap carries the noise twice: once from the sample, once from its own draw.
    spread = np.sqrt(np.maximum((np.square(drawn_gap) - 2 * gap_noise) @ share, 0))
    reach = 1.96 * np.sqrt(right_noise)
    return Calibration(
        ece=float(np.abs(gap) @ share),
        debiased=float(np.sqrt(max(float((np.square(gap) - gap_noise) @ share), 0.0))),
        low=float(np.quantile(spread, 0.025)) if rows else float("nan"),
        high=float(np.quantile(spread, 0.975)) if rows else float("nan"),
        bins=[
            {
                "confidence": float(mean_sure[b]),
                "accuracy": float(mean_right[b]),
                "low": float(max(mean_right[b] - reach[b], 0.0)),
                "high": float(min(mean_right[b] + reach[b], 1.0)),
                "weight": float(share[b]),
            }
            for b in range(count)
        ],
    )


def _bins(confidence: Floats, weights: Floats) -> tuple[npt.NDArray[np.int64], int]:
    """Bins of about equal weight, equal confidences together; fewer bins for few rows, so that each holds about ten."""
    order = np.argsort(confidence, kind="stable")
    before = np.cumsum(weights[order]) - weights[order]
    wanted = int(np.clip(len(confidence) // 10, 1, BINS))
    raw = np.minimum((before / weights.sum() * wanted).astype(np.int64), wanted - 1)
    _, first, inverse = np.unique(confidence[order], return_index=True, return_inverse=True)
    tied = raw[first][inverse.reshape(-1)]
    used, compact = np.unique(tied, return_inverse=True)
    index = np.empty(len(confidence), np.int64)
    index[order] = compact.reshape(-1)
    return index, len(used)


def _variance(residuals: Any, total: Floats) -> Floats:
    """Variance over units of each bin's weighted mean, from residual sums ``[bins, units]``."""
    squares = np.asarray(residuals.multiply(residuals).sum(axis=1)).reshape(-1)
    units = np.maximum(np.diff(residuals.indptr), 1)
    return np.asarray(squares / np.square(total) * units / np.maximum(units - 1, 1), np.float64)
