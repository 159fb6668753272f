"""Work beside the predictions, for answers that nobody is given to act on: one piece after the other, within limits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tidemill.serving.limits import Deadlines, Line

T = TypeVar("T")

MOST_ROWS = 20_000


class Aside:
    """One thread and a line of its own, so that callers who want predictions do not stand behind it.

    Args:
        timeout: seconds after which nobody waits any more.
    """

    def __init__(self, timeout: float) -> None:
        self._line = Line(timeout)
        self._deadlines = Deadlines(timeout)
        self._thread = ThreadPoolExecutor(1, "tidemill-aside")

    async def do(self, work: Callable[[], T], rows: int) -> T:
        """What *work* gives, which looks at so many *rows*.

        Raises:
            OverloadedError: too much waits already, or it was not done in time.
        """
        self._line.enter(rows, MOST_ROWS)
        done = False
        try:
            found = await self._deadlines.keep(asyncio.get_running_loop().run_in_executor(self._thread, work))
            done = True
            return found
        finally:
            self._line.leave(rows, answered=done)

    def close(self) -> None:
        """Finish what has begun."""
        self._thread.shutdown(cancel_futures=True)
