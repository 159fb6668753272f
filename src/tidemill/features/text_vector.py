"""``text_vector``: texts as a few dense numbers, for learners of tables."""

# ruff: noqa: D102 - the base class says what each method does

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tidemill.data.arrays import Column, Columns, Ragged, length
from tidemill.data.schema import FieldType
from tidemill.errors import ConfigError
from tidemill.features._base import FeatureInfo, FeatureStep, as_float32
from tidemill.features._vocabulary import as_strings
from tidemill.features.ngrams import Ngrams

_SAMPLE = 20_000  # rows from which the directions are learned, up to twice as many
_SAMPLE_BYTES = 32 << 20
_MOST_NGRAMS = 20_000
_MOST = 512


class TextVector(FeatureStep):
    """Ragged strings to float32 ``x``: ``size`` numbers and the logarithm of the length, a column.

    Latent semantic analysis (Deerwester et al., *Indexing by Latent Semantic Analysis*, 1990): the TF-IDF of words and
    of three to four characters, projected on the directions in which the training texts differ most. These are found on
    an even sample of 20,000 rows or more, so memory stays flat. Every number has mean 0 and deviation 1 there.

    Args:
        columns: text columns.
        size: directions a column; fewer where the texts do not differ in so many.

    Raises:
        ConfigError: *size* is out of range.
    """

    name: ClassVar[str] = "text_vector"
    handles: ClassVar[tuple[FieldType, ...]] = ("text",)

    def __init__(self, columns: list[str], *, size: int = 24) -> None:
        super().__init__(columns)
        if not 1 <= size <= _MOST:
            raise ConfigError(
                f"size is {size!r}", where="feature step text_vector", mend=f"Give a number from 1 to {_MOST}."
            )
        self._parts = [_Part(name, size) for name in columns]

    def observe(self, chunk: Columns) -> None:
        for part in self._parts:
            part.observe(chunk)

    def finish(self) -> None:
        for part in self._parts:
            part.finish()

    def transform(self, columns: Columns) -> dict[str, npt.NDArray[Any]]:
        return {"x": np.concatenate([part.vectors(columns[part.column]) for part in self._parts], axis=1)}

    def info(self) -> dict[str, FeatureInfo]:
        return {"x": FeatureInfo("float32", (sum(part.width for part in self._parts),))}

    def state(self) -> dict[str, Any]:
        return {"columns": [part.state() for part in self._parts]}

    def restore(self, state: Mapping[str, Any]) -> None:
        for part, held in zip(self._parts, state["columns"], strict=True):
            part.restore(held)


class _Part:
    """One column's n-grams and the directions to project them on."""

    def __init__(self, column: str, size: int) -> None:
        self.column, self._size = column, size
        self._ngrams = Ngrams([column], words=(1, 1), characters=(3, 4), max_features=_MOST_NGRAMS)
        self._sample: list[Ragged] = []
        self._stride, self._skip = 1, 0
        self._directions: npt.NDArray[np.float32] = np.zeros((0, 0), np.float32)
        self._centre: npt.NDArray[np.float64] = np.zeros(1)
        self._spread: npt.NDArray[np.float64] = np.ones(1)

    @property
    def width(self) -> int:
        """How many numbers it writes."""
        return int(self._directions.shape[1]) + 1

    def observe(self, chunk: Columns) -> None:
        self._ngrams.observe({self.column: as_strings(chunk[self.column])})
        rows = length(chunk)
        picked = np.arange(self._skip, rows, self._stride)
        self._skip = (self._skip - rows) % self._stride
        if len(picked):
            self._sample.append(as_strings(chunk[self.column]).take(picked))
        while self._kept > 2 * _SAMPLE or (self._bytes > _SAMPLE_BYTES and self._kept > 1):
            whole = _joined(self._sample)  # every second row of those kept, so that they stay even
            self._sample = [whole.take(np.arange(0, len(whole), 2))]
            self._skip += self._stride * (len(whole) % 2)
            self._stride *= 2
            self._skip %= self._stride

    @property
    def _kept(self) -> int:
        return sum(len(part) for part in self._sample)

    @property
    def _bytes(self) -> int:
        return sum(int(part.offsets[-1]) for part in self._sample)

    def finish(self) -> None:
        from sklearn.utils.extmath import randomized_svd

        self._ngrams.finish()
        texts = _joined(self._sample)
        self._sample = []
        rows = self._ngrams.sparse({self.column: texts}).to_scipy()
        size = min(self._size, *rows.shape)
        _, strength, directions = randomized_svd(rows, size, n_iter=4, random_state=0)
        told = strength > 1e-4 * max(float(strength.max(initial=0)), 1e-30)
        self._directions = as_float32(directions[told].T)
        raw = self._raw(texts)
        self._centre, spread = raw.mean(axis=0), raw.std(axis=0)
        self._spread = np.where(spread > 1e-6, spread, 1.0)

    def _raw(self, texts: Ragged) -> npt.NDArray[np.float64]:
        projected = self._ngrams.sparse({self.column: texts}).to_scipy() @ self._directions
        lengths = np.log1p(np.diff(texts.offsets).astype(np.float64))
        return np.concatenate([projected, lengths[:, None]], axis=1)

    def vectors(self, column: Column) -> npt.NDArray[np.float32]:
        """Float32 ``[n, width]``."""
        return as_float32((self._raw(as_strings(column)) - self._centre) / self._spread)

    def state(self) -> dict[str, Any]:
        directions = base64.b64encode(self._directions.astype("<f4").tobytes()).decode()
        return {
            "ngrams": self._ngrams.state(),
            "directions": directions,
            "centre": self._centre.tolist(),
            "spread": self._spread.tolist(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self._ngrams.restore(state["ngrams"])
        flat = np.frombuffer(base64.b64decode(state["directions"]), "<f4").astype(np.float32)
        self._centre, self._spread = np.array(state["centre"], np.float64), np.array(state["spread"], np.float64)
        self._directions = flat.reshape(self._ngrams.info()["ngrams"].shape[0], len(self._centre) - 1)


def _joined(parts: list[Ragged]) -> Ragged:
    if len(parts) == 1:
        return parts[0]
    ends = np.cumsum([0, *(len(part.values) for part in parts)])
    offsets = [part.offsets[1:] - part.offsets[0] + end for part, end in zip(parts, ends, strict=False)]
    values = [part.values[part.offsets[0] : part.offsets[-1]] for part in parts]
    return Ragged(np.concatenate(values), np.concatenate([np.zeros(1, np.int64), *offsets]))
