"""How many records there are, and how many answers an hour gave: counted once, then only what is new."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as Late
from typing import Any, TypeVar, cast

from tidemill.records import Prediction, Record
from tidemill.store import Store
from tidemill.store.glances import count_after, count_between, last_number

T = TypeVar("T")

RECOUNT = 900.0
"""Seconds after which everything is counted anew: old rows age into archives, and clean-up removes some."""
HOUR = 3600.0
_SETTLED = 120.0
"""Seconds after its end from which on an hour's answers are all in the tables."""
_PATIENCE = 0.08


class Tally:
    """Numbers of one store, for every visitor.

    Args:
        store: whose records are counted.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[type[Record], tuple[int, int, float]] = {}
        self._hours: dict[int, int] = {}
        self._things: dict[str, tuple[float, Any]] = {}
        self._lock = threading.Lock()
        self._counting: set[type[Record]] = set()
        self._thread = ThreadPoolExecutor(1, "tidemill-tally")

    def count(self, kind: type[Record]) -> int | None:
        """How many records of *kind* there are; ``None`` while they are still being counted for the first time."""
        now = time.monotonic()
        known = self._known.get(kind)
        if known is None or now - known[2] > RECOUNT:
            self._start(kind)
            known = self._known.get(kind)
            if known is None:
                return None
        number, count, since = known
        newest = last_number(self._store, kind)
        if newest > number:
            count += count_after(self._store, kind, number)
            self._known[kind] = (newest, count, since)
        return count

    def _start(self, kind: type[Record]) -> None:
        """Count on a thread of our own; a small table is counted before anybody has to wait."""
        with self._lock:
            if kind in self._counting:
                return
            self._counting.add(kind)
        future = self._thread.submit(self._recount, kind)
        try:
            future.result(timeout=_PATIENCE)
        except Late:
            return

    def _recount(self, kind: type[Record]) -> None:
        try:
            newest = last_number(self._store, kind)
            count = count_after(self._store, kind, -1)
            self._known[kind] = (newest, count, time.monotonic())
        finally:
            self._counting.discard(kind)

    def hours(self, most: int = 24) -> list[tuple[float, int]]:
        """How many answers each of the last hours gave, the oldest first: ``[(UTC seconds of its begin, answers)]``.

        Hours that are over are counted once, a few at a visit, from the newest on.
        """
        now = time.time()
        current = int(now // HOUR)
        until = time.monotonic() + _PATIENCE
        for hour in range(current, current - most, -1):
            over = now - (hour + 1) * HOUR > _SETTLED
            if over and hour in self._hours:
                continue
            if hour != current and time.monotonic() > until:
                break
            self._hours[hour] = count_between(self._store, Prediction, hour * HOUR, (hour + 1) * HOUR)
        self._hours = {hour: n for hour, n in self._hours.items() if hour > current - 2 * most}
        return [(hour * HOUR, self._hours.get(hour, 0)) for hour in range(current - most + 1, current + 1)]

    def kept(self, name: str, seconds: float, make: Callable[[], T]) -> T:
        """What *make* gives, or gave up to so many seconds ago: for numbers that every look at a page would ask for."""
        known = self._things.get(name)
        if known is None or time.monotonic() - known[0] > seconds:
            known = self._things[name] = (time.monotonic(), make())
        return cast("T", known[1])

    def close(self) -> None:
        """Count no more."""
        self._thread.shutdown(cancel_futures=True)
