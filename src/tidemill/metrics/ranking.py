"""Metrics of an order: ROC-AUC as two means of placement values, which are sums like all others; average precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from tidemill.metrics.units import Floats, Units


def placements(score: npt.NDArray[Any], positive: npt.NDArray[np.bool_], weights: Floats) -> Floats:
    """Placement values ``[n]``: for a positive row the weighted share of negatives that it outranks, for a negative row
    the share of positives that outrank it; a tie counts half. NaN when one side is empty.

    The mean over either side is the AUC. Resampling both means with their placements held fixed gives the clustered
    interval of DeLong, DeLong and Clarke-Pearson (*Biometrics* 44, 1988) and Obuchowski (*Biometrics* 53, 1997).

    >>> v = placements(np.array([0.9, 0.2, 0.5]), np.array([True, False, True]), np.ones(3))
    >>> v.tolist()
    [1.0, 1.0, 1.0]
    """
    up, down = np.where(positive, weights, 0.0), np.where(positive, 0.0, weights)
    if up.sum() <= 0 or down.sum() <= 0:
        return np.full(len(score), np.nan)
    levels, level = np.unique(score, return_inverse=True)
    level = level.reshape(-1)

    def share_below(mass: Floats) -> Floats:
        at: npt.NDArray[Any] = np.bincount(level, mass, len(levels))
        return np.asarray((np.cumsum(at) - 0.5 * at)[level] / mass.sum(), np.float64)

    return np.where(positive, share_below(down), 1.0 - share_below(up))


def placement_sums(
    score: npt.NDArray[Any], positive: npt.NDArray[np.bool_], weights: Floats, units: Units
) -> tuple[Any, float]:
    """What each unit adds to either side's weighted placements, sparse ``[2, units]``, and the AUC itself."""
    value = placements(score, positive, weights)
    if not len(value) or np.isnan(value[0]):
        return sparse.csr_array((2, units.count)), float("nan")
    value *= weights
    sides = [np.bincount(units.index[side], value[side], units.count) for side in (positive, ~positive)]
    return sparse.csr_array(np.stack(sides)), float(sides[0].sum() / weights[positive].sum())


def average_precision(score: npt.NDArray[Any], positive: npt.NDArray[np.bool_], weights: Floats) -> float:
    """The area under the precision-recall curve, as a sum of steps; NaN without a positive row.

    >>> round(average_precision(np.array([0.9, 0.2, 0.5]), np.array([True, True, False]), np.ones(3)), 4)
    0.8333
    """
    order = np.argsort(-score, kind="stable")
    hits, answered = np.cumsum(np.where(positive, weights, 0.0)[order]), np.cumsum(weights[order])
    if not len(order) or hits[-1] <= 0:
        return float("nan")
    last = np.append(np.diff(score[order]) != 0, True)  # equal scores are one step
    hits, answered = hits[last], answered[last]
    return float((np.diff(hits, prepend=0.0) * hits / answered).sum() / hits[-1])
