"""Sortable ids."""

from __future__ import annotations

import functools
import os
import random
import threading
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford base 32, sorts as ASCII
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
_SHIFTS = tuple(range(110, -1, -10))
_lock = threading.Lock()
_last = 0
_random = random.Random()  # noqa: S311 - ids are no secrets; and a system call for each would let other threads run


def new_id(prefix: str) -> str:
    """A new id: 48 bits of milliseconds, then 80 random bits, as 26 letters that sort by time.

    Ids made by one process are strictly increasing, also within one millisecond.

    >>> a, b = new_id("run"), new_id("run")
    >>> a.startswith("run_") and len(a) == 30 and a < b
    True
    """
    global _last
    with _lock:
        now = time.time_ns() // 1_000_000
        _last = _last + 1 if now <= _last >> 80 else now << 80 | _random.getrandbits(80)
        value = _last
    return f"{prefix}_{_encode(value)}"


def _begin_anew() -> None:
    """A process that was forked makes other ids than the one that it comes from."""
    global _last, _lock
    _last, _lock = 0, threading.Lock()  # another thread may have held it
    _random.seed()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


def _encode(value: int) -> str:
    """130 bits as 26 letters, two at a time."""
    return _upper(value >> 10) + _PAIRS[value & 1023]


@functools.lru_cache(8)
def _upper(bits: int) -> str:
    """The letters of the upper 120 bits, which most ids of one millisecond share."""
    return "".join([_PAIRS[bits >> shift & 1023] for shift in _SHIFTS])


def id_time(identifier: str) -> float:
    """The creation time (UTC seconds) that an id of :func:`new_id` carries.

    >>> abs(id_time(new_id("run")) - time.time()) < 1
    True
    """
    value = 0
    for letter in identifier.rsplit("_", 1)[1][:10]:
        value = value << 5 | _ALPHABET.index(letter)
    return value / 1000
