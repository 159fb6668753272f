"""Feedback: what was answered and what people said of it becomes labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tidemill.data.settled import Settled, settled_labels
from tidemill.store import Store, fold
from tidemill.tasks import Task


def feedback(
    store: Store, task: Task, *, assigned: Callable[[Sequence[str]], set[str]], until: float | None = None
) -> Settled:
    """Fold the journal into the tables, then settle what people said.

    Args:
        assigned: which of the given keys already have a split in the imported data, so that they cannot be audited.
        until: ignore what was said later (UTC seconds), so that a resumed cycle sees what it saw before.
    """
    fold(store, assigned=assigned)
    return settled_labels(store, task.label, until=until)
