"""One of several labels for a row of a table: churn, income bracket, fault type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from tidemill.data.schema import Signature
from tidemill.data.sources import Summary
from tidemill.records import Recipe
from tidemill.tasks._base import Claim
from tidemill.tasks._classification import ClassificationTask, checked_labels
from tidemill.tasks._multilabel import several
from tidemill.tasks._recipes import closed_form_baselines
from tidemill.tasks._tables import quantity, table, table_features, table_fields, table_learners


class TabularClassification(ClassificationTask):
    """Numbers, categories, dates and texts, with missing values as they come."""

    name: ClassVar[str] = "tabular-classification"
    summary: ClassVar[str] = "one of several labels for a row of a table"
    selection: ClassVar[str] = "log_loss"

    def claim(self, source: Summary, target: str) -> Claim | None:
        """Fits a table whose target repeats few values."""
        column = source.column(target)
        if column is None or quantity(column) or several(source, target) or not table(source, target):
            return None
        kinds = len(column.values) or column.distinct  # variants of one label count once
        reason = f"{target!r} takes {kinds} values, and the {len(source.columns) - 1} other columns are a table"
        return Claim(confidence=0.8, reason=reason)

    def signature(self, source: Summary, target: str, labels: Sequence[str] = ()) -> Signature:
        """Every column but the target."""
        fields = table_fields(source, target)
        return Signature(inputs=fields, target=target, kind="classification", labels=checked_labels(labels, target))

    def recipes(self, signature: Signature) -> list[Recipe]:
        """Two closed-form baselines, boosted trees, and a network."""
        features = table_features(signature)
        return [
            *closed_form_baselines(self.name, features.coded, features.onehot),
            *table_learners(self.name, features),
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
