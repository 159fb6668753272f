"""The race for a budget: which recipe's search gets the next trial, so that what still improves gets more.

Every recipe first gets one trial with its defaults. Each further trial goes to the recipe whose *estimated cost for
improvement* is least: how many seconds it would take, judging by its past, until the best score of all is bettered.
The estimate is that of Wang, Wu, Weimer and Zhu, *FLAML: A Fast and Lightweight AutoML Library* (MLSys 2021), without
its part on sample sizes and with the least taken instead of a draw, so that the choice is a function of what is known.

With ``spent`` the seconds of a recipe's finished trials, ``last`` what had been spent when its best score was found and
``before`` what had been when its second best was, the cost is the larger of two:

- of ``spent - last`` and ``last - before``: the next improvement takes as long as the last one took, and longer once it
  keeps one waiting, so that a search without success falls behind;
- ``gap x (spent - before) / gain``: how long a recipe that lies behind by ``gap`` takes to catch up at the rate of its
  last gain. One that never gained anything is taken to gain, in as long as it has run so far, as much as its scores
  differ (their standard deviation), and to catch up in that time where it has no two.

A finished trial counts with the seconds that its study's journal says it took: parameters make some trials ten times as
dear as others, pruned ones cost next to nothing, and a plan made beside busy neighbours errs. One that alone would pass
the budget by far is given up, and counts as pruned. Without a clock each counts one. The choice depends on the plan and
on finished trials alone: a cycle that resumes reads both, chooses as it would have, and repeats no finished trial.

Where several processes run trials, the budget is theirs together, and a trial under way counts as one without success
that takes as long as those before it. With a clock, the next trial is chosen as soon as one has ended. Without one, as
many are chosen as there are processes, and the next ones when all of them have ended: what comes of it depends on how
many processes there are, and not on which of them is faster.
"""

from __future__ import annotations

import collections
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

from tidemill.records import JSON

MOST_KEPT = 0.5
"""Of a race's budget at most, for the refit of the chosen recipe."""
_OVER = 0.1
"""Of the race's budget: by how much its last trial may pass it."""


class Trial(NamedTuple):
    """A finished trial.

    Attributes:
        score: larger is better; ``None`` where it was pruned or failed, or trained a part of a fit only.
        seconds: what it took.
        part: what it trained of a whole fit.
    """

    score: float | None
    seconds: float
    part: float = 1.0


Trials = Sequence[Trial]


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What the plan says of one recipe.

    Attributes:
        seconds: the estimate for one trial; of no matter once it has finished some.
        most: how many trials it may have.
        refit: the estimate for its refit, should it be chosen, if its best trial takes ``seconds``.
    """

    seconds: float
    most: int
    refit: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the plan says of a race.

    Attributes:
        shares: of each recipe that takes part, by name.
        budget: seconds for all trials and the refit of what is chosen.
        kept: what the refit of a recipe that takes no part would need.
        clocked: whether a trial counts with the seconds it took; else it counts one.
        workers: how many trials are run at a time.
    """

    shares: Mapping[str, Share]
    budget: float
    kept: float = 0.0
    clocked: bool = True
    workers: int = 1

    def left(self, finished: Mapping[str, Trials]) -> float:
        """Seconds that trials may yet take, those of all processes together."""
        spent = sum(trial.seconds for name in self.shares for trial in finished[name])
        leading = max(self.shares, key=lambda name: _best(finished[name]))
        share = self.shares[leading]
        took = next((t.seconds for t in finished[leading] if t.score == _best(finished[leading])), share.seconds)
        refit = share.refit * took / share.seconds
        room = self.budget - min(max(self.kept, refit), self.budget * MOST_KEPT)
        return room * (self.workers if self.clocked else 1) - spent

    def allowed(self, name: str, finished: Mapping[str, Trials]) -> float:
        """Seconds after which the coming trial of this recipe is given up: some parameters make it ten times as dear.

        The first one is not: a recipe that takes part is tried.
        """
        if not self.clocked or not finished[name]:
            return math.inf
        return self.left(finished) / self.workers + self.budget * _OVER


class Runner(Protocol):
    """One recipe's search while it takes part."""

    def trials(self) -> Trials:
        """Its finished trials in their order."""

    def trial(self) -> None:
        """Finish one more trial, so that :meth:`trials` is longer by one."""


