"""What the tasks share in which any number of labels is right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from tidemill.data.schema import Field, Kind, Signature
from tidemill.data.sources import Summary
from tidemill.errors import SourceError
from tidemill.records import Feedback, Prediction
from tidemill.tasks._base import Task


class MultilabelTask(Task):
    """A list of labels an answer, perhaps none; a confirmation repeats it, a correction replaces it as a whole."""

    kind: ClassVar[Kind] = "multilabel"
    metric: ClassVar[str] = "f1_samples"

    def answer(self, signature: Signature) -> dict[str, Any]:
        """Labels in the order of the model's scores; training sets scale, bias and threshold of each."""
        return {"kind": "multilabel", "labels": list(signature.labels)}

    def label(self, feedback: Feedback, prediction: Prediction) -> list[str] | None:
        """The labels of a confirmation (the answer's own) or a correction; ratings and comments state none."""
        if feedback.kind == "confirmation":
            return sorted(prediction.answer["labels"])
        return sorted(feedback.value) if feedback.kind == "correction" else None


def several(source: Summary, target: str) -> bool:
    """Whether the target holds lists, or texts that look like several labels each."""
    column = source.column(target)
    return column is not None and (column.lists or column.separator is not None)


def multilabel_signature(
    source: Summary, target: str, inputs: Sequence[Field], labels: Sequence[str] = ()
) -> Signature:
    """The signature with every single label.

    Raises:
        SourceError: there is no label at all.
    """
    column = source.column(target)
    separator = None if column is None else column.separator
    known = set() if column is None else set(column.members)
    known.update(label for label in labels if separator is None or separator not in label)
    if not known:
        raise SourceError(
            "no sample has a label, so the labels are not known",
            where=target,
            mend="Name them (`tidemill init --label`, or `labels` in tidemill.yaml); `tidemill label` asks.",
        )
    return Signature(
        inputs=tuple(inputs), target=target, kind="multilabel", labels=tuple(sorted(known)), separator=separator
    )
