"""Units: the rows that share a split key stand or fall together, so they are one draw to every interval and test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

GROUPS = 20_000
"""So many groups of units tell the spread of a sum to within a percent, whatever the number of units."""


@dataclass(frozen=True, slots=True)
class Units:
    """Which unit each row belongs to.

    Attributes:
        index: int64 or int32 ``[n]``, the row's unit, ``0 … count - 1``.
        count: number of units.

    >>> units = Units.of(np.array([7, 9, 7]))
    >>> units.count, units.sum(np.array([1.0, 5.0, 2.0])).tolist()
    (2, [3.0, 5.0])
    """

    index: npt.NDArray[Any]
    count: int

    @classmethod
    def of(cls, keys: npt.NDArray[Any]) -> Units:
        """Units from split keys ``[n]`` of any sortable dtype."""
        distinct, index = np.unique(keys, return_inverse=True)
        narrow = np.int32 if len(distinct) < 2**31 else np.int64
        return cls(index.astype(narrow, copy=False).reshape(-1), len(distinct))

    def grouped(self, seed: int = 0) -> Units:
        """The same rows in at most ``2 · GROUPS`` units, where there are more of them: each a union of random ones.

        Independent units are as good in random unions of equal number: the sums of squares and cubes of the unions'
        deviations have the expectation of the units' own. Resampling then takes memory and time that do not grow.
        """
        if self.count <= 2 * GROUPS:
            return self
        place = (np.random.default_rng(seed).permutation(self.count) % GROUPS).astype(np.int32)
        return Units(place[self.index], GROUPS)

    def sum(self, values: npt.NDArray[Any]) -> Floats:
        """Per-row values ``[n]`` summed to float64 ``[count]``."""
        return np.bincount(self.index, weights=values, minlength=self.count).astype(np.float64, copy=False)


def kish(weights: npt.NDArray[Any]) -> float:
    """The effective number of samples of a weighted sample, (Σw)² / Σw² (Kish, *Survey Sampling*, 1965).

    >>> kish(np.ones(40)), round(kish(np.array([1.0, 1.0, 10.0])), 2)
    (40.0, 1.41)
    """
    squares = float(np.square(weights, dtype=np.float64).sum())
    return float(np.sum(weights, dtype=np.float64)) ** 2 / squares if squares > 0 else 0.0


def ratio(over: Floats, under: Floats) -> Floats:
    """*over* by *under*, elementwise; NaN where there is nothing to divide by."""
    some = under > 1e-12
    return np.asarray(np.where(some, over / np.where(some, under, 1.0), np.nan), np.float64)


def known_mean(values: Floats) -> Floats:
    """The mean over the last axis, of those values that are defined."""
    known = np.isfinite(values)
    return ratio(np.where(known, values, 0.0).sum(axis=-1), known.sum(axis=-1).astype(np.float64))
