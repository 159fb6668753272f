"""What a task is: one file that says what is to be learned, from what, by which recipes, and what feedback means."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tidemill.config import Config
from tidemill.data.schema import Kind, Signature
from tidemill.data.sources import Source, Summary
from tidemill.records import Feedback, Prediction, Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A task's word that it fits a source: how sure it is (0 to 1), and why, in plain words."""

    confidence: float
    reason: str


class Task(ABC):
    """Subclass it in one file of :mod:`tidemill.tasks`, of a project's ``tasks`` folder, or of a plug-in.

    Attributes:
        name: as Hugging Face names pipelines.
        summary: one line for ``tidemill init`` and the docs.
        kind: of its signatures.
        metric: the per-row score (larger is better) that the gate judges; see :func:`tidemill.metrics.row_scores`.
        selection: the per-row score that tuning maximises and recipes are chosen by on validation rows; the metric,
            unless a smoother one tells more from as many rows.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    kind: ClassVar[Kind]
    metric: ClassVar[str]
    selection: ClassVar[str] = ""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if not cls.selection and hasattr(cls, "metric"):
            cls.selection = cls.metric

    @abstractmethod
    def claim(self, source: Summary, target: str) -> Claim | None:
        """Whether this task fits a source; ``None`` when it does not. Used by ``init`` without ``--task``."""

    @abstractmethod
    def signature(self, source: Summary, target: str, labels: Sequence[str] = ()) -> Signature:
        """The inputs and output. *labels* are all that cleaning found and the configuration adds.

        Raises:
            SourceError: the source has nothing that this task could learn from.
        """

    @abstractmethod
    def recipes(self, signature: Signature) -> list[Recipe]:
        """The default recipes, baselines first."""

    @abstractmethod
    def answer(self, signature: Signature) -> dict[str, Any]:
        """The answer spec that the manifest carries (see :mod:`tidemill.runtime.answers`)."""

    @abstractmethod
    def label(self, feedback: Feedback, prediction: Prediction) -> Any | None:
        """The label that a piece of feedback states for its prediction's inputs, or ``None`` when it states none."""

    @abstractmethod
    def sample_data(self, seed: int, rows: int = 400) -> list[Mapping[str, Any]]:
        """Small synthetic records with target, learnable in seconds: for conformance tests and ``doctor``."""

    def open(self, source: Source, config: Config) -> Source:
        """The source as this task reads it; the source itself unless a task knows better.

        Raises:
            SourceError: it lacks what the task cannot do without.
        """
        return source

    def slices(self, signature: Signature) -> list[str]:
        """The columns whose values slice a report besides the label; by default the categories."""
        return [f.name for f in signature.inputs if f.type == "category" and f.role == "input"]
