"""Typed columns: the form in which samples wait for training and in which requests reach a model.

A column is a NumPy array with one entry a row, or a :class:`Ragged` of UTF-8 strings. Both may be memory-mapped;
nothing here loops over rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Rows = npt.NDArray[np.int64]


class Ragged:
    """Strings of varying length in two flat arrays, as Arrow lays them out.

    Args:
        values: uint8 ``[total bytes]``, the strings' UTF-8 end to end.
        offsets: int64 ``[n + 1]``; string *i* is ``values[offsets[i]:offsets[i + 1]]``.
    """

    __slots__ = ("offsets", "values")

    def __init__(self, values: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> None:
        self.values = values
        self.offsets = offsets

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> str:
        return bytes(self.values[self.offsets[row] : self.offsets[row + 1]]).decode("utf-8")

    def take(self, rows: Rows) -> Ragged:
        """The strings at *rows*, int64 ``[k]``, as a new column in memory."""
        return Ragged.from_arrow(self.to_arrow().take(pa.array(rows)))

    def to_arrow(self) -> pa.LargeStringArray:
        """The same memory as an Arrow array, without a copy."""
        offsets = np.ascontiguousarray(self.offsets)
        values = np.ascontiguousarray(self.values)
        return pa.LargeStringArray.from_buffers(len(self), pa.py_buffer(offsets), pa.py_buffer(values))

    @classmethod
    def from_arrow(cls, array: pa.Array) -> Ragged:
        """A column from an Arrow string array; nulls become empty strings."""
        strings = array if pa.types.is_large_string(array.type) else array.cast(pa.large_string())
        if strings.null_count:
            strings = strings.fill_null("")
        _, offsets_buffer, values_buffer = strings.buffers()
        offsets = np.frombuffer(offsets_buffer, np.int64)[strings.offset : strings.offset + len(strings) + 1]
        values = np.frombuffer(values_buffer, np.uint8) if values_buffer else np.empty(0, np.uint8)
        return cls(values[offsets[0] : offsets[-1]], offsets - offsets[0])

    @classmethod
    def from_strings(cls, strings: Iterable[str | None]) -> Ragged:
        """A column from Python strings; ``None`` becomes the empty string.

        >>> column = Ragged.from_strings(["tide", None, "磨"])
        >>> column[0], column[1], column[2], len(column)
        ('tide', '', '磨', 3)
        """
        return cls.from_arrow(pa.array(list(strings), pa.large_string()))


Column = npt.NDArray[Any] | Ragged
Columns = Mapping[str, Column]


def take(columns: Columns, rows: Rows) -> dict[str, Column]:
    """The given rows of every column, gathered in one vectorised step a column."""
    return {name: c.take(rows) if isinstance(c, Ragged) else c[rows] for name, c in columns.items()}


def stacked(columns: Sequence[Column]) -> Column:
    """Columns of one kind, one below the other."""
    if isinstance(columns[0], Ragged):
        return Ragged.from_arrow(pa.concat_arrays([c.to_arrow() for c in columns if isinstance(c, Ragged)]))
    return np.concatenate([c for c in columns if isinstance(c, np.ndarray)])


def length(columns: Columns) -> int:
    """The number of rows; all columns have the same."""
    return next((len(column) for column in columns.values()), 0)
