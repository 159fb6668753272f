"""What the gate measures: paired comparisons on each set and slice, as JSON evidence."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tidemill.errors import InputError
from tidemill.metrics.off_policy import refusal_of
from tidemill.metrics.paired import Paired, paired
from tidemill.metrics.units import Floats, Units, kish
from tidemill.records import JSON

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What it takes to be promoted.

    Attributes:
        alpha: chance of ever promoting on noise alone within one generation of the test sets.
        tests: each judgement spends one part in so many of the α that is left.
        margin: loss (in units of the metric; 0.01 is one point of accuracy) that counts as none.
        slice_margin: the same for a slice.
        min_effective: effective samples from which on a set can carry the claim (``recent``) or must prove that nothing
            is lost there (the other set).
        min_response_rate: share of the asked audit questions that must have been answered.
        min_slice: effective samples from which on a slice is judged.
        goal: ``quality``, or what may win instead when quality is no worse: ``latency`` or ``size``.
        goal_gain: by how much that must improve, as a share; 0.1 is a tenth.
        min_choices: of logged choices, how many of the challenger's own they must be worth.
    """

    alpha: float = 0.05
    tests: int = 10
    margin: float = 0.01
    slice_margin: float = 0.03
    min_effective: float = 200
    min_response_rate: float = 0.5
    min_slice: float = 50
    goal: Literal["quality", "latency", "size"] = "quality"
    goal_gain: float = 0.1
    min_choices: float = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What a model costs to run: median latency of one row in milliseconds, and package size in bytes."""

    latency_ms: float
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Per-row scores (larger is better, see :func:`tidemill.metrics.row_scores`) of several models on one set.

    Attributes:
        split: the set's name in the reason.
        keys: split keys ``[n]``; rows of one key are one draw.
        challenger: float64 ``[n]``.
        champion: float64 ``[n]``; ``None`` before the first deployment.
        weights: inverse inclusion probabilities ``[n]``; ``None`` when all rows were equally likely.
        anchor: scores of the last model that won by superiority, if that is not the champion: margins are measured from
            it, so that small losses cannot add up.
        baseline: scores of the best baseline, if the challenger is not one itself.
        prior: scores of always giving the best constant answer (see :func:`tidemill.metrics.constant_scores`); needed
            for a first deployment.
        slices: ``{"label=cat": bool mask [n], …}``.
        response_rate: answered share of the audit questions asked; ``None`` where nobody was asked.
        left_out: share of the traffic that this set does not speak for, because its keys already train.
        support: of logged choices, whether they can tell what the challenger would earn: facts as
            :meth:`tidemill.metrics.off_policy.Support.to_json` gives them.
    """

    split: str
    keys: npt.NDArray[Any]
    challenger: Floats
    champion: Floats | None = None
    weights: npt.NDArray[Any] | None = None
    anchor: Floats | None = None
    baseline: Floats | None = None
    prior: Floats | None = None
    slices: Mapping[str, npt.NDArray[np.bool_]] = field(default_factory=dict)
    response_rate: float | None = None
    left_out: float | None = None
    support: JSON | None = None


def measure(
    reference: Judged | None,
    recent: Judged | None,
    policy: Policy,
    *,
    level: float,
    spent: float,
    metric: str,
    champion_costs: Costs | None,
    challenger_costs: Costs | None,
    margin_used: float,
) -> JSON:
    """Everything that the rule reads, and nothing else. See :func:`tidemill.gate.judge`."""
    ready = recent is not None and _effective(recent) >= policy.min_effective
    claim = recent if ready or reference is None or not len(reference.keys) else reference
    # A claim that will be refused for its response rate is refused unseen: nobody looks, and no α is spent.
    closed = claim is recent and claim is not None and _unanswered(claim, policy)
    unsupported = None if claim is None else _unsupported(claim, policy)
    closed = closed or unsupported is not None
    given = [s for s in (reference, recent) if s is not None and len(s.keys)]
    sets = {s.split: _set(s, policy, margin_used, closed=closed) for s in given}
    return {
        "schema": SCHEMA,
        "metric": metric,
        "policy": dataclasses.asdict(policy),
        "level": level,
        "spent": spent,
        "claim": claim.split if claim is not None and claim.split in sets else None,
        "closed": closed,
        **({} if unsupported is None else {"unsupported": unsupported}),
        "margin_used": margin_used,
        "sets": sets,
        "slices": [] if closed else [found for judged in given for found in _slices(judged, policy)],
        "costs": {
            name: None if costs is None else dataclasses.asdict(costs)
            for name, costs in (("champion", champion_costs), ("challenger", challenger_costs))
        },
    }


