"""``categories``: category columns as codes, for embeddings, trees and counts."""

# ruff: noqa: D102 - the base class says what each method does

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tidemill.data.arrays import Columns
from tidemill.data.schema import FieldType
from tidemill.features._base import FeatureInfo, FeatureStep
from tidemill.features._vocabulary import Vocabulary


class Categories(FeatureStep):
    """Ragged strings to int64 ``codes`` ``[n, k]``; 0 is missing, rare or unseen.

    Args:
        columns: category (or short text) columns.
        min_count: values that occur less often in the training rows share code 0, so that a model learns what an unseen
            value tends to mean.
        max_size: the most frequent values that get a code of their own, a column.
    """

    name: ClassVar[str] = "categories"
    handles: ClassVar[tuple[FieldType, ...]] = ("category",)

    def __init__(self, columns: list[str], *, min_count: int = 2, max_size: int = 1000) -> None:
        super().__init__(columns)
        self._min_count, self._max_size = min_count, max_size
        self._vocabularies = [Vocabulary() for _ in columns]

    def observe(self, chunk: Columns) -> None:
        for name, vocabulary in zip(self.columns, self._vocabularies, strict=True):
            vocabulary.observe(chunk[name])

    def finish(self) -> None:
        for vocabulary in self._vocabularies:
            vocabulary.finish(self._min_count, self._max_size)

    def codes(self, columns: Columns) -> npt.NDArray[np.int64]:
        """int64 ``[n, k]``: the code of every value."""
        pairs = zip(self.columns, self._vocabularies, strict=True)
        return np.stack([vocabulary.codes(columns[name]) for name, vocabulary in pairs], axis=1)

    @property
    def cardinalities(self) -> list[int]:
        """How many codes each column has, 0 included."""
        return [len(vocabulary.values) + 1 for vocabulary in self._vocabularies]

    def transform(self, columns: Columns) -> dict[str, npt.NDArray[Any]]:
        return {"codes": self.codes(columns)}

    def info(self) -> dict[str, FeatureInfo]:
        return {"codes": FeatureInfo("int64", (len(self.columns),), {"cardinalities": self.cardinalities})}

    def state(self) -> dict[str, Any]:
        return {"values": [vocabulary.values for vocabulary in self._vocabularies]}

    def restore(self, state: Mapping[str, Any]) -> None:
        for vocabulary, values in zip(self._vocabularies, state["values"], strict=True):
            vocabulary.restore(values)
