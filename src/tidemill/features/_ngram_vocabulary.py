"""The n-grams that are kept: counted in bounded memory, looked up by hash."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.features._ngram_hashes import KEPT, LOW, Hashes

_MOST = 1 << 21  # different n-grams counted at once; beyond, the rarest are forgotten
_ID_BITS, _STEP_BITS = 22, 6
_FEWEST_SLOTS, _SLOTS_EACH = 14, 4


class Counter:
    """In how many texts each n-gram occurs; exact up to two million different ones.

    Beyond, those seen least are forgotten (lossy counting; Manku and Motwani, 2002), so memory stays flat.
    """

    def __init__(self) -> None:
        self._hashes: Hashes = np.zeros(0, np.uint64)
        self._counts: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self._pending: list[Hashes] = []
        self._waiting = 0

    def observe(self, hashes: Hashes) -> None:
        """Count the n-grams of one block, whose rows stand in the lower bits: each once a row."""
        pairs = np.sort(hashes)
        pairs = pairs[changes(pairs)]
        found = pairs & KEPT
        starts = np.flatnonzero(changes(found))
        # a block has fewer rows than the lower bits can count, so hash and count share one number that sorts
        self._pending.append(found[starts] + np.diff(starts, append=len(found)).astype(np.uint64))
        self._waiting += len(starts)
        if self._waiting > _MOST:
            self._merge()

    def _merge(self) -> None:
        if not self._pending:
            return
        packed = np.sort(np.concatenate(self._pending))
        self._pending, self._waiting = [], 0
        counts = (packed & LOW).astype(np.int64)
        packed &= KEPT
        starts = np.flatnonzero(changes(packed))
        new, counts = packed[starts], np.add.reduceat(counts, starts) if len(starts) else counts
        del packed
        both = np.concatenate([self._hashes, new])
        order = np.argsort(both, kind="stable")  # two sorted runs: one merge
        both = both[order]
        counts = np.concatenate([self._counts, counts])[order]
        starts = np.flatnonzero(changes(both))
        self._hashes = both[starts]
        self._counts = np.add.reduceat(counts, starts) if len(starts) else counts
        least = 1
        while len(self._hashes) > _MOST:
            often = self._counts > least
            self._hashes, self._counts = self._hashes[often], self._counts[often]
            least += 1

    def most_frequent(self, min_df: int, most: int) -> tuple[Hashes, npt.NDArray[np.int64]]:
        """The *most* n-grams that occur in most texts, in at least *min_df*; sorted hashes and their counts."""
        self._merge()
        kept = np.flatnonzero(self._counts >= min_df)
        if len(kept) > most:
            kept = np.sort(kept[np.argsort(-self._counts[kept], kind="stable")[:most]])
        return self._hashes[kept], self._counts[kept]


def changes(values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Where a sorted array holds a value for the first time."""
    first = np.ones(len(values), bool)
    np.not_equal(values[1:], values[:-1], out=first[1:])
    return first


class Table:
    """From hash to place in a sorted list of hashes: open addressing with linear probing, all at once.

    A slot holds 36 bits of a hash (the others are the slot's own number), how far from that slot it lies, and its
    place, so one look into memory tells both whether it is the one and which it is.

    Args:
        hashes: uint64 ``[v]``, sorted, each once, the lower 14 bits zero; at most four million.
    """

    def __init__(self, hashes: Hashes) -> None:
        bits = max(_FEWEST_SLOTS, (_SLOTS_EACH * len(hashes)).bit_length())
        while True:
            slots = (hashes >> np.uint64(64 - bits)).astype(np.int64)
            order = np.arange(len(hashes))
            # sorted hashes have sorted slots: each takes its own, or the next after the one before it
            places = np.maximum.accumulate(slots - order) + order if len(hashes) else slots
            steps = places - slots
            self._steps = int(steps.max(initial=0))
            if self._steps < (1 << _STEP_BITS) - 1:
                break
            bits += 1
        self._bits = np.uint64(bits)
        self._shift = np.uint64(64 - bits)
        size = (1 << bits) + self._steps + 1
        nowhere = np.uint64((1 << (_ID_BITS + _STEP_BITS)) - 1)  # steps that no hash is away
        self._slots = np.full(size, nowhere, np.uint64)
        told = (hashes << self._bits) & _TOLD
        self._slots[places] = told | (steps.astype(np.uint64) << np.uint64(_ID_BITS)) | order.astype(np.uint64)

    def find(self, hashes: Hashes) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
        """Which of *hashes* are there, int64 ``[m]``, and their places, uint64 ``[m]``, in no stated order.

        What the lower bits of a hash hold is not looked at.
        """
        slots = (hashes >> self._shift).view(np.int64)
        wanted = hashes & KEPT
        wanted <<= self._bits
        wanted &= _TOLD
        # where all that is told agrees, the place is what is left
        left = self._slots[slots]
        left ^= wanted
        found = np.flatnonzero(left < _FIRST_STEP)
        which, places = [found], [left[found]]
        open_ = np.flatnonzero((left >= _FIRST_STEP) & (left & _STEP != _STEP)) if self._steps else found[:0]
        for step in range(1, self._steps + 1):
            if not len(open_):
                break
            held = self._slots[slots[open_] + step]
            left = held ^ (wanted[open_] | np.uint64(step << _ID_BITS))
            right = left < _FIRST_STEP
            which.append(open_[right])
            places.append(left[right])
            open_ = open_[~right & (held & _STEP != _STEP)]
        return np.concatenate(which), np.concatenate(places)


_FIRST_STEP = np.uint64(1 << _ID_BITS)
_STEP = np.uint64(((1 << _STEP_BITS) - 1) << _ID_BITS)
_TOLD = np.uint64((1 << 64) - (1 << (_ID_BITS + _STEP_BITS)))
