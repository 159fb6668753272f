"""Hashes of all word and character n-grams of a block of texts, without a loop over texts, words or characters.

A window's hash is a sum of code points times random odd 64-bit numbers, one a position (multilinear hashing; Carter
and Wegman, 1979), so the windows of one size follow from those a character shorter by one product and one sum. A word's
is a polynomial in its code points, read off prefix sums (Karp and Rabin, 1987). The upper 50 bits are kept: among a
million different n-grams, two then share a hash with a chance of one in two thousand.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from tidemill.features._characters import ALONE, MARK, SPACE, WORD, Block

Hashes = npt.NDArray[np.uint64]
Boundaries = Literal["within", "across"]

ROW_BITS = 14  # the lower bits of a hash, left free for a row's number within its block
KEPT = np.uint64((1 << 64) - (1 << ROW_BITS))
LOW = ~KEPT
_MOST = 16  # characters or words of one n-gram


def _numbers(seed: int, count: int) -> Hashes:
    """Odd numbers that look random: SplitMix64 (Steele et al., 2014), the same in every release of NumPy."""
    with np.errstate(over="ignore"):
        z = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
    return _mixed(z) | np.uint64(1)


def _mixed(z: Hashes) -> Hashes:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


_IN_WINDOW = _numbers(1, _MOST)
_IN_PHRASE = _numbers(2, _MOST)
_OF_SIZE = _numbers(3, 2 * _MOST)
_BASE = 0x9E6C63D0876A9A63  # of the words' polynomial; 3 modulo 8, so that its powers differ as far down as they can


@dataclass(frozen=True, slots=True)
class Characters:
    """N-grams of ``low`` to ``high`` characters.

    ``within``: of each word with a blank before and behind it, where a word is what stands between white space;
    ``across``: of the whole text, in which white space of any length is one blank.
    """

    low: int
    high: int
    boundaries: Boundaries

    def hashes(self, block: Block) -> Iterator[Hashes]:
        """For each size the hashes of a block's n-grams, each with its row in the lower bits."""
        space = block.kinds & SPACE != 0
        wide, rows, stop = block.wide, block.rows, block.codes == 0
        if self.boundaries == "across":
            double = np.zeros(len(space), bool)
            double[1:] = space[1:] & space[:-1]
            wide = np.where(space, _BLANK, wide)
            if double.any():
                wide, rows, stop = wide[~double], rows[~double], stop[~double]
        else:  # a zero between two texts bounds a word as a blank does, and no window may go past a bound
            stop |= space
            wide = np.where(stop, _BLANK, wide)
        total: Hashes = wide * _IN_WINDOW[0]
        good = clean = ~stop
        for size in range(1, min(self.high, len(wide)) + 1):
            m = len(wide) - size + 1
            if size > 1:
                total = total[:m] + wide[size - 1 :] * _IN_WINDOW[size - 1]
                if self.boundaries == "across":
                    good = good[:m] & ~stop[size - 1 :]
                elif size == 2:
                    good = ~(stop[:-1] & stop[1:])
                else:  # bounds may stand at both ends, but not between
                    good = clean = ~stop[1:-1] if size == 3 else clean[:m] & ~stop[size - 2 : -1]
            if size >= self.low:
                found = total + _OF_SIZE[size - 1]
                found &= KEPT
                found |= rows[:m]
                yield found[good]


@dataclass(frozen=True, slots=True)
class Words:
    """N-grams of ``low`` to ``high`` words.

    A word is a run of letters, digits, marks and underscores. In scripts written without blanks (Chinese, Japanese,
    Thai, Lao, Khmer, Burmese) every character, with its marks, is one.
    """

    low: int
    high: int

    def hashes(self, block: Block) -> Iterator[Hashes]:
        """For each size the hashes of a block's n-grams, each with its row in the lower bits."""
        starts, ends = _words(block)
        if not len(starts):
            return
        powers, inverses = _powers(_power_of_two(len(block.wide)))
        # a block starts with a zero, so no word starts at 0
        sums = np.cumsum(block.wide * powers[: len(block.wide)])
        single = _mixed((sums[ends - 1] - sums[starts - 1]) * inverses[starts])
        rows = block.rows[starts]
        total = single * _IN_PHRASE[0]
        for size in range(1, min(self.high, len(single)) + 1):
            m = len(single) - size + 1
            if size > 1:
                total = total[:m] + single[size - 1 :] * _IN_PHRASE[size - 1]
            if size >= self.low:
                found = _mixed(total) + _OF_SIZE[_MOST + size - 1]
                found &= KEPT
                found |= rows[:m]
                yield found[rows[:m] == rows[size - 1 :]]


def _words(block: Block) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where each word starts, and where it ends (the place behind its last character)."""
    kind = block.kinds
    word = kind & WORD != 0
    change = np.flatnonzero(word[1:] != word[:-1]) + 1
    if block.codes.dtype == np.uint8:
        return change[::2], change[1::2]
    alone = kind & ALONE != 0
    cut = word[1:] & word[:-1] & (kind[1:] & MARK == 0) & (alone[1:] | alone[:-1])
    inside = np.flatnonzero(cut) + 1
    return np.sort(np.append(change[::2], inside)), np.sort(np.append(change[1::2], inside))


def _power_of_two(least: int) -> int:
    return max(1 << 15, 1 << (least - 1).bit_length())


@functools.lru_cache(2)
def _powers(count: int) -> tuple[Hashes, Hashes]:
    """The powers of the base modulo 2 ** 64, and what undoes them: a word's hash shall not depend on its place."""
    steps = np.full((2, count), [[_BASE], [pow(_BASE, -1, 1 << 64)]], np.uint64)
    steps[:, 0] = 1
    powers = np.cumprod(steps, axis=1)
    return powers[0], powers[1]


_BLANK = np.uint64(32)
