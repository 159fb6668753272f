"""Durations as people write them: ``60s``, ``5m``, ``1h30m``, ``2d``; a bare number is seconds."""

from __future__ import annotations

import re

from tidemill.errors import InputError

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")


def parse_duration(value: str | float, *, where: str | None = None) -> float:
    """Seconds (``float``, more than zero).

    Args:
        value: text such as ``"90s"`` or ``"1h30m"``, or a number of seconds.
        where: what the value belongs to, for the message.

    Raises:
        InputError: the value is not a duration, or not longer than nothing.

    >>> parse_duration("60s"), parse_duration("1h30m"), parse_duration(90)
    (60.0, 5400.0, 90.0)
    """
    seconds = _seconds(str(value).strip().lower())
    if seconds is None or not 0 < seconds < float("inf"):
        raise InputError(
            f"{str(value)!r} is not a length of time", where=where, mend="Write it like 60s, 5m, 1h or 1h30m."
        )
    return seconds


def _seconds(text: str) -> float | None:
    """The sum of the parts, largest unit first; ``None`` when anything else stands between them."""
    position, total, last = 0, 0.0, float("inf")
    while position < len(text):
        match = _PART.match(text, position)
        if match is None:
            return None
        number, unit = match.groups()
        if unit == "" and (position > 0 or match.end() < len(text)):
            return None  # "1h30" could be minutes or seconds
        size = _UNITS[unit or "s"]
        if size >= last:
            return None
        total, last, position = total + float(number) * size, size, match.end()
    return total if text else None
