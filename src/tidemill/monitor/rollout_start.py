"""A roll-out that begins: on which terms, fixed until it ends, and how its answers will be scored."""

from __future__ import annotations

from typing import Literal

from tidemill.config import Config, parse_duration
from tidemill.data.rewards import horizon_of
from tidemill.monitor.rollout_evidence import begun
from tidemill.records import JSON, Rollout, new_id
from tidemill.store import Store
from tidemill.tasks import Task, metric_of


def new_rollout(
    store: Store,
    config: Config,
    judge: JSON,
    *,
    champion: str,
    challenger: str,
    reason: str,
    phase: Literal["shadow", "canary"] | None = None,
    share: float | None = None,
    decision: str | None = None,
    author: str | None = None,
) -> Rollout:
    """A roll-out by the project's policy, not yet stored.

    Args:
        judge: what :func:`judge_of` gives.
        champion: the model that serves.
        challenger: the model that is to.
        reason: why, in plain words.
        phase: in which it begins, and *share* how many callers a canary answers; as ``rollout`` in ``tidemill.yaml``
            says unless given.
        decision: the gate's decision that began it.
        author: the person who did.
    """
    policy = config.rollout
    terms = {
        "shadow_rows": policy.shadow_rows,
        "shadow_seconds": 0.0 if policy.shadow_for is None else parse_duration(policy.shadow_for),
        "canary_rows": policy.canary_rows,
        "margin": policy.margin,
        "alpha": policy.alpha,
        "min_callers": policy.min_callers,
        "max_seconds": parse_duration(policy.max_for),
        "undecided": policy.undecided,
        "max_faults": policy.max_faults,
        "min_response": config.audit.min_response,
    }
    return Rollout(
        id=new_id(Rollout.prefix),
        name="default",
        champion_id=champion,
        challenger_id=challenger,
        phase=phase or ("canary" if policy.policy == "canary" else "shadow"),
        share=policy.share if share is None else share,
        status="running",
        reason=reason,
        decision_id=decision,
        evidence=begun(store, terms, judge),
        author=author,
    )


def judge_of(task: Task, config: Config, spread: float) -> JSON:
    """How live answers are scored: as the gate scores them.

    Args:
        spread: the variance of the training rows' values, by which R² is measured; 1 for other kinds.

    Choices are scored by their rewards, and what silence means is fixed with the other terms.
    """
    rule = config.decision
    terms: JSON = {"costs": rule.costs, "abstain_cost": rule.abstain_cost}
    if task.kind == "choice":
        bandit = config.bandit
        terms = {"horizon": horizon_of(bandit), "silence": bandit.silence, "rewards": list(bandit.rewards)}
    return {"kind": task.kind, "metric": metric_of(task, rule), "spread": spread, **terms}
