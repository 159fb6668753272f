"""The n-grams of one kind, as columns with weights: counted, chosen, found again, kept as JSON."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.features._characters import Block
from tidemill.features._ngram_hashes import LOW, ROW_BITS, Characters, Hashes, Words
from tidemill.features._ngram_vocabulary import Counter, Table, changes


class Family:
    """The words or the characters of one text.

    Args:
        kind: which n-grams.
        min_df: in how many texts one must occur to be kept.
        most: the most that are kept.
        buckets: how many columns all share by hash, instead of a vocabulary.

    Attributes:
        width: how many columns it has.
        weights: float32 ``[width]``.
        chooses: it has to see texts before it knows its n-grams; one with buckets needs that for its weights alone.
    """

    def __init__(self, kind: Words | Characters, min_df: int, most: int, buckets: int | None) -> None:
        self._kind = kind
        self._min_df, self._most, self._buckets = min_df, most, buckets
        self._counter = Counter()
        self._bucket_counts = np.zeros(buckets or 0, np.int64)
        self._hashes: Hashes = np.zeros(0, np.uint64)
        self._table: Table | None = None
        self.chooses = buckets is None
        self.width = buckets or 1
        self.weights: npt.NDArray[np.float32] = np.ones(self.width, np.float32)

    def observe(self, block: Block) -> None:
        if self._buckets is not None:
            found = [(ids << np.uint64(ROW_BITS)) | rows for ids, rows in self.find(block)]
            if found:
                pairs = np.sort(np.concatenate(found))
                ids = pairs[changes(pairs)] >> np.uint64(ROW_BITS)
                np.add.at(self._bucket_counts, ids.astype(np.int64), 1)
            return
        for hashes in self._kind.hashes(block):
            self._counter.observe(hashes)

    def finish(self, texts: int | None) -> None:
        """Choose the n-grams; *texts* is the number of training texts, ``None`` to weigh all alike."""
        if self._buckets is not None:
            counts = self._bucket_counts
        else:
            self._hashes, counts = self._counter.most_frequent(self._min_df, self._most)
            self._counter = Counter()
        idf = np.ones(len(counts)) if texts is None else np.log((1 + texts) / (1 + counts)) + 1
        self._take(self._hashes, idf.astype(np.float32))

    def _take(self, hashes: Hashes, weights: npt.NDArray[np.float32]) -> None:
        self._hashes = hashes
        self._table = None if self._buckets is not None else Table(hashes)
        # without any n-gram one column is left that is always zero, so that learners have something to hold
        self.weights = weights if len(weights) else np.ones(1, np.float32)
        self.width = len(self.weights)

    def find(self, block: Block) -> Iterator[tuple[Hashes, Hashes]]:
        """The columns of a block's n-grams that have one, and their rows, both uint64."""
        for hashes in self._kind.hashes(block):
            if self._table is None:
                upper = (hashes >> np.uint64(32)) * np.uint64(self.width)
                yield upper >> np.uint64(32), hashes & LOW
                continue
            which, ids = self._table.find(hashes)
            yield ids, hashes[which] & LOW

    def state(self) -> dict[str, Any]:
        """Hashes and weights, in base64 of little-endian numbers."""
        return {"hashes": _text(self._hashes.astype("<u8")), "weights": _text(self.weights.astype("<f4"))}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state` wrote."""
        hashes = np.frombuffer(base64.b64decode(state["hashes"]), "<u8").astype(np.uint64)
        weights = np.frombuffer(base64.b64decode(state["weights"]), "<f4").astype(np.float32)
        if (self._buckets or max(len(hashes), 1)) != len(weights) or (hashes[1:] <= hashes[:-1]).any():
            raise ValueError("the n-grams and their weights do not fit")
        self._take(hashes, weights)


def _text(values: npt.NDArray[Any]) -> str:
    return base64.b64encode(values.tobytes()).decode()
