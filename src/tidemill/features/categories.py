"""``categories``: category columns as codes, for embeddings, trees and counts."""

# ruff: noqa: D102 - the base class says what each method does

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tidemill.data.arrays import Columns, length
from tidemill.data.keys import hash_column
from tidemill.data.schema import FieldType
from tidemill.features._base import Feature, FeatureInfo, FeatureStep, as_float32
from tidemill.features._vocabulary import Vocabulary, as_strings

MANY_VALUES = 64
"""From more values than this on, how common a value is counts as a feature of its own."""


class Categories(FeatureStep):
    """Ragged strings to int64 ``codes`` ``[n, k]``; 0 is rare or unseen.

    Args:
        columns: category (or short text) columns.
        min_count: values that occur less often in the training rows share code 0, so that a model learns what an unseen
            value tends to mean. A missing value is counted like any other.
        max_size: the most frequent values that get a code of their own, a column.
        others: so many further codes, which values without one of their own share by their hash (Weinberger et al.,
            2009); 0 puts them all at code 0.
        frequency: also write ``x``, a number for each column of more than 64 values: the logarithm of how often the
            value occurred in training, 1 for the number of rows. Where there are hundreds of values or more, how common
            one is may tell more than which one it is.
    """

    name: ClassVar[str] = "categories"
    handles: ClassVar[tuple[FieldType, ...]] = ("category",)

    def __init__(
        self, columns: list[str], *, min_count: int = 2, max_size: int = 1000, others: int = 0, frequency: bool = False
    ) -> None:
        super().__init__(columns)
        self._min_count, self._max_size = min_count, max_size
        self._others, self._frequency = others, frequency
        self._vocabularies = [Vocabulary() for _ in columns]
        self._rows = 0

    def observe(self, chunk: Columns) -> None:
        for name, vocabulary in zip(self.columns, self._vocabularies, strict=True):
            vocabulary.observe(chunk[name])
        self._rows += length(chunk)

    def finish(self) -> None:
        for vocabulary in self._vocabularies:
            vocabulary.finish(self._min_count, self._max_size)

    def codes(self, columns: Columns) -> npt.NDArray[np.int64]:
        """int64 ``[n, k]``: the code of every value among those that have one of their own, else 0."""
        pairs = zip(self.columns, self._vocabularies, strict=True)
        return np.stack([vocabulary.codes(columns[name]) for name, vocabulary in pairs], axis=1)

    @property
    def cardinalities(self) -> list[int]:
        """How many codes each column has, 0 included."""
        return [len(vocabulary.values) + 1 + self._others for vocabulary in self._vocabularies]

    def transform(self, columns: Columns) -> dict[str, Feature]:
        codes = self.codes(columns)
        out: dict[str, Feature] = {"codes": codes}
        if counted := self._counted():
            out["x"] = as_float32(np.stack([self._scale(i)[codes[:, i]] for i in counted], axis=1))
        if self._others:
            out["codes"] = self._shared(columns, codes)
        return out

    def _shared(self, columns: Columns, codes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The codes, with those without one of their own spread over the shared ones."""
        spread = codes.copy()
        for i, (name, vocabulary) in enumerate(zip(self.columns, self._vocabularies, strict=True)):
            bare = np.flatnonzero(codes[:, i] == 0)
            strings = as_strings(columns[name]).take(bare)
            shared = (hash_column(strings) % np.uint64(self._others)).astype(np.int64) + len(vocabulary.values) + 1
            spread[bare, i] = np.where(np.diff(strings.offsets) == 0, 0, shared)  # a missing value is no rare value
        return spread

    def _counted(self) -> list[int]:
        """The columns whose frequency is written."""
        return [i for i, v in enumerate(self._vocabularies) if self._frequency and len(v.values) > MANY_VALUES]

    def _scale(self, i: int) -> npt.NDArray[np.float64]:
        """The frequency of column *i* by code."""
        counts = self._vocabularies[i].counts
        return np.asarray(np.log1p([counts[-1], *counts[:-1]]) / np.log1p(max(self._rows, 1)))

    def info(self) -> dict[str, FeatureInfo]:
        found = {"codes": FeatureInfo("int64", (len(self.columns),), {"cardinalities": self.cardinalities})}
        counted = self._counted()
        return found | ({"x": FeatureInfo("float32", (len(counted),))} if counted else {})

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = {"values": [vocabulary.values for vocabulary in self._vocabularies]}
        if self._frequency:
            state |= {"counts": [v.counts for v in self._vocabularies], "rows": self._rows}
        return state

    def restore(self, state: Mapping[str, Any]) -> None:
        counts = state.get("counts", [()] * len(self.columns))
        for vocabulary, values, seen in zip(self._vocabularies, state["values"], counts, strict=True):
            vocabulary.restore(values, seen)
        self._rows = state.get("rows", 0)
