"""One of several labels for a text: topics, sentiment, spam; in any script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from tidemill.data.schema import Signature
from tidemill.data.sources import Summary
from tidemill.records import Recipe
from tidemill.tasks._base import Claim
from tidemill.tasks._classification import ClassificationTask, checked_labels
from tidemill.tasks._multilabel import several
from tidemill.tasks._recipes import text_recipes
from tidemill.tasks._tables import quantity
from tidemill.tasks._text import made_up_messages, only_texts, text_fields


class TextClassification(ClassificationTask):
    """One or more columns of text, and one label each."""

    name: ClassVar[str] = "text-classification"
    summary: ClassVar[str] = "one of several labels for a text"

    def claim(self, source: Summary, target: str) -> Claim | None:
        """Fits texts alone, with a target that repeats few values."""
        column = source.column(target)
        if column is None or quantity(column) or several(source, target) or not only_texts(source, target):
            return None
        texts = ", ".join(repr(c.name) for c in source.columns if c.name != target)
        return Claim(confidence=0.9, reason=f"{texts} hold{'s' if ',' not in texts else ''} texts")

    def signature(self, source: Summary, target: str, labels: Sequence[str] = ()) -> Signature:
        """The text columns and the label."""
        fields = text_fields(source, target)
        return Signature(inputs=fields, target=target, kind="classification", labels=checked_labels(labels, target))

    def recipes(self, signature: Signature) -> list[Recipe]:
        """Closed-form baselines, a linear model, and two networks."""
        return text_recipes(self.name, signature)

    def sample_data(self, seed: int, rows: int = 400) -> list[Mapping[str, Any]]:
        """Messages to a shop, each about one topic."""
        return [{"text": text, "label": about[0]} for text, about in made_up_messages(seed, rows, 1)]
