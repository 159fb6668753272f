"""What happened when to one request, noted along its way when somebody traces it.

A request that is traced carries a list in a context variable; whoever does a part of its work adds a line. Nobody adds
anything to a request that carries none.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextvars import ContextVar

Marks = list[tuple[str, float, float]]
"""Of each part its name, and when it began and ended by ``time.perf_counter``."""

MARKS: ContextVar[Marks | None] = ContextVar("tidemill.marks", default=None)


@contextlib.contextmanager
def marked(name: str) -> Iterator[None]:
    """Note how long the block takes, if the request that is being answered is traced."""
    marks = MARKS.get()
    if marks is None:
        yield
        return
    began = time.perf_counter()
    try:
        yield
    finally:
        marks.append((name, began, time.perf_counter()))
