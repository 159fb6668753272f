"""Group commit: many threads wait for one thread that makes durable whatever has gathered."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

from tidemill.errors import StoreError

T = TypeVar("T")
R = TypeVar("R")


class GroupCommitter(Generic[T, R]):
    """Commits items in groups, in the order in which they came.

    It never waits for a group to grow: while one group is being committed the next one gathers, so that groups grow by
    themselves under load and a lone item is committed at once.

    Args:
        commit: makes a group durable and returns one result an item; what it raises goes to everybody who waits for
            that group.
        name: of the thread.
        limit: at most so many items a group.
    """

    def __init__(self, commit: Callable[[list[T]], Sequence[R]], *, name: str, limit: int) -> None:
        self._commit = commit
        self._name = name
        self._limit = limit
        self._waiting: queue.SimpleQueue[tuple[T, Future[R]] | None] = queue.SimpleQueue()
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
        with self._entry:
            if self._closed:
                raise StoreError(f"{self._name} is closed", mend="Open it again.")
            self._waiting.put((item, future))
        return future

    def close(self) -> None:
        """Commit what was handed over, then end the thread. Closing twice is harmless."""
        with self._entry:
            if not self._closed:
                self._closed = True
                self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        more = True
        while more:
            group, more = self._gather()
            if group:
                self._settle(group)

    def _gather(self) -> tuple[list[tuple[T, Future[R]]], bool]:
        group: list[tuple[T, Future[R]]] = []
        entry = self._waiting.get()
        while entry is not None:
            if entry[1].set_running_or_notify_cancel():  # from here on it can no longer be cancelled
                group.append(entry)
            if len(group) >= self._limit:
                return group, True
            try:
                entry = self._waiting.get_nowait()
            except queue.Empty:
                return group, True
        return group, False

    def _settle(self, group: list[tuple[T, Future[R]]]) -> None:
        try:
            results = self._commit([item for item, _ in group])
        except BaseException as error:  # it hides nothing: everyone who waits gets it, and the thread lives on
            for _, future in group:
                future.set_exception(error)
            return
        for (_, future), result in zip(group, results, strict=True):
            future.set_result(result)
