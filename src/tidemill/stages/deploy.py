"""Deploy: put the gate's decision into force, at once or through a roll-out, or record why nothing changes.

Whatever begins, changes or ends what serves is one transaction here: a process that is killed in the middle leaves
either all of it or nothing.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

from tidemill.errors import ConflictError, TidemillError
from tidemill.records import (
    JSON,
    Annotation,
    Decision,
    Deployment,
    Generation,
    Prediction,
    Rollout,
    StateSnapshot,
    new_id,
)
from tidemill.store import Store, running_rollout, standing

Phase = Literal["shadow", "canary"]
Ending = Literal["promoted", "rolled-back", "stopped"]


def deploy(
    store: Store,
    decision: Decision,
    generation: Generation,
    *,
    spends: float,
    warm_up: Callable[[], None],
    rollout: Callable[[str], Rollout] | None = None,
) -> Decision:
    """Commit the decision, the α it cost and, when the challenger won, its deployment or roll-out, in one transaction.

    Args:
        warm_up: opens the challenger's package and answers with it once; when that fails the challenger is refused,
            whatever its scores.
        rollout: makes the roll-out by which a winner comes to serve, of the champion's id; ``None`` when it serves at
            once, as it also does where nothing serves yet.

    Returns:
        The decision as it was stored.
    """
    if decision.outcome == "promoted":
        try:
            warm_up()
        except TidemillError as error:
            decision = _refused(decision, f"the challenger does not start, so it cannot serve: {error}")
    with store.transaction():
        store.update(dataclasses.replace(generation, spent=generation.spent + spends))
        if decision.outcome == "promoted" and (other := running_rollout(store)) is not None:
            decision = _refused(decision, f"the roll-out of {other.challenger_id} is still under way")
        if decision.outcome != "promoted":
            store.insert(decision)
        elif rollout is None or (champion := store.champion()) is None:
            deployment = Deployment(
                id=new_id(Deployment.prefix),
                name="default",
                model_id=decision.challenger_id,
                action="promote",
                reason=decision.reason,
                decision_id=decision.id,
            )
            store.deploy(deployment, decision)
        else:
            store.insert(decision, rollout(champion.model_id))
    return decision


def deploy_state(
    store: Store,
    decision: Decision,
    generation: Generation,
    snapshot: StateSnapshot,
    samples: Sequence[tuple[Prediction, Annotation]],
    *,
    replaces: Deployment,
) -> Deployment | None:
    """Commit a decision on what a model learned, the α it cost and, when it won, the snapshot and its deployment.

    Args:
        snapshot: its blob is stored already.
        samples: what it was learned from, each with its label; kept only with it.
        replaces: the deployment that it was judged beside.

    Returns:
        The deployment; ``None`` when it was refused.

    Raises:
        ConflictError: another model came into force meanwhile, or a roll-out began.
    """
    with store.transaction():
        store.update(dataclasses.replace(generation, spent=generation.spent + decision.alpha))
        if decision.outcome != "promoted":
            store.insert(decision)
            return None
        current = store.champion(replaces.name)
        if current is None or current.id != replaces.id or running_rollout(store, replaces.name) is not None:
            raise ConflictError("another model came into force just now", mend="Look again, and learn the class anew.")
        deployment = Deployment(
            id=new_id(Deployment.prefix),
            name=replaces.name,
            model_id=snapshot.model_id,
            action="promote",
            reason=decision.reason,
            decision_id=decision.id,
            state_id=snapshot.id,
        )
        store.insert(snapshot, *(prediction for prediction, _ in samples), *(label for _, label in samples))
        store.deploy(deployment, decision)
    return deployment


def begin_rollout(store: Store, rollout: Rollout, *, seen: str | None = None) -> Rollout:
    """Let a challenger begin its roll-out.

    Args:
        rollout: not stored yet.
        seen: what :func:`tidemill.store.standing` said when this was decided; whatever stands unless given.

    Raises:
        ConflictError: another roll-out is under way, the challenger serves already, or something else stands.
    """
    with store.transaction():
        _require_seen(store, seen, rollout.name)
        if (other := running_rollout(store, rollout.name)) is not None:
            raise ConflictError(
                f"the roll-out of {other.challenger_id} is still under way",
                where=other.id,
                mend="See how it stands with `tidemill rollout`; end it with `tidemill rollout stop`.",
            )
        champion = store.champion(rollout.name)
        if champion is None or champion.model_id != rollout.champion_id:
            raise ConflictError("another model came into force just now", mend="Look again, and start it anew.")
        if champion.model_id == rollout.challenger_id:
            raise ConflictError(f"{rollout.challenger_id} serves already", mend="Name another model.")
        store.insert(rollout)
    return rollout


def change_rollout(
    store: Store,
    identifier: str,
    *,
    phase: Phase | None = None,
    share: float | None = None,
    reason: str | None = None,
    evidence: JSON | None = None,
    author: str | None = None,
    seen: str | None = None,
) -> Rollout:
    """Change what is given of a roll-out that is under way; one that has ended stays as it is.

    Returns:
        The roll-out as it now is.

    Raises:
        ConflictError: something else stands than was *seen*.
    """
    given: dict[str, Any] = {"phase": phase, "share": share, "reason": reason, "evidence": evidence, "author": author}
    with store.transaction():
        rollout = store.get(Rollout, identifier)
        _require_seen(store, seen, rollout.name)
        if rollout.status == "running":
            rollout = dataclasses.replace(rollout, **{k: v for k, v in given.items() if v is not None})
            store.update(rollout)
    return rollout


def end_rollout(
    store: Store,
    identifier: str,
    status: Ending,
    reason: str,
    *,
    evidence: JSON | None = None,
    author: str | None = None,
    seen: str | None = None,
) -> Rollout:
    """End a roll-out; when it is promoted, together with the deployment of its challenger. Only the first call counts.

    Returns:
        The roll-out as it ended, by this or by an earlier call.

    Raises:
        ConflictError: something else stands than was *seen*.
    """
    with store.transaction():
        rollout = store.get(Rollout, identifier)
        _require_seen(store, seen, rollout.name)
        if rollout.status != "running":
            return rollout
        deployment = None
        if status == "promoted":
            deployment = Deployment(
                id=new_id(Deployment.prefix),
                name=rollout.name,
                model_id=rollout.challenger_id,
                action="promote",
                reason=reason,
                decision_id=rollout.decision_id,
                author=author,
            )
            store.deploy(deployment)
        return _ended(store, rollout, status, reason, evidence, author, deployment)


def put_into_force(
    store: Store, deployment: Deployment, *, seen: str | None = None
) -> tuple[Deployment, Rollout | None]:
    """Deploy by hand. A roll-out that is under way ends with it: the model that it is measured by has changed.

    Args:
        deployment: not stored yet.
        seen: what :func:`tidemill.store.standing` said when this was decided; whatever stands unless given.

    Returns:
        The deployment, which names the decision that its roll-out began with, and the roll-out that ended.

    Raises:
        ConflictError: something else stands than was seen.
    """
    with store.transaction():
        _require_seen(store, seen, deployment.name)
        rollout = running_rollout(store, deployment.name)
        if rollout is not None and deployment.model_id == rollout.challenger_id:
            deployment = dataclasses.replace(deployment, decision_id=rollout.decision_id)
        store.deploy(deployment)
        if rollout is None:
            return deployment, None
        status: Ending = "promoted" if deployment.model_id == rollout.challenger_id else "stopped"
        said = "Promoted" if status == "promoted" else f"{deployment.model_id} was put into force"
        reason = f"{said} by hand: {deployment.reason}"
        return deployment, _ended(store, rollout, status, reason, None, deployment.author, deployment)


def _ended(
    store: Store,
    rollout: Rollout,
    status: Ending,
    reason: str,
    evidence: JSON | None,
    author: str | None,
    deployment: Deployment | None,
) -> Rollout:
    ended = dataclasses.replace(
        rollout,
        status=status,
        reason=reason,
        evidence=rollout.evidence if evidence is None else evidence,
        finished=time.time(),
        deployment_id=deployment.id if deployment is not None and status == "promoted" else None,
        author=rollout.author if author is None else author,
    )
    store.update(ended)
    return ended


def _require_seen(store: Store, seen: str | None, name: str) -> None:
    """Refuse what somebody decided who had something else before them; in the transaction that would do it."""
    if seen is not None and seen != standing(store, name):
        raise ConflictError(
            "another model came into force, or a roll-out began or ended, since you looked",
            where="page",
            mend="Look at what serves now, then decide again; nothing was changed.",
        )


def _refused(decision: Decision, reason: str) -> Decision:
    return dataclasses.replace(decision, outcome="refused", reason=reason)