def _effective(judged: Judged) -> float:
    units = Units.of(judged.keys)
    return kish(units.sum(np.ones(len(judged.keys)) if judged.weights is None else judged.weights))


def _unanswered(judged: Judged, policy: Policy) -> bool:
    return judged.response_rate is not None and judged.response_rate < policy.min_response_rate


def _unsupported(judged: Judged, policy: Policy) -> str | None:
    """Why logged choices cannot tell what the challenger would earn."""
    return None if judged.support is None else refusal_of(judged.support, policy.min_choices)


def _set(judged: Judged, policy: Policy, margin_used: float, *, closed: bool) -> JSON:
    if judged.champion is None and judged.prior is None:
        raise InputError("the gate was given neither champion nor prior scores", where=judged.split)
    facts: JSON = {
        "rows": len(judged.keys),
        "effective": _effective(judged),
        "response_rate": judged.response_rate,
        "left_out": judged.left_out,
        "estimand": _estimand(judged),
        **({} if judged.support is None else {"support": judged.support}),
    }
    if closed:
        return facts
    others = {"champion": judged.champion, "anchor": judged.anchor, "baseline": judged.baseline, "prior": judged.prior}
    for name, scores in others.items():
        if scores is not None:
            # Without the anchor's own scores, what was given away since it won is taken off the margin.
            used = margin_used if name == "champion" and judged.anchor is None else 0.0
            result = paired(judged.challenger, scores, judged.keys, judged.weights)
            facts[name] = _against(result, max(policy.margin - used, 0.0), policy.margin)
    return facts


def _estimand(judged: Judged) -> str:
    """What a mean over this set estimates, in words."""
    if judged.support is not None:
        return "the mean reward of a choice, doubly robust, over the contexts of this split"
    if judged.response_rate is None and judged.left_out is None:
        return "the mean over the samples of this split, each split key one draw"
    out = "" if judged.left_out is None else f", which leaves out {judged.left_out:.0%} of the traffic"
    return f"the mean over live traffic whose keys do not train{out}"


def _against(result: Paired, margin: float, harm: float) -> JSON:
    return {
        "challenger": result.first,
        "other": result.second,
        "difference": result.difference,
        "low": result.low,
        "high": result.high,
        "units": result.units,
        "wins": result.wins,
        "losses": result.losses,
        "p_better": result.above_zero(),
        "p_no_worse": result.above(-margin),
        "p_harm": result.below(-harm),
    }


def _slices(judged: Judged, policy: Policy) -> list[JSON]:
    if judged.champion is None:
        return []
    found = []
    for name, mask in judged.slices.items():
        if not mask.any():
            continue
        weights = None if judged.weights is None else judged.weights[mask]
        part = paired(judged.challenger[mask], judged.champion[mask], judged.keys[mask], weights)
        judge_it = part.effective >= policy.min_slice
        found.append(
            {
                "set": judged.split,
                "slice": name,
                "rows": part.rows,
                "effective": part.effective,
                "challenger": part.first,
                "champion": part.second,
                "difference": part.difference,
                "low": part.low,
                "high": part.high,
                "p_harm": part.below(-policy.slice_margin) if judge_it else None,
            }
        )
    return found
