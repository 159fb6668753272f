"""The values of one category column and their codes; shared by ``categories`` and ``onehot``."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tidemill.data.arrays import Column, Ragged

_FEW = 32  # rows up to which a dictionary is quicker than Arrow's vectorised look-up
_MOST = 1 << 18  # distinct values counted at once; beyond, those seen once are forgotten


class Vocabulary:
    """Counts values over chunks, then gives the frequent ones the codes 1, 2, …; all others are 0."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self.values: list[str] = []
        self._codes: dict[str, int] = {}
        self._set = pa.array([], pa.large_string())

    def observe(self, column: Column) -> None:
        """Count one chunk's values; the empty string is a missing value and is not counted."""
        counted = pc.value_counts(_strings(column).to_arrow())
        values, counts = counted.field("values").to_pylist(), counted.field("counts").to_pylist()
        for value, count in zip(values, counts, strict=True):
            if value:
                self._counts[value] = self._counts.get(value, 0) + count
        if len(self._counts) > _MOST:  # lossy counting keeps memory flat (Manku and Motwani, 2002)
            self._counts = {v: c for v, c in self._counts.items() if c > 1}

    def finish(self, min_count: int, max_size: int) -> None:
        """Keep the *max_size* most frequent values that occurred at least *min_count* times."""
        kept = sorted((v for v, c in self._counts.items() if c >= min_count), key=lambda v: (-self._counts[v], v))
        self._counts = {}
        self.restore(kept[:max_size])

    def restore(self, values: list[str]) -> None:
        """Take over values in the order of their codes."""
        self.values = list(values)
        self._codes = {value: code for code, value in enumerate(values, start=1)}
        self._set = pa.array(values, pa.large_string())

    def codes(self, column: Column) -> npt.NDArray[np.int64]:
        """int64 ``[n]``: each row's code, 0 for missing or unseen."""
        strings = _strings(column)
        if len(strings) <= _FEW:
            return np.array([self._codes.get(strings[row], 0) for row in range(len(strings))], np.int64)
        found = pc.index_in(strings.to_arrow(), value_set=self._set)
        return np.asarray(pc.fill_null(found, -1), np.int64) + 1


def _strings(column: Column) -> Ragged:
    return column if isinstance(column, Ragged) else Ragged.from_strings([str(value) for value in column])
