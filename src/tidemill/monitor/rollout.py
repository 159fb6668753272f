"""The test that decides a roll-out: a pure function of its evidence, valid however often it is looked at.

Both models answer the same audited predictions, so each one whose label was asked for gives a difference of two scores.
Callers who come again are alike, so their differences are summed first: what is random is which callers there are. The
mean difference, a ratio of sums over callers, has an asymptotic confidence sequence: with probability 1 - α its lower
bound stays below the truth at all times at once, so that looking after every label costs nothing (Waudby-Smith, Arbour,
Sinha, Kennedy and Ramdas, "Time-uniform central limit theory and asymptotic confidence sequences", *Annals of
Statistics* 52, 2024; in the closed one-sided form of Howard, Ramdas, McAuliffe and Sekhon, *Annals of Statistics* 49,
2021, eq. 3.7). Three things beyond the papers, which ``tests/monitor/test_rollout.py`` measures:

* The variance is robust to callers of unequal size who come again and again. Time runs by labels, not by callers: where
  the labels of one caller are alike the sum is more, not less, like its own past than a random walk at that time is, so
  it crosses a bound more seldom (Slepian's lemma).
* While there are few callers the normal bound becomes that of Student's t, and one mirrored pair of made-up callers
  stands among them: a hundred labels on which two models agree do not prove that they always will. For the lower bound,
  by which a challenger is promoted, the pair differs on every label of a typical caller, so that of n callers no less
  than about 4.5/n can be shown; for the upper one, by which it is rolled back, on one label: doubt keeps no bad model.
* A model that is mostly a little better and now and then much worse looks better than it is. Where the differences are
  skewed, the bound on the side of the long tail lies farther off (Hall, *J. Royal Statistical Society B* 54, 1992).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from tidemill.errors import InputError
from tidemill.metrics.units import Floats, Units
from tidemill.records import JSON

SCHEMA = 1
PLANNED = 500.0
"""Labels at which the bounds are tightest; with a tenth of them they are a third wider, with ten times as many 8 %."""

Amount = Any
"""A float, or float64 of any one shape: many roll-outs at once, as simulations need them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """All that the test needs to know of the labelled predictions.

    Attributes:
        rows: how many there are.
        callers: of how many callers.
        weight: Σw, with w one over the probability of having been drawn.
        squares: Σw².
        total: Σwd, with d the challenger's score minus the champion's.
        tt, ts, ss: over callers, the sums of T², T·S and S², with T a caller's Σwd and S its Σw.
        ttt, tts, tss, sss: the same of their third powers.
        span: how much two models can differ on one prediction.
    """

    rows: Amount
    callers: Amount
    weight: Amount
    squares: Amount
    total: Amount
    tt: Amount
    ts: Amount
    ss: Amount
    ttt: Amount
    tts: Amount
    tss: Amount
    sss: Amount
    span: Amount


@dataclass(frozen=True, slots=True)
class Interval:
    """How much better the challenger is, with two bounds that each hold at level α, at all times at once.

    Attributes:
        difference: the weighted mean of the differences.
        low, high: the bounds.
        callers: Kish's effective number of callers.
    """

    difference: Amount
    low: Amount
    high: Amount
    callers: Amount


@dataclass(frozen=True, slots=True)
class Verdict:
    """What should become of a roll-out now, and why, in plain words."""

    outcome: Literal["go on", "advance", "promote", "roll back"]
    reason: str


def sums(difference: Floats, weights: Floats, callers: npt.NDArray[Any], span: float) -> Sums:
    """The sums of differences ``[n]``, weights ``[n]`` and callers ``[n]`` (any sortable dtype).

    >>> found = sums(np.array([1.0, 0.0, -1.0]), np.ones(3), np.array(["a", "a", "b"]), span=1.0)
    >>> found.callers, found.total, found.tt, found.ss
    (2.0, 0.0, 2.0, 5.0)
    """
    units = Units.of(callers)
    t, s = units.sum(weights * difference), units.sum(weights)
    return Sums(
        rows=float(len(difference)),
        callers=float(units.count),
        weight=float(s.sum()),
        squares=float(np.square(weights).sum()),
        total=float(t.sum()),
        tt=float(t @ t),
        ts=float(t @ s),
        ss=float(s @ s),
        ttt=float(t @ (t * t)),
        tts=float(t @ (t * s)),
        tss=float(t @ (s * s)),
        sss=float(s @ (s * s)),
        span=float(span),
    )


