"""Out-of-fold scores: every row is scored once, by a model that has seen neither it nor its group."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from sklearn.datasets import load_digits

from tidemill.errors import TrainingError
from tidemill.features._base import FeatureInfo, Features, Sparse
from tidemill.learners import _folds, get_learner
from tidemill.learners._base import Context, Export, Problem, RecipeView, Scores
from tidemill.learners._folds import fold_of, out_of_fold, taken


class Remembers:
    """Scores 1 for a row it was fitted on, by the row's id in ``x``."""

    name: ClassVar[str] = "remembers"
    streams: ClassVar[bool] = True
    quick: ClassVar[bool] = True

    def __init__(self) -> None:
        self.fits: list[Problem] = []

    def epochs(self, rows: int, params: Mapping[str, Any]) -> int:
        return 1

    def fit(self, problem: Problem, recipe: RecipeView, context: Context) -> Memory:
        self.fits.append(problem)
        x = problem.features["x"]
        assert isinstance(x, np.ndarray)
        return Memory({int(v) for v in x[:, 0]})


class Memory:
    summary: ClassVar[dict[str, Any]] = {}

    def __init__(self, seen: set[int]) -> None:
        self.seen = seen

    def scores(self, features: Features) -> Scores:
        x = features["x"]
        assert isinstance(x, np.ndarray)
        return np.array([[int(v) in self.seen, v] for v in x[:, 0]], np.float32)

    def export(self) -> Export:
        raise NotImplementedError


def problem_of(target: np.ndarray, kind: Any = "classification", classes: int = 2) -> Problem:
    x = np.arange(len(target), dtype=np.float32)[:, None]
    weight = np.linspace(0.5, 1.5, len(target)).astype(np.float32)
    return Problem(kind=kind, features={"x": x}, info={"x": FeatureInfo("float32", (1,))}, target=target,
                   train=len(target) // 2, classes=classes, weight=weight)  # fmt: skip


def test_every_row_is_scored_by_a_model_that_has_not_seen_it() -> None:
    target = np.arange(103) % 2
    learner = Remembers()
    problem = problem_of(target)
    scores = out_of_fold(learner, problem, RecipeView(), Context(), 5, 3)
    assert scores.shape == (103, 2) and scores.dtype == np.float32
    assert not scores[:, 0].any()
    np.testing.assert_array_equal(scores[:, 1], np.arange(103))
    assert len(learner.fits) == 5
    for part in learner.fits:
        assert part.train == len(part.target) in (82, 83) and part.weight is not None and problem.weight is not None
        x = part.features["x"]
        assert isinstance(x, np.ndarray)
        seen = x[:, 0].astype(int)
        np.testing.assert_array_equal(part.target, target[seen])
        np.testing.assert_array_equal(part.weight, problem.weight[seen])


def test_folds_share_classes_evenly_and_follow_the_seed() -> None:
    rng = np.random.default_rng(0)
    target = rng.choice(4, 1000, p=[0.7, 0.2, 0.09, 0.01])
    problem = problem_of(target, classes=4)
    fold = fold_of(problem, 5, 1)
    for label in range(4):
        counts = np.bincount(fold[target == label], minlength=5)
        assert counts.max() - counts.min() <= 1
    np.testing.assert_array_equal(fold, fold_of(problem, 5, 1))
    assert (fold != fold_of(problem, 5, 2)).any()


def test_groups_stay_together_and_folds_stay_even() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 300, 1000).astype(np.uint64) << np.uint64(40)
    fold = fold_of(problem_of(rng.integers(0, 2, 1000)), 5, 0, groups)
    for group in np.unique(groups):
        assert len(set(fold[groups == group])) == 1
    counts = np.bincount(fold)
    assert len(counts) == 5 and counts.max() - counts.min() < 40
    assert set(fold_of(problem_of(np.zeros(9, np.int64)), 5, 0, np.repeat([7, 8, 9], 3))) == {0, 1, 2}


def test_multilabel_rows_part_by_their_rarest_label_and_numbers_by_range() -> None:
    rng = np.random.default_rng(0)
    target = (rng.random((500, 3)) < [0.6, 0.3, 0.03]).astype(np.uint8)
    fold = fold_of(problem_of(target, "multilabel", 3), 5)
    rare = np.bincount(fold[target[:, 2] == 1], minlength=5)
    assert rare.max() - rare.min() <= 1 and rare.sum() > 8
    price = rng.lognormal(size=500).astype(np.float32)
    fold = fold_of(problem_of(price, "regression", 1), 5)
    assert all((fold[np.argsort(price)[-50:]] == k).sum() == 10 for k in range(5))


def test_rows_that_cannot_be_parted_are_refused() -> None:
    for rows, groups in ((1, None), (4, np.zeros(4)), (0, None)):
        with pytest.raises(TrainingError, match="cannot be parted"):
            fold_of(problem_of(np.zeros(rows, np.int64)), 5, 0, groups)


def test_large_folds_lie_in_mapped_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 9, 400)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    ngrams = Sparse(rng.integers(0, 50, offsets[-1]).astype(np.int32), rng.random(offsets[-1]).astype(np.float32),
                    offsets, 50)  # fmt: skip
    features = {"ngrams": ngrams, "image": rng.integers(0, 255, (400, 4, 4, 1)).astype(np.uint8)}
    rows = rng.permutation(400)[:300]
    plain = taken(features, rows)
    monkeypatch.setattr(_folds, "_IN_MEMORY", 1000)
    monkeypatch.setattr(_folds, "_GATHER", 64)
    mapped = taken(features, rows, tmp_path)
    assert isinstance(mapped["image"], np.memmap) and isinstance(mapped["ngrams"], Sparse)
    assert isinstance(mapped["ngrams"].values, np.memmap) and isinstance(plain["ngrams"], Sparse)
    np.testing.assert_array_equal(mapped["image"], features["image"][rows])
    expected = ngrams.to_scipy().toarray()[rows]
    np.testing.assert_allclose(mapped["ngrams"].to_scipy().toarray(), expected)
    np.testing.assert_allclose(plain["ngrams"].to_scipy().toarray(), expected)


def test_real_digits_are_told_apart_out_of_fold() -> None:
    x, y = load_digits(return_X_y=True)
    problem = Problem(kind="classification", features={"x": (x / 16).astype(np.float32)}, target=y, train=len(y),
                      info={"x": FeatureInfo("float32", (64,))}, classes=10)  # fmt: skip
    view = RecipeView(params={"method": "ridge"})
    scores = out_of_fold(get_learner("closed_form"), problem, view, Context(), 5, 0)
    assert (scores.argmax(axis=1) == y).mean() > 0.9
