"""The gate: may a challenger replace the champion? A pure function from paired scores to a verdict with its reason.

:func:`judge` measures (:mod:`tidemill.gate.measure`) and then decides (:mod:`tidemill.gate.rule`). The measurements are
the verdict's evidence, JSON that :func:`replay` decides again, so a stored decision can be checked without the rows.
``docs/gate.md`` tells the rule to people who have never met it.

The sets hold the original test split (``reference``) and audited traffic (``recent``), never volunteered corrections:
users correct mostly wrong answers, and on the champion's errors every other model looks better.
"""

from __future__ import annotations

from tidemill.gate.classes import KIND, judge_class, replay_class
from tidemill.gate.measure import Costs, Judged, Policy, measure
from tidemill.gate.rule import Verdict, decide
from tidemill.gate.rule import replay as replay_model
from tidemill.records import JSON

__all__ = ["Costs", "Judged", "Policy", "Verdict", "judge", "judge_class", "level", "measure", "replay"]


def level(policy: Policy, spent: float) -> float:
    """The level of the next judgement: a fixed share (one in ``policy.tests``) of what the generation has left.

    The first of ten judgements with α = 0.05 is made at 0.005, the second at 0.0045. However many follow, together they
    spend less than α (a union bound), and the gate grows stricter but never closes.

    >>> round(level(Policy(), 0.0), 6), round(level(Policy(), 0.005), 6)
    (0.005, 0.0045)
    """
    return max(policy.alpha - spent, 0.0) / policy.tests


def judge(
    reference: Judged | None,
    recent: Judged | None,
    policy: Policy,
    *,
    spent: float = 0.0,
    metric: str = "accuracy",
    champion_costs: Costs | None = None,
    challenger_costs: Costs | None = None,
    margin_used: float = 0.0,
    incomparable: str | None = None,
) -> Verdict:
    """Compare a challenger with the champion.

    Args:
        reference: scores on the original test split; ``None`` when there is none.
        recent: scores on audited traffic (``recent-test``), weighted by inverse inclusion probability.
        policy: levels, margins, floors and the goal.
        spent: α already spent on this generation of the test sets; add ``verdict.spends`` to it afterwards.
        metric: the name of the per-row score, for the words of the reason.
        champion_costs: latency and size of the champion; needed only for the goals ``latency`` and ``size``.
        challenger_costs: the challenger's.
        margin_used: quality given away by non-inferior promotions since the last superiority winner
            (``verdict.margin_used``). Read only where the sets carry no ``anchor`` scores.
        incomparable: why the champion could not be scored on these sets; nothing is promoted over it then.

    Returns:
        The verdict; ``verdict.spends`` is the α that this look at the test sets cost.
    """
    evidence: JSON = measure(
        reference,
        recent,
        policy,
        level=level(policy, spent),
        spent=spent,
        metric=metric,
        champion_costs=champion_costs,
        challenger_costs=challenger_costs,
        margin_used=margin_used,
    )
    return decide(evidence if incomparable is None else {**evidence, "incomparable": incomparable})


def replay(evidence: JSON) -> Verdict:
    """Decide stored evidence again; the same evidence gives the same verdict.

    Raises:
        InputError: the evidence is of a schema that this version does not know, or something is missing in it.
    """
    return replay_class(evidence) if evidence.get("kind") == KIND else replay_model(evidence)
