"""The test that decides a roll-out: how often it errs when it is looked at after every label, and what it concludes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tidemill.errors import InputError
from tidemill.metrics.units import Floats
from tidemill.monitor.rollout import Sums, as_json, decide, interval, replay, sums
from tidemill.records import JSON

ALPHA, MARGIN, MIN_CALLERS = 0.05, 0.02, 30
REPEATS, LABELS = 400, 400
Draw = Callable[[np.random.Generator, Floats], Floats]
"""Differences ``[k]`` of one label each, given a standard normal number ``[k]`` that belongs to its caller."""


def right_or_wrong(better: float, worse: float, unlike: float = 0.0) -> Draw:
    """1 and -1 with these chances, else 0; callers differ in which of the two they see, by *unlike*."""

    def draw(rng: np.random.Generator, caller: Floats) -> Floats:
        differs = rng.random(len(caller)) < better + worse
        share = np.clip(better / (better + worse) + unlike * caller, 0, 1)
        return np.where(differs, np.where(rng.random(len(caller)) < share, 1.0, -1.0), 0.0)

    return draw


def graded(mean: float, within: float, between: float) -> Draw:
    """Normal differences around each caller's own mean."""
    return lambda rng, caller: mean + between * caller + within * rng.normal(size=len(caller))


@dataclass(frozen=True)
class Callers:
    """Who gives the next label: a new caller with this chance, else any one of those that were there before."""

    new: float

    def next(self, rng: np.random.Generator, known: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        again = (rng.random(len(known)) * known).astype(np.int64)
        return np.where((rng.random(len(known)) < self.new) | (known == 0), known, again)


EACH_ITS_OWN, SOME_AGAIN, OFTEN_AGAIN = Callers(1.0), Callers(0.5), Callers(0.2)


def _powers(t: Floats, s: Floats) -> Floats:
    return np.array([t * t, t * s, s * s, t**3, t * t * s, t * s * s, s**3])


def simulated(
    draw: Draw, callers: Callers, seed: int, *, labels: int = LABELS, wide: bool = False, margin: float = MARGIN
) -> tuple[float, float]:
    """How often a challenger is rolled back, and promoted, when it is judged after every single label.

    Args:
        wide: scores have no bounds, so how much models can differ is what was seen.
    """
    rng = np.random.default_rng(seed)
    row = np.arange(REPEATS)
    luck = rng.normal(size=(REPEATS, labels))
    total, size = np.zeros((2, REPEATS, labels))
    known = np.zeros(REPEATS, np.int64)
    gap, span = np.zeros((2, REPEATS))
    powers = np.zeros((7, REPEATS))
    back, promoted = np.zeros((2, REPEATS), bool)
    for label in range(1, labels + 1):
        caller = callers.next(rng, known)
        known = np.maximum(known, caller + 1)
        d, t, s = draw(rng, luck[row, caller]), total[row, caller], size[row, caller]
        gap, span = gap + d, np.maximum(span, np.abs(d)) if wide else np.ones(REPEATS)
        powers += _powers(t + d, s + 1) - _powers(t, s)
        total[row, caller] += d
        size[row, caller] += 1
        n = np.full(REPEATS, float(label))
        moments = dict(zip(("tt", "ts", "ss", "ttt", "tts", "tss", "sss"), powers, strict=True))
        made = Sums(rows=n, callers=known.astype(float), weight=n, squares=n, total=gap, span=span, **moments)
        found = interval(made, ALPHA)
        judged = (found.callers >= MIN_CALLERS) & ~back & ~promoted
        back |= judged & (found.high < 0)
        promoted |= judged & ~back & (found.low > -margin)
    return float(back.mean()), float(promoted.mean())


MOST = ALPHA + 2.6 * (ALPHA * (1 - ALPHA) / REPEATS) ** 0.5
"""So often at most, but for one simulation in two hundred."""


@pytest.mark.parametrize("callers", [EACH_ITS_OWN, OFTEN_AGAIN])
@pytest.mark.parametrize(
    "draw", [right_or_wrong(0.1, 0.1), right_or_wrong(0.1, 0.1, unlike=0.4), graded(0.0, 0.2, 0.2)]
)
def test_a_challenger_that_is_as_good_is_seldom_rolled_back(draw: Draw, callers: Callers) -> None:
    back, _ = simulated(draw, callers, seed=1)
    assert back <= MOST


@pytest.mark.parametrize("callers", [EACH_ITS_OWN, SOME_AGAIN])
@pytest.mark.parametrize(
    "draw", [right_or_wrong(0.01, 0.03), right_or_wrong(0.09, 0.11, unlike=0.4), graded(-MARGIN, 0.1, 0.1)]
)
def test_a_challenger_that_loses_the_margin_is_seldom_promoted(draw: Draw, callers: Callers) -> None:
    _, promoted = simulated(draw, callers, seed=2)
    assert promoted <= MOST


SKEWED: dict[str, Draw] = {
    "exponential": lambda rng, caller: rng.exponential(size=len(caller)) - 1,
    "log-normal": lambda rng, caller: np.exp(rng.normal(size=len(caller))) - np.exp(0.5),
    "one in ten": lambda rng, caller: np.where(rng.random(len(caller)) < 0.1, 9.0, -1.0),
}
"""Differences of mean zero that are mostly a little below it, and now and then far above."""


@pytest.mark.parametrize("name", SKEWED)
def test_a_long_tail_does_not_mislead(name: str) -> None:
    back, _ = simulated(SKEWED[name], EACH_ITS_OWN, seed=4, wide=True)
    assert back <= MOST
    turned: Draw = lambda rng, caller: -SKEWED[name](rng, caller)  # noqa: E731
    _, promoted = simulated(turned, EACH_ITS_OWN, seed=4, wide=True, margin=0.0)
    assert promoted <= MOST


def test_what_differs_is_found() -> None:
    back, promoted = simulated(right_or_wrong(0.05, 0.15), EACH_ITS_OWN, seed=3)
    assert back > 0.95 and promoted == 0
    back, _ = simulated(right_or_wrong(0.05, 0.15), OFTEN_AGAIN, seed=3)
    assert back > 0.8
    back, promoted = simulated(right_or_wrong(0.1, 0.05), EACH_ITS_OWN, seed=3, labels=500)
    assert promoted > 0.9 and back == 0


def test_few_callers_prove_little_however_much_they_say() -> None:
    rng = np.random.default_rng(0)
    alike = np.zeros(5000)
    few = interval(sums(alike, np.ones(5000), rng.integers(0, 40, 5000), 1.0), ALPHA)
    many = interval(sums(alike, np.ones(5000), np.arange(5000), 1.0), ALPHA)
    assert few.low < -0.05 < -0.005 < many.low and few.callers < 41 < many.callers
    one = interval(sums(np.ones(50), np.ones(50), np.zeros(50), 1.0), ALPHA)
    assert (one.low, one.high) == (-np.inf, np.inf) and as_json(one) is None


def test_rare_draws_count_more_and_tell_less() -> None:
    d, callers = np.array([1.0, 0.0] * 100), np.arange(200)
    even = interval(sums(d, np.full(200, 20.0), callers, 1.0), ALPHA)
    plain = interval(sums(d, np.ones(200), callers, 1.0), ALPHA)
    assert (even.difference, even.low, even.high) == pytest.approx((plain.difference, plain.low, plain.high))
    uneven = interval(sums(d, np.where(callers < 20, 20.0, 1.0), callers, 1.0), ALPHA)
    assert uneven.callers < 60 and uneven.high - uneven.low > 1.5 * (plain.high - plain.low)


def evidence(difference: float, n: int = 400, *, spread: float = 0.2, **changed: Any) -> JSON:
    """Of *n* callers with one label each, in a canary that has given its answers."""
    d = difference + spread * np.tile([1.0, -1.0], n // 2)
    found = sums(d, np.ones(n), np.arange(n), 1.0)
    policy = {
        "shadow_rows": 100,
        "shadow_seconds": 60.0,
        "canary_rows": 50,
        "margin": MARGIN,
        "alpha": ALPHA,
        "min_callers": MIN_CALLERS,
        "max_seconds": 3600.0,
        "undecided": "rollback",
        "min_response": 0.5,
    }
    policy |= {name: changed.pop(name) for name in list(changed) if name in policy}
    counted = {"answered": 1000, "challenger": 100, "asked": 500, "responded": 400, "elapsed": 120.0, "doubted": 0}
    judge = {"kind": "classification", "metric": "accuracy"}
    made = {"schema": 1, "policy": policy, "judge": judge, "phase": "canary", **counted, **changed}
    return made | {"labels": asdict(found), "interval": as_json(interval(found, ALPHA))}


@pytest.mark.parametrize(
    ("shown", "outcome", "said"),
    [
        (evidence(-0.1), "roll back", "the challenger is worse: on 400 labelled answers to 400 callers"),
        (evidence(-0.1, phase="shadow"), "roll back", "the difference is -10.0 points"),
        (evidence(0.1), "promote", "loses no more than 2.0 points"),
        (evidence(0.1, phase="shadow"), "advance", "both models answered 1,000 times"),
        (evidence(0.1, phase="shadow", answered=99), "go on", "+10.0 points"),
        (evidence(0.1, phase="shadow", elapsed=59.0), "go on", "+10.0 points"),
        (evidence(0.1, challenger=49), "go on", "+10.0 points"),
        (evidence(0.1, responded=200), "go on", "+10.0 points"),
        (evidence(0.1, elapsed=3600.0, responded=200), "roll back", "only 40% of the audit questions were answered"),
        (evidence(0.1, elapsed=3600.0, challenger=49), "roll back", "gave 49 answers, and 50 are needed"),
        (evidence(-0.02), "go on", "at least -"),
        (evidence(-0.02, elapsed=3600.0), "roll back", "the time is over, and nothing is proven"),
        (evidence(-0.02, elapsed=3600.0, undecided="promote"), "promote", "the time is over"),
        (evidence(-0.5, n=20), "go on", "they count as 20 callers, and 30 are needed"),
    ],
)
def test_the_rule(shown: JSON, outcome: str, said: str) -> None:
    verdict = decide(shown)
    assert verdict.outcome == outcome and said in verdict.reason, verdict
    assert replay(shown) == verdict


def test_whose_word_is_doubted_is_told() -> None:
    said = "; 3 more are left out, of authors whose word is doubted"
    assert decide(evidence(0.0, doubted=3)).reason.endswith(said)
    assert decide(evidence(0.0, doubted=3) | {"labels": None, "interval": None}).reason.endswith(said)


def test_without_labels_it_goes_on() -> None:
    nothing = evidence(0.1) | {"labels": None, "interval": None, "asked": 0, "responded": 0}
    assert decide(nothing).outcome == "go on" and "no audited answer has a label" in decide(nothing).reason
    assert decide(nothing | {"elapsed": 3600.0}).outcome == "roll back"


@pytest.mark.parametrize("broken", [{"schema": 2}, {}, {"schema": 1, "labels": {"rows": 1}}])
def test_evidence_that_is_not_whole_is_refused(broken: JSON) -> None:
    with pytest.raises(InputError):
        replay(broken)