def interval(found: Sums, alpha: float) -> Interval:
    """Where the true difference lies; with fewer than two callers, anywhere."""
    few = np.asarray(found.callers) < 2
    weight, n = np.where(few, 1.0, found.weight), np.where(few, 2.0, found.callers)
    difference = np.where(few, 0.0, found.total / weight)
    squares = np.maximum(found.tt - 2 * difference * found.ts + difference**2 * found.ss, 0.0)
    cubes = found.ttt - 3 * difference * found.tts + 3 * difference**2 * found.tss - difference**3 * found.sss
    effective = np.where(few, found.callers, weight**2 / np.where(few, 1.0, found.ss))
    labels = np.maximum(weight**2 / np.where(few, 1.0, found.squares), 1.0)
    z = -special.stdtrit(np.maximum(effective - 1, 1.0), special.ndtr(-boundary(labels, alpha)))
    caller, label = weight / n, weight / np.where(few, 1.0, found.rows)

    def reach(made_up: Amount, side: int) -> Floats:
        """How far a bound lies off, with a pair of callers added that differ by *made_up* at the most."""
        total = np.maximum(squares + 2 * (found.span * made_up) ** 2, np.finfo(float).tiny)
        skewness = np.maximum(side * cubes / total**1.5, 0.0)  # by the root of the number of callers, as it is needed
        error = np.sqrt(total * (n + 2) / (n + 1)) / weight
        return np.asarray((z + skewness * (1 + 2 * z**2) / 6) * error, np.float64)

    low = np.where(few, -np.inf, difference - reach(caller, -1))
    high = np.where(few, np.inf, difference + reach(label, 1))
    return Interval(difference[()], low[()], high[()], effective[()])


def boundary(labels: Amount, alpha: float) -> Floats:
    """How many standard errors the bound lies away after so many labels, if the variance were known.

    >>> boundary(np.array([50.0, 500.0, 5000.0]), 0.05).round(2).tolist()
    [3.68, 2.78, 2.99]
    """
    start = 2 * np.log(1 / (2 * alpha))
    time = np.asarray(labels, np.float64) * (start + np.log1p(start)) / PLANNED
    return np.asarray(np.sqrt((1 + 1 / time) * 2 * np.log1p(np.sqrt(time + 1) / (2 * alpha))), np.float64)


def decide(evidence: JSON) -> Verdict:
    """What follows from the evidence, and from nothing else.

    A clear loss ends a roll-out in any phase. A promotion needs the canary: labels prove that nothing is lost beyond
    the margin, and enough answers that it can serve.
    """
    policy, told = evidence["policy"], told_of(evidence)
    found = evidence["interval"]
    judged = found is not None and found["callers"] >= policy["min_callers"]
    if judged and found["high"] < 0:
        return Verdict("roll back", f"the challenger is worse: {told}")
    held = _held_back(evidence)
    if judged and found["low"] > -policy["margin"] and held is None:
        margin = amount(evidence["judge"]["metric"], policy["margin"])
        return Verdict("promote", f"the challenger loses no more than {margin}: {told}")
    if evidence["elapsed"] >= policy["max_seconds"]:
        why = held if held is not None and judged and found["low"] > -policy["margin"] else told
        outcome: Literal["promote", "roll back"] = "promote" if policy["undecided"] == "promote" else "roll back"
        return Verdict(outcome, f"the time is over, and nothing is proven: {why}")
    if evidence["phase"] == "shadow" and _shadowed(evidence):
        return Verdict("advance", f"both models answered {evidence['answered']:,} times, and none failed; {told}")
    return Verdict("go on", told)


