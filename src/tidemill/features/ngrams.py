"""``ngrams``: texts as weighted n-grams of words and characters, the features that linear models of text read."""

# ruff: noqa: D102 - the base class says what each method does

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tidemill.data.arrays import Columns, Ragged
from tidemill.data.schema import FieldType
from tidemill.errors import ConfigError
from tidemill.features._base import FeatureInfo, FeatureStep, Sparse
from tidemill.features._characters import Block, blocks
from tidemill.features._ngram_family import Family
from tidemill.features._ngram_hashes import Boundaries, Characters, Words
from tidemill.features._sparse import beside, stacked

_LARGEST = 1 << 22
_LARGE = 1023
_LOGARITHMS = (1 + np.log(np.maximum(np.arange(_LARGE + 1), 1))).astype(np.float32)
_MOST_SIZES = 16


class Ngrams(FeatureStep):
    """Ragged strings to sparse ``ngrams`` ``[n, width]``: TF-IDF (Salton and Buckley, 1988), length 1 a family.

    Words and characters are one family each: the n-grams of a family are weighed together, and each family has length
    1, so that neither outweighs the other. Case is folded (Unicode), and forms that look alike are made the same
    (NFKC). A text in which no known n-gram occurs (an empty one, for example) is an empty row.

    Args:
        columns: text columns.
        words: smallest and largest number of words, ``None`` for no words. A word is a run of letters and digits; in
            scripts without blanks (Chinese, Japanese, Thai, …) every character is one.
        characters: smallest and largest number of characters, ``None`` for no characters.
        boundaries: characters ``within`` words, each with a blank before and behind it, or ``across`` them.
        min_df: n-grams that occur in fewer training texts are left out.
        max_features: the most n-grams of a family; those that occur in most texts are kept.
        sublinear: weigh an n-gram that occurs *t* times by ``1 + log(t)``, not by *t*.
        idf: weigh it by ``1 + log((1 + texts) / (1 + texts with it))`` too.
        buckets: no vocabulary; each family's n-grams share this many columns by hash (Weinberger et al., 2009).
        joined: several columns are read as one text; otherwise each has n-grams of its own.
        max_chars: of a longer text only so many characters are read.
    """

    name: ClassVar[str] = "ngrams"
    handles: ClassVar[tuple[FieldType, ...]] = ("text",)

    def __init__(
        self,
        columns: list[str],
        *,
        words: Sequence[int] | None = (1, 2),
        characters: Sequence[int] | None = (2, 5),
        boundaries: Boundaries = "within",
        min_df: int = 2,
        max_features: int = 300_000,
        sublinear: bool = True,
        idf: bool = True,
        buckets: int | None = None,
        joined: bool = True,
        max_chars: int = 65_536,
    ) -> None:
        super().__init__(columns)
        if boundaries not in ("within", "across"):
            raise _wrong("boundaries", boundaries, "within or across")
        for option, value in (("max_features", max_features), ("buckets", buckets), ("max_chars", max_chars)):
            if value is not None and not 1 <= value <= _LARGEST:
                raise _wrong(option, value, f"a whole number from 1 to {_LARGEST}")
        kinds: list[Words | Characters] = []
        if words is not None:
            kinds.append(Words(*_sizes("words", words)))
        if characters is not None:
            kinds.append(Characters(*_sizes("characters", characters), boundaries))
        if not kinds:
            raise _wrong("characters", None, "sizes for words, for characters or for both")
        self._texts = 1 if joined else len(columns)
        self._families = [Family(kind, min_df, max_features, buckets) for _ in range(self._texts) for kind in kinds]
        self._per_text = len(kinds)
        self._sublinear, self._idf = sublinear, idf
        self._max_chars = max_chars
        self._count = 0
        self._weights: list[npt.NDArray[np.float32]] = []

    def observe(self, chunk: Columns) -> None:
        for text, column in enumerate(self._columns(chunk)):
            counted = [family for family in self._of(text) if self._idf or family.chooses]
            for block in blocks(column, self._max_chars) if counted else ():
                for family in counted:
                    family.observe(block)
        self._count += len(column)

    def finish(self) -> None:
        for family in self._families:
            family.finish(self._count if self._idf else None)
        self._weigh()

    def _weigh(self) -> None:
        self._weights = [np.concatenate([f.weights for f in self._of(text)]) for text in range(self._texts)]

    def transform(self, columns: Columns) -> dict[str, Sparse]:
        """``ngrams`` of any rows."""
        return {"ngrams": self.sparse(columns)}

    def sparse(self, columns: Columns) -> Sparse:
        """The n-grams of every row."""
        texts = []
        for text, column in enumerate(self._columns(columns)):
            families = self._of(text)
            parts = [self._block(block, families, self._weights[text]) for block in blocks(column, self._max_chars)]
            texts.append(stacked(parts or [self._nothing(families)]))
        return beside(texts)

    def _columns(self, columns: Columns) -> list[Ragged]:
        texts = [column for name in self.columns if isinstance(column := columns[name], Ragged)]
        if self._texts > 1 or len(texts) == 1:
            return texts
        joined = pc.binary_join_element_wise(*(text.to_arrow() for text in texts), pa.scalar("\n", pa.large_string()))
        return [Ragged.from_arrow(joined)]

    def _of(self, text: int) -> list[Family]:
        return self._families[text * self._per_text : (text + 1) * self._per_text]

    def _nothing(self, families: Sequence[Family]) -> Sparse:
        width = sum(family.width for family in families)
        return Sparse(np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(1, np.int64), width)

    def _block(self, block: Block, families: Sequence[Family], weights: npt.NDArray[np.float32]) -> Sparse:
        edges = np.cumsum([0, *(family.width for family in families)])
        width = int(edges[-1])
        wide = np.uint64 if block.count * width >= 1 << 32 else np.uint32
        keys: list[npt.NDArray[Any]] = [
            rows.astype(wide) * width + (ids.astype(wide) + edge)
            for family, edge in zip(families, edges.tolist(), strict=False)
            for ids, rows in family.find(block)
        ]
        together = np.concatenate(keys) if keys else np.zeros(0, wide)
        together.sort()  # by row, then by column
        new = np.ones(len(together), bool)
        np.not_equal(together[1:], together[:-1], out=new[1:])
        starts = np.flatnonzero(new)
        counts = np.diff(starts, append=len(together))
        distinct = together[starts]
        rows: npt.NDArray[Any] = np.arange(block.count).astype(wide) * width
        # where each row's n-grams of each family start
        bounds = np.searchsorted(distinct, (rows[:, None] + edges[:-1].astype(wide)).ravel())
        sizes = np.diff(bounds, append=len(distinct))
        offsets = np.append(bounds[:: len(families)], len(distinct))
        ids = (distinct - np.repeat(rows, np.diff(offsets))).astype(np.int32)
        values = _LOGARITHMS[np.minimum(counts, _LARGE)] if self._sublinear else counts.astype(np.float32)
        for place in np.flatnonzero(counts > _LARGE) if self._sublinear else ():
            values[place] = 1 + np.log(counts[place])
        values *= weights[ids]
        filled = np.flatnonzero(sizes)
        if len(filled):
            lengths = np.sqrt(np.add.reduceat(np.square(values), bounds[filled], dtype=np.float64))
            values /= np.repeat(lengths.astype(np.float32), sizes[filled])
        return Sparse(ids, values, offsets, width)

    def info(self) -> dict[str, FeatureInfo]:
        return {"ngrams": FeatureInfo("sparse", (sum(family.width for family in self._families),))}

    def state(self) -> dict[str, Any]:
        return {"texts": self._count, "families": [family.state() for family in self._families]}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._count = int(state["texts"])
        for family, held in zip(self._families, state["families"], strict=True):
            family.restore(held)
        self._weigh()


def _sizes(option: str, sizes: Sequence[int]) -> tuple[int, int]:
    match sizes:
        case [int(low), int(high)] if 1 <= low <= high <= _MOST_SIZES:
            return low, high
    raise _wrong(option, sizes, "the smallest and the largest size, for example [1, 2]")


def _wrong(option: str, value: Any, wanted: str) -> ConfigError:
    return ConfigError(f"option {option} is {value!r}", where="feature step ngrams", mend=f"Give {wanted}.")
