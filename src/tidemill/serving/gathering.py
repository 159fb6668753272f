"""Lone statements gathered on the event loop: each commit wakes the loop once, however many wait for it."""

from __future__ import annotations

import asyncio
from collections import deque

from tidemill.errors import TidemillError
from tidemill.records import Feedback
from tidemill.store import FeedbackOutcome, FeedbackWriter

AT_ONCE = 200


class Gatherer:
    """Hands over to *writer* what has gathered while the last group was being committed. For one event loop.

    A future of the writer's own for every statement would cost the loop more than reading the statement does: each of
    them wakes it through a pipe.

    Args:
        writer: commits.
    """

    def __init__(self, writer: FeedbackWriter) -> None:
        self._writer = writer
        self._waiting: deque[tuple[Feedback, asyncio.Future[FeedbackOutcome]]] = deque()
        self._busy = False

    def submit(self, item: Feedback) -> asyncio.Future[FeedbackOutcome]:
        """Have *item*, as it was read from JSON, committed; the future resolves after that."""
        future: asyncio.Future[FeedbackOutcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if not self._busy:
            self._hand_over()
        return future

    def _hand_over(self) -> None:
        group: list[tuple[Feedback, asyncio.Future[FeedbackOutcome]]] = []
        while self._waiting and len(group) < AT_ONCE:
            item, future = self._waiting.popleft()
            if not future.done():  # nobody waits any more for one that was cancelled
                group.append((item, future))
        self._busy = bool(group)
        if not group:
            return
        try:
            done = asyncio.wrap_future(self._writer.submit_all([item for item, _ in group]))
        except TidemillError as error:  # the service is going down
            done = asyncio.get_running_loop().create_future()
            done.set_exception(error)
        done.add_done_callback(lambda committed: self._resolve(committed, [future for _, future in group]))

    def _resolve(
        self, committed: asyncio.Future[list[FeedbackOutcome]], futures: list[asyncio.Future[FeedbackOutcome]]
    ) -> None:
        error = committed.exception()
        outcomes = [] if error is not None else committed.result()
        for place, future in enumerate(futures):
            if future.done():
                continue
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(outcomes[place])
        self._hand_over()
