"""What people said, settled: one label for each input, or the finding that they disagree or cannot be believed.

Everything said about the same inputs (the same key) counts together, whichever prediction it was said of. Each voice
has one vote, the newest, which weighs as much as its author's word has proved to be worth (:mod:`tidemill.data.trust`).
A label is settled when it weighs more than every other; a tie is a contradiction, which goes to labelling. Several
labels of one thing are one vote for exactly that set. Numbers settle too: the one that weighs most; else, from three
voices on, their median; two that differ contradict each other. Whoever is asked because annotators disagree decides.

What is settled trains when it is more likely right than wrong by what is known; otherwise it is held back, and goes to
labelling with the reason. Keys drawn for the audit only ever judge, and only by labels that were asked for, since users
volunteer corrections mostly where the champion was wrong. They are held back with their author, when a cycle has found
that what the author says does harm, or not at all: to pick among answers would make the judge agree with the model.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tidemill.config import FeedbackPolicy
from tidemill.data.ballots import Outcome, Vote, as_vote, count
from tidemill.data.fit import Ordinary, fit, ordinary_by_model, tolerance
from tidemill.data.shares import limited
from tidemill.data.stated import LabelOf, Said, gathered, newest, predictions_of
from tidemill.data.trust import ANCHOR, Standing, Voice, Weighed, Weight, Word, log_odds, weigh
from tidemill.records import JSON, Cycle, LiveKey, Prediction
from tidemill.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSample:
    """Inputs seen in traffic, with their settled label.

    Attributes:
        prediction: the first prediction made for these inputs.
        label: the settled label: a text, a number, or a sorted list of texts.
        split: ``train``, ``recent-validation`` or ``recent-test``.
        weight: one over the inclusion probability for the audited; 1 for those that train, or less where few vouch for
            many (:mod:`tidemill.data.shares`).
        vouched: an annotator or a trusted author says so.
        by: the only one who says so, if there is only one and it is no annotator.
    """

    prediction: Prediction
    label: Any
    split: str
    weight: float
    vouched: bool = True
    by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """Labels of one crowd that are held back.

    Attributes:
        mark: of the crowd; names nobody.
        samples: inputs and labels.
    """

    mark: str
    samples: list[tuple[JSON, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What :mod:`tidemill.stages.sift` found out about doubts, by their marks: which do no harm, and which do."""

    released: Sequence[str] = ()
    harmful: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorStanding:
    """Whether an author's word is believed.

    Attributes:
        voice: who.
        standing: ``annotator``, ``trusted``, ``new`` (too little is known) or ``doubted`` (more often wrong).
        trust: chance that a label of this author is right.
        statements: how many labels of inputs the author stated.
        settled: how many of these inputs have a settled label to which somebody else contributed.
        agreed: how many of those have the author's.
        held: how many of the author's labels are held back.
        why: the most frequent reason for that.
    """

    voice: Voice
    standing: Standing
    trust: float
    statements: int
    settled: int = 0
    agreed: int = 0
    held: int = 0
    why: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """Everything that people have said so far, settled.

    Attributes:
        live: labelled inputs from traffic, in the order of their first prediction.
        doubts: what is held back, crowd by crowd, for whoever finds out whether it does harm.
        annotations: labels given to imported samples, by sample id.
        contradictions: for predictions (or samples) on which authors disagree, the votes for each label.
        held: for predictions whose label is held back, the reason.
        limited: how many labels weigh less than 1 in training, by the reason.
        authors: everybody who stated a label, those who stated most first.
        audited: how many keys were drawn for the audit.
        answered: how many of them have a label that was asked for.
        drawn_training: how many keys were drawn but already train, so that ``recent`` cannot speak for them.
        statements: how many labels people stated in all.
    """

    live: list[LiveSample] = field(default_factory=list)
    doubts: list[Doubt] = field(default_factory=list)
    annotations: dict[str, Any] = field(default_factory=dict)
    contradictions: dict[str, dict[str, int]] = field(default_factory=dict)
    held: dict[str, str] = field(default_factory=dict)
    limited: dict[str, int] = field(default_factory=dict)
    authors: list[AuthorStanding] = field(default_factory=list)
    audited: int = 0
    answered: int = 0
    drawn_training: int = 0
    statements: int = 0


