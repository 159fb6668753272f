"""One of several labels for a row of a table: churn, income bracket, fault type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from tidemill.data.schema import Field, FieldType, Signature
from tidemill.data.sources import ColumnSummary, Summary
from tidemill.errors import SourceError
from tidemill.records import JSON, Recipe
from tidemill.tasks._base import Claim
from tidemill.tasks._classification import ClassificationTask, checked_labels, closed_form_baselines

MANY_LABELS = 50
"""A target of numbers with more distinct values than this is taken for a quantity, not for classes."""


class TabularClassification(ClassificationTask):
    """Numbers, categories and dates, with missing values as they come."""

    name: ClassVar[str] = "tabular-classification"
    summary: ClassVar[str] = "one of several labels for a row of a table"

    def claim(self, source: Summary, target: str) -> Claim | None:
        """Fits a table whose target repeats few values."""
        columns = [c for c in source.columns if c.name != target]
        column = next((c for c in source.columns if c.name == target), None)
        if column is None or not columns or any(c.type == "image" for c in columns):
            return None
        if column.type == "number" and (not column.integers or column.distinct > MANY_LABELS):
            return None
        kinds = len(column.values) or column.distinct  # variants of one label count once
        reason = f"{target!r} takes {kinds} values, and the {len(columns)} other columns are a table"
        return Claim(confidence=0.8, reason=reason)

    def signature(self, source: Summary, target: str, labels: Sequence[str] = ()) -> Signature:
        """Every column but the target; short texts count as categories."""
        inputs = tuple(
            Field(name=c.name, type=_field_type(c), optional=c.missing > 0) for c in source.columns if c.name != target
        )
        if not inputs:
            raise SourceError(
                f"there is no column besides the target {target!r}", mend="Give a table with at least one input column."
            )
        return Signature(inputs=inputs, target=target, kind="classification", labels=checked_labels(labels, target))

    def recipes(self, signature: Signature) -> list[Recipe]:
        """Two closed-form baselines and boosted trees."""
        types = {f.type for f in signature.inputs}
        dense: list[JSON] = [{"step": "numbers"}] if "number" in types else []
        raw: list[JSON] = [{"step": "numbers", "raw": True}] if "number" in types else []
        dates: list[JSON] = [{"step": "dates"}] if "date" in types else []
        categories = bool(types & {"category", "text"})
        codes: list[JSON] = [{"step": "categories"}] if categories else []
        onehot: list[JSON] = [{"step": "onehot"}] if categories else []
        return [
            *closed_form_baselines(self.name, [*dense, *dates, *codes], [*dense, *dates, *onehot]),
            Recipe(
                name="lightgbm",
                task=self.name,
                learner="trees",
                features=(*raw, *dates, *codes),
                space={
                    "learning_rate": {"type": "float", "low": 0.01, "high": 0.3, "log": True},
                    "num_leaves": {"type": "int", "low": 7, "high": 255, "log": True},
                    "min_child_samples": {"type": "int", "low": 5, "high": 100, "log": True},
                    "colsample_bytree": {"type": "float", "low": 0.4, "high": 1.0},
                    "reg_lambda": {"type": "float", "low": 1e-3, "high": 10.0, "log": True},
                },
            ),
        ]

    def sample_data(self, seed: int, rows: int = 400) -> list[Mapping[str, Any]]:
        """A table in which the label follows from a number and a category, with some noise and missing values."""
        rng = np.random.default_rng(seed)
        size = rng.normal(0.0, 1.0, rows)
        kind = rng.integers(0, 3, rows)
        noise = rng.normal(0.0, 0.5, rows)
        missing = rng.random(rows) < 0.05
        return [
            {
                "size": None if missing[row] else round(float(size[row]), 4),
                "kind": ("ebb", "flood", "slack")[kind[row]],
                "label": "yes" if size[row] + (kind[row] == 1) + noise[row] > 0.4 else "no",
            }
            for row in range(rows)
        ]


def _field_type(column: ColumnSummary) -> FieldType:
    return "category" if column.type == "text" else column.type
