"""A number for a row of a table: a price, a duration, a demand."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from tidemill.data.schema import Signature
from tidemill.data.sources import Summary
from tidemill.data.spelling import is_number
from tidemill.errors import SourceError
from tidemill.records import Recipe
from tidemill.tasks._base import Claim
from tidemill.tasks._recipes import ridge_baseline
from tidemill.tasks._regression import RegressionTask
from tidemill.tasks._tables import quantity, table, table_features, table_fields, table_learners

_LOCAL = re.compile(r"[-+]?\d[\d.,' ]*,\d+|[-+]?\d{1,3}(['. ]\d{3})+(,\d+)?")
"""Numbers as some languages write them: ``1.234,5``, ``1 234``, ``1,234``."""


class TabularRegression(RegressionTask):
    """Numbers, categories, dates and texts, and a number to predict."""

    name: ClassVar[str] = "tabular-regression"
    summary: ClassVar[str] = "a number for a row of a table"

    def claim(self, source: Summary, target: str) -> Claim | None:
        """Fits a table whose target is a quantity."""
        column = source.column(target)
        if column is None or not quantity(column) or not table(source, target):
            return None
        reason = f"{target!r} is a quantity, and the {len(source.columns) - 1} other columns are a table"
        return Claim(confidence=0.8, reason=reason)

    def signature(self, source: Summary, target: str, labels: Sequence[str] = ()) -> Signature:
        """Every column but the target.

        Raises:
            SourceError: the target holds something else than numbers.
        """
        column = source.column(target)
        if column is not None and column.type != "number" and column.examples:  # without any, people are asked
            seen = column.values or column.examples
            words = [value for value in seen if not is_number(value)] or column.examples
            mend = "Mend these, name a column of numbers, or choose the task tabular-classification."
            if any(map(_LOCAL.fullmatch, words)):
                mend = "Write numbers with a point for the decimals and nothing between thousands: 1234.5."
            raise SourceError(
                f"the target {target!r} holds {column.type} values, for example {', '.join(words[:3])}",
                where=target,
                mend=mend,
            )
        return Signature(inputs=table_fields(source, target), target=target, kind="regression")

    def recipes(self, signature: Signature) -> list[Recipe]:
        """Least squares, boosted trees, and a network."""
        features = table_features(signature)
        return [ridge_baseline(self.name, features.onehot), *table_learners(self.name, features)]

    def sample_data(self, seed: int, rows: int = 400) -> list[Mapping[str, Any]]:
        """A table in which a price follows from a size, an age and a district, with noise and missing values."""
        rng = np.random.default_rng(seed)
        size = rng.uniform(30.0, 150.0, rows)
        age = rng.integers(0, 60, rows)
        district = rng.integers(0, 3, rows)
        price = 2.5 * size - 0.8 * age + np.array([0.0, 40.0, 90.0])[district] + rng.normal(0.0, 12.0, rows)
        missing = rng.random(rows) < 0.05
        return [
            {
                "size": round(float(size[row]), 1),
                "age": None if missing[row] else int(age[row]),
                "district": ("harbour", "hill", "old town")[district[row]],
                "label": round(float(price[row]), 2),
            }
            for row in range(rows)
        ]