def settled_labels(
    store: Store,
    label_of: LabelOf,
    *,
    until: float | None = None,
    policy: FeedbackPolicy | None = None,
    imported: float = 0.0,
    tried: Tried | None = None,
) -> Settled:
    """Settle all statements in the store that were made before *until* (UTC seconds).

    Args:
        store: the project's store; its journal should have been folded before.
        label_of: the task's reading of a piece of feedback, ``task.label``.
        until: ignore what was said later, so that a resumed cycle sees what it saw before.
        policy: whose word counts for how much.
        imported: the weight of the training samples that come from the project's sources.
        tried: what became of doubts; what the last cycle found unless given.
    """
    policy = policy or FeedbackPolicy()
    by_key, by_sample = gathered(store, label_of, until)
    first = {
        key: min((s.prediction for s in said if s.prediction), key=lambda one: one.id) for key, said in by_key.items()
    }
    by_key = dict(sorted(by_key.items(), key=lambda item: first[item[0]].id))
    usual = ordinary_by_model(store, sorted({p.model_id for p in predictions_of(by_key.values())}), until)
    votes = {key: newest(said) for key, said in by_key.items()}
    marks = _Marks(store.secret, _last_tried(store, until) if tried is None else tried)
    weighed = _weighed(votes, usual, policy, marks) if policy.trust else None
    desk = _Desk(votes, weighed, usual, first, {k.key: k for k in store.find(LiveKey, key=set(by_key))}, marks)
    desk.settle()
    labels, torn = _samples(by_sample)
    live, less = limited(desk.live, imported, policy) if policy.trust else (desk.live, {})
    return Settled(
        live=live,
        doubts=[Doubt(mark=marks.of(name), samples=samples) for name, samples in desk.doubts.items()],
        annotations=labels,
        contradictions={**desk.contradictions, **torn},
        held=desk.held,
        limited=less,
        authors=desk.authors(),
        audited=store.count(LiveKey, split=["recent-validation", "recent-test"]),
        answered=sum(sample.split != "train" for sample in desk.live),
        drawn_training=store.count(LiveKey, split="train", drawn=True),
        statements=sum(map(len, by_key.values())) + sum(map(len, by_sample.values())),
    )


@dataclass(frozen=True, slots=True)
class Weights:
    """What was found of everybody's word, for who counts labels without settling everything.

    Attributes:
        found: by key and voice.
        start: chance that the word of somebody is right of whom nothing was found.
    """

    found: Mapping[tuple[str, Voice], Weight]
    start: float = FeedbackPolicy().start

    def of(self, key: str, voice: Voice) -> Weight:
        """What the word of *voice* about *key* weighs."""
        known = self.found.get((key, voice))
        if known is not None:
            return known
        return Weight(ANCHOR, "annotator") if voice.annotator else Weight(log_odds(self.start), "new")


def weights_of(store: Store, label_of: LabelOf, policy: FeedbackPolicy) -> Weights:
    """Weigh every statement in the store as :func:`settled_labels` does."""
    by_key, _ = gathered(store, label_of, None)
    usual = ordinary_by_model(store, sorted({p.model_id for p in predictions_of(by_key.values())}), None)
    votes = {key: newest(said) for key, said in by_key.items()}
    weighed = _weighed(votes, usual, policy, _Marks(store.secret, _last_tried(store, None)))
    places = [(key, s.voice) for key, said in votes.items() for s in said]
    return Weights(dict(zip(places, weighed.weights, strict=True)), policy.start)


