"""The constant answer that a first model must beat is the best that needs no inputs."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.dummy import DummyClassifier, DummyRegressor

from tidemill.metrics import Decisions, constant_scores, prior_probabilities, row_scores, spread_of
from tidemill.metrics.scores import CLASSIFICATION, MULTILABEL


def test_classes_are_scikit_learns_dummies() -> None:
    random = np.random.default_rng(0)
    training, target = random.choice(4, 300, p=[0.1, 0.2, 0.3, 0.4]), random.integers(0, 4, 80)
    dummy = DummyClassifier(strategy="prior").fit(np.zeros((300, 1)), training)
    p = dummy.predict_proba(np.zeros((80, 1)))
    np.testing.assert_allclose(prior_probabilities(np.append(training, [-1, -1]), 4), p[0])
    for metric in ("accuracy", "log_loss", "brier", "balanced_accuracy"):
        ours = constant_scores(metric, "classification", np.append(training, -1), target, 4)
        np.testing.assert_allclose(ours, row_scores(metric, target, p))
    assert constant_scores("accuracy", "classification", training, target, 4).mean() == (target == 3).mean()


def test_costs_decide_what_is_always_said_and_silence_may_be_cheapest() -> None:
    training, target = np.array([0] * 70 + [1] * 30), np.array([0, 1])
    dear = np.array([[0.0, 1.0], [10.0, 0.0]])  # a missed 1 costs ten
    assert constant_scores("utility", "classification", training, target, 2, costs=Decisions(costs=dear)).tolist() == [
        0.9,
        1.0,
    ]
    silent = Decisions(costs=dear, abstain_cost=0.5)
    assert constant_scores("utility", "classification", training, target, 2, costs=silent).tolist() == [0.95, 0.95]
    plain = constant_scores("utility", "classification", training, target, 2)
    assert plain.tolist() == [1.0, 0.0]


@pytest.mark.parametrize(("metric", "strategy"), [("mse", "mean"), ("r2", "mean"), ("mae", "median")])
def test_numbers_are_scikit_learns_dummies(metric: str, strategy: str) -> None:
    random = np.random.default_rng(1)
    training, target = random.exponential(size=301), random.exponential(size=50)
    centre = DummyRegressor(strategy=strategy).fit(np.zeros((301, 1)), training).predict(np.zeros((50, 1)))
    found = constant_scores(metric, "regression", np.append(training, np.nan), target, 1, spread=spread_of(training))
    np.testing.assert_allclose(found, row_scores(metric, target, centre, spread=float(training.var())))
    assert spread_of(np.full(5, 3.0)) == spread_of(np.array([])) == spread_of(np.array([np.nan])) == 1.0
    assert constant_scores(metric, "regression", np.array([np.nan]), np.array([2.0]), 1).shape == (1,)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(0, 10**6), st.sampled_from(["subset_accuracy", "hamming"]))
def test_no_other_set_of_labels_does_better_on_the_training_rows(rows: int, seed: int, metric: str) -> None:
    random = np.random.default_rng(seed)
    training = (random.random((rows, 4)) < random.random(4)).astype(np.uint8)
    training[: rows // 3] = training[0]
    found = constant_scores(metric, "multilabel", training, training, 4).mean()
    for chosen in product([0, 1], repeat=4):
        said = np.broadcast_to(np.array(chosen), training.shape)
        assert found >= row_scores(metric, training, said, said).mean() - 1e-12


def test_frequent_labels_are_said_as_far_as_f1_gains() -> None:
    training = np.array([[1, 1, 0], [1, 1, 0], [1, 0, 1], [0, 1, 0]], np.uint8)
    target = np.array([[1, 1, 0], [0, 0, 0], [0, 0, 1]], np.uint8)
    np.testing.assert_allclose(constant_scores("f1_samples", "multilabel", training, target, 3), [1.0, 0.0, 0.0])
    shares = np.broadcast_to(training.mean(axis=0), target.shape)
    np.testing.assert_allclose(
        constant_scores("label_log_loss", "multilabel", training, target, 3),
        row_scores("label_log_loss", target, shares),
    )
    nothing = np.zeros((5, 3), np.uint8)
    assert constant_scores("f1_samples", "multilabel", nothing, target, 3).tolist() == [0.0, 1.0, 0.0]
    assert constant_scores("f1_samples", "multilabel", nothing[:0], target, 3).tolist() == [0.0, 1.0, 0.0]


def test_every_metric_has_its_constant() -> None:
    for metric in CLASSIFICATION:
        assert constant_scores(metric, "classification", np.array([0, 1, 1]), np.array([1, 0]), 2).shape == (2,)
    for metric in MULTILABEL:
        y = np.array([[0, 1], [1, 1]], np.uint8)
        assert constant_scores(metric, "multilabel", y, y, 2).shape == (2,)


@pytest.mark.parametrize(
    ("kind", "metric"),
    [("classification", "accuracy"), ("multilabel", "f1_samples"), ("multilabel", "subset_accuracy"),
     ("regression", "mse"), ("regression", "mae")],
)  # fmt: skip
def test_a_weight_of_two_is_a_row_twice(kind: str, metric: str) -> None:
    random = np.random.default_rng(3)
    twice = random.random(60) < 0.4
    made = {
        "classification": random.integers(0, 3, 60),
        "multilabel": (random.random((60, 4)) < 0.4).astype(np.uint8),
        "regression": random.exponential(size=60),
    }[kind]
    classes = {"classification": 3, "multilabel": 4, "regression": 1}[kind]
    weighted = constant_scores(metric, kind, made, made, classes, weight=np.where(twice, 2.0, 1.0))
    repeated = constant_scores(metric, kind, np.repeat(made, 1 + twice, axis=0), made, classes)
    np.testing.assert_allclose(weighted, repeated)
    nothing = constant_scores(metric, kind, made, made, classes, weight=np.zeros(60))
    np.testing.assert_allclose(nothing, constant_scores(metric, kind, made, made, classes))
