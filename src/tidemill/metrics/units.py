"""Units: the rows that share a split key stand or fall together, so they are one draw to every interval and test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Units:
    """Which unit each row belongs to.

    Attributes:
        index: int64 ``[n]``, the row's unit, ``0 … count - 1``.
        count: number of units.

    >>> units = Units.of(np.array([7, 9, 7]))
    >>> units.count, units.sum(np.array([1.0, 5.0, 2.0])).tolist()
    (2, [3.0, 5.0])
    """

    index: npt.NDArray[np.int64]
    count: int

    @classmethod
    def of(cls, keys: npt.NDArray[Any]) -> Units:
        """Units from split keys ``[n]`` of any sortable dtype."""
        distinct, index = np.unique(keys, return_inverse=True)
        return cls(index.astype(np.int64, copy=False).reshape(-1), len(distinct))

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
