"""The training rows as both methods read them: in chunks, with targets and weights as numbers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tidemill.learners._base import Problem
from tidemill.learners._dense import chunk_rows, chunks, dense, dense_width, refuse_missing
from tidemill.learners._folds import part_of
from tidemill.learners.closed_form.additive import F64, cardinalities


def sparser(problem: Problem, train: int, validation: int) -> Problem:
    """The same problem on at most so many rows, spread evenly over all of them."""

    def spread(start: int, stop: int, most: int) -> npt.NDArray[np.int64]:
        return np.unique(np.linspace(start, stop - 1, min(most, stop - start)).astype(np.int64))

    kept = spread(0, problem.train, train)
    return part_of(problem, np.concatenate([kept, spread(problem.train, len(problem.target), validation)]), len(kept))


def training_rows(problem: Problem, max_side: int | None) -> Iterator[tuple[slice, F64]]:
    """Each chunk's place and its dense rows, float64 ``[m, d]``.

    Raises:
        TrainingError: they hold missing values.
    """
    size = chunk_rows(dense_width(problem.info, max_side) + int(cardinalities(problem.info).sum()))
    for rows in chunks(0, problem.train, size):
        values = dense(problem.features, rows, max_side)
        refuse_missing(values, "closed_form")
        yield rows, values.astype(np.float64)


def weights(problem: Problem, rows: slice) -> F64:
    """The sample weights, float64 ``[m]``."""
    if problem.weight is None:
        return np.ones(rows.stop - rows.start)
    return problem.weight[rows].astype(np.float64)


def signed(problem: Problem, rows: slice) -> F64:
    """What least squares aims at, float64 ``[m, k]``: 1 for a label that holds and -1 for others, or the value."""
    if problem.kind == "regression":
        return problem.target[rows].astype(np.float64)[:, None]
    return belonging(problem, rows) * 2 - 1


def belonging(problem: Problem, rows: slice) -> F64:
    """1 where a row has a label, else 0; float64 ``[m, k]``."""
    if problem.kind == "multilabel":
        return problem.target[rows].astype(np.float64)
    return np.asarray(np.eye(problem.classes)[problem.target[rows]])
