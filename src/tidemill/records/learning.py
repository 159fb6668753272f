"""Records of a cycle: what is trained on what, how it is judged, and what is deployed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from tidemill.records.base import JSON, Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to make a model: data, not code.

    Attributes:
        name: unique in the project, for example ``cnn``.
        task: the task it serves.
        learner: which learner trains it (``closed_form``, ``trees``, ``gradient``, ``sklearn``).
        features: the steps of its feature pipeline, each ``{"step": NAME, "columns": [...], ...}``.
        network: for gradient recipes, ``{"name": NAME, ...arguments}``.
        params: the defaults of its parameters.
        space: its search space, ``{PARAMETER: {"type": "float"|"int"|"categorical", ...}}``.
        baseline: finishes in seconds, runs in every cycle, and bounds what a deep model must beat.
        init: where its weights start from: ``{"model": ID}``, a model of the project, or ``{"checkpoint": REFERENCE}``,
            what its features or network read (see :mod:`tidemill.checkpoints`).
        origin: ``task`` (shipped), ``user`` (``tidemill.yaml`` or the project's code).
    """

    name: str
    task: str
    learner: str
    features: tuple[JSON, ...]
    network: JSON | None = None
    params: JSON = field(default_factory=dict)
    space: JSON = field(default_factory=dict)
    baseline: bool = False
    init: JSON | None = None
    origin: str = "task"
    licence: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset(Record):
    """A dataset version: an immutable set of samples, its id the hash of its sample ids (``data_…``).

    Attributes:
        path: folder of its index, relative to the store's root.
        counts: ``{"train": n, "validation": n, "reference": n, "recent-validation": n, "recent-test": n,
            "unlabelled": n, "dropped": n}``.
        signature: the JSON of its :class:`tidemill.data.schema.Signature`.
        report: what cleaning and splitting did, to how many, with examples.
    """

    prefix: ClassVar[str] = "data"

    path: str
    counts: JSON
    signature: JSON
    report: JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Record):
    """One execution that makes a model; ``kind`` is ``train`` or ``trial``."""

    prefix: ClassVar[str] = "run"

    kind: str
    status: Literal["running", "done", "failed", "pruned", "interrupted"]
    cycle_id: str | None
    dataset_id: str
    recipe: JSON
    params: JSON
    seed: int
    parents: tuple[str, ...] = ()
    metrics: JSON = field(default_factory=dict)
    curve: tuple[JSON, ...] = ()
    model_id: str | None = None
    seconds: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Model(Record):
    """An immutable package that a run left; ``path`` is relative to the store's root."""

    prefix: ClassVar[str] = "model"

    run_id: str | None
    dataset_id: str | None
    task: str
    recipe: str
    path: str
    size_bytes: int
    metrics: JSON = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report(Record):
    """A model judged on one split of one dataset version."""

    prefix: ClassVar[str] = "report"

    model_id: str
    dataset_id: str
    split: str
    content: JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision(Record):
    """The gate's outcome, its reason in plain words, and the evidence that replays it."""

    prefix: ClassVar[str] = "decision"

    cycle_id: str | None
    challenger_id: str
    champion_id: str | None
    outcome: Literal["promoted", "refused"]
    reason: str
    alpha: float
    generation: int
    evidence: JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment(Record):
    """One entry in the history of what serves under a name; the newest one is in force."""

    prefix: ClassVar[str] = "deploy"

    name: str
    model_id: str
    action: Literal["promote", "rollback"]
    reason: str
    decision_id: str | None = None
    state_id: str | None = None
    author: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycle(Record):
    """One revolution of the loop. ``plan`` is journaled before it starts, and a resumed cycle follows it."""

    prefix: ClassVar[str] = "cycle"

    status: Literal["running", "done", "failed", "stopped"]
    trigger: str
    seed: int
    plan: JSON
    dataset_id: str | None = None
    decision_id: str | None = None
    summary: JSON = field(default_factory=dict)
    finished: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Record):
    """One finished or started step of a cycle: what resuming reads. ``output`` is set when it is done."""

    prefix: ClassVar[str] = "step"

    cycle_id: str
    name: str
    status: Literal["started", "done"]
    token: str
    output: JSON | None = None
    finished: float | None = None