class _Desk:
    """Settles one key after the other.

    Args:
        votes: by key, the newest statement of each voice.
        weighed: what they weigh, in this order; ``None`` where all weigh the same.
        usual: what is ordinary for each model.
        first: by key, its first prediction.
        places: by key, where it belongs.
        marks: what was found out about crowds.
    """

    def __init__(
        self,
        votes: Mapping[str, Sequence[Said]],
        weighed: Weighed | None,
        usual: Mapping[str, Ordinary],
        first: Mapping[str, Prediction],
        places: Mapping[str, LiveKey],
        marks: _Marks,
    ) -> None:
        self._votes = votes
        self._weighed = weighed
        self._usual = usual
        self._first = first
        self._places = places
        self._marks = marks
        self._outcomes: dict[str, Outcome] = {}
        self.live: list[LiveSample] = []
        self.contradictions: dict[str, dict[str, int]] = {}
        self.held: dict[str, str] = {}
        self.doubts: dict[str, list[tuple[JSON, Any]]] = defaultdict(list)

    def settle(self) -> None:
        """Find what becomes of every key."""
        weights = iter([] if self._weighed is None else self._weighed.weights)
        for key, said in self._votes.items():
            votes = [Vote(s.voice, s.label, next(weights, None)) for s in said]
            place = self._places.get(key)
            decided = [v for v, s in zip(votes, said, strict=True) if s.decides]
            if place is None or place.split == "train":
                self._settle_training(key, decided or votes)
            else:
                self._settle_audited(key, place, decided or [v for v, s in zip(votes, said, strict=True) if s.asked])

    def _settle_training(self, key: str, votes: Sequence[Vote]) -> None:
        prediction, outcome = self._first[key], count(votes)
        self._outcomes[key] = outcome
        if outcome.doubted:
            self._hold(prediction, votes, _why_doubted(votes))
        elif outcome.label is None:
            self.contradictions[prediction.id] = outcome.counts
        elif outcome.odds + self._fit(prediction, outcome) <= 0:
            self._hold(prediction, outcome.behind, _why_held(outcome))
        else:
            self.live.append(_sample(prediction, outcome))

    def _hold(self, prediction: Prediction, votes: Sequence[Vote], reason: str) -> None:
        """Hold a label back, for the sake of whoever stated it."""
        self.held[prediction.id] = reason
        self._doubt(prediction, votes)

    def _doubt(self, prediction: Prediction, votes: Sequence[Vote]) -> str:
        """Note a label that is to be tried; the name of the crowd that stated it."""
        crowd, vote = next((v.weight.crowd, v) for v in votes if v.weight is not None and v.weight.crowd is not None)
        self.doubts[crowd.name].append((prediction.inputs, vote.label))
        return crowd.name

    def _fit(self, prediction: Prediction, outcome: Outcome) -> float:
        """How well the settled label fits what the model said, as far as those behind it leave that to the model."""
        found = fit(prediction.answer, outcome.label, self._usual[prediction.model_id])
        weights = [vote.weight for vote in outcome.behind if vote.weight is not None]
        return min((weight.tempered(found) for weight in weights), key=abs, default=found)

    def _settle_audited(self, key: str, place: LiveKey, votes: Sequence[Vote]) -> None:
        if not votes:
            return
        prediction, outcome = self._first[key], count(votes)
        if outcome.doubted or (outcome.behind and all(map(is_doubted, outcome.behind))):
            # Until it is found that they do harm, they count: it is audits that tell when the model is sure and wrong.
            if self._marks.is_harmful(self._doubt(prediction, votes)):
                self.held[prediction.id] = _why_doubted(votes)
                return
            outcome = count([Vote(vote.voice, vote.label) for vote in votes])
        self._outcomes[key] = outcome
        if outcome.label is None:
            self.contradictions[prediction.id] = outcome.counts
        else:
            weight = 1.0 / place.probability
            sample = LiveSample(prediction=prediction, label=outcome.label, split=place.split, weight=weight)
            self.live.append(sample)

    def authors(self) -> list[AuthorStanding]:
        """How everybody stands who stated a label."""
        stated: Counter[Voice] = Counter()
        settled: Counter[Voice] = Counter()
        agreed: Counter[Voice] = Counter()
        held: dict[Voice, Counter[str]] = defaultdict(Counter)
        for key, said in self._votes.items():
            outcome, reason = self._outcomes.get(key), self.held.get(self._first[key].id)
            for statement in said:
                stated[statement.voice] += 1
                if reason is not None:
                    held[statement.voice][reason] += 1
                elif outcome is not None and outcome.label is not None and len(said) > 1:
                    settled[statement.voice] += 1
                    agreed[statement.voice] += as_vote(statement.label) == as_vote(outcome.label)
        found = []
        for voice, statements in sorted(stated.items(), key=lambda item: (-item[1], item[0])):
            reasons = sorted(held[voice].items(), key=lambda item: (-item[1], item[0]))
            found.append(
                AuthorStanding(
                    voice=voice,
                    standing="new" if self._weighed is None else self._weighed.standing[voice],
                    trust=1.0 if self._weighed is None else round(self._weighed.trust[voice], 4),
                    statements=statements,
                    settled=settled[voice],
                    agreed=agreed[voice],
                    held=sum(held[voice].values()),
                    why=reasons[0][0] if reasons else None,
                )
            )
        return found


