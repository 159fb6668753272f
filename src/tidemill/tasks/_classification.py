"""What all classification tasks share: the answer, the metric, and what feedback means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from tidemill.data.schema import Kind, Signature
from tidemill.errors import SourceError
from tidemill.records import Feedback, Prediction
from tidemill.tasks._base import Task


class ClassificationTask(Task):
    """One label an answer; a confirmation repeats it, a correction replaces it."""

    kind: ClassVar[Kind] = "classification"
    metric: ClassVar[str] = "accuracy"

    def answer(self, signature: Signature) -> dict[str, Any]:
        """Labels in the order of the model's scores; training sets the temperature on validation data."""
        return {"kind": "classification", "labels": list(signature.labels), "temperature": 1.0}

    def label(self, feedback: Feedback, prediction: Prediction) -> str | None:
        """The label of a confirmation (the answer's own) or a correction; ratings and comments state none."""
        if feedback.kind == "confirmation":
            label = prediction.answer["label"]
            return None if label is None else str(label)  # an answer that abstained says nothing to confirm
        return str(feedback.value) if feedback.kind == "correction" else None


def checked_labels(labels: Sequence[str], target: str) -> tuple[str, ...]:
    """The labels sorted, each once.

    Raises:
        SourceError: fewer than two.
    """
    known = sorted(set(labels))
    if len(known) == 1:
        raise SourceError(
            f"every labelled sample has the same label, {known[0]!r}",
            where=target,
            mend="Add samples of another class, or name the missing classes: `--label` of `tidemill init`, `labels` in "
            "tidemill.yaml. There a class may also be called `none` or `-`, which else mean that there is no label.",
        )
    if not known:
        raise SourceError(
            "no sample has a label, so the classes are not known",
            where=target,
            mend="Name the classes (`tidemill init --label`, or `labels` in tidemill.yaml); `tidemill label` asks.",
        )
    return tuple(known)
