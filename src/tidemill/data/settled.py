"""What people said, settled: one label for each input, or the finding that they disagree.

Everything said about the same inputs (the same key) counts together, whichever prediction it was said of. Each
author has one vote, the newest. A label is settled when it has more votes than every other; a tie is a
contradiction, which goes to labelling. Several labels of one thing are one vote for exactly that set. Numbers settle
too: the one stated more often than every other; else, from three authors on, their median; two authors that differ
contradict each other. Keys drawn for the audit only ever judge, and only by labels that were asked
for, since users volunteer corrections mostly where the champion was wrong.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

from tidemill.data.targets import readable, settled_number
from tidemill.records import LABEL_KINDS, Annotation, Feedback, LiveKey, Prediction
from tidemill.store import Store

LabelOf = Callable[[Feedback, Prediction], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSample:
    """Inputs seen in traffic, with their settled label.

    Attributes:
        prediction: the first prediction made for these inputs.
        label: the settled label: a text, a number, or a sorted list of texts.
        split: ``train``, ``recent-validation`` or ``recent-test``.
        weight: one over the inclusion probability for the audited, 1 for those that train.
    """

    prediction: Prediction
    label: Any
    split: str
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """Everything that people have said so far, settled.

    Attributes:
        live: labelled inputs from traffic, in the order of their first prediction.
        annotations: labels given to imported samples, by sample id.
        contradictions: for predictions (or samples) on which authors disagree, the votes for each label.
        audited: how many keys were drawn for the audit.
        answered: how many of them have a label that was asked for.
        drawn_training: how many keys were drawn but already train, so that ``recent`` cannot speak for them.
        statements: how many labels people stated in all.
    """

    live: list[LiveSample] = field(default_factory=list)
    annotations: dict[str, Any] = field(default_factory=dict)
    contradictions: dict[str, dict[str, int]] = field(default_factory=dict)
    audited: int = 0
    answered: int = 0
    drawn_training: int = 0
    statements: int = 0


@dataclass(slots=True)
class _Votes:
    """The votes on one key or sample, newest by author, and whether any was asked for."""

    by_author: dict[str, Any] = field(default_factory=dict)
    asked: bool = False

    def add(self, author: str, label: Any, asked: bool) -> None:
        self.by_author[author] = sorted(set(label)) if isinstance(label, list | tuple) else label
        self.asked = self.asked or asked

    def winner(self) -> tuple[Any | None, dict[str, int]]:
        """The settled label, and the votes for each as people read it."""
        labels = list(self.by_author.values())
        counts = Counter(map(_vote, labels)).most_common()
        votes = {readable(label): n for label, n in counts}
        if all(isinstance(label, int | float) and not isinstance(label, bool) for label in labels):
            return settled_number(labels), votes
        tie = len(counts) > 1 and counts[0][1] == counts[1][1]
        return None if tie else next(label for label in labels if _vote(label) == counts[0][0]), votes


def _vote(label: Any) -> Hashable:
    """What equal labels have in common."""
    return tuple(label) if isinstance(label, list) else label


def settled_labels(store: Store, label_of: LabelOf, *, until: float | None = None) -> Settled:
    """Settle all statements in the store that were made before *until* (UTC seconds).

    Args:
        store: the project's store; its journal should have been folded before.
        label_of: the task's reading of a piece of feedback, ``task.label``.
        until: ignore what was said later, so that a resumed cycle sees what it saw before.
    """
    statements = store.find(Feedback, superseded_by=None, kind=LABEL_KINDS)
    annotations = store.find(Annotation, superseded_by=None)
    everything: list[Feedback | Annotation] = [*statements, *annotations]
    subjects = {s.subject for s in everything if s.subject.startswith(f"{Prediction.prefix}_")}
    predictions = {p.id: p for p in store.find(Prediction, id=subjects)}

    by_key: dict[str, _Votes] = defaultdict(_Votes)
    by_sample: dict[str, _Votes] = defaultdict(_Votes)
    first: dict[str, Prediction] = {}
    said = 0
    for statement in sorted(everything, key=lambda s: (s.created, s.id)):
        if until is not None and statement.created > until:
            continue
        if statement.subject not in predictions:
            if isinstance(statement, Annotation) and statement.subject.startswith("smp_"):
                by_sample[statement.subject].add(statement.author, statement.label, asked=False)
                said += 1
            continue
        prediction = predictions[statement.subject]
        if isinstance(statement, Feedback):
            label, asked = label_of(statement, prediction), statement.asked and prediction.audited
        else:
            label, asked = statement.label, statement.purpose in ("audit", "settle")
        if label is None:
            continue
        said += 1
        known = first.setdefault(prediction.key, prediction)
        if prediction.id < known.id:
            first[prediction.key] = prediction
        by_key[prediction.key].add(statement.author, label, asked)

    splits = {k.key: k for k in store.find(LiveKey, key=set(by_key))}
    contradictions: dict[str, dict[str, int]] = {}
    live, answered = [], 0
    for key, votes in sorted(by_key.items(), key=lambda item: first[item[0]].id):
        label, counts = votes.winner()
        place = splits.get(key)
        if label is None:
            contradictions[first[key].id] = counts
        elif place is not None and place.split != "train":
            if votes.asked:
                answered += 1
                weight = 1.0 / place.probability
                live.append(LiveSample(prediction=first[key], label=label, split=place.split, weight=weight))
        else:
            live.append(LiveSample(prediction=first[key], label=label, split="train", weight=1.0))
    labels = {}
    for sample, votes in by_sample.items():
        label, counts = votes.winner()
        if label is None:
            contradictions[sample] = counts
        else:
            labels[sample] = label
    return Settled(
        live=live,
        annotations=labels,
        contradictions=contradictions,
        audited=store.count(LiveKey, split=["recent-validation", "recent-test"]),
        answered=answered,
        drawn_training=store.count(LiveKey, split="train", drawn=True),
        statements=said,
    )
