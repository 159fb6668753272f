"""Scores for rows that a learner has not seen: k models, each fitted without one fold and asked about that fold.

The refit of a chosen recipe calibrates on them, since it keeps no validation rows back, and suspected label errors
are read from them.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.errors import TrainingError
from tidemill.features._base import Feature, Features, Sparse
from tidemill.learners._base import Context, Learner, Problem, RecipeView, Scores

Rows = npt.NDArray[np.int64]

_IN_MEMORY = 64 << 20  # a larger array of a fold's rows is gathered into a mapped file
_GATHER = 1 << 16
_BINS = 10  # of a regression's target, so that every fold spans its range


def out_of_fold(
    learner: Learner,
    problem: Problem,
    recipe: RecipeView,
    context: Context,
    folds: int = 5,
    seed: int = 0,
    *,
    groups: npt.NDArray[Any] | None = None,
) -> Scores:
    """Raw scores of every row by a model that was fitted without it.

    Stone, *Cross-Validatory Choice and Assessment of Statistical Predictions* (1974). The fits have no validation rows,
    so *recipe* should hold what these would have chosen (``chosen`` of :attr:`Fitted.summary`). Nothing is reported and
    no checkpoint is kept.

    Args:
        learner: fits each fold.
        problem: all of its rows take part, whatever its ``train``.
        recipe: network and parameters.
        context: its seed, threads and device; ``workdir`` is where large folds lie while they are fitted.
        folds: how many; fewer when there are fewer groups.
        seed: which rows make a fold.
        groups: ``[n]``, equal for rows that must share a fold, such as near copies; each row for itself unless given.

    Returns:
        float32 ``[n, classes]`` (regression ``[n, 1]`` or ``[n, 3]``).

    Raises:
        TrainingError: a fold cannot be fitted, or there are fewer than two groups.
    """
    fold = fold_of(problem, folds, seed, groups)
    quiet = Context(seed=context.seed, max_epochs=context.max_epochs, threads=context.threads, device=context.device)
    scores: Scores | None = None
    for number in range(int(fold.max()) + 1):
        seen, unseen = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        with tempfile.TemporaryDirectory(prefix=".fold-", dir=context.workdir) as folder:
            part = part_of(problem, seen, len(seen), Path(folder))
            fitted = learner.fit(part, recipe, quiet)
            for start in range(0, len(unseen), _GATHER):
                rows = unseen[start : start + _GATHER]
                found = fitted.scores(taken(problem.features, rows))
                if scores is None:
                    scores = np.empty((len(fold), found.shape[1]), np.float32)
                scores[rows] = found
            del part, fitted
    assert scores is not None
    return scores


def fold_of(problem: Problem, folds: int = 5, seed: int = 0, groups: npt.NDArray[Any] | None = None) -> Rows:
    """The fold of every row, int64 ``[n]``, from 0.

    Folds are alike in size and in their share of each class; of each label, by the rarest one of a row, for multilabel;
    of each tenth of the range for regression.

    Raises:
        TrainingError: there are fewer than two groups to part.

    >>> six = Problem(kind="classification", features={}, info={}, target=np.array([0, 0, 0, 1, 1, 1]), train=6,
    ...               classes=2)
    >>> fold = fold_of(six, 3)
    >>> sorted(fold[:3].tolist()), sorted(fold[3:].tolist())
    ([0, 1, 2], [0, 1, 2])
    """
    stratum = _strata(problem)
    n = len(stratum)
    if groups is None:
        first, sizes, member = np.arange(n), np.ones(n, np.int64), np.arange(n)
    else:
        _, first, member, sizes = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    folds = min(folds, len(first))
    if folds < 2:
        raise TrainingError(
            f"{n} rows in {len(first)} group{'' if len(first) == 1 else 's'} cannot be parted into folds",
            mend="Give more rows, or rows of more groups.",
        )
    # Large groups are dealt first, so that the small ones even out what they upset; ties in random order.
    order = np.lexsort((np.random.default_rng(seed).random(len(first)), -sizes, stratum[first]))
    dealt = np.empty(len(first), np.int64)
    dealt[order] = np.arange(len(first)) % folds
    return dealt[member]


def _strata(problem: Problem) -> Rows:
    target = problem.target
    if problem.kind == "classification":
        return target.astype(np.int64)
    if problem.kind == "multilabel":
        ranked = np.argsort(np.argsort(target.sum(axis=0), kind="stable"))  # 0: the rarest label
        rank = np.where(target > 0, ranked, problem.classes)
        return np.asarray(rank.min(axis=1, initial=problem.classes), np.int64)
    places = np.argsort(np.argsort(target, kind="stable"), kind="stable")
    tenth: Rows = places * _BINS // max(len(target), 1)
    return tenth


def part_of(problem: Problem, rows: Rows, train: int, folder: Path | None = None) -> Problem:
    """The same problem on some of its rows, of which the first *train* train; features as :func:`taken` takes them."""
    return dataclasses.replace(
        problem,
        features=taken(problem.features, rows, folder),
        target=problem.target[rows],
        train=train,
        weight=None if problem.weight is None else problem.weight[rows],
        logged=None if problem.logged is None else problem.logged[rows],
    )


def taken(features: Features, rows: Rows, folder: Path | None = None) -> dict[str, Feature]:
    """Some rows of every feature; arrays of more than 64 MB go into mapped files in *folder*, where one is given."""
    return {
        name: _sparse(feature, rows, folder, name)
        if isinstance(feature, Sparse)
        else _array(feature, rows, folder, name)
        for name, feature in features.items()
    }


def _array(feature: npt.NDArray[Any], rows: Rows, folder: Path | None, name: str) -> npt.NDArray[Any]:
    size = len(rows) * int(np.prod(feature.shape[1:])) * feature.itemsize
    if folder is None or size <= _IN_MEMORY:
        picked: npt.NDArray[Any] = np.asarray(feature[rows])
        return picked
    mapped: npt.NDArray[Any] = np.memmap(
        folder / f"{name}.tmp", feature.dtype, "w+", shape=(len(rows), *feature.shape[1:])
    )
    for start in range(0, len(rows), _GATHER):
        mapped[start : start + _GATHER] = feature[rows[start : start + _GATHER]]
    return mapped


def _sparse(feature: Sparse, rows: Rows, folder: Path | None, name: str) -> Sparse:
    counts = (feature.offsets[1:] - feature.offsets[:-1])[rows]
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    if folder is None or offsets[-1] * (feature.indices.itemsize + feature.values.itemsize) <= _IN_MEMORY:
        return feature[rows]
    indices: npt.NDArray[np.int32] = np.memmap(folder / f"{name}.indices", np.int32, "w+", shape=(int(offsets[-1]),))
    values: npt.NDArray[np.float32] = np.memmap(folder / f"{name}.values", np.float32, "w+", shape=(int(offsets[-1]),))
    for start in range(0, len(rows), _GATHER):
        part = feature[rows[start : start + _GATHER]]
        to = slice(offsets[start], offsets[start + len(part)])
        indices[to], values[to] = part.indices, part.values
    return Sparse(indices, values, offsets, feature.width)
