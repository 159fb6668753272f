"""``numbers``: missing values filled, scales made alike."""

# ruff: noqa: D102 - the base class says what each method does

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from tidemill.data.arrays import Columns
from tidemill.data.schema import FieldType
from tidemill.errors import ConfigError
from tidemill.features._base import FeatureInfo, FeatureStep, as_float32

_BOUND = 1e30  # beyond it, squares leave float64 and values leave float32
_FAR = 1e6  # deviations from the mean: farther is no more said, and what models make of it stays within float32
_SAMPLE, _SAMPLED = 1 << 17, 1 << 21  # values kept for the medians: of a column, and of all columns together
_KNOTS = 513  # quantiles between which a quantile mapping is a straight line
_TAIL = 1e-4  # the least share that a quantile mapping tells from nothing: normal scores from -3.7 to 3.7


class Numbers(FeatureStep):
    """float64 ``[n]`` columns to float32 ``x`` ``[n, d]``.

    Missing values become the column's median over the training rows, and every column that missed any there gets one
    more column that is 1 where the value was missing. All numbers are then standardised to mean 0 and deviation 1.
    Infinite values count as missing. Up to 131,072 rows the median is exact; beyond, it is that of an even sample.

    Args:
        columns: the number columns.
        raw: keep the values unscaled and missing ones as NaN, as trees like them; there are no indicators then.
        quantile: map every column by its quantiles to a normal distribution before it is standardised (the rank-based
            inverse normal transformation; van der Waerden, 1952). What lies beyond the training rows' values counts as
            the outermost of them. Good for networks and linear models where tails are heavy or scales are logarithmic.
        indicators: write the columns that are 1 where a value was missing.
    """

    name: ClassVar[str] = "numbers"
    handles: ClassVar[tuple[FieldType, ...]] = ("number",)

    def __init__(
        self, columns: list[str], *, raw: bool = False, quantile: bool = False, indicators: bool = True
    ) -> None:
        super().__init__(columns)
        if raw and quantile:
            raise ConfigError(
                "raw and quantile contradict each other", where="feature step numbers", mend="Keep one of them."
            )
        self._raw, self._quantile, self._indicators = raw, quantile, indicators
        k = len(columns)
        self._count = np.zeros(k)
        self._missing = np.zeros(k, np.int64)
        self._mean = np.zeros(k)
        self._squares = np.zeros(k)  # sum of squared deviations from the mean
        self._sample: list[npt.NDArray[np.float64]] = []
        self._stride, self._skip = 1, 0
        self._median = np.zeros(k)
        self._std = np.ones(k)
        self._flagged = np.zeros(0, np.int64)
        self._knots: list[npt.NDArray[np.float64]] = []
        self._normal: list[npt.NDArray[np.float64]] = []

    def _matrix(self, columns: Columns) -> npt.NDArray[np.float64]:
        values = np.stack([np.asarray(columns[name], np.float64) for name in self.columns], axis=1)
        infinite = np.isinf(values)
        if infinite.any():
            values[infinite] = np.nan
        return np.clip(values, -_BOUND, _BOUND, out=values)

    def observe(self, chunk: Columns) -> None:
        if self._raw:
            return
        values = self._matrix(chunk)
        known = ~np.isnan(values)
        count = known.sum(axis=0)
        # Chan, Golub, LeVeque (1979): merge the chunk's mean and squares into the running ones without cancellation
        mean = np.divide(np.where(known, values, 0).sum(axis=0), count, out=np.zeros(len(count)), where=count > 0)
        squares = np.square(np.where(known, values - mean, 0)).sum(axis=0)
        total = np.maximum(self._count + count, 1)
        delta = mean - self._mean
        self._squares += squares + np.square(delta) * self._count * count / total
        self._mean += delta * count / total
        self._count += count
        self._missing += len(values) - count
        self._keep(values)

    def _keep(self, values: npt.NDArray[np.float64]) -> None:
        rows = np.arange(self._skip, len(values), self._stride)
        self._skip = (self._skip - len(values)) % self._stride
        self._sample.append(values[rows])
        if sum(map(len, self._sample)) > max(4096, min(_SAMPLE, _SAMPLED // len(self.columns))):
            kept = np.concatenate(self._sample)
            self._skip += self._stride * (len(kept) % 2)
            self._stride *= 2
            self._skip %= self._stride
            self._sample = [kept[::2]]

    def finish(self) -> None:
        if self._raw:
            return
        sample = np.concatenate(self._sample) if self._sample else np.zeros((0, len(self.columns)))
        for i in range(len(self.columns)):
            known = sample[~np.isnan(sample[:, i]), i]
            self._median[i] = np.median(known) if len(known) else self._mean[i]
        deviation = np.sqrt(self._squares / np.maximum(self._count, 1))
        # a constant column becomes 0, it is not blown up by a deviation that is only rounding
        self._std = np.where(deviation > 1e-12 * np.maximum(np.abs(self._mean), 1e-30), deviation, 1.0)
        self._flagged = np.flatnonzero((self._missing > 0) & self._indicators)
        if self._quantile:
            for i in range(len(self.columns)):
                self._map(i, sample[~np.isnan(sample[:, i]), i])
        self._sample = []

    def _map(self, i: int, known: npt.NDArray[np.float64]) -> None:
        """Knots of column *i*, each with its normal score, and the scores' mean and deviation."""
        values = known if len(known) else np.array([self._mean[i]])
        order = np.sort(values)
        knots = np.unique(order[np.linspace(0, len(order) - 1, min(_KNOTS, len(order))).astype(np.int64)])
        # a value that is often there stands for the middle of the ranks it takes
        ranks = np.searchsorted(order, knots, "left") + np.searchsorted(order, knots, "right")
        normal = ndtri(np.clip(ranks / (2 * len(order)), _TAIL, 1 - _TAIL))
        scores = np.interp(order, knots, normal)
        self._knots.append(knots)
        self._normal.append(normal)
        self._mean[i] = scores.mean()
        self._std[i] = scores.std() if scores.std() > 1e-9 else 1.0

    def transform(self, columns: Columns) -> dict[str, npt.NDArray[Any]]:
        values = self._matrix(columns)
        if self._raw:
            return {"x": as_float32(values)}
        missing = np.isnan(values)
        filled = np.where(missing, self._median, values) if missing.any() else values
        for i, (knots, normal) in enumerate(zip(self._knots, self._normal, strict=True)):
            filled[:, i] = np.interp(filled[:, i], knots, normal)
        scaled = (filled - self._mean) / self._std
        np.clip(scaled, -_FAR, _FAR, out=scaled)
        if len(self._flagged):
            scaled = np.concatenate([scaled, missing[:, self._flagged]], axis=1)
        return {"x": as_float32(scaled)}

    def info(self) -> dict[str, FeatureInfo]:
        return {"x": FeatureInfo("float32", (len(self.columns) + len(self._flagged),))}

    def state(self) -> dict[str, Any]:
        if self._raw:
            return {}
        state = {
            "median": self._median.tolist(),
            "mean": self._mean.tolist(),
            "std": self._std.tolist(),
            "flagged": self._flagged.tolist(),
        }
        if self._quantile:
            state |= {"knots": [k.tolist() for k in self._knots], "normal": [n.tolist() for n in self._normal]}
        return state

    def restore(self, state: Mapping[str, Any]) -> None:
        if self._raw:
            return
        self._median, self._mean, self._std = (np.array(state[k], np.float64) for k in ("median", "mean", "std"))
        self._flagged = np.array(state["flagged"], np.int64)
        if self._quantile:
            self._knots = [np.array(knots, np.float64) for knots in state["knots"]]
            self._normal = [np.array(normal, np.float64) for normal in state["normal"]]
