"""What triggers last found, kept in the store: for their own memory, and for whoever asks how they stand."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from tidemill.errors import TidemillError
from tidemill.monitor.triggers import Look
from tidemill.records import JSON, Watch, new_id
from tidemill.store import Store

SAVED_EVERY = 60.0
"""Seconds after which a look that changed nothing but its words is written down again."""


class Watches:
    """The watches of one project, as the one process keeps them that looks.

    What cannot be written while the database is away is remembered here, and written with the next look.

    Args:
        store: the project's store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, Watch] = {}
        self._saved: dict[str, float] = {}

    def memory(self, trigger: str) -> JSON:
        """What the look before left.

        Raises:
            StoreError: the store cannot be read.
        """
        if trigger not in self._known:
            found = self._store.find(Watch, trigger=trigger, limit=1)
            if not found:
                return {}
            self._known[trigger] = found[0]
        return self._known[trigger].memory

    def looked(self, trigger: str, look: Look, now: float, *, acted: bool, at_once: bool) -> None:
        """Keep what *look* found; what it is to remember only once its reason, if it has one, was acted upon.

        Args:
            at_once: write it down in any case; else only what must not be forgotten, and the rest once a minute.
        """
        before = self._known.get(trigger)
        memory = look.memory if acted or look.reason is None else {} if before is None else before.memory
        watch = Watch(
            id=new_id(Watch.prefix) if before is None else before.id,
            trigger=trigger,
            looked=now,
            waiting=look.waiting,
            found=look.found,
            memory=memory,
            fired=now if acted else None if before is None else before.fired,
            reason=look.reason if acted else None if before is None else before.reason,
        )
        changed = before is None or (watch.memory, watch.fired, None) != (before.memory, before.fired, before.fault)
        self._keep(watch, at_once=at_once or changed)

    def failed(self, trigger: str, fault: str, now: float) -> None:
        """Keep why it could not look; what it remembers stays."""
        with contextlib.suppress(TidemillError):  # what it remembers is not known, so nothing goes in its place
            self.memory(trigger)
            before = self._known.get(trigger)
            watch = Watch(id=new_id(Watch.prefix), trigger=trigger, looked=now, waiting="", fault=fault)
            if before is not None:
                watch = replace(before, looked=now, fault=fault)
            self._keep(watch, at_once=before is None or before.fault != fault)

    def _keep(self, watch: Watch, *, at_once: bool) -> None:
        saved = self._saved.get(watch.trigger)
        self._known[watch.trigger] = watch
        if not at_once and saved is not None and abs(watch.looked - saved) < SAVED_EVERY:
            return
        self._saved.pop(watch.trigger, None)
        with contextlib.suppress(TidemillError), self._store.transaction():
            if self._store.exists(Watch, watch.id):
                self._store.update(watch)
            else:
                self._store.insert(watch)
            self._saved[watch.trigger] = watch.looked
