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
    confidence: npt.NDArray[Any],
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
    rows, units = len(confidence), units.grouped(seed)
    cell = index * units.count + units.index

    def per_unit(values: Floats) -> Floats:
        return np.asarray(np.bincount(cell, values, count * units.count).reshape(count, -1), np.float64)

    mass, sure, right = per_unit(weights), per_unit(weights * confidence), per_unit(weights * correct)
    total = mass.sum(axis=1)
    mean_sure, mean_right = sure.sum(axis=1) / total, right.sum(axis=1) / total
    gap = mean_sure - mean_right
    share = total / total.sum()
    present = (mass > 0).sum(axis=1)
    gap_noise = _variance(sure - right - gap[:, None] * mass, total, present)
    right_noise = _variance(right - mean_right[:, None] * mass, total, present)
    drawn = replicate_sums(sparse.csr_array(np.concatenate([mass, sure, right])), replicates, seed=seed)
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


def _bins(confidence: npt.NDArray[Any], weights: Floats) -> tuple[npt.NDArray[np.int64], int]:
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


def _variance(residuals: Floats, total: Floats, present: npt.NDArray[Any]) -> Floats:
    """Variance over units of each bin's weighted mean, from residual sums ``[bins, units]``."""
    squares = np.square(residuals).sum(axis=1)
    units = np.maximum(present, 1)
    return np.asarray(squares / np.square(total) * units / np.maximum(units - 1, 1), np.float64)
