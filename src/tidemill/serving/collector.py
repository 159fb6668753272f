"""Python's collector of cycles, told what a service is like: little of what it makes lies in cycles.

A picture as nested lists is thirty objects, so that a few dozen requests under way made it look through everything
again and again: that took as long as decoding them, and half of the time in which the journal is folded.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

_THRESHOLDS = (50_000, 20, 50)


@contextlib.contextmanager
def seldom_collected() -> Iterator[None]:
    """While inside, what exists already is not looked through, and the rest seldom."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
