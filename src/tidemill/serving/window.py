"""How much is answered at once: as many rows as keep answers within the latency that was asked for."""

from __future__ import annotations

MOST_ROWS = 1024
FIRST_ROWS = 64


class Window:
    """The most rows of the next batch, tuned by what the last ones took.

    A request waits for the batch under way and then for its own, so a batch may take half of the target. One that took
    longer shrinks the window in proportion, at most by half: a pause of the machine is not a slow model. One that was
    full and in time widens it by a quarter. Nothing ever waits for a batch to fill: while the model works the next
    one gathers by itself.

    Args:
        target: seconds that an answer may take.

    Attributes:
        rows: the most of the next batch.

    >>> window = Window(0.05)
    >>> window.note(64, 0.1)
    >>> window.rows
    32
    >>> window.note(32, 0.001)
    >>> window.rows
    40
    """

    def __init__(self, target: float) -> None:
        self._half = target / 2
        self.rows = FIRST_ROWS

    def note(self, rows: int, seconds: float) -> None:
        """A batch of *rows* took *seconds*."""
        if seconds > self._half:
            fitting = max(int(rows * self._half / seconds), self.rows // 2, 1)
            self.rows = min(self.rows, fitting)
        elif rows >= self.rows:
            self.rows = min(self.rows + max(self.rows // 4, 1), MOST_ROWS)
