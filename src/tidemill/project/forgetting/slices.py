"""Slices that reports name by a value which nobody has but those who are erased."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tidemill.data.arrays import Column, Ragged, Rows
from tidemill.data.dataset import DatasetArrays


def own_slices(arrays: DatasetArrays, rows: Rows) -> set[str]:
    """``COLUMN=VALUE`` for the values that stand in these rows only, as :mod:`tidemill.metrics.slices` writes them."""
    fields = [field.name for field in arrays.signature.inputs if field.type != "image"] if len(rows) else []
    return {f"{name}={value}" for name in fields for value in _own(arrays, rows, name)}


def _own(arrays: DatasetArrays, rows: Rows, name: str) -> set[str]:
    mine = _counted(arrays.columns(rows)[name])
    everywhere = sum((_counted(part.columns[name], mine) for part in arrays.parts), Counter())
    own = {value for value, count in mine.items() if everywhere[value] == count}
    return {value if isinstance(value, str) else f"{value:g}" for value in own}


def _counted(column: Column, of: Collection[Any] | None = None) -> Counter[Any]:
    """How often each value of a column stands in it, or each of some; what is missing does not count."""
    if isinstance(column, Ragged):
        strings = column.to_arrow()
        if of is not None:
            strings = strings.filter(pc.is_in(strings, pa.array(of, strings.type)))
        counts = {entry["values"]: entry["counts"] for entry in pc.value_counts(strings).to_pylist()}
        return Counter({value: count for value, count in counts.items() if value})
    known = np.asarray(column[~np.isnan(column)] if of is None else column[np.isin(column, list(of))])
    return Counter(known.tolist())
