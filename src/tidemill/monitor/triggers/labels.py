"""Labels: a cycle after so many new ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from tidemill.monitor.triggers._base import Look
from tidemill.records import JSON, LABEL_KINDS, Annotation, Cycle, Feedback
from tidemill.store import Store


class NewLabels:
    """Fires once *after* labels were stated since the last cycle looked."""

    name: ClassVar[str] = "labels"
    heavy: ClassVar[bool] = False
    fires = True

    def __init__(self, store: Store, after: int, kinds: Sequence[str] = LABEL_KINDS) -> None:
        self._store = store
        self._after = after
        self._kinds = kinds

    def look(self, memory: JSON, now: float) -> Look:
        """Count them; nothing needs to be remembered, since the cycle itself says when it began."""
        count = labels_since_cycle(self._store, self._kinds)
        waiting, found = f"{count} of {self._after} labels", {"labels": count, "after": self._after}
        reason = f"{count} new labels (after {self._after})" if count >= self._after else None
        return Look(waiting=waiting, reason=reason, found=found)


def labels_since_cycle(store: Store, kinds: Sequence[str] = LABEL_KINDS) -> int:
    """How many labels, or other *kinds* of feedback, people stated since the newest cycle began.

    A cycle reads what was said before it was created, so counting from there neither misses nor repeats any.
    """
    last = store.find(Cycle, newest_first=True, limit=1)
    since = last[0].created if last else 0.0
    return store.count(Feedback, kind=list(kinds), created_after=since) + store.count(Annotation, created_after=since)
