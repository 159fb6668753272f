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
_WAITING_BYTES = 4 << 20  # of values that are counted together


class Vocabulary:
    """Counts values over chunks, then gives the frequent ones the codes 1, 2, …; all others are 0.

    A missing value is the empty string. It is a value like any other: where training rows missed it often enough, it
    has a code of its own, and a model can tell what is missing from what it never saw.

    Attributes:
        values: in the order of their codes.
        counts: how often each of them occurred, and last, how often on average those did that have no code.
    """

    def __init__(self) -> None:
        self._seen = pa.array([], pa.large_string())
        self._often = pa.array([], pa.int64())
        self._waiting: list[pa.Array] = []
        self._bytes = 0
        self.values: list[str] = []
        self.counts: list[float] = []
        self._codes: dict[str, int] = {}
        self._set = pa.array([], pa.large_string())

    def observe(self, column: Column) -> None:
        """Count one chunk's values."""
        strings = as_strings(column).to_arrow()
        self._waiting.append(strings)
        self._bytes += strings.nbytes
        if self._bytes > _WAITING_BYTES:
            self._count()

    def _count(self) -> None:
        """Count what waits."""
        counted = pc.value_counts(pa.chunked_array(self._waiting, pa.large_string()))
        self._waiting, self._bytes = [], 0
        values = pa.chunked_array([self._seen, counted.field("values")])
        counts = pa.chunked_array([self._often, counted.field("counts")])
        merged = pa.table({"value": values, "count": counts}).group_by("value", use_threads=False)
        table = merged.aggregate([("count", "sum")])
        if len(table) > _MOST:  # lossy counting keeps memory flat (Manku and Motwani, 2002)
            table = table.filter(pc.greater(table["count_sum"], 1))
        self._seen, self._often = table["value"].combine_chunks(), table["count_sum"].combine_chunks()

    def finish(self, min_count: int, max_size: int) -> None:
        """Keep the *max_size* most frequent values that occurred at least *min_count* times."""
        self._count()
        often = self._often.to_numpy()
        frequent = np.flatnonzero(often >= min_count)
        if len(frequent) > max_size:  # those that occur as often as the last one that is kept are told apart by name
            least = np.partition(often[frequent], -max_size)[-max_size]
            frequent = frequent[often[frequent] >= least]
        found = zip(self._seen.take(pa.array(frequent)).to_pylist(), often[frequent].tolist(), strict=True)
        kept = sorted(found, key=lambda pair: (-pair[1], pair[0]))[:max_size]
        counts = [float(count) for _, count in kept]
        rare = len(often) - len(kept)
        rest = (float(often.sum()) - sum(counts)) / rare if rare else 1.0
        self._seen, self._often = self._seen[:0], self._often[:0]
        self.restore([value for value, _ in kept], [*counts, rest])

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
