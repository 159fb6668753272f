"""The rule: from measured evidence to promoted or refused, with one sentence that says why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from tidemill.errors import InputError
from tidemill.gate.measure import SCHEMA
from tidemill.metrics.paired import holm
from tidemill.records import JSON


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate says.

    Attributes:
        outcome: ``promoted`` or ``refused``.
        reason: one sentence in plain words, with the numbers.
        evidence: JSON; what was measured, every check, and what follows. :func:`replay` decides it again.
    """

    outcome: Literal["promoted", "refused"]
    reason: str
    evidence: JSON

    @property
    def spends(self) -> float:
        """The α that this judgement cost its generation of the test sets."""
        return float(self.evidence["spends"])

    @property
    def becomes_anchor(self) -> bool:
        """The challenger won by superiority, so that later margins are measured from it."""
        return bool(self.evidence["becomes_anchor"])

    @property
    def margin_used(self) -> float:
        """Quality given away since the last superiority winner, if the challenger is deployed."""
        return float(self.evidence["margin_used_after"])


@dataclass(frozen=True, slots=True)
class _Check:
    name: str
    passed: bool
    text: str


def replay(evidence: JSON) -> Verdict:
    """Decide stored evidence again; the same evidence gives the same verdict.

    Raises:
        InputError: the evidence is of a schema that this version does not know, or something is missing in it.
    """
    if evidence.get("schema") != SCHEMA:
        raise InputError(
            f"the evidence has schema {evidence.get('schema')!r}", mend=f"This version replays schema {SCHEMA}."
        )
    try:
        return decide(evidence)
    except (KeyError, TypeError) as error:
        raise InputError(f"the evidence is not whole: {error}", mend="Judge again with a new cycle.") from error


def decide(measured: JSON) -> Verdict:
    """The rule itself; reads only what :func:`tidemill.gate.measure.measure` wrote."""
    claim = measured["claim"]
    if (why := measured.get("incomparable")) is not None:
        text = f"the champion cannot be compared: {why}; put the challenger into force by hand with `tidemill promote`"
        return _verdict(measured, [_Check("comparable", False, text)], spends=0.0, superior=False)
    if claim is None:
        empty = (
            "there are no labelled test rows, so nothing can be claimed; label some, or give the source a test split"
        )
        return _verdict(measured, [_Check("rows", False, empty)], spends=0.0, superior=False)
    facts, policy = measured["sets"][claim], measured["policy"]
    if (why := measured.get("unsupported")) is not None:
        text = f"{why}, so what it would earn cannot be told; log more blind choices (bandit.floor)"
        return _verdict(measured, [_Check("support", False, text)], spends=0.0, superior=False)
    if measured["closed"]:
        text = (
            f"only {facts['response_rate']:.0%} of the audit questions on {claim} were answered, and under "
            f"{policy['min_response_rate']:.0%} the answered ones may not speak for the traffic; answer more of them"
        )
        return _verdict(measured, [_Check("response", False, text)], spends=0.0, superior=False)
    if "champion" not in facts:
        return _verdict(measured, [_first(measured), *_baseline(measured)], spends=0.0, superior=True)
    superior = facts["champion"]["difference"] > 0 and facts["champion"]["p_better"] <= measured["level"]
    checks = [_claim(measured, superior=superior), *_baseline(measured), *_other_sets(measured)]
    adjusted = _adjust(measured)
    checks += _slices(measured, adjusted)
    return _verdict(measured, checks, spends=measured["level"], superior=superior, slices=adjusted)


_CONSTANT = {
    "utility": "the cheapest answer",
    "r2": "the mean",
    "mse": "the mean",
    "mae": "the median",
    "f1_samples": "the most frequent labels",
    "subset_accuracy": "the most frequent labels",
    "hamming": "the most frequent labels",
    "label_log_loss": "the most frequent labels",
    "reward": "the policy that made the logs",
}
"""The best answer without inputs, by metric, where that is not the most frequent one."""


def _first(measured: JSON) -> _Check:
    """Before there is a champion: a model must know more than which answer does best without inputs."""
    against, policy = measured["sets"][measured["claim"]]["prior"], measured["policy"]
    constant = _CONSTANT.get(measured["metric"], "the most frequent answer")
    passed = against["difference"] > 0 and against["p_better"] <= policy["alpha"]
    always = constant if measured["metric"] in _EARNED else f"always giving {constant}"
    text = _compared(measured, "prior", always)
    if passed:
        return _Check("first", True, f"the first deployment must beat {constant}, and {text}")
    if against["difference"] > 0:
        text += f", which chance alone would give with {_p(against['p_better'])} (needed: {_level(policy['alpha'])})"
    return _Check("first", False, f"a first deployment must clearly beat {constant}, but {text}")


