"""Row scores mean what their metric means."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from tidemill.errors import ConfigError
from tidemill.metrics import kish, prior_probabilities, regression_metrics, row_scores


def test_means_of_row_scores_are_the_metrics() -> None:
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 3, 500), rng.dirichlet([1, 1, 1], 500)
    answer = p.argmax(axis=1)
    assert row_scores("accuracy", y, p).mean() == sk.accuracy_score(y, answer)
    assert row_scores("balanced_accuracy", y, p).mean() == pytest.approx(sk.balanced_accuracy_score(y, answer))
    assert -row_scores("log_loss", y, p).mean() == pytest.approx(sk.log_loss(y, p))
    onehot = np.eye(3)[y]
    assert -row_scores("brier", y, p).mean() == pytest.approx(np.square(p - onehot).sum(axis=1).mean())
    assert row_scores("accuracy", y[:0], p[:0]).shape == (0,)


def test_a_certain_mistake_is_bounded() -> None:
    assert row_scores("log_loss", np.array([1]), np.array([[1.0, 0.0]]))[0] == pytest.approx(np.log(1e-7))


def test_an_unknown_metric_names_those_there_are() -> None:
    with pytest.raises(ConfigError, match="accuracy, balanced_accuracy"):
        row_scores("accurracy", np.array([0]), np.array([[1.0]]))


def test_regression_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    y = rng.normal(1e6, 3, 400)
    answer, w = y + rng.normal(0.2, 1, 400), rng.uniform(1, 3, 400)
    found = regression_metrics(y, answer, weights=w, replicates=500)
    assert found["mae"][0] == pytest.approx(sk.mean_absolute_error(y, answer, sample_weight=w))
    assert found["rmse"][0] == pytest.approx(sk.root_mean_squared_error(y, answer, sample_weight=w))
    assert found["r2"][0] == pytest.approx(sk.r2_score(y, answer, sample_weight=w))
    assert all(low < value < high for value, low, high in found.values())
    assert -row_scores("mae", y, answer).mean() == pytest.approx(sk.mean_absolute_error(y, answer))
    assert -row_scores("mse", y, answer[:, None]).mean() == pytest.approx(sk.mean_squared_error(y, answer))


def test_prior_and_kish() -> None:
    assert prior_probabilities(np.array([2, 2, 0, -1]), 3).tolist() == pytest.approx([1 / 3, 0, 2 / 3])
    assert kish(np.zeros(3)) == 0.0
    assert kish(np.full(10, 7.0)) == pytest.approx(10)
