"""The race for a budget: which recipe's search gets the next trial, so that what still improves gets more.

Every recipe first gets one trial with its defaults. Each further trial goes to the recipe whose *estimated cost for
improvement* is least: how many seconds it would take, judging by its past, until the best score of all is bettered.
The estimate is that of Wang, Wu, Weimer and Zhu, *FLAML: A Fast and Lightweight AutoML Library* (MLSys 2021), without
its part on sample sizes and with the least taken instead of a draw, so that the choice is a function of what is known.

With ``spent`` the planned seconds of a recipe's finished trials, ``last`` what had been spent when its best score was
found and ``before`` what had been when its second best was, the cost is the larger of two:

- of ``spent - last`` and ``last - before``: the next improvement takes as long as the last one took, and longer once it
  keeps one waiting, so that a search without success falls behind;
- ``gap x (spent - before) / gain``: how long a recipe that lies behind by ``gap`` takes to catch up at the rate of its
  last gain. One that never gained anything is taken to catch up in as long as it has run so far.

The choice depends on planned seconds and on finished trials' scores, never on the clock: a cycle that resumes repeats
it, and finished trials, which stand in the studies' journals, are not repeated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tidemill.records import JSON

Scores = Sequence[float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What the plan says of one recipe.

    Attributes:
        seconds: the estimate for one trial.
        most: how many trials it may have.
    """

    seconds: float
    most: int


class Runner(Protocol):
    """One recipe's search while it takes part."""

    def scores(self) -> Scores:
        """The score of each finished trial in their order, larger is better; ``None`` where it was pruned or failed."""

    def trial(self) -> None:
        """Finish one more trial, so that :meth:`scores` is longer by one."""


def entrants(plan: Mapping[str, JSON]) -> tuple[dict[str, Share], float]:
    """Who takes part by a plan's ``recipes``, and the budget they share.

    Without a clock every trial counts one, and the budget is all the trials there may be.

    >>> entrants({"ridge": {"trials": 1, "most": 1}, "trees": {"trials": 3, "most": 100, "seconds": 2.0, "share": 7.5}})
    ({'trees': Share(seconds=2.0, most=100)}, 7.5)
    """
    several = {name: work for name, work in plan.items() if work.get("most", 1) > 1}
    shares = {n: Share(seconds=w.get("seconds") or 1.0, most=int(w["most"])) for n, w in several.items()}
    return shares, float(sum(w.get("share") or shares[n].seconds * w["most"] for n, w in several.items()))


def race(shares: Mapping[str, Share], runners: Mapping[str, Runner], budget: float) -> None:
    """Run trials until the next one would pass *budget*, or every recipe has had its most.

    Args:
        shares: of each recipe that has a search space, by name.
        runners: their searches by the same names; what they finished before counts.
        budget: planned seconds for all trials together.
    """
    while (name := following(shares, {n: runners[n].scores() for n in shares}, budget)) is not None:
        runners[name].trial()


def following(shares: Mapping[str, Share], finished: Mapping[str, Scores], budget: float) -> str | None:
    """The recipe whose trial comes next; ``None`` when the race is over. Among equals the first one named.

    First trials are run even where *budget* is too small for them: a recipe that takes part is tried.

    >>> shares = {"trees": Share(seconds=2.0, most=9), "mlp": Share(seconds=5.0, most=9)}
    >>> following(shares, {"trees": [0.80], "mlp": []}, 60.0)
    'mlp'
    >>> following(shares, {"trees": [0.80, 0.83], "mlp": [0.70]}, 60.0)
    'trees'
    >>> following(shares, {"trees": [0.80] * 4, "mlp": [0.79, 0.82]}, 60.0)
    'mlp'
    >>> following(shares, {"trees": [0.80], "mlp": [0.79]}, 8.0) is None
    True
    """
    for name, share in shares.items():
        if not finished[name] and share.most > 0:
            return name
    left = budget - sum(len(finished[name]) * share.seconds for name, share in shares.items())
    known = [score for scores in finished.values() for score in scores if score is not None]
    leading = max(known, default=0.0)
    costs = {
        name: cost_to_improve(finished[name], share.seconds, leading)
        for name, share in shares.items()
        if len(finished[name]) < share.most and share.seconds <= left
    }
    return min(costs, key=lambda name: costs[name]) if costs else None


def expected(shares: Mapping[str, Share], finished: Mapping[str, Scores], budget: float) -> tuple[int, int]:
    """How many trials are finished, and about how many there will be: the next ones cost what they cost so far.

    >>> shares = {"trees": Share(seconds=2.0, most=9), "mlp": Share(seconds=5.0, most=9)}
    >>> expected(shares, {"trees": [0.80, 0.83, 0.82], "mlp": [0.70]}, 22.0)
    (4, 8)
    >>> expected(shares, {"trees": [], "mlp": []}, 1.0)
    (0, 2)
    """
    done = sum(len(finished[name]) for name in shares)
    spent = sum(len(finished[name]) * share.seconds for name, share in shares.items())
    each = spent / done if done else sum(share.seconds for share in shares.values()) / max(1, len(shares))
    firsts = sum(not finished[name] for name in shares)
    allowed = sum(share.most for share in shares.values()) - done
    return done, done + max(firsts, min(allowed, math.floor(max(0.0, budget - spent) / max(each, 1e-6))))


def cost_to_improve(scores: Scores, seconds: float, leading: float) -> float:
    """Seconds until a recipe betters the best score of all, judging by its finished trials.

    Args:
        scores: of its trials; at least one.
        seconds: what each of them costs.
        leading: the best score of all recipes.

    >>> cost_to_improve([0.6, 0.7], 3.0, leading=0.7)  # it leads, and its last gain took one trial
    3.0
    >>> cost_to_improve([0.6, 0.7, 0.7, 0.6], 3.0, leading=0.7)  # nothing better for two trials
    6.0
    >>> round(cost_to_improve([0.6, 0.7], 3.0, leading=0.9), 3)  # two more such gains are needed
    6.0
    """
    best: list[tuple[int, float]] = []  # the trial, and the score that was better than all before
    for number, score in enumerate(scores, start=1):
        if score is not None and (not best or score > best[-1][1]):
            best.append((number, score))
    spent = len(scores)
    if not best:
        return spent * seconds
    last = best[-1][0]
    before = best[-2][0] if len(best) > 1 else 0
    waiting = max(spent - last, last - before)
    gap = leading - best[-1][1]
    if gap <= 0:
        return waiting * seconds
    if len(best) < 2:
        return max(spent, waiting) * seconds
    return max(waiting, gap / (best[-1][1] - best[-2][1]) * (spent - before)) * seconds
