"""ROC-AUC as two means of placement values, which makes it a metric of sums like all others."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.metrics.units import Floats


def placements(score: Floats, positive: npt.NDArray[np.bool_], weights: Floats) -> Floats:
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
