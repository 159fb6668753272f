"""Triggers: what starts a cycle without being asked."""

from __future__ import annotations

from dataclasses import dataclass

from tidemill.records import LABEL_KINDS, Annotation, Cycle, Feedback
from tidemill.store import Store


@dataclass(frozen=True, slots=True)
class NewLabels:
    """Fires once *after* labels were stated since the last cycle looked."""

    after: int

    def due(self, store: Store) -> str | None:
        """Why a cycle should start now, or ``None``."""
        count = labels_since_cycle(store)
        return f"{count} new labels (after {self.after})" if count >= self.after else None


def labels_since_cycle(store: Store) -> int:
    """How many labels people stated since the newest cycle began.

    A cycle reads what was said before it was created, so counting from there neither misses nor repeats any.
    """
    last = store.find(Cycle, newest_first=True, limit=1)
    since = last[0].created if last else 0.0
    return store.count(Feedback, kind=LABEL_KINDS, created_after=since) + store.count(Annotation, created_after=since)
