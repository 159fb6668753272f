"""Which predictions were erased, in memory, so that nothing more is taken about them."""

from __future__ import annotations

from tidemill.errors import TidemillError
from tidemill.records import Erasure
from tidemill.store import Store
from tidemill.store.erasing import erased_ids, refuse_erased


class Gone:
    """Follows the store's erasures; :meth:`look` is for a thread that may wait for the database.

    Args:
        store: whose.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen = 0
        self._ids: set[str] = set()

    def look(self) -> None:
        """Read the erasures again, if there is another one; while the database is away, what was read stands."""
        try:
            count = self._store.count(Erasure)
            if count != self._seen:
                self._ids = erased_ids(self._store)
                self._seen = count
        except TidemillError:
            return

    def refuse(self, prediction: str) -> None:
        """Refuse a prediction that was erased.

        Raises:
            NotFoundError: it was.
        """
        refuse_erased(self._ids, prediction)
