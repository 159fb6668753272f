"""The form in which both methods end: ``scores = z² A + z B + table[codes] + ngrams S + c``.

``z`` is the dense row less a centre. It is exported as it stands. All but the n-grams is computed in float64, so the
graph and the array code agree to the last float32 digits; n-grams are weighed in float32, as they come.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from tidemill.features._base import FeatureInfo, Features, Sparse
from tidemill.learners._base import Export, Scores
from tidemill.learners._dense import chunk_rows, chunks, count, dense
from tidemill.learners._graph import Graph, dense_row, sparse_sums

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Additive:
    """A fitted closed form.

    Attributes:
        info: the features it reads.
        max_side: how images are shrunk, see :func:`tidemill.learners._dense.dense`.
        centre: float64 ``[d]``, taken off the dense row.
        squares: float64 ``[d, k]`` or ``None``.
        linear: float64 ``[d, k]``.
        table: float64 ``[sum of cardinalities, k]`` or ``None`` without codes.
        ngrams: float32 ``[columns, k]`` or ``None`` without n-grams.
        constant: float64 ``[k]``.
        summary: facts for the run record.
    """

    info: Mapping[str, FeatureInfo]
    max_side: int | None
    centre: F64
    squares: F64 | None
    linear: F64
    table: F64 | None
    ngrams: npt.NDArray[np.float32] | None
    constant: F64
    summary: dict[str, Any] = field(default_factory=dict)

    def scores(self, features: Features) -> Scores:
        """Raw scores, float32 ``[n, k]``."""
        size = chunk_rows(self.linear.shape[0])
        parts = [self._chunk(features, rows) for rows in chunks(0, count(features), size)]
        return np.concatenate(parts) if parts else np.zeros((0, len(self.constant)), np.float32)

    def _chunk(self, features: Features, rows: slice) -> Scores:
        z = dense(features, rows, self.max_side).astype(np.float64) - self.centre
        total = z @ self.linear + self.constant
        if self.squares is not None:
            total += np.square(z) @ self.squares
        if self.table is not None:
            total += self.table[codes_of(features, rows) + offsets(self.info)].sum(axis=1)
        if self.ngrams is not None:
            total += ngrams_of(features, rows).to_scipy() @ self.ngrams
        return np.asarray(total, np.float32)

    def scaled(self, factor: float) -> Additive:
        """The same form with every score times *factor*."""
        squares = None if self.squares is None else self.squares * factor
        table = None if self.table is None else self.table * factor
        ngrams = None if self.ngrams is None else self.ngrams * np.float32(factor)
        return replace(
            self, squares=squares, linear=self.linear * factor, table=table, ngrams=ngrams,
            constant=self.constant * factor,
        )  # fmt: skip

    @property
    def parameters(self) -> int:
        """How many numbers were fitted."""
        parts = (self.squares, self.linear, self.table, self.ngrams, self.constant)
        return sum(part.size for part in parts if part is not None)

    def export(self) -> Export:
        """The form as an ONNX graph."""
        graph = Graph()
        total = graph.constant(self.constant)
        row = dense_row(graph, self.info, self.max_side)
        if row is not None:
            z = graph.add("Sub", graph.cast(row, TensorProto.DOUBLE), graph.constant(self.centre))
            total = graph.add("Add", graph.add("MatMul", z, graph.constant(self.linear)), total)
            if self.squares is not None:
                squares = graph.add("MatMul", graph.add("Mul", z, z), graph.constant(self.squares))
                total = graph.add("Add", total, squares)
        if self.table is not None:
            places = graph.add("Add", "codes", graph.constant(offsets(self.info)))
            looked_up = graph.add("Gather", graph.constant(self.table), places, axis=0)
            sums = graph.add("ReduceSum", looked_up, graph.constant(np.array([1], np.int64)), keepdims=0)
            total = graph.add("Add", sums, total)
        if self.ngrams is not None:
            sums = graph.cast(sparse_sums(graph, "ngrams", self.ngrams), TensorProto.DOUBLE)
            total = graph.add("Add", sums, total)
        scores = graph.cast(total, TensorProto.FLOAT)
        return Export(onnx=graph.model(self.info, scores, len(self.constant)).SerializeToString())


def cardinalities(info: Mapping[str, FeatureInfo]) -> npt.NDArray[np.int64]:
    """How many codes each category column has, int64 ``[columns]``."""
    return np.array(info["codes"].meta["cardinalities"] if "codes" in info else [], np.int64)


def offsets(info: Mapping[str, FeatureInfo]) -> npt.NDArray[np.int64]:
    """Where each category column's codes begin when all are counted in one row, int64 ``[columns]``."""
    cards = cardinalities(info)
    return np.cumsum(cards) - cards


def codes_of(features: Features, rows: slice) -> npt.NDArray[np.int64]:
    """The category codes of some rows, int64 ``[m, columns]``."""
    codes = features["codes"]
    assert isinstance(codes, np.ndarray)
    return np.asarray(codes[rows], np.int64)


def ngrams_of(features: Features, rows: slice) -> Sparse:
    """The n-grams of some rows."""
    ngrams = features["ngrams"]
    assert isinstance(ngrams, Sparse)
    return ngrams[rows]