def replay(evidence: JSON) -> Verdict:
    """Decide stored evidence again; the same evidence gives the same verdict.

    Raises:
        InputError: the evidence is of a schema that this version does not know, or something is missing in it.
    """
    if evidence.get("schema") != SCHEMA:
        raise InputError(f"the evidence has schema {evidence.get('schema')!r}", mend=f"This version knows {SCHEMA}.")
    try:
        labels = evidence["labels"]
        again = None if labels is None else interval(Sums(**labels), evidence["policy"]["alpha"])
        return decide({**evidence, "interval": None if again is None else as_json(again)})
    except (KeyError, TypeError) as error:
        raise InputError(f"the evidence is not whole: {error}", mend="Start the roll-out anew.") from error


def as_json(found: Interval) -> JSON | None:
    """The interval as JSON; ``None`` while it could lie anywhere."""
    return asdict(found) if np.isfinite(found.low) else None


def told_of(evidence: JSON) -> str:
    """The labels so far, in words."""
    labels, found, policy, doubted = (evidence[name] for name in ("labels", "interval", "policy", "doubted"))
    left_out = f"; {doubted:,} more are left out, of authors whose word is doubted" if doubted else ""
    choices = evidence["judge"]["kind"] == "choice"
    if labels is None:
        if choices:
            return "no choice that either policy may have made has a reward yet"
        return f"no audited answer has a label that was asked for yet{left_out}"
    of = ("rewarded", "choice") if choices else ("labelled", "answer")
    whom = f"{labels['rows']:,.0f} {of[0]} {_plural(of[1], labels['rows'])} to {labels['callers']:,.0f} callers"
    if found is None:
        return f"{whom} tell nothing yet{left_out}"
    metric = evidence["judge"]["metric"]
    text = f"on {whom} the difference is {_signed(metric, found['difference'])}"
    text += f" (at least {_signed(metric, found['low'])}, at most {_signed(metric, found['high'])})"
    if found["callers"] < policy["min_callers"]:
        text += f"; they count as {found['callers']:.0f} callers, and {policy['min_callers']} are needed"
    return text + left_out


def _held_back(evidence: JSON) -> str | None:
    """What a promotion still waits for besides labels."""
    policy = evidence["policy"]
    if evidence["phase"] != "canary":
        return "the challenger was not given to any caller yet"
    if evidence["challenger"] < policy["canary_rows"]:
        return f"the challenger gave {evidence['challenger']:,} answers, and {policy['canary_rows']:,} are needed"
    asked, responded = evidence["asked"], evidence["responded"]
    if asked and responded < policy["min_response"] * asked:
        said = "choices got a reward" if evidence["judge"]["kind"] == "choice" else "audit questions were answered"
        return (
            f"only {responded / asked:.0%} of the {said}, and under {policy['min_response']:.0%} they may not speak "
            "for the traffic"
        )
    return None


def _shadowed(evidence: JSON) -> bool:
    policy = evidence["policy"]
    return bool(evidence["answered"] >= policy["shadow_rows"] and evidence["elapsed"] >= policy["shadow_seconds"])


_SHARES = frozenset({"accuracy", "balanced_accuracy", "utility", "f1_samples", "subset_accuracy", "hamming", "r2"})
"""Scores of which 1 is the best there is, told in percent."""


def amount(metric: str, value: float) -> str:
    """A difference in the metric's own unit.

    >>> amount("accuracy", 0.02), amount("mae", 1.5)
    ('2.0 points', '1.5')
    """
    return f"{100 * value:.1f} points" if metric in _SHARES else f"{value:.3g}"


def _signed(metric: str, value: float) -> str:
    return f"{100 * value + 0.0:+.1f} points" if metric in _SHARES else f"{value + 0.0:+.3g}"


def _plural(noun: str, n: float) -> str:
    return noun if n == 1 else f"{noun}s"
