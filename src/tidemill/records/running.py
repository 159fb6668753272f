"""Records of the years: who may do what, what is rolled out, watched, delivered and erased."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from tidemill.records.base import JSON, Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation(Record):
    """A generation of the test sets: α is spent within one, and renewed with the next."""

    prefix: ClassVar[str] = "gen"

    number: int
    alpha: float
    spent: float = 0.0
    retired: float | None = None


Scope = Literal["predict", "feedback", "label", "admin"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Token(Record):
    """What opens the door to a program or a person: its text is shown once, and only a digest of it is kept.

    Attributes:
        name: whose it is, as a person would say.
        scopes: what it opens (see :data:`Scope`); ``admin`` opens everything.
        digest: SHA-256 of its text, in hex.
        expires: UTC seconds from which on it opens nothing.
        revoked: UTC seconds when it was taken back.
    """

    prefix: ClassVar[str] = "tok"

    name: str
    scopes: tuple[str, ...]
    digest: str
    expires: float | None = None
    revoked: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout(Record):
    """How a challenger comes to serve: its answers are first only logged, then given to a share of the callers.

    Attributes:
        name: the deployment's name.
        phase: what it is in, or was when it ended.
        share: of the callers whom a canary answers.
        status: ``running``, or how it ended: ``rolled-back`` by its rules, ``stopped`` by a person.
        reason: why it stands where it does, in plain words.
        decision_id: the gate's decision that began it.
        evidence: the policy it began with and the sequential test's sums, which replay its outcome.
        deployment_id: the deployment that its promotion made.
        author: the person who began it, or who ended it.
    """

    prefix: ClassVar[str] = "roll"

    name: str
    champion_id: str
    challenger_id: str
    phase: Literal["shadow", "canary"]
    share: float
    status: Literal["running", "promoted", "rolled-back", "stopped"]
    reason: str
    decision_id: str | None = None
    evidence: JSON = field(default_factory=dict)
    finished: float | None = None
    deployment_id: str | None = None
    author: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure(Record):
    """A tombstone: what was erased, how much of it where, and which models had been trained on it.

    Attributes:
        what: whether it was everything of an author, or what has certain ids.
        digest: keyed hash of whom or what it was, in hex: what was erased is not kept here either.
        subjects: ids of the records whose content is gone; the ids remain. A sample's id is made of its content, so a
            keyed digest of it, ``smp~…``, stands here from the moment on when it is done.
        counts: how many rows, payloads and files were erased, by where they lay.
        models: ids of the models that had seen them, and of the state snapshots, which were erased with them.
        finished: ``None`` while it is under way; opening the project goes on with it.
    """

    prefix: ClassVar[str] = "gone"

    what: Literal["author", "id"]
    digest: str
    subjects: tuple[str, ...] = ()
    counts: JSON = field(default_factory=dict)
    models: tuple[str, ...] = ()
    finished: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch(Record):
    """What a trigger last found, and what it has to remember; one a trigger.

    Attributes:
        trigger: its name.
        looked: UTC seconds of its last look.
        waiting: what it waits for, or what keeps it from firing, in words.
        fault: why it could not look, in words.
        found: what it measured.
        memory: what keeps it from firing twice for the same thing.
        fired: UTC seconds when it last fired.
        reason: why it did.
    """

    prefix: ClassVar[str] = "watch"

    trigger: str
    looked: float
    waiting: str
    fault: str | None = None
    found: JSON = field(default_factory=dict)
    memory: JSON = field(default_factory=dict)
    fired: float | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery(Record):
    """What a neighbour was told of a record, or is to be told: one a neighbour and subject, in the order of telling.

    Attributes:
        neighbour: who is told, for example ``mlflow``.
        subject: the id of the record that is told of.
        status: ``waiting``; ``done``; or ``left-out``, as there is nothing left to tell, or the neighbour refuses it.
        remote: its name over there.
        attempts: how often it was tried.
        fault: why the last of them failed, or why it is left out, in words.
        finished: UTC seconds when it was done or left out.
    """

    prefix: ClassVar[str] = "sent"

    neighbour: str
    subject: str
    status: Literal["waiting", "done", "left-out"]
    remote: str | None = None
    attempts: int = 0
    fault: str | None = None
    finished: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StateSnapshot(Record):
    """What a model learned after it was made, beside its package: immutable, each made from the one before.

    A deployment that names it (``state_id``) puts it into force together with its model.

    Attributes:
        model_id: the model that it belongs to; without that it means nothing.
        parent: the snapshot that it was made from; ``None`` for the first of its model.
        kind: who reads it, for example ``classes``.
        blob: SHA-256 of its content among the store's blobs; empty once that was erased.
        size_bytes: of that content.
        reason: why it was made, in plain words.
        decision_id: the gate's decision on it; ``None`` where none was asked for.
        facts: what there is to say of it.
    """

    prefix: ClassVar[str] = "state"

    model_id: str
    parent: str | None = None
    kind: str
    blob: str
    size_bytes: int
    reason: str
    decision_id: str | None = None
    facts: JSON = field(default_factory=dict)

    @property
    def erased(self) -> bool:
        """Whether it was erased with samples that it was learned from: what is left holds nothing of them."""
        return not self.blob
