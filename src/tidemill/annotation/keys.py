"""The keys by which questions are answered, on a terminal and in the browser."""

from __future__ import annotations

from collections.abc import Sequence

SKIP, BACK, QUIT, NOTE, NONE = "s", "u", "q", "n", "-"
_RESERVED = (SKIP, BACK, QUIT, NOTE, NONE)
_KEYS = [k for k in "123456789abcdefghijklmnoprtvwxyz" if k not in _RESERVED]


def keys_for(labels: Sequence[str]) -> dict[str, str]:
    """A key for each label: the label itself where all are one letter or digit, otherwise 1, 2, … a, b, …

    >>> keys_for(["0", "1"]), keys_for(["cat", "dog"])
    ({'0': '0', '1': '1'}, {'1': 'cat', '2': 'dog'})
    """
    if all(len(label) == 1 and label.isprintable() and label not in (*_RESERVED, " ") for label in labels):
        return {label: label for label in labels}
    return dict(zip(_KEYS, labels, strict=False)) if len(labels) <= len(_KEYS) else {}
