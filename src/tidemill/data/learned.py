"""The labels that models learned between cycles, from a few samples each."""

from __future__ import annotations

from tidemill.records import StateSnapshot
from tidemill.store import Store

CLASSES = "classes"
"""The ``kind`` of state snapshots that hold them."""


def learned_labels(store: Store) -> tuple[str, ...]:
    """Every label that was ever learned so: its samples train from the next cycle on."""
    snapshots = store.find(StateSnapshot, kind=CLASSES)
    return tuple(dict.fromkeys(label for snapshot in snapshots for label in snapshot.facts["labels"]))
