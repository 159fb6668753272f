"""What the tasks share in which a number is to be predicted."""

from __future__ import annotations

from typing import Any, ClassVar

from tidemill.data.schema import Kind, Signature
from tidemill.records import Feedback, Prediction
from tidemill.tasks._base import Task


class RegressionTask(Task):
    """A number an answer, with an interval; a confirmation repeats it, a correction replaces it."""

    kind: ClassVar[Kind] = "regression"
    metric: ClassVar[str] = "r2"

    def answer(self, signature: Signature) -> dict[str, Any]:
        """Training sets how far the interval reaches."""
        return {"kind": "regression"}

    def label(self, feedback: Feedback, prediction: Prediction) -> float | None:
        """The number of a confirmation (the answer's own) or a correction; ratings and comments state none."""
        if feedback.kind == "confirmation":
            return float(prediction.answer["value"])
        return float(feedback.value) if feedback.kind == "correction" else None
