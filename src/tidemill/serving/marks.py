"""What happened when to one request, noted along its way when somebody traces it.

A request that is traced carries a list in a context variable; whoever does a part of its work adds a line. Nobody adds
anything to a request that carries none.
"""

from __future__ import annotations

import time
from contextvars import ContextVar

Marks = list[tuple[str, float, float]]
"""Of each part its name, and when it began and ended by ``time.perf_counter``."""

MARKS: ContextVar[Marks | None] = ContextVar("tidemill.marks", default=None)


class marked:  # noqa: N801 - it is used as a function is
    """Note how long the block takes, if the request that is being answered is traced.

    >>> token = MARKS.set([])
    >>> with marked("commit"):
    ...     pass
    >>> [name for name, began, ended in MARKS.get() if began <= ended]
    ['commit']
    >>> MARKS.reset(token)
    """

    __slots__ = ("_began", "_marks", "_name")

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        self._marks = MARKS.get()
        if self._marks is not None:
            self._began = time.perf_counter()

    def __exit__(self, *_error: object) -> None:
        if self._marks is not None:
            self._marks.append((self._name, self._began, time.perf_counter()))
