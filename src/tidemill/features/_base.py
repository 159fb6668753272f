"""What a feature step is: fitted in one pass over the training rows, then a pure vectorised transform.

A recipe's features are a list of step specs, ``{"step": "numbers", "columns": ["age", "hours"]}``. Each step reads
raw columns and writes named arrays. Recipes and learners agree on these names:

==========  ==========================  =====================================================================
output      dtype and shape             meaning
==========  ==========================  =====================================================================
``image``   uint8 ``[n, h, w, c]``      pixels; ``meta["mean"]``, ``meta["std"]`` per channel on the 0-255 scale
``x``       float32 ``[n, d]``          dense numbers, standardised unless the spec says otherwise
``codes``   int64 ``[n, k]``            category codes, 0 for rare or unseen; ``meta["cardinalities"]`` ``[k]``
``tokens``  int32 ``[n, length]``       token ids, 0 for padding; ``meta["vocabulary"]``
``ngrams``  :class:`Sparse` ``[n, d]``  weights of the n-grams that occur
==========  ==========================  =====================================================================

Several steps may write ``x`` or ``codes``: they are concatenated in the order of the recipe.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from scipy import sparse

from tidemill.data.arrays import Columns
from tidemill.data.schema import FieldType


class Sparse:
    """Rows of which few columns are not zero, as compressed sparse rows.

    Args:
        indices: int32 ``[nnz]``, the column of each value.
        values: float32 ``[nnz]``.
        offsets: int64 ``[n + 1]``; row *i* is ``indices[offsets[i]:offsets[i + 1]]``.
        width: number of columns.

    >>> rows = Sparse(np.array([4, 0], np.int32), np.ones(2, np.float32), np.array([0, 1, 1, 2]), 5)
    >>> len(rows), rows.rows().tolist(), rows[1:].to_scipy().toarray().tolist()
    (3, [0, 2], [[0.0, 0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0, 0.0]])
    """

    __slots__ = ("indices", "offsets", "values", "width")

    def __init__(
        self,
        indices: npt.NDArray[np.int32],
        values: npt.NDArray[np.float32],
        offsets: npt.NDArray[np.int64],
        width: int,
    ) -> None:
        self.indices = indices
        self.values = values
        self.offsets = offsets
        self.width = width

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, rows: slice | npt.NDArray[np.int64]) -> Sparse:
        """The given rows; a slice of consecutive ones shares memory."""
        if isinstance(rows, slice) and rows.step in (None, 1):
            start, stop, _ = rows.indices(len(self))
            offsets = self.offsets[start : max(start, stop) + 1]
            first, last = int(offsets[0]), int(offsets[-1])
            return Sparse(self.indices[first:last], self.values[first:last], offsets - first, self.width)
        picked = np.arange(len(self))[rows]
        counts = (self.offsets[1:] - self.offsets[:-1])[picked]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        places = np.arange(offsets[-1]) + np.repeat(self.offsets[picked] - offsets[:-1], counts)
        return Sparse(self.indices[places], self.values[places], offsets, self.width)

    def rows(self) -> npt.NDArray[np.int64]:
        """The row of each value, int64 ``[nnz]``."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def to_scipy(self) -> sparse.csr_array:
        """The same memory as a SciPy array ``[n, width]``."""
        # offsets as wide as the indices where they fit: otherwise SciPy would make wide copies of all indices
        small = len(self.indices) <= np.iinfo(np.int32).max
        offsets = self.offsets.astype(np.int32) if small else self.offsets
        return sparse.csr_array((self.values, self.indices, offsets), shape=(len(self), self.width))


Feature = npt.NDArray[Any] | Sparse
Features = Mapping[str, Feature]


@dataclass(frozen=True, slots=True)
class FeatureInfo:
    """What a learner must know of one output: its shape without the batch axis, and what it means.

    The dtype of a :class:`Sparse` output is ``sparse``, its shape ``(width,)``.
    """

    dtype: str
    shape: tuple[int, ...]
    meta: dict[str, Any] = field(default_factory=dict)

    def blank(self, rows: int) -> Feature:
        """*rows* rows of zeros."""
        if self.dtype == "sparse":
            nothing = np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(rows + 1, np.int64)
            return Sparse(*nothing, self.shape[0])
        return np.zeros((rows, *self.shape), self.dtype)


class FeatureStep(ABC):
    """One step; subclasses stand one a file in :mod:`tidemill.features` and are found by ``name``.

    Life: ``Step(columns, **options)``, ``observe(chunk)`` for every chunk of training rows, ``finish()``,
    ``transform``. ``state()`` is JSON; ``restore(state)`` makes a fresh step equal to the fitted one.
    """

    name: ClassVar[str]
    handles: ClassVar[tuple[FieldType, ...]]
    """The types of column it reads; a spec without ``columns`` means every input of these types."""
    learns: ClassVar[bool] = True
    """Whether its state follows from the rows it is fitted on; else a refit reads what the fit read."""

    def __init__(self, columns: list[str]) -> None:
        self.columns = columns

    @abstractmethod
    def observe(self, chunk: Columns) -> None:
        """Take in one chunk of the training rows."""

    def finish(self) -> None:  # noqa: B027 - most steps have nothing left to do
        """Turn what was observed into state."""

    @abstractmethod
    def transform(self, columns: Columns) -> Features:
        """The step's outputs for any rows, fitted or new."""

    @abstractmethod
    def info(self) -> dict[str, FeatureInfo]:
        """What :meth:`transform` writes, by name."""

    def packed(self) -> FeatureStep | None:
        """The fitted step that a package holds instead, whose output the model's graph turns into this one's ``x``."""
        return None

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """The fitted state as JSON."""

    @abstractmethod
    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over a state that :meth:`state` wrote."""


def as_float32(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Contiguous float32, the one dense type that learners and ONNX graphs take."""
    return np.ascontiguousarray(values, dtype=np.float32)
