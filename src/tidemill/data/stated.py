"""What people state: the labels in force, each with its voice, whether it was asked for, and whether it decides.

A statement replaces what the same author said earlier of the same thing by the same door. What was erased says nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from tidemill.data.trust import Voice
from tidemill.records import LABEL_KINDS, Annotation, Feedback, Prediction, Token
from tidemill.store import Store

LabelOf = Callable[[Feedback, Prediction], Any]
"""A task's reading of a piece of feedback: the label that it states, or ``None``."""
S = TypeVar("S", Feedback, Annotation)

ASKED = ("audit", "settle", "adjudicate")
"""Purposes of annotations that were asked for, so that they judge."""


@dataclass(frozen=True, slots=True)
class Said:
    """A label that somebody stated for a prediction or an imported sample.

    Attributes:
        id: of the statement.
        voice: who.
        label: a text, a number, or a sorted list of texts.
        when: UTC seconds.
        asked: it was asked for, so it judges.
        prediction: of which; ``None`` for an imported sample.
        decides: see :func:`decides`.
    """

    id: str
    voice: Voice
    label: Any
    when: float
    asked: bool
    prediction: Prediction | None
    decides: bool = False


def gathered(
    store: Store, label_of: LabelOf, until: float | None
) -> tuple[dict[str, list[Said]], dict[str, list[Said]]]:
    """What was said before *until* and is not replaced by then, by key of traffic and by imported sample."""
    stated = _in_force(store.find(Feedback, kind=LABEL_KINDS), until, lambda f: (f.subject, f.author, f.via))
    labels = [a for a in store.find(Annotation) if not a.remark]
    annotated = _in_force(labels, until, lambda a: (a.subject, a.author))
    everything: list[Feedback | Annotation] = [*stated, *annotated]
    everything = [statement for statement in everything if not statement.erased]
    predictions = {p.id: p for p in store.find(Prediction, id={s.subject for s in everything}) if not p.erased}
    heads = heads_of(store)
    by_key: dict[str, list[Said]] = defaultdict(list)
    by_sample: dict[str, list[Said]] = defaultdict(list)
    for statement in everything:
        prediction = predictions.get(statement.subject)
        label: Any
        if isinstance(statement, Annotation):
            label, asked = statement.label, statement.purpose in ASKED
        elif prediction is None:  # it has been archived, or not been folded in yet
            continue
        else:
            label, asked = label_of(statement, prediction), statement.asked and prediction.audited
        if label is None:
            continue
        label = sorted(set(label)) if isinstance(label, list | tuple) else label
        voice = voice_of(statement, heads)
        said = Said(statement.id, voice, label, statement.created, asked, prediction, decides(statement))
        if prediction is not None:
            by_key[prediction.key].append(said)
        elif statement.subject.startswith("smp_"):
            by_sample[statement.subject].append(said)
    return by_key, by_sample


def heads_of(store: Store) -> frozenset[str]:
    """The names of the tokens whose holders may do as much as annotators."""
    return frozenset(t.name for t in store.find(Token, revoked=None) if {"admin", "label"} & set(t.scopes))


def voice_of(statement: Feedback | Annotation, heads: Collection[str]) -> Voice:
    """Who speaks in *statement*; *heads* as :func:`heads_of` has them."""
    if isinstance(statement, Annotation):
        return Voice(statement.author, annotator=True)
    known = statement.via in heads
    return Voice(statement.author, "" if known or statement.via is None else statement.via, known)


def decides(statement: Feedback | Annotation) -> bool:
    """Whether it is the word of whoever was asked because annotators disagree."""
    return isinstance(statement, Annotation) and statement.purpose == "adjudicate"


def _in_force(records: Iterable[S], until: float | None, place: Callable[[S], Hashable]) -> list[S]:
    """Of the records at each place the one that was said last, but not after *until*; what was erased says nothing."""
    last: dict[Hashable, S] = {}
    for record in records:
        if record.author and (until is None or record.created <= until):
            where = place(record)
            if where not in last or _time(last[where]) < _time(record):
                last[where] = record
    return list(last.values())


def _time(record: Feedback | Annotation) -> tuple[float, str]:
    return record.created, record.id


def predictions_of(said: Iterable[Sequence[Said]]) -> Iterable[Prediction]:
    """The predictions of which something was said."""
    return (s.prediction for some in said for s in some if s.prediction is not None)


def newest(said: Sequence[Said]) -> list[Said]:
    """One statement a voice, in the order of the voices; it was asked for if any of the voice's was."""
    last: dict[Voice, Said] = {}
    asked = {s.voice for s in said if s.asked}
    for s in sorted(said, key=lambda s: (s.when, s.id)):
        last[s.voice] = s
    return [
        Said(s.id, s.voice, s.label, s.when, s.voice in asked, s.prediction, s.decides)
        for s in (last[voice] for voice in sorted(last))
    ]
