"""Records of what is asked, answered and said about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from tidemill.records.base import JSON, Record


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
