"""One question and everybody's vote on it: who wins, and whether that is enough to learn from."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from tidemill.data.targets import readable, settled_number
from tidemill.data.trust import FIRM, Voice, Weight

CROWD = 1.5
"""All who are not trusted yet weigh no more together than so many times the weightiest of them."""
TIE = 0.1
"""Two labels whose weights differ by less than this share of their sum are as good as one another."""
_FAINT = 0.1


@dataclass(frozen=True, slots=True)
class Vote:
    """One voice on one question; ``weight`` is ``None`` where all count the same."""

    voice: Voice
    label: Any
    weight: Weight | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a vote came to.

    Attributes:
        label: the one that won; ``None`` when none did.
        counts: how many voices each label has, the most first, as people read it.
        odds: log odds that it is right, without its fit; infinite where annotators say so, or all votes count the same.
        behind: the votes for it.
        doubted: nobody voted whose word counts.
    """

    label: Any
    counts: dict[str, int]
    odds: float = math.inf
    behind: tuple[Vote, ...] = ()
    doubted: bool = False


def count(votes: Sequence[Vote]) -> Outcome:
    """The outcome of *votes*, one a voice, in any order."""
    said = Counter(as_vote(vote.label) for vote in votes)
    shown = {as_vote(vote.label): readable(vote.label) for vote in votes}
    counts = {shown[label]: n for label, n in sorted(said.items(), key=lambda item: (-item[1], shown[item[0]]))}
    powers = _powers(votes)
    if not any(powers):
        return Outcome(None, counts, doubted=True)
    if all(isinstance(vote.label, int | float) and not isinstance(vote.label, bool) for vote in votes):
        return _count_numbers(votes, powers, counts)
    weighed: Counter[Hashable] = Counter()
    for vote, power in sorted(zip(votes, powers, strict=True), key=lambda pair: pair[0].voice):
        weighed[as_vote(vote.label)] += power  # type: ignore[assignment]
    first, second = (*sorted(weighed.items(), key=lambda item: -item[1]), (None, 0.0))[:2]
    if second[1] and first[1] - second[1] < TIE * (first[1] + second[1]):
        return Outcome(None, counts)
    behind = tuple(vote for vote in votes if as_vote(vote.label) == first[0])
    rivals = [[vote for vote in votes if as_vote(vote.label) == label] for label in weighed if label != first[0]]
    against = max((_odds(rival) for rival in rivals), default=0.0)
    odds = math.inf if _is_certain(behind) else _odds(behind) - max(0.0, against)
    return Outcome(behind[0].label, counts, odds, behind)


def as_vote(label: Any) -> Hashable:
    """What equal labels have in common."""
    return tuple(label) if isinstance(label, list) else label


def _count_numbers(votes: Sequence[Vote], powers: Sequence[float], counts: dict[str, int]) -> Outcome:
    """The number with the most weight; else the median of three or more. Two that differ contradict each other."""
    counted = [(float(vote.label), power) for vote, power in zip(votes, powers, strict=True) if power]
    label = settled_number([number for number, _ in counted], [power for _, power in counted], TIE)
    if label is None:
        return Outcome(None, counts)
    behind = tuple(vote for vote, power in zip(votes, powers, strict=True) if power)
    return Outcome(label, counts, math.inf if _is_certain(behind) else _odds(behind), behind)


def _powers(votes: Sequence[Vote]) -> list[float]:
    """What each vote weighs in the count."""
    powers = [_power(vote.weight) for vote in votes]
    unproven = sorted(power for vote, power in zip(votes, powers, strict=True) if not _vouches(vote))
    scale = min(1.0, CROWD * unproven[-1] / sum(unproven)) if any(unproven) else 1.0
    return [power if _vouches(vote) else power * scale for vote, power in zip(votes, powers, strict=True)]


def _power(weight: Weight | None) -> float:
    if weight is None:
        return 1.0
    if weight.crowd is not None and weight.crowd.voice is None:
        return max(_FAINT, weight.odds)  # among them may be some who mean well
    return max(0.0, weight.odds)


def _odds(votes: Sequence[Vote]) -> float:
    """Log odds that what *votes* agree on is right, as far as the voices tell."""
    weights = [vote.weight for vote in votes if vote.weight is not None]
    proven = sum(sorted(w.odds for w in weights if w.standing in ("annotator", "trusted")))
    others = sorted(w.odds for w in weights if w.standing not in ("annotator", "trusted"))
    return proven + max(-FIRM, min(sum(others), CROWD * max(0.0, others[-1]))) if others else proven


def _is_certain(votes: Sequence[Vote]) -> bool:
    return any(vote.weight is None or vote.weight.standing == "annotator" for vote in votes)


def _vouches(vote: Vote) -> bool:
    return vote.weight is None or vote.weight.standing in ("annotator", "trusted")
