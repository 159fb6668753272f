"""What a serving process writes with: its answers wait for the futures of these two."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

from tidemill.records import JSON, Feedback, Prediction
from tidemill.store import payloads
from tidemill.store.feedback import FeedbackOutcome
from tidemill.store.group import GroupCommitter
from tidemill.store.journal import Journal

if TYPE_CHECKING:
    from tidemill.store.store import Store

#: Where the journal lies below the store's root.
JOURNAL = "journal"


class JournalWriter:
    """Writes predictions to the journal below *root*, the store's folder."""

    def __init__(self, root: Path) -> None:
        self._journal = Journal(root / JOURNAL, "predictions")

    def submit(self, *predictions: Prediction) -> Future[None]:
        """Append *predictions*; the future resolves after their fsync, and only then may their answers leave.

        Raises:
            InputError: a prediction holds what JSON cannot, or the character NUL outside its inputs and answer.
            StoreError: the journal is closed, or an fsync failed earlier.
        """
        return self._journal.append([payloads.written(prediction) for prediction in predictions])

    def add_shadows(self, shadows: Mapping[str, JSON]) -> Future[None]:
        """Append what the other model of a roll-out would have answered, by the prediction's id; nobody waits for it.

        The predictions must have been submitted before.

        Raises:
            InputError: an answer holds what JSON cannot.
            StoreError: the journal is closed, or an fsync failed earlier.
        """
        return self._journal.append([payloads.written_shadow(i, shadow) for i, shadow in shadows.items()])

    def close(self) -> None:
        """Make durable what was submitted, and let go of the segment."""
        self._journal.close()


class FeedbackWriter:
    """Commits feedback to the tables of *store* in groups.

    Args:
        told: of the outcomes of each group that has been committed.
    """

    def __init__(self, store: Store, told: Callable[[Sequence[FeedbackOutcome]], None] | None = None) -> None:
        def commit(items: list[Feedback]) -> list[FeedbackOutcome]:
            outcomes = store.add_feedback(items)
            if told is not None:
                told(outcomes)
            return outcomes

        # 200 pieces hold the write lock for a few milliseconds.
        self._group: GroupCommitter[Feedback, FeedbackOutcome] = GroupCommitter(
            commit, name="the feedback writer", limit=200
        )

    def submit(self, feedback: Feedback) -> Future[FeedbackOutcome]:
        """Hand *feedback* over; the future resolves after the commit that holds it.

        Raises:
            InputError: it holds what JSON cannot, or the character NUL outside its value.
            StoreError: the writer is closed.
        """
        payloads.require_storable(feedback)
        return self._group.submit(feedback)

    def submit_all(self, feedback: Sequence[Feedback]) -> Future[list[FeedbackOutcome]]:
        """Hand over what was read from JSON by :func:`tidemill.runtime.statements.parse_feedback`, which holds nothing
        that cannot be stored; all of it is in one commit, after which the future resolves.

        Raises:
            StoreError: the writer is closed.
        """
        return self._group.submit_all(feedback)

    def close(self) -> None:
        """Commit what was submitted, then end the thread."""
        self._group.close()
