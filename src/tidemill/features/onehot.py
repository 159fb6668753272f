"""``onehot``: category columns as 0 and 1, for linear models and a user's own estimator."""

# ruff: noqa: D102 - the base class says what each method does

from __future__ import annotations

from typing import ClassVar

import numpy as np

from tidemill.data.arrays import Columns
from tidemill.features._base import Feature, FeatureInfo
from tidemill.features.categories import Categories


class OneHot(Categories):
    """Ragged strings to float32 ``x``: one number for each value that :class:`Categories` would give a code.

    A rare or unseen value is 0 everywhere in its column's block.
    """

    name: ClassVar[str] = "onehot"

    def __init__(self, columns: list[str], *, min_count: int = 2, max_size: int = 100) -> None:
        super().__init__(columns, min_count=min_count, max_size=max_size)

    def transform(self, columns: Columns) -> dict[str, Feature]:
        codes, sizes = self.codes(columns), np.array(self.cardinalities) - 1
        rows, which = np.nonzero(codes)
        x = np.zeros((len(codes), int(sizes.sum())), np.float32)
        starts = np.cumsum(sizes) - sizes
        x[rows, starts[which] + codes[rows, which] - 1] = 1
        return {"x": x}

    def info(self) -> dict[str, FeatureInfo]:
        return {"x": FeatureInfo("float32", (sum(self.cardinalities) - len(self.columns),))}