def _claim(measured: JSON, *, superior: bool) -> _Check:
    """Superiority, or no loss within the margin together with a better goal."""
    facts, policy, level = measured["sets"][measured["claim"]], measured["policy"], measured["level"]
    against = facts["champion"]
    text = _compared(measured, "champion", "the champion")
    if superior:
        chance = f"chance alone would give that with {_p(against['p_better'])} (needed: {_level(level)})"
        return _Check("claim", True, f"{text}; {chance}")
    goal, gain = _goal(measured)
    strictest = max((facts[name]["p_no_worse"], name) for name in ("champion", "anchor") if name in facts)
    no_worse = strictest[0] <= level
    if goal and gain is not None and gain >= policy["goal_gain"]:
        margin = _amount(measured["metric"], policy["margin"])
        whom = "champion" if strictest[1] == "champion" else "last model that won on quality"
        shown = f"{goal}; that it loses no more than {margin} to the {whom}"
        chance = f"{_p(strictest[0])} (needed: {_level(level)})"
        if no_worse:
            return _Check("claim", True, f"{shown} is shown with {chance}, and {text}")
        return _Check("claim", False, f"{shown} is not shown: {chance}, and {text}")
    if against["difference"] > 0:
        text += (
            f"; chance alone would give that with {_p(against['p_better'])}, and this judgement needs {_level(level)}"
        )
    elif against["p_harm"] <= policy["alpha"]:
        text += ", which is clear evidence of a loss"
    return _Check("claim", False, f"{text}; nor is there a better {policy['goal']}: {goal}" if goal else text)


def _goal(measured: JSON) -> tuple[str, float | None]:
    """The stated goal in words, and by which share the challenger improves it."""
    goal, costs = measured["policy"]["goal"], measured["costs"]
    if goal == "quality":
        return "", None
    if costs["champion"] is None or costs["challenger"] is None:
        return f"the {goal} was not measured", None
    name, unit, scale = ("latency_ms", "ms", 1.0) if goal == "latency" else ("size_bytes", "MB", 1e6)
    old, new = costs["champion"][name] / scale, costs["challenger"][name] / scale
    gain = (old - new) / old if old > 0 else 0.0
    return f"its {goal} is {new:.3g} {unit} against {old:.3g} {unit}", gain


def _baseline(measured: JSON) -> list[_Check]:
    against = measured["sets"][measured["claim"]].get("baseline")
    if against is None:
        return []
    text = _compared(measured, "baseline", "the best baseline")
    return [_Check("baseline", against["difference"] >= 0, text)]


def _other_sets(measured: JSON) -> list[_Check]:
    """What is not claimed must not be lost either: proven where samples suffice, unharmed where they do not."""
    policy, checks = measured["policy"], []
    for name, facts in measured["sets"].items():
        if name == measured["claim"]:
            continue
        text = _compared(measured, "champion", "the champion", where=name)
        if facts["effective"] < policy["min_effective"]:
            passed = facts["champion"]["p_harm"] > policy["alpha"]
            note = "too few samples to prove that nothing is lost, and no evidence of harm"
            checks.append(_Check("other", passed, f"{text} ({note if passed else 'evidence of a loss'})"))
            continue
        p = max(facts[other]["p_no_worse"] for other in ("champion", "anchor") if other in facts)
        margin = _amount(measured["metric"], policy["margin"])
        verb = "is shown" if p <= policy["alpha"] else "is not shown"
        note = f"that no more than {margin} is lost there {verb}: {_p(p)} (needed: {_level(policy['alpha'])})"
        checks.append(_Check("other", p <= policy["alpha"], f"{text}; {note}"))
    return checks


def _adjust(measured: JSON) -> list[JSON]:
    """Every slice with its status and Holm-adjusted p-value of a loss beyond the margin."""
    judged = [s for s in measured["slices"] if s["p_harm"] is not None]
    p_values = iter(holm([s["p_harm"] for s in judged]))
    found = []
    for part in measured["slices"]:
        p = next(p_values) if part["p_harm"] is not None else None
        status = "not judged" if p is None else "harmed" if p <= measured["policy"]["alpha"] else "not harmed"
        found.append({**part, "p_adjusted": p, "status": status})
    return found


