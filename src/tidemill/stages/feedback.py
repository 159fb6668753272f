"""Feedback: what was answered and what people said of it becomes labels."""

from __future__ import annotations

from tidemill.config import Config
from tidemill.data.assigned import fold_journal
from tidemill.data.dataset import open_dataset
from tidemill.data.rewards import settled_for
from tidemill.data.settled import Settled, Tried
from tidemill.data.splits import TRAIN
from tidemill.data.targets import is_labelled
from tidemill.records import Dataset
from tidemill.store import Store
from tidemill.tasks import Task


def feedback(
    store: Store,
    task: Task,
    *,
    until: float | None = None,
    config: Config,
    tried: Tried | None = None,
) -> Settled:
    """Fold the journal into the tables, then settle what people said.

    Args:
        until: ignore what was said later (UTC seconds), so that a resumed cycle sees what it saw before.
        config: whose word counts for how much, and what silence means.
        tried: what :mod:`tidemill.stages.sift` found out about doubts; nothing unless given.
    """
    fold_journal(store)
    imported = _imported(store, until)
    tried = tried or Tried()
    return settled_for(store, task.kind, task.label, config, until=until, imported=imported, tried=tried)


def _imported(store: Store, until: float | None) -> float:
    """What the training samples of the project's sources weighed in the last dataset version; 0 before there is one."""
    newest = store.find(Dataset, newest_first=True, limit=1, created_before=until)
    if not newest:
        return 0.0
    dataset, start, total = open_dataset(store.root, newest[0]), 0, 0.0
    for part in dataset.parts:
        rows = slice(start, start + part.n)
        start += part.n
        if not part.live:
            trains = (dataset.split[rows] == TRAIN) & is_labelled(dataset.target[rows])
            total += float(dataset.weight[rows][trains].sum())
    return total
