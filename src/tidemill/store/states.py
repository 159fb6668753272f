"""Which snapshot of what a policy learned is in force, and which are kept."""

from __future__ import annotations

import contextlib
from collections.abc import Collection

from tidemill.errors import NotFoundError
from tidemill.records import Deployment, StateSnapshot
from tidemill.store.store import Store

POLICY = "policy"
"""The kind of snapshots of what a policy that chooses has learned from rewards."""
MOST_FACTS = 1000
"""Snapshots of a model whose facts are kept; of most of them the content is gone by then."""


def current_state(store: Store, deployment: Deployment) -> StateSnapshot | None:
    """What the policy in force by *deployment* learned last; ``None`` while it is as its package has it.

    A deployment begins with the snapshot that it names. Those made while it is in force follow on that.
    """
    newest = store.find(StateSnapshot, model_id=deployment.model_id, newest_first=True, limit=1)
    if newest and newest[0].kind == POLICY and newest[0].facts.get("deployment") == deployment.id:
        return newest[0]
    if deployment.state_id is None:
        return None
    named = store.find(StateSnapshot, id=deployment.state_id, limit=1)
    return named[0] if named and named[0].kind == POLICY else None


def intact_state(store: Store, identifier: str | None, gone: Collection[str] = ()) -> str | None:
    """The snapshot with this id, or where it was erased the nearest before it that was not.

    Args:
        gone: ids of snapshots that are about to be erased.

    Returns:
        Its id; ``None`` is the model as its package has it.
    """
    while identifier is not None:
        found = store.find(StateSnapshot, id=identifier, limit=1)
        if not found or not (found[0].erased or identifier in gone):
            return identifier
        identifier = found[0].parent
    return None


def last_state(store: Store, model_id: str) -> str | None:
    """The id of what a policy had learned last while it served; ``None`` for any other model."""
    newest = store.find(StateSnapshot, model_id=model_id, newest_first=True, limit=1)
    return newest[0].id if newest and newest[0].kind == POLICY else None


def prune_states(store: Store, model_id: str, keep: int) -> None:
    """Remove the content of all but the newest *keep* snapshots of a policy, and in the end their facts, too.

    Those that a deployment names stay whole, so that it can be gone back to.
    """
    snapshots = store.find(StateSnapshot, model_id=model_id, newest_first=True, limit=MOST_FACTS + keep)
    named = {deployment.state_id for deployment in store.find(Deployment, model_id=model_id)}
    kept = {s.blob for place, s in enumerate(snapshots) if place < keep or s.id in named}
    old = [s for s in snapshots[keep : 2 * keep] if s.id not in named and s.blob not in kept]
    for snapshot in old:
        with contextlib.suppress(NotFoundError):
            store.blobs.path(snapshot.blob).unlink(missing_ok=True)
    store.delete(StateSnapshot, [s.id for s in snapshots[MOST_FACTS:] if s.id not in named])
