"""Snapshots of classes that models learned from a few samples: they go with any of these.

A prototype is the mean of its samples, and of two pictures nearly either; so its snapshot is no model that is only
named. Snapshots that were made on from it hold it, too. The model serves on as it was before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tidemill.data.learned import CLASSES
from tidemill.project.forgetting.naming import Named
from tidemill.records import JSON, Annotation, Deployment, StateSnapshot, new_id
from tidemill.stages.deploy import put_into_force
from tidemill.store import Store
from tidemill.store.states import intact_state


def snapshots_that_saw(store: Store, named: Named) -> list[StateSnapshot]:
    """Those that were learned from what is named; each holds the samples of those before it, too."""
    gone = _samples(store, named)
    found = store.find(StateSnapshot, kind=CLASSES)
    return [s for s in found if any(not gone.isdisjoint(ids) for ids in s.facts["samples"].values())]


def shown(store: Store, snapshots: Sequence[StateSnapshot]) -> list[JSON]:
    """``[{"id", "model", "classes", "champion"}]``: the one in force is the champion's."""
    force = store.champion()
    return [
        {
            "id": snapshot.id,
            "model": snapshot.model_id,
            "classes": snapshot.facts["labels"],
            "champion": force is not None and force.state_id == snapshot.id,
        }
        for snapshot in snapshots
    ]


def erase_snapshots(store: Store, named: Named, found: Sequence[StateSnapshot]) -> int:
    """Take the snapshots out of force, then remove their content; how many there were.

    Their records are changed last, so that whoever goes on finds those that are not done.
    """
    doomed = {snapshot.id for snapshot in found}
    force = store.champion()
    if force is not None and force.state_id in doomed:
        back = Deployment(
            id=new_id(Deployment.prefix),
            name=force.name,
            model_id=force.model_id,
            action="promote",
            reason=f"samples were erased from which {force.state_id} was learned",
            state_id=intact_state(store, force.state_id, doomed),
        )
        put_into_force(store, back)
    gone = _samples(store, named)
    kept = {s.blob for s in store.find(StateSnapshot) if s.id not in doomed}
    for snapshot in found:
        if not snapshot.erased and snapshot.blob not in kept:  # another's samples may have been the same
            store.blobs.remove(snapshot.blob)
        samples = {name: [i for i in ids if i not in gone] for name, ids in snapshot.facts["samples"].items()}
        left = {name: ids for name, ids in samples.items() if ids}
        facts = {**snapshot.facts, "labels": list(left), "samples": left}
        store.update(dataclasses.replace(snapshot, blob="", facts=facts))
    return len(found)


def _samples(store: Store, named: Named) -> set[str]:
    """Predictions that keep samples, and are erased, or lose the label with which they were given."""
    taught = store.find(Annotation, id=named.annotations, purpose="import")
    return named.predictions | {label.subject for label in taught}
