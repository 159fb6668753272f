"""One look at a roll-out that is under way: what it has shown, what follows, and what people should be asked."""

from __future__ import annotations

from tidemill.monitor.rollout import decide
from tidemill.monitor.rollout_evidence import Doubts, LabelOf, gather
from tidemill.records import JSON, Feedback, LiveKey, Prediction, QueueItem, Rollout, new_id
from tidemill.stages.deploy import change_rollout, end_rollout
from tidemill.store import Store
from tidemill.store.rollouts import audited_since

EVERY = 5.0
"""Seconds after which what was counted is written down, though nothing follows from it."""
MOST = 500
"""How many audit questions may wait at once."""


def step(store: Store, rollout: Rollout, label_of: LabelOf, doubts: Doubts, *, now: float) -> Rollout:
    """Judge *rollout* by what there is, and let it end, advance or go on.

    Args:
        store: the project's; its journal should have been folded lately.
        rollout: as the store has it.
        label_of: the task's reading of a piece of feedback, ``task.label``.
        doubts: knows whose word does not count.
        now: UTC seconds.

    Returns:
        The roll-out as it then is.
    """
    evidence = gather(store, rollout, label_of, doubts, now=now)
    verdict = decide(evidence)
    if verdict.outcome in ("promote", "roll back"):
        evidence = gather(store, rollout, label_of, doubts, now=now, sure=True)
        verdict = decide(evidence)
    reason = verdict.reason[0].upper() + verdict.reason[1:] + "."
    if verdict.outcome == "promote":
        return end_rollout(store, rollout.id, "promoted", reason, evidence=evidence)
    if verdict.outcome == "roll back":
        return end_rollout(store, rollout.id, "rolled-back", reason, evidence=evidence)
    evidence["questions"] = _ask(store, rollout, evidence)
    if verdict.outcome == "advance":
        return change_rollout(store, rollout.id, phase="canary", reason=reason, evidence=evidence)
    before = rollout.evidence
    news = any(evidence[name] != before[name] for name in ("labels", "questions", "statements"))
    if news or evidence["elapsed"] - before["elapsed"] >= EVERY:
        return change_rollout(store, rollout.id, reason=reason, evidence=evidence)
    return rollout


def _ask(store: Store, rollout: Rollout, evidence: JSON) -> int:
    """Ask for the labels of audited answers: a cycle, which otherwise does, may not begin during a roll-out.

    One question a key, oldest first; what finds no room waits for the next look.

    Returns:
        The row up to which it was asked.
    """
    room = MOST - store.count(QueueItem, done=False, purpose="audit")
    if room <= 0:
        return int(evidence["questions"])
    rows = audited_since(store, evidence["questions"], limit=room)
    if not rows:
        return int(evidence["questions"])
    first = {prediction.key: prediction for _, prediction in reversed(rows)}
    subjects = {said.subject for said in store.find(Feedback, asked=True, created_after=rollout.created)}
    subjects |= {item.subject for item in store.find(QueueItem, purpose="audit", done=False)}
    subjects |= {item.subject for item in store.find(QueueItem, purpose="audit", created_after=rollout.created)}
    left_out = {p.key for p in store.find(Prediction, id=subjects)}
    left_out |= {k.key for k in store.find(LiveKey, key=set(first), split="train")}
    rank = float(evidence["questions"])
    items = [
        QueueItem(
            id=new_id(QueueItem.prefix),
            subject=prediction.id,
            purpose="audit",
            rank=rank + place,
            reason=f"drawn at random (1 in {1 / prediction.audit_probability:.0f}) to judge a roll-out",
            inputs=prediction.inputs,
        )
        for place, (key, prediction) in enumerate(sorted(first.items(), key=lambda pair: pair[1].id))
        if key not in left_out
    ]
    store.insert(*items)
    return rows[-1][0]
