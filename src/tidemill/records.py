"""The frozen records that flow between the rooms.

Every record has one sortable id with its kind in front (``run_01k…``), made by :func:`new_id`. Records are
plain data: they serialise to JSON and back by :func:`to_json` and :func:`from_json`, and know nothing of
where they are stored. Times are UTC seconds since the epoch (``float``).
"""

from __future__ import annotations

import dataclasses
import functools
import os
import random
import threading
import time
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

JSON = dict[str, Any]

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford base 32, sorts as ASCII
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
_SHIFTS = tuple(range(110, -1, -10))
_lock = threading.Lock()
_last = 0
_random = random.Random()  # noqa: S311 - ids are no secrets; and a system call for each would let other threads run


def new_id(prefix: str) -> str:
    """A new id: 48 bits of milliseconds, then 80 random bits, as 26 letters that sort by time.

    Ids made by one process are strictly increasing, also within one millisecond.

    >>> a, b = new_id("run"), new_id("run")
    >>> a.startswith("run_") and len(a) == 30 and a < b
    True
    """
    global _last
    with _lock:
        now = time.time_ns() // 1_000_000
        _last = _last + 1 if now <= _last >> 80 else now << 80 | _random.getrandbits(80)
        value = _last
    return f"{prefix}_{_encode(value)}"


def _begin_anew() -> None:
    """A process that was forked makes other ids than the one that it comes from."""
    global _last, _lock
    _last, _lock = 0, threading.Lock()  # another thread may have held it
    _random.seed()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


def _encode(value: int) -> str:
    """130 bits as 26 letters, two at a time."""
    return _upper(value >> 10) + _PAIRS[value & 1023]


@functools.lru_cache(8)
def _upper(bits: int) -> str:
    """The letters of the upper 120 bits, which most ids of one millisecond share."""
    return "".join([_PAIRS[bits >> shift & 1023] for shift in _SHIFTS])


def id_time(identifier: str) -> float:
    """The creation time (UTC seconds) that an id of :func:`new_id` carries.

    >>> abs(id_time(new_id("run")) - time.time()) < 1
    True
    """
    value = 0
    for letter in identifier.rsplit("_", 1)[1][:10]:
        value = value << 5 | _ALPHABET.index(letter)
    return value / 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What all records share: an id, and the kind that stands in front of it."""

    prefix: ClassVar[str]

    id: str
    created: float = field(default_factory=time.time)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction(Record):
    """One answer given.

    Attributes:
        deployment: the deployment by which the model answered, or the roll-out (``roll_…``) that let it.
        key: the split key of its inputs (16 hex digits, see :mod:`tidemill.data.keys`).
        audited: drawn at random for the audit, so that its label may judge models.
        audit_probability: the probability with which that draw was made.
        propensity: the probability of the choice, where there was one.
        shadow: what the other model of a roll-out would have answered, ``{"model_id", "answer"}``; nobody was given it.
            Of a choice also ``"share"``, with which its caller was the challenger's, where that was drawn.
    """

    prefix: ClassVar[str] = "pred"

    deployment: str
    model_id: str
    state_id: str | None = None
    key: str
    inputs: JSON
    answer: JSON
    audited: bool = False
    audit_probability: float = 0.0
    propensity: float | None = None
    caller: str | None = None
    shadow: JSON | None = None

    @property
    def erased(self) -> bool:
        """It is a tombstone: its id is left, and neither key nor inputs nor answer."""
        return not self.key


FeedbackKind = Literal["confirmation", "correction", "rating", "comment", "preference", "reward"]
LABEL_KINDS = ("confirmation", "correction")
"""The kinds that state a label: a newer one by the same author replaces an older one of either kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback(Record):
    """What someone said about a prediction, a pair or an episode.

    Attributes:
        subject: the id of the prediction it speaks of; of a pair :func:`pair_of`, of an episode :func:`episode_of`.
        asked: it answers an audit request, so for an audited prediction it may judge.
        key: the caller's idempotency key; unique in the store.
        superseded_by: the id of a newer statement by the same author on the same subject.
        predictions: of a pair its two predictions, of an episode those that this statement names.
        via: the name of the token by which it came; ``None`` where none was needed.
    """

    prefix: ClassVar[str] = "fb"

    subject: str
    kind: FeedbackKind
    value: Any = None
    author: str = "anonymous"
    asked: bool = False
    key: str
    superseded_by: str | None = None
    predictions: tuple[str, ...] = ()
    via: str | None = None

    @property
    def erased(self) -> bool:
        """It is a tombstone: of what was said, by whom, only its subject and kind are left."""
        return not self.author