J = TypeVar("J")


class Giver(Protocol[J]):
    """One recipe's search whose trials others run."""

    def trials(self) -> Trials:
        """Its finished trials in their order."""

    def begin(self) -> J:
        """Begin one more trial."""

    def end(self, job: J, outcome: Any) -> None:
        """It has ended, and :meth:`trials` is longer by one."""


class Team(Protocol[J]):
    """Processes that run trials."""

    workers: int

    def start(self, job: J) -> None:
        """Run it as soon as a process is free."""

    def wait(self) -> Sequence[tuple[J, Any]]:
        """Wait until some have ended."""


def terms(plan: Mapping[str, JSON], workers: int = 1) -> Terms:
    """What a plan's ``recipes`` say of the race; those that may have several trials take part.

    Without a clock every trial counts one, and the budget is all the trials there may be.

    >>> terms({"ridge": {"most": 1}, "trees": {"most": 100, "seconds": 2.0, "share": 17.5, "refit": 6.0}})
    Terms(shares={'trees': Share(seconds=2.0, most=100, refit=6.0)}, budget=17.5, kept=0.0, clocked=True, workers=1)
    >>> terms({"trees": {"most": 3, "seconds": None, "share": None}})
    Terms(shares={'trees': Share(seconds=1.0, most=3, refit=0.0)}, budget=3.0, kept=0.0, clocked=False, workers=1)
    """
    several = {name: work for name, work in plan.items() if work["most"] > 1}
    others = [work.get("refit") or 0.0 for work in plan.values() if work["most"] == 1]
    if all(work["share"] is None for work in several.values()):
        free = {name: Share(seconds=1.0, most=work["most"]) for name, work in several.items()}
        most = float(sum(share.most for share in free.values()))
        return Terms(shares=free, budget=most, clocked=False, workers=workers)
    shares = {
        name: Share(seconds=max(work["seconds"], 1e-6), most=work["most"], refit=work["refit"])
        for name, work in several.items()
    }
    budget = sum(work["share"] for work in several.values())
    return Terms(shares=shares, budget=budget, kept=max(others, default=0.0), workers=workers)


def race(agreed: Terms, runners: Mapping[str, Runner]) -> None:
    """Run trials until the next one would pass the budget, or every recipe has had its most.

    Args:
        agreed: see there.
        runners: the searches of those that take part, by name; what they finished before counts.
    """
    while (name := following(agreed, {name: runners[name].trials() for name in agreed.shares})) is not None:
        runners[name].trial()


def race_together(agreed: Terms, givers: Mapping[str, Giver[J]], team: Team[J]) -> None:
    """The same, for processes that run trials at the same time.

    Args:
        agreed: see there.
        givers: the searches of those that take part, by name; what they finished before counts.
        team: runs their trials.
    """
    running: list[tuple[str, J]] = []
    ended: list[tuple[J, Any]] = []
    while True:
        while len(running) < team.workers and (agreed.clocked or not ended):
            busy = collections.Counter(name for name, _ in running)
            known = {name: under_way(share, givers[name].trials(), busy[name]) for name, share in agreed.shares.items()}
            if (name := following(agreed, known)) is None:
                break
            running.append((name, job := givers[name].begin()))
            team.start(job)
        if not running:
            return
        ended += team.wait()
        if agreed.clocked or len(ended) == len(running):
            outcomes = [(name, job, next((o for j, o in ended if j == job), None)) for name, job in running]
            running = [(name, job) for name, job, outcome in outcomes if outcome is None]
            ended = []
            for name, job, outcome in outcomes:  # in the order in which they were begun, whoever was first to end
                if outcome is not None:
                    givers[name].end(job, outcome)


def under_way(share: Share, trials: Trials, count: int) -> Trials:
    """The finished trials, and so many that are under way as if they had ended without success."""
    return [*trials, *[Trial(None, each(share, trials))] * count]


