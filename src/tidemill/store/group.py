"""Group commit: many threads wait for one thread that makes durable whatever has gathered."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Generic, NamedTuple, TypeVar

from tidemill.errors import StoreError

T = TypeVar("T")
R = TypeVar("R")


class _Entry(NamedTuple):
    """What one caller handed over; *alone*, its future gives a result, otherwise a list of them."""

    items: Sequence[Any]
    future: Future[Any]
    alone: bool


class GroupCommitter(Generic[T, R]):
    """Commits items in groups, in the order in which they came.

    It never waits for a group to grow: while one group is being committed the next one gathers, so that groups grow by
    themselves under load and a lone item is committed at once.

    Args:
        commit: makes a group durable and returns one result an item; what it raises goes to everybody who waits for
            that group.
        name: of the thread.
        limit: at most so many items a group, unless one caller hands over more at once.
    """

    def __init__(self, commit: Callable[[list[T]], Sequence[R]], *, name: str, limit: int) -> None:
        self._commit = commit
        self._name = name
        self._limit = limit
        self._waiting: queue.SimpleQueue[_Entry | None] = queue.SimpleQueue()
        self._next: _Entry | None = None
        self._entry = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, item: T) -> Future[R]:
        """Hand *item* over; the future resolves after the commit that holds it.

        Raises:
            StoreError: it was closed.
        """
        future: Future[R] = Future()
        self._hand_over(_Entry((item,), future, alone=True))
        return future

    def submit_all(self, items: Sequence[T]) -> Future[list[R]]:
        """Hand *items* over, to be committed in one group; the future resolves after that, to one result each.

        Raises:
            StoreError: it was closed.
        """
        future: Future[list[R]] = Future()
        self._hand_over(_Entry(items, future, alone=False))
        return future

    def close(self) -> None:
        """Commit what was handed over, then end the thread. Closing twice is harmless."""
        with self._entry:
            if not self._closed:
                self._closed = True
                self._waiting.put(None)
        self._thread.join()

    def _hand_over(self, entry: _Entry) -> None:
        with self._entry:
            if self._closed:
                raise StoreError(f"{self._name} is closed", mend="Open it again.")
            self._waiting.put(entry)

    def _run(self) -> None:
        more = True
        while more:
            group, more = self._gather()
            if group:
                self._settle(group)

    def _gather(self) -> tuple[list[_Entry], bool]:
        group: list[_Entry] = []
        size = 0
        entry, self._next = self._next or self._waiting.get(), None
        while entry is not None:
            if group and size + len(entry.items) > self._limit:
                self._next = entry
                return group, True
            if entry.future.set_running_or_notify_cancel():  # from here on it can no longer be cancelled
                group.append(entry)
                size += len(entry.items)
            try:
                entry = self._waiting.get_nowait()
            except queue.Empty:
                return group, True
        return group, False

    def _settle(self, group: list[_Entry]) -> None:
        try:
            results = self._commit([item for entry in group for item in entry.items])
        except BaseException as error:  # it hides nothing: everyone who waits gets it, and the thread lives on
            for entry in group:
                entry.future.set_exception(error)
            return
        start = 0
        for entry in group:
            end = start + len(entry.items)
            entry.future.set_result(results[start] if entry.alone else list(results[start:end]))
            start = end