def _slices(measured: JSON, slices: list[JSON]) -> list[_Check]:
    if not slices:
        return []
    policy = measured["policy"]
    harmed = sorted((s for s in slices if s["status"] == "harmed"), key=lambda s: s["difference"])
    judged = sum(s["status"] != "not judged" for s in slices)
    if not harmed:
        few = len(slices) - judged
        note = f", {few} too small to judge" if few else ""
        return [_Check("slices", True, f"no slice of the {judged} judged shows a loss beyond the margin{note}")]
    worst, metric = harmed[0], measured["metric"]
    more = f", and {len(harmed) - 1} more are harmed" if len(harmed) > 1 else ""
    parts = "1 slice" if judged == 1 else f"{judged} slices"
    text = (
        f"it harms the slice {worst['slice']} of {worst['set']} ({worst['rows']:,} rows): "
        f"{_quality(metric, worst['challenger'])} against the champion's {_quality(metric, worst['champion'])}, "
        f"{_gap(metric, worst)}, a loss beyond {_amount(metric, policy['slice_margin'])} with "
        f"{_p(worst['p_adjusted'])} after adjustment for {parts}{more}"
    )
    return [_Check("slices", False, text)]


def _verdict(
    measured: JSON, checks: list[_Check], *, spends: float, superior: bool, slices: list[JSON] | None = None
) -> Verdict:
    failed = [check for check in checks if not check.passed]
    told = failed[0] if failed else checks[0]
    outcome: Literal["promoted", "refused"] = "refused" if failed else "promoted"
    reason = told.text[0].upper() + told.text[1:] + "."
    left = _given_away(measured, superior=superior)
    evidence = {
        **measured,
        "slices": measured["slices"] if slices is None else slices,
        "checks": [{"name": c.name, "passed": c.passed, "text": c.text} for c in checks],
        "spends": spends,
        "becomes_anchor": not failed and superior and left == 0.0,
        "margin_used_after": measured["margin_used"] if failed else left,
        "outcome": outcome,
        "reason": reason,
    }
    return Verdict(outcome, reason, evidence)


def _given_away(measured: JSON, *, superior: bool) -> float:
    """How far the challenger stands below the last superiority winner, by the estimate on the claim's set."""
    facts: JSON = measured["sets"].get(measured["claim"], {})
    if "champion" not in facts:
        return 0.0
    used = 0.0 if "anchor" in facts else float(measured["margin_used"])
    difference = float(facts["anchor" if "anchor" in facts else "champion"]["difference"])
    # A gain that was not proven gives nothing back: luck would otherwise refill the margin.
    return max(0.0, used - difference) if superior or difference < 0 else used


_SHARES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "utility": "utility",
    "f1_samples": "F1 a row",
    "subset_accuracy": "rows with all labels right",
    "hamming": "labels right",
    "r2": "R²",
}
"""Scores of which 1 is the best there is, told in percent."""
_EARNED = ("reward",)
"""Scores in a unit of their own, of which more is better."""
_LOSSES = {
    "log_loss": "log-loss",
    "label_log_loss": "log-loss a label",
    "brier": "Brier score",
    "mae": "mean absolute error",
    "mse": "mean squared error",
}
"""Scores that are losses with their sign turned."""


def _quality(metric: str, value: float) -> str:
    if metric in _EARNED:
        return f"a {metric} of {value:.4g} a choice"
    return f"{100 * value:.1f} %" if metric in _SHARES else f"{-value:.4g} {_LOSSES.get(metric, metric)}"


def _amount(metric: str, value: float) -> str:
    return f"{100 * value:.1f} points" if metric in _SHARES else f"{value:.3g} {_LOSSES.get(metric, metric)}"


def _gap(metric: str, against: Any) -> str:
    d, low, high = against["difference"], against["low"], against["high"]
    if metric in _SHARES:
        d, low, high = (round(100 * v, 1) + 0.0 for v in (d, low, high))  # + 0.0: no "-0.0"
        return f"{d:+.1f} points (95 % interval {low:+.1f} to {high:+.1f})"
    return f"a gain of {d:+.4g} (95 % interval {low:+.4g} to {high:+.4g})"


def _p(value: float) -> str:
    return f"p = {value:.2g}" if value >= 1e-4 else "p < 0.0001"


def _level(value: float) -> str:
    return f"{value:.2g}"


def _compared(measured: JSON, whom: str, name: str, *, where: str | None = None) -> str:
    split = where or measured["claim"]
    facts, metric = measured["sets"][split], measured["metric"]
    against = facts[whom]
    kind = f" {_SHARES[metric]}" if metric in _SHARES else ""
    return (
        f"on {split} ({facts['rows']:,} rows) the challenger has {_quality(metric, against['challenger'])}{kind} and "
        f"{name} {_quality(metric, against['other'])}, {_gap(metric, against)}"
    )