PAIR, EPISODE = "pair:", "episode:"


def pair_of(one: str, other: str) -> str:
    """The subject of what is said of two predictions, the same whichever of them is named first.

    >>> pair_of("pred_2", "pred_1")
    'pair:pred_1:pred_2'
    """
    return f"{PAIR}{min(one, other)}:{max(one, other)}"


def episode_of(name: str) -> str:
    """The subject of what is said of an episode that callers gave a name.

    >>> episode_of("game 7")
    'episode:game 7'
    """
    return EPISODE + name


@dataclass(frozen=True, slots=True, kw_only=True)
class Member(Record):
    """One prediction of a pair or an episode: so from a prediction one finds what was said of it among others."""

    prefix: ClassVar[str] = "member"

    subject: str
    prediction: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation(Record):
    """A label that an annotator gave to a sample (``smp_…``) or a prediction (``pred_…``).

    Attributes:
        label: as the task states it; ``None`` takes an earlier one by the same author back, unless it is a remark.
        purpose: which queue it answers; ``adjudicate`` settles what others disagreed on.
    """

    prefix: ClassVar[str] = "label"

    subject: str
    label: Any
    author: str
    purpose: Literal["audit", "useful", "settle", "adjudicate", "import"]
    note: str | None = None
    superseded_by: str | None = None

    @property
    def erased(self) -> bool:
        """It is a tombstone: of the label, and of who gave it, only its subject is left."""
        return not self.author

    @property
    def remark(self) -> bool:
        """It is the answer to a question for a text, empty where that was taken back; it says nothing of the label."""
        return self.label is None and self.note is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueItem(Record):
    """One question waiting for annotators, with the reason why it is asked. Lower ``rank`` is asked first.

    Attributes:
        need: how many people are to answer it.
        given: how many have.
        signal: what spoke for asking it, in a word, such as ``uncertain``, ``disagreement`` or ``doubtful``.
        ask: the widget by which it is answered, where that is not the task's own: ``text`` or ``better``.
    """

    prefix: ClassVar[str] = "ask"

    subject: str
    purpose: Literal["audit", "useful", "settle"]
    rank: float
    reason: str
    inputs: JSON
    suggestion: JSON | None = None
    done: bool = False
    need: int = 1
    given: int = 0
    signal: str = ""
    ask: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn(Record):
    """What an annotator did with a question; one an annotator and question.

    Attributes:
        question: its id; the question itself may be gone by now.
        subject: of the question.
        author: who; ``None`` where the name was erased.
        state: ``open`` while they look at it, then what they did.
        until: UTC seconds up to which an open one keeps it from others, and a skipped one from themselves.
        note: what they wrote without answering.
        answer: the id of what they said.
    """

    prefix: ClassVar[str] = "turn"

    question: str
    subject: str
    author: str | None
    state: Literal["open", "answered", "skipped", "unsure"]
    until: float
    note: str | None = None
    answer: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveKey(Record):
    """A split key first seen in live traffic, and the split it got for good.

    Attributes:
        probability: with which it was drawn, or was not.
        drawn: the audit drew it; when it trained already, ``split`` is ``train`` all the same.
    """

    prefix: ClassVar[str] = "key"

    key: str
    split: Literal["train", "recent-validation", "recent-test"]
    probability: float
    drawn: bool


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


R = TypeVar("R")


def to_json(record: Any) -> JSON:
    """A record as JSON-compatible data; tuples become lists."""
    return {f.name: _plain(getattr(record, f.name)) for f in dataclasses.fields(record)}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return value


def from_json(kind: type[R], data: JSON) -> R:
    """The record that :func:`to_json` wrote; keys that the record does not know are an error (``TypeError``).

    >>> r = Recipe(name="a", task="t", learner="l", features=({"step": "pixels"},))
    >>> from_json(Recipe, to_json(r)) == r
    True
    """
    types = {f.name: f.type for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    return kind(**{k: tuple(v) if str(types.get(k, "")).startswith("tuple") else v for k, v in data.items()})
