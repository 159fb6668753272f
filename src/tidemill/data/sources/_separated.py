"""Telling columns of several labels in one text (``Comedy|Drama``) from texts that merely hold such a character."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from tidemill.data.sources._base import DISTINCT_CAP

SEPARATORS = ("|", ";", ",")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")


class LabelParts:
    """Counts what the values of a column fall into at each separator, chunk by chunk.

    A separator is given up once it leaves more than 1000 different parts, so that free text costs one chunk.

    >>> parts = LabelParts()
    >>> parts.add({"Comedy|Drama": 6, "Drama": 8, "Comedy|War": 2, "": 1})
    >>> parts.separator(), parts.members("|")
    ('|', ('Comedy', 'Drama', 'War'))
    """

    def __init__(self) -> None:
        self._parts: dict[str, Counter[str]] = {s: Counter() for s in SEPARATORS}
        self._widths: dict[str, Counter[int]] = {s: Counter() for s in SEPARATORS}

    @property
    def open(self) -> bool:
        """Some separator is still possible."""
        return bool(self._parts)

    def close(self) -> None:
        """Give up: the column has far too many values."""
        self._parts.clear()

    def add(self, values: Mapping[str, int]) -> None:
        """Take in the distinct values of a chunk and how often each was seen."""
        for separator in list(self._parts):
            parts, widths = self._parts[separator], self._widths[separator]
            for value, count in values.items():
                found = split_labels(value, separator)
                widths[len(found)] += count
                for part in found:
                    parts[part] += count
                if len(parts) > DISTINCT_CAP:
                    del self._parts[separator]
                    break

    def separator(self) -> str | None:
        """The separator that leaves few labels, seen again and again in changing company; ``None`` when none does."""
        return next((s for s in self._parts if self._parts_labels(s)), None)

    def members(self, separator: str) -> tuple[str, ...]:
        """The single labels, sorted."""
        return tuple(sorted(self._parts[separator]))

    def _parts_labels(self, separator: str) -> bool:
        parts, widths = self._parts[separator], self._widths[separator]
        rows, total = widths.total(), parts.total()
        several = rows - widths[0] - widths[1]
        if several < max(2, 0.01 * rows) or len(parts) < 2:
            return False
        once = sum(1 for count in parts.values() if count == 1)
        if once > 0.1 * total or max(map(len, parts)) > 80:
            return False
        if separator != ",":
            return True
        # A comma also stands in sentences, in "City, State" and in decimal numbers.
        words = sum(len(part.split()) * count for part, count in parts.items()) / total
        steady = max(count for width, count in widths.items() if width) > 0.98 * (rows - widths[0])
        return words <= 2 and not steady and not all(_NUMBER.fullmatch(part) for part in parts)


def split_labels(value: str, separator: str) -> list[str]:
    """The labels in one text, without padding and without empty ones.

    >>> split_labels(" a | b|", "|")
    ['a', 'b']
    """
    return [part for piece in value.split(separator) if (part := piece.strip())]
