"""What happens to texts: slips of the keyboard, words left out, changed places, run together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tidemill.data.arrays import Ragged
from tidemill.data.corruptions._base import Corruption

Random = np.random.Generator

KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
NEAR = {key: line[max(i - 1, 0) : i] + line[i + 1 : i + 2] for line in KEYS for i, key in enumerate(line)}
"""The keys beside each other on a keyboard."""


def _each(texts: Ragged, change: Callable[[str], str]) -> Ragged:
    return Ragged.from_strings([change(texts[row]) for row in range(len(texts))])


def _typos(texts: Ragged, level: float, random: Random) -> Ragged:
    """A letter is left out, doubled, hit beside, or comes before the one before it."""

    def typed(text: str) -> str:
        letters = list(text)
        drawn, kinds = random.random(len(letters)), random.integers(0, 4, len(letters)).tolist()
        for i in np.flatnonzero(drawn < level).tolist():
            letter = letters[i]
            if not letter.isalpha():
                continue
            kind = kinds[i]
            beside = NEAR.get(letter.lower(), "")
            if kind == 0 and len(letters) > 1:
                letters[i] = ""
            elif kind == 1 or (kind == 2 and not beside):
                letters[i] = letter * 2
            elif kind == 2:
                letters[i] = beside[int(drawn[i] * 1e9) % len(beside)]
            elif i:
                letters[i - 1], letters[i] = letter, letters[i - 1]
        return "".join(letters)

    return _each(texts, typed)


def _dropped(texts: Ragged, level: float, random: Random) -> Ragged:
    def thinned(text: str) -> str:
        words = text.split(" ")
        drawn = random.random(len(words))
        kept = [word for word, place in zip(words, drawn.tolist(), strict=True) if place >= level]
        return " ".join(kept or [words[int(drawn.argmax())]])

    return _each(texts, thinned)


def _swapped(texts: Ragged, level: float, random: Random) -> Ragged:
    def mixed(text: str) -> str:
        words = text.split(" ")
        for i in np.flatnonzero(random.random(max(0, len(words) - 1)) < level).tolist():
            words[i], words[i + 1] = words[i + 1], words[i]
        return " ".join(words)

    return _each(texts, mixed)


def _joined(texts: Ragged, level: float, random: Random) -> Ragged:
    def pressed(text: str) -> str:
        words = text.split(" ")
        gaps = np.where(random.random(len(words)) < level, "", " ").tolist()
        return "".join(gap * (i > 0) + word for i, (gap, word) in enumerate(zip(gaps, words, strict=True)))

    return _each(texts, pressed)


def _shouted(texts: Ragged, level: float, random: Random) -> Ragged:
    def loud(text: str) -> str:
        words = text.split(" ")
        drawn = random.random(len(words)).tolist()
        return " ".join(word.swapcase() if place < level else word for word, place in zip(words, drawn, strict=True))

    return _each(texts, loud)


def _cut(texts: Ragged, level: float, _random: Random) -> Ragged:
    return _each(texts, lambda text: text[: max(1, round(len(text) * level))])


CORRUPTIONS = (
    Corruption(
        "typos", "letters left out, doubled, hit beside, in the wrong order", (0.01, 0.02, 0.05, 0.1, 0.2), _typos
    ),
    Corruption("dropped words", "words left out", (0.05, 0.1, 0.2, 0.35, 0.5), _dropped),
    Corruption(
        "swapped words", "words that changed places with their neighbours", (0.05, 0.1, 0.2, 0.35, 0.5), _swapped
    ),
    Corruption("missing blanks", "words run together", (0.02, 0.05, 0.1, 0.2, 0.4), _joined),
    Corruption("case", "words with capitals for small letters and the reverse", (0.05, 0.1, 0.25, 0.5, 1.0), _shouted),
    Corruption("cut off", "only the beginning of the text arrived", (0.8, 0.6, 0.4, 0.25, 0.1), _cut),
)
