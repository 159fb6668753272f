"""Feedback: what was answered and what people said of it becomes labels."""

from __future__ import annotations

from tidemill.data.assigned import fold_journal
from tidemill.data.settled import Settled, settled_labels
from tidemill.store import Store
from tidemill.tasks import Task


def feedback(store: Store, task: Task, *, until: float | None = None) -> Settled:
    """Fold the journal into the tables, then settle what people said.

    Args:
        until: ignore what was said later (UTC seconds), so that a resumed cycle sees what it saw before.
    """
    fold_journal(store)
    return settled_labels(store, task.label, until=until)
