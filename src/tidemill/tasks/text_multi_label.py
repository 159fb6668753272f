"""Any number of labels for a text: the genres of a title, the topics of an article."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from tidemill.data.schema import Signature
from tidemill.data.sources import Summary
from tidemill.records import Recipe
from tidemill.tasks._base import Claim
from tidemill.tasks._multilabel import MultilabelTask, multilabel_signature, several
from tidemill.tasks._recipes import text_recipes
from tidemill.tasks._text import made_up_messages, only_texts, text_fields


class TextMultiLabel(MultilabelTask):
    """One or more columns of text, and a list of labels each."""

    name: ClassVar[str] = "text-multi-label"
    summary: ClassVar[str] = "any number of labels for a text"

    def claim(self, source: Summary, target: str) -> Claim | None:
        """Fits texts alone, with a target of lists or of separated labels."""
        if not several(source, target) or not only_texts(source, target):
            return None
        return Claim(confidence=0.9, reason=f"{target!r} holds several labels a row, and the other columns are texts")

    def signature(self, source: Summary, target: str, labels: Sequence[str] = ()) -> Signature:
        """The text columns and every single label."""
        return multilabel_signature(source, target, text_fields(source, target), labels)

    def recipes(self, signature: Signature) -> list[Recipe]:
        """Closed-form baselines, a linear model, and two networks."""
        return text_recipes(self.name, signature)

    def sample_data(self, seed: int, rows: int = 400) -> list[Mapping[str, Any]]:
        """Messages to a shop, each about none, one or two topics."""
        return [{"text": text, "label": about} for text, about in made_up_messages(seed, rows, 2)]
