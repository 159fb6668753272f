"""The values of one category column and their codes; shared by ``categories`` and ``onehot``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tidemill.data.arrays import Column, Ragged

_FEW = 32  # rows up to which a dictionary is quicker than Arrow's vectorised look-up
_MOST = 1 << 18  # distinct values counted at once; beyond, those seen once are forgotten


class Vocabulary:
    """Counts values over chunks, then gives the frequent ones the codes 1, 2, …; all others are 0.

    A missing value is the empty string. It is a value like any other: where training rows missed it often enough, it
    has a code of its own, and a model can tell what is missing from what it never saw.

    Attributes:
        values: in the order of their codes.
        counts: how often each of them occurred, and last, how often on average those did that have no code.
    """

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self.values: list[str] = []
        self.counts: list[float] = []
        self._codes: dict[str, int] = {}
        self._set = pa.array([], pa.large_string())

    def observe(self, column: Column) -> None:
        """Count one chunk's values."""
        counted = pc.value_counts(as_strings(column).to_arrow())
        values, counts = counted.field("values").to_pylist(), counted.field("counts").to_pylist()
        for value, count in zip(values, counts, strict=True):
            self._counts[value] = self._counts.get(value, 0) + count
        if len(self._counts) > _MOST:  # lossy counting keeps memory flat (Manku and Motwani, 2002)
            self._counts = {v: c for v, c in self._counts.items() if c > 1}

    def finish(self, min_count: int, max_size: int) -> None:
        """Keep the *max_size* most frequent values that occurred at least *min_count* times."""
        frequent = sorted((v for v, c in self._counts.items() if c >= min_count), key=lambda v: (-self._counts[v], v))
        kept = frequent[:max_size]
        counts = [float(self._counts[value]) for value in kept]
        rare = len(self._counts) - len(kept)
        rest = (sum(self._counts.values()) - sum(counts)) / rare if rare else 1.0
        self._counts = {}
        self.restore(kept, [*counts, rest])

    def restore(self, values: list[str], counts: Sequence[float] = ()) -> None:
        """Take over values in the order of their codes, and their counts."""
        self.values = list(values)
        self.counts = list(counts)
        self._codes = {value: code for code, value in enumerate(values, start=1)}
        self._set = pa.array(values, pa.large_string())

    def codes(self, column: Column) -> npt.NDArray[np.int64]:
        """int64 ``[n]``: each row's code, 0 for rare or unseen."""
        strings = as_strings(column)
        if len(strings) <= _FEW:
            return np.array([self._codes.get(strings[row], 0) for row in range(len(strings))], np.int64)
        found = pc.index_in(strings.to_arrow(), value_set=self._set)
        return np.asarray(pc.fill_null(found, -1), np.int64) + 1


def as_strings(column: Column) -> Ragged:
    """The column as strings."""
    return column if isinstance(column, Ragged) else Ragged.from_strings([str(value) for value in column])