class _Marks:
    """What stands for crowds in records that outlast the names of their authors."""

    def __init__(self, secret: bytes, tried: Tried) -> None:
        self._secret = secret
        self._released = frozenset(tried.released)
        self._harmful = frozenset(tried.harmful)

    def of(self, crowd: str) -> str:
        """The mark of a crowd by its name: 16 hex digits, which tell nothing without the project's secret."""
        return hashlib.blake2b(f"crowd:{crowd}".encode(), key=self._secret, digest_size=8).hexdigest()

    def harmless(self, crowd: str) -> bool:
        """Whether a crowd's words were found to do no harm."""
        return bool(self._released) and self.of(crowd) in self._released

    def is_harmful(self, crowd: str) -> bool:
        """Whether they were found to do harm."""
        return bool(self._harmful) and self.of(crowd) in self._harmful


def _last_tried(store: Store, until: float | None) -> Tried:
    last = store.find(Cycle, status="done", newest_first=True, limit=1, created_before=until)
    return Tried(**last[0].summary.get("tried", {})) if last else Tried()


def _weighed(
    votes: Mapping[str, Sequence[Said]], usual: Mapping[str, Ordinary], policy: FeedbackPolicy, marks: _Marks
) -> Weighed:
    words = []
    for key, said in votes.items():
        meanings = _meanings(said, usual)
        for s, meaning in zip(said, meanings, strict=True):
            fits = 0.0 if s.prediction is None else fit(s.prediction.answer, s.label, usual[s.prediction.model_id])
            words.append(Word(s.voice, key, meaning, s.when, fits))
    return weigh(words, policy, marks.harmless)


def _meanings(said: Sequence[Said], usual: Mapping[str, Ordinary]) -> list[Hashable]:
    """Equal for statements that agree; numbers agree when they lie close together for such inputs."""
    if len(said) == 1 or not all(isinstance(s.label, int | float) and not isinstance(s.label, bool) for s in said):
        return [as_vote(s.label) for s in said]
    given = said[0].prediction
    apart = 0.0 if given is None else tolerance(given.answer, usual[given.model_id])
    place, last = 0, float("nan")
    places: dict[float, int] = {}
    for number in sorted({float(s.label) for s in said}):
        place += number - last > apart
        places[number], last = place, number
    return [places[float(s.label)] for s in said]


def _sample(prediction: Prediction, outcome: Outcome) -> LiveSample:
    known = [vote for vote in outcome.behind if vote.weight is None or vote.weight.standing in ("annotator", "trusted")]
    telling = known or list(outcome.behind)
    alone = telling[0] if len(telling) == 1 else None
    named = alone is not None and alone.weight is not None and alone.weight.standing != "annotator"
    return LiveSample(
        prediction=prediction,
        label=outcome.label,
        split="train",
        weight=1.0,
        vouched=bool(known),
        by=str(alone.voice) if alone is not None and named else None,
    )


def _samples(by_sample: Mapping[str, Sequence[Said]]) -> tuple[dict[str, Any], dict[str, dict[str, int]]]:
    """The settled labels of imported samples, which annotators alone speak of, and where they disagree."""
    labels: dict[str, Any] = {}
    torn: dict[str, dict[str, int]] = {}
    for sample, said in by_sample.items():
        last = newest(said)
        outcome = count([Vote(s.voice, s.label) for s in [s for s in last if s.decides] or last])
        if outcome.label is None:
            torn[sample] = outcome.counts
        else:
            labels[sample] = outcome.label
    return labels, torn


def is_doubted(vote: Vote) -> bool:
    """Whether its author is more often wrong than right."""
    return vote.weight is not None and vote.weight.standing == "doubted"


def _why_doubted(votes: Sequence[Vote]) -> str:
    """The reason that the crowd of the first doubted vote gives. Reasons are kept, so they name nobody."""
    crowd = next(v.weight.crowd for v in votes if v.weight is not None and v.weight.standing == "doubted")
    assert crowd is not None  # only annotators have none
    who = "an author" if crowd.voice is not None else f"{crowd.voices} new authors"
    when = " within an hour" if crowd.burst else ""
    return f"{who} stated {crowd.words} labels{when}, and few of them fit what is known"


def _why_held(outcome: Outcome) -> str:
    if any(is_doubted(vote) for vote in outcome.behind):
        return _why_doubted(outcome.behind)
    known = any(vote.weight is not None and vote.weight.standing == "trusted" for vote in outcome.behind)
    who = "one trusted author alone says so" if known else "whoever says so is not known yet"
    return f"the model was sure of something else, and {who}"
