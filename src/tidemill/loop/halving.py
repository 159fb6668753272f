"""Successive halving: many short trials, of which the better third gets thrice as much, until few are trained whole.

Jamieson and Talwalkar, *Non-stochastic Best Arm Identification and Hyperparameter Optimization* (2016); Li et al.,
*Hyperband* (2018), and *A System for Massively Parallel Hyperparameter Tuning* (2020), whose asynchronous rule this is:
whenever three settings have finished a level, the best of them may go up. A part of the settings begins higher, as
Hyperband's brackets do, in case that short fits tell little.

What is short depends on the learner (:func:`parts`). One whose rounds build on one another, as trees do, shows in one
fit what fewer rounds would have given: there the learning curve itself is cut (:func:`cuts`). One that follows a
schedule, as networks do, is another one in the middle of it than at its end: there a short fit has fewer *epochs* and a
schedule of its own. And one that is fitted at once, or hardly passes over the data twice, gets fewer *samples*.

Everything here is a function of finished trials, so a search that resumes comes to the same choices.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from tidemill.learners._base import Learner
from tidemill.stages.tune import Tried

ETA = 3
"""Of so many trials one goes on, with so many times as much."""
FEW, MANY = 3, 60
"""Whole trials that a search must be worth to have short ones, and from which on it needs none."""
DEEP = 8
"""Whole trials from which on a search has two levels of short ones."""
FEWEST_ROWS = 500
"""Training rows below which a fit tells nothing."""
_RUNGS = (6, 9, 14, 20, 30, 45, 68, 100, 150)
_SURE, _SURE_FROM, _MEDIAN_FROM = 0.75, 4, 2
_OPENINGS = (0, 0, 0, 1, 0, 0, 0, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What a trial trains.

    Attributes:
        share: of a whole fit; 1 for a whole one.
        epochs: how many it has, where fewer epochs make it short.
        rows: the share of the training rows, where fewer samples do.
    """

    share: float = 1.0
    epochs: int | None = None
    rows: float = 1.0


WHOLE = Part()


def cumulative(learner: Learner, params: Mapping[str, Any], rows: int) -> bool:
    """Whether a learner's curve tells at every point what a fit that ended there would have given."""
    return learner.quick and learner.epochs(rows, params) > 1


def parts(learner: Learner, epochs: int, rows: int, params: Mapping[str, Any], worth: float) -> tuple[Part, ...]:
    """The levels of a search, the shortest first, the last one whole.

    Args:
        epochs: those of a whole fit.
        rows: training rows.
        params: the recipe's defaults.
        worth: how many whole trials there is time for.

    >>> from tidemill.learners import get_learner
    >>> net, linear = get_learner("gradient"), get_learner("linear")
    >>> [part.epochs for part in parts(net, 27, 5000, {}, worth=20)]
    [3, 9, None]
    >>> [round(part.rows, 2) for part in parts(linear, 1, 6000, {}, worth=5)]
    [0.33, 1.0]
    >>> len(parts(net, 27, 5000, {}, worth=2)), len(parts(get_learner("trees"), 80, 5000, {}, worth=20))
    (1, 1)
    """
    if not FEW <= worth < MANY or cumulative(learner, params, rows):
        return (WHOLE,)
    shares = [ETA**-2, ETA**-1] if worth >= DEEP else [ETA**-1]
    found: dict[float, Part] = {}
    for share in shares:
        if not learner.quick and epochs >= ETA:
            fewer = max(1, round(epochs * share))
            found[fewer] = Part(share=fewer / epochs, epochs=fewer)  # of two that come to the same, one
        elif rows * share >= FEWEST_ROWS:
            found[share] = Part(share=share, rows=share)
    return (*found.values(), WHOLE)


def opening(number: int, levels: int) -> int:
    """At which level the setting of that number (from 0) begins.

    >>> [opening(n, 3) for n in range(8)], [opening(n, 2) for n in range(4)], opening(5, 1)
    ([0, 0, 0, 1, 0, 0, 0, 2], [0, 0, 0, 1], 0)
    """
    return min(_OPENINGS[number % len(_OPENINGS)], levels - 1)


def rising(
    tried: Sequence[Tried], levels: Sequence[Part], begun: Set[tuple[int, float]], *, last: bool
) -> Tried | None:
    """The trial whose parameters get a larger part next; ``None`` when new ones are wanted.

    Args:
        tried: the finished trials.
        levels: see :func:`parts`.
        begun: ``(of, share)`` of every trial that was begun.
        last: there is no time for more than one or two whole trials: the best short one gets one of them.
    """
    for place in reversed(range(len(levels) - 1)):
        done = [t for t in tried if t.part == levels[place].share and t.score is not None]
        done.sort(key=lambda t: (-(t.score or 0.0), t.place))
        waiting = [t for t in done if not any((t.of, higher.share) in begun for higher in levels[place + 1 :])]
        if last and waiting:
            return waiting[0]
        good = done[: len(done) // ETA]
        found = next((t for t in waiting if t in good), None)
        if found is not None:
            return found
    return None


def cuts(tried: Sequence[Tried], *, cumulative: bool) -> dict[int, float]:
    """Epochs at which a whole fit is looked at, and the score that it must have had by then to go on.

    It must once have been as good as half of the others were by then (Golovin et al., *Google Vizier*, KDD 2017). A
    cumulative curve is looked at only where curves have told how they would end: small steps and small trees begin
    slowly and end well, and which of them are in front after a few rounds may say the opposite.

    Args:
        tried: the finished trials of the search.
        cumulative: see there.
    """
    whole = [t for t in tried if t.part == 1 and t.curve]
    ended = [t for t in whole if t.score is not None]
    if not cumulative:
        steps = sorted({step for t in ended for step in t.curve if step > 1})
        at = {step: [t.curve[step] for t in ended if step in t.curve] for step in steps}
        return {step: statistics.median(scores) for step, scores in at.items() if len(scores) >= _MEDIAN_FROM}
    found = {}
    for rung in _RUNGS:
        longer = [t for t in ended if max(t.curve) > rung]
        if len(longer) >= _SURE_FROM and _foretold(longer, rung) >= _SURE:
            # one that ended before the rung had reached all it could; one that was stopped there had not
            reached = [t for t in whole if t.score is not None or max(t.curve) >= rung]
            found[rung] = statistics.median(_until(t.curve, rung) for t in reached)
    return found


def _foretold(ended: Sequence[Tried], rung: int) -> float:
    """The share of pairs that stood at a rung in the order in which they ended."""
    pairs = [
        (_until(one.curve, rung) - _until(other.curve, rung)) * ((one.score or 0.0) - (other.score or 0.0)) > 0
        for one, other in itertools.combinations(ended, 2)
    ]
    return sum(pairs) / len(pairs)


def _until(curve: Mapping[int, float], step: int) -> float:
    """The best of a curve up to *step*; of one that begins later, its first value."""
    return max((value for at, value in curve.items() if at <= step), default=curve[min(curve)])
