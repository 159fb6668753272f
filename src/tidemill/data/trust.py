"""Whose word counts for how much: a pure function of everything that was said, in whatever order it came.

Each word is right or not, with a chance that belongs to whoever says it (the one-coin model of Dawid and Skene, 1979,
with a Beta prior): an author's chance follows from how well the words fit what is known, and what is known of a word,
from its fit and its author's chance, over and over until nothing changes. What is known is, in this order: what
annotators said of the same inputs, what trusted authors said of them, and how well a word fits what the model said
(:mod:`tidemill.data.fit`). Authors who are not trusted vouch for nobody, however many of them agree.

Three things keep a burst of wrong words from doing harm. Many words within an hour are judged on their own, so that no
good name covers them. Authors who are too new to be judged one by one are judged together, and one who appeared in the
same hour as others begins as low as they stand. And on one question all who are not trusted yet count together hardly
more than one of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from tidemill.config import FeedbackPolicy

ANONYMOUS = "anonymous"
KNOWN = 20
"""Words from which on an author is judged alone."""
PRIOR = 10.0
"""How many words the chance that a new author begins with is worth."""
WINDOW = 3600.0
"""Seconds within which many words are a burst."""
ANCHOR, FIRM = math.log(0.99 / 0.01), math.log(0.95 / 0.05)
"""What an annotator's word weighs, and the most that another's does: as log odds."""
_NAMELESS = 0.6
_FEW = 5
_MOST_SAID = 5.0
_ROUNDS, _STEPS, _EXACT = 5, 200, 1e-9

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
Standing = Literal["annotator", "trusted", "new", "doubted"]


class Voice(NamedTuple):
    """Who speaks.

    Attributes:
        author: the name, as it was given.
        via: the name of the token by which it came: whoever holds another one is not believed to be the same author.
        annotator: in `tidemill label`, or with a token that may do as much.
    """

    author: str
    via: str = ""
    annotator: bool = False

    def __str__(self) -> str:
        return f"{self.author} (by {self.via})" if self.via else self.author


@dataclass(frozen=True, slots=True)
class Word:
    """What one voice says of one input.

    Attributes:
        voice: who.
        key: of which input.
        label: what; equal for words that say the same.
        when: UTC seconds.
        fit: how well it fits what the model said; 0 where that says nothing.
    """

    voice: Voice
    key: str
    label: Hashable
    when: float
    fit: float = 0.0


@dataclass(frozen=True, slots=True)
class Crowd:
    """Words that are judged together.

    Attributes:
        voice: whose they are; ``None`` for authors who are too new to be judged one by one.
        burst: they came within an hour.
        words: how many.
        voices: by how many voices.
        odds: log odds that one of them is right, before its own fit.
        name: what tells it from all others, and stays the same as words are added.
    """

    voice: Voice | None
    burst: bool
    words: int
    voices: int
    odds: float
    name: str = ""


@dataclass(frozen=True, slots=True)
class Weight:
    """What a word weighs.

    Attributes:
        odds: log odds that its author is right.
        standing: of the author, in the crowd that the word belongs to.
        crowd: with which it was judged; ``None`` for an annotator's.
        model: how much it counts that a word hardly fits what the model said: 1, or less where annotators found that
            such words of its crowd were right all the same; 0 where they were found to do no harm.
    """

    odds: float
    standing: Standing
    crowd: Crowd | None = None
    model: float = 1.0

    def tempered(self, fit: float) -> float:
        """A fit, as far as the model is believed."""
        return min(0.0, fit) * self.model + max(0.0, fit)


@dataclass(frozen=True, slots=True)
class Weighed:
    """What all words weigh, and who is trusted.

    Attributes:
        weights: in the order of the words.
        trust: by voice, the chance that a word is right.
        standing: by voice.
    """

    weights: list[Weight]
    trust: dict[Voice, float]
    standing: dict[Voice, Standing]


def weigh(
    words: Sequence[Word], policy: FeedbackPolicy, harmless: Callable[[str], bool] = lambda _name: False
) -> Weighed:
    """What each of *words* weighs.

    Args:
        words: at most one a voice and key.
        policy: what new authors are taken for, and from when on they are trusted.
        harmless: of a crowd's name, whether its words were found to do no harm, so that the model is not believed
            against it.
    """
    order = sorted(range(len(words)), key=lambda i: (words[i].key, words[i].voice))
    said = [words[i] for i in order]
    spoken = [word for word in said if not word.voice.annotator]
    voices = sorted({word.voice for word in spoken})
    trust: dict[Voice, float] = {word.voice: 0.99 for word in said if word.voice.annotator}
    standing: dict[Voice, Standing] = dict.fromkeys(trust, "annotator")
    weights = [Weight(ANCHOR, "annotator")] * len(words)
    if spoken:
        jury = _Jury(said, voices, policy, harmless)
        trusted = jury.deliberate()
        trust |= dict(zip(voices, jury.trust.tolist(), strict=True))
        standing |= {
            voice: "trusted" if sure else "doubted" if chance < 0.5 else "new"
            for voice, chance, sure in zip(voices, jury.trust.tolist(), jury.is_trusted.tolist(), strict=True)
        }
        crowds = jury.crowds()
        at = [i for i, word in zip(order, said, strict=True) if not word.voice.annotator]
        for i, crowd, sure in zip(at, jury.crowd.tolist(), trusted.tolist(), strict=True):
            found = crowds[crowd]
            place: Standing = "trusted" if sure else "new" if found.odds > 0 else "doubted"
            weights[i] = Weight(found.odds, place, found, float(jury.model[crowd]))
    return Weighed(weights, trust, standing)


class _Jury:
    """All words as arrays, those of annotators first among what is known."""

    def __init__(
        self, said: Sequence[Word], voices: Sequence[Voice], policy: FeedbackPolicy, harmless: Callable[[str], bool]
    ) -> None:
        number = {voice: code for code, voice in enumerate(voices)}
        self._policy = policy
        self._voices = voices
        self._anchor = np.array([word.voice.annotator for word in said], bool)
        self._key = _codes([word.key for word in said])
        self._label = _codes([(word.key, word.label) for word in said])
        mine = ~self._anchor
        self.voice: Codes = np.array([number[word.voice] for word in said if not word.voice.annotator], np.int64)
        self._fit: Floats = np.array([word.fit for word in said if not word.voice.annotator], np.float64)
        hour = np.array([word.when // WINDOW for word in said if not word.voice.annotator], np.int64)
        self._mine = mine
        self._count = np.bincount(self.voice, minlength=len(voices)).astype(np.float64)
        self._nameless = np.array([voice.author == ANONYMOUS for voice in voices], bool)
        self._start = np.where(self._nameless, min(_NAMELESS, policy.start), policy.start)
        born = np.full(len(voices), np.iinfo(np.int64).max, np.int64)
        np.minimum.at(born, self.voice, hour)
        self._cohort = np.unique(born, return_inverse=True)[1].reshape(-1)
        self.crowd, self._who, self._hour = self._crowds(hour)
        self._names = [self._name(who, at) for who, at in zip(self._who.tolist(), self._hour.tolist(), strict=True)]
        self._harmless = np.array([harmless(name) for name in self._names], bool)
        self._once = self._shares()
        self._size = np.bincount(self.crowd, self._once)
        self.model = self._belief_in_model()
        low = self._fit < 0
        self._fit[low] *= self.model[self.crowd[low]]
        self.chance: Floats = np.empty(0)
        self.trust: Floats = np.empty(0)
        self.is_trusted = np.zeros(len(voices), bool)

    def _name(self, who: int, hour: int) -> str:
        author = f"{self._voices[who].author}\n{self._voices[who].via}" if who >= 0 else str(who)
        return f"{author}\n{hour}"

    def _crowds(self, hour: Codes) -> tuple[Codes, Codes, Codes]:
        """The crowd of each word; of each crowd its voice (-1: new ones, -2: nameless ones), and the hour of a burst.

        Hours are those of the clock: where they begin must not depend on what was said.
        """
        new = (self._count < KNOWN)[self.voice]
        who = np.where(self._nameless[self.voice], -2, np.where(new, -1, self.voice))
        pairs = np.stack([who, hour], axis=1)
        _, place, size = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
        burst = size[place.reshape(-1)] >= self._policy.burst
        pairs[~burst, 1] = -1
        found, crowd = np.unique(pairs, axis=0, return_inverse=True)
        return crowd.reshape(-1).astype(np.int64), found[:, 0], found[:, 1]

    def _shares(self) -> Floats:
        """What each word counts among those judged together: what many say of one input in unison is one word."""
        pairs = np.stack([self.crowd, self._label[self._mine]], axis=1)
        _, place, many = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
        return 1.0 / many[place.reshape(-1)]

    def _belief_in_model(self) -> Floats:
        """For each crowd, how far the model is believed against it: annotators may have found that it was wrong."""
        verdict = self._vouched(np.zeros(len(self.voice), bool))
        found, crowds = (verdict != 0) & (self._fit < 0), len(self._who)
        asked = np.bincount(self.crowd[found], minlength=crowds)
        right = np.bincount(self.crowd[found & (verdict > 0)], minlength=crowds)
        return np.where(self._harmless, 0.0, 1.0 - right / (asked + _FEW))

    def deliberate(self) -> npt.NDArray[np.bool_]:
        """Find every crowd's chance and every author's trust; which words are a trusted author's."""
        firm = log_odds(self._policy.trusted)
        trusted = np.zeros(len(self.voice), bool)
        for _ in range(_ROUNDS):
            self._settle(self._fit + self._vouched(trusted))
            odds = log_odds(self.chance)[self.crowd]
            known = (self._count >= KNOWN) & ~self._nameless & (self.trust >= self._policy.trusted)
            found = known[self.voice] & (odds >= firm)
            self.is_trusted = known
            if (found == trusted).all():
                break
            trusted = found
        return trusted

    def _vouched(self, trusted: npt.NDArray[np.bool_]) -> Floats:
        """What annotators and trusted authors other than its own say for each word, less what they say against it."""
        weight = np.zeros(len(self._key))
        weight[self._anchor] = ANCHOR
        if trusted.any():
            odds = np.clip(log_odds(self.chance)[self.crowd], 0.0, FIRM)
            weight[self._mine] = np.where(trusted, odds, 0.0)
        by_label, by_key = np.bincount(self._label, weight), np.bincount(self._key, weight)
        same = by_label[self._label]
        found = (same - weight) - (by_key[self._key] - same)
        limited: Floats = np.clip(found[self._mine], -_MOST_SAID, _MOST_SAID)
        return limited

    def _settle(self, evidence: Floats) -> None:
        """The fixed point of chances and beliefs."""
        n, cohort = len(self._voices), self._cohort
        own, voice = self._who >= 0, np.maximum(self._who, 0)
        start = np.where(self._who == -2, min(_NAMELESS, self._policy.start), self._policy.start)
        counted = np.bincount(self.voice, self._once, minlength=n)
        others = np.bincount(cohort, counted)[cohort] - counted
        chance = start.copy()
        for _ in range(_STEPS):
            believed = _expit(log_odds(chance)[self.crowd] + evidence)
            in_crowd = np.bincount(self.crowd, believed * self._once, minlength=len(chance))
            of_voice = np.bincount(self.voice, believed, minlength=n)
            once = np.bincount(self.voice, believed * self._once, minlength=n)
            # An author begins no higher than those who appeared at the same time, and what comes in a burst begins
            # where the rest of what its author said has led.
            theirs = (PRIOR * self._start + np.bincount(cohort, once)[cohort] - once) / (PRIOR + others)
            begun = np.minimum(self._start, theirs)
            rest = (PRIOR * begun[voice] + of_voice[voice] - in_crowd) / (PRIOR + self._count[voice] - self._size)
            before = np.where(own, rest, start)
            before = np.where(self._harmless, np.maximum(before, start), before)
            after = np.clip((PRIOR * before + in_crowd) / (PRIOR + self._size), 1e-3, 1 - 1e-3)
            moved = float(np.abs(after - chance).max())
            chance = after
            if moved < _EXACT:
                break
        self.chance = chance
        self.trust = (PRIOR * begun + of_voice) / (PRIOR + self._count)

    def crowds(self) -> list[Crowd]:
        """What is known of each crowd."""
        odds = np.clip(log_odds(self.chance), -FIRM, FIRM).round(6)
        pairs = np.unique(np.stack([self.crowd, self.voice], axis=1), axis=0)
        speakers = np.bincount(pairs[:, 0], minlength=len(odds))
        return [
            Crowd(self._voices[who] if who >= 0 else None, bool(hour >= 0), int(words), int(many), float(known), name)
            for who, hour, words, many, known, name in zip(
                self._who, self._hour, np.bincount(self.crowd), speakers, odds, self._names, strict=True
            )
        ]


def log_odds(chance: Any) -> Any:
    """Of a chance, or of an array of them."""
    return np.log(chance / (1.0 - chance))


def _expit(odds: Any) -> Any:
    return 1.0 / (1.0 + np.exp(-odds))


def _codes(values: Sequence[Hashable]) -> Codes:
    """Equal numbers for equal values."""
    known: dict[Any, int] = {}
    return np.array([known.setdefault(value, len(known)) for value in values], np.int64)