def following(agreed: Terms, finished: Mapping[str, Trials]) -> str | None:
    """The recipe whose trial comes next; ``None`` when the race is over. Among equals the first one named.

    First trials are run even where the budget is too small for them: a recipe that takes part is tried.

    >>> agreed = Terms(shares={"trees": Share(seconds=2, most=9), "mlp": Share(seconds=5, most=9)}, budget=60)
    >>> following(agreed, {"trees": [Trial(0.80, 2)], "mlp": []})
    'mlp'
    >>> following(agreed, {"trees": [Trial(0.80, 2), Trial(0.83, 3)], "mlp": [Trial(0.70, 4)]})
    'trees'
    >>> following(agreed, {"trees": [Trial(0.80, 2)] * 4, "mlp": [Trial(0.79, 5), Trial(0.82, 2)]})
    'mlp'
    >>> following(agreed, {"trees": [Trial(0.80, 30)], "mlp": [Trial(0.79, 29)]}) is None
    True
    """
    for name, share in agreed.shares.items():
        if not finished[name] and share.most > 0:
            return name
    left = agreed.left(finished)
    leading = max((_best(trials) for trials in finished.values()), default=-math.inf)
    costs = {
        name: cost_to_improve(finished[name], leading)
        for name, share in agreed.shares.items()
        if len(finished[name]) < share.most and each(share, finished[name]) <= left
    }
    return min(costs, key=lambda name: costs[name]) if costs else None


def expected(agreed: Terms, finished: Mapping[str, Trials]) -> tuple[int, int]:
    """How many trials are finished, and about how many there will be: the next ones cost what they cost so far.

    >>> agreed = Terms(shares={"trees": Share(seconds=2, most=9), "mlp": Share(seconds=5, most=9)}, budget=22)
    >>> expected(agreed, {"trees": [Trial(0.80, 2), Trial(0.83, 2), Trial(None, 1)], "mlp": [Trial(0.70, 5)]})
    (4, 8)
    >>> expected(agreed, {"trees": [], "mlp": []})
    (0, 6)
    """
    done = sum(len(finished[name]) for name in agreed.shares)
    each = sum(share.seconds for share in agreed.shares.values()) / len(agreed.shares)
    if done:
        each = sum(trial.seconds for name in agreed.shares for trial in finished[name]) / done
    firsts = sum(not finished[name] for name in agreed.shares)
    allowed = sum(share.most for share in agreed.shares.values()) - done
    worth = math.floor(max(0.0, agreed.left(finished)) / max(each, 1e-6))
    return done, done + max(firsts, min(allowed, worth))


def cost_to_improve(trials: Trials, leading: float) -> float:
    """Seconds until a recipe betters the best score of all, judging by its finished trials.

    Args:
        trials: its finished ones; at least one.
        leading: the best score of all recipes.

    >>> def of(*scores, seconds=3.0):
    ...     return [Trial(score, seconds) for score in scores]
    >>> cost_to_improve(of(0.6, 0.7), leading=0.7)  # it leads, and its last gain took one trial
    3.0
    >>> cost_to_improve(of(0.6, 0.7, 0.7, 0.6), leading=0.7)  # nothing better for two trials
    6.0
    >>> round(cost_to_improve(of(0.7, 0.6), leading=0.9), 3)  # behind by three times what its scores differ
    16.971
    >>> round(cost_to_improve(of(0.6, 0.7), leading=0.9), 3)  # two more such gains, each of which took one trial
    6.0
    """
    best: list[tuple[float, float]] = []  # a score that was better than all before, and what had been spent then
    spent = 0.0
    for trial in trials:
        spent += trial.seconds
        if trial.score is not None and (not best or trial.score > best[-1][0]):
            best.append((trial.score, spent))
    if not best:
        return spent
    score, last = best[-1]
    before = best[-2][1] if len(best) > 1 else 0.0
    waiting = max(spent - last, last - before)
    gap = leading - score
    if gap <= 0:
        return waiting
    if len(best) < 2:
        scores = [trial.score for trial in trials if trial.score is not None]
        differ = statistics.stdev(scores) if len(scores) > 1 else gap
        return spent * max(1.0, gap / max(differ, 1e-12))
    return max(waiting, gap / (score - best[-2][0]) * (spent - before))


def _best(trials: Trials) -> float:
    return max((trial.score for trial in trials if trial.score is not None), default=-math.inf)


def each(share: Share, trials: Trials) -> float:
    """What one more whole trial is expected to take: the mean of its finished ones, before that what was planned.

    >>> each(Share(seconds=9, most=9), [Trial(0.8, 6), Trial(None, 2, part=1 / 3)])
    6.0
    """
    whole = sum(trial.part for trial in trials)
    return sum(trial.seconds for trial in trials) / whole if trials else share.seconds
