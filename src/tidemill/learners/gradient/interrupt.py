"""Ctrl-C between two steps and never within one, so that what a checkpoint holds is whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Flag:
    """Whether an interrupt was asked for."""

    raised = False


@contextmanager
def deferred_interrupt() -> Iterator[Flag]:
    """Turn the first Ctrl-C into a flag; a second one interrupts at once. Outside the main thread, nothing."""
    flag = Flag()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    previous = signal.getsignal(signal.SIGINT)

    def remember(_number: int, _frame: FrameType | None) -> None:
        flag.raised = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, remember)
    try:
        yield flag
    finally:
        signal.signal(signal.SIGINT, previous or signal.SIG_DFL)
