"""Metrics agree with scikit-learn, and their intervals cover."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk
from sklearn.datasets import load_digits
from sklearn.naive_bayes import GaussianNB

from tidemill.metrics import OVERALL, classification_metrics


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """True digits of a test half, and the probabilities of a model that makes some mistakes."""
    x, y = load_digits(return_X_y=True)
    model = GaussianNB(var_smoothing=0.1).fit(x[:900], y[:900])
    return y[900:], 0.99 * model.predict_proba(x[900:]) + 0.001


def test_every_value_is_scikit_learns(digits: tuple[np.ndarray, np.ndarray]) -> None:
    y, p = digits
    answer, found = p.argmax(axis=1), classification_metrics(*digits, replicates=200)
    expected = {
        "accuracy": sk.accuracy_score(y, answer),
        "balanced_accuracy": sk.balanced_accuracy_score(y, answer),
        "precision_macro": sk.precision_score(y, answer, average="macro"),
        "recall_macro": sk.recall_score(y, answer, average="macro"),
        "f1_macro": sk.f1_score(y, answer, average="macro"),
        "precision_micro": sk.precision_score(y, answer, average="micro"),
        "recall_micro": sk.recall_score(y, answer, average="micro"),
        "f1_micro": sk.f1_score(y, answer, average="micro"),
        "roc_auc": sk.roc_auc_score(y, p, multi_class="ovr"),
        "log_loss": sk.log_loss(y, p),
    }
    for name, value in expected.items():
        assert found.overall[name][0] == pytest.approx(value, abs=1e-9), name
    assert set(found.overall) == set(OVERALL)
    for name, score in (("precision", sk.precision_score), ("recall", sk.recall_score), ("f1", sk.f1_score)):
        assert found.per_class[name][:, 0] == pytest.approx(score(y, answer, average=None))
    assert (found.confusion == sk.confusion_matrix(y, answer)).all()
    assert found.support.tolist() == np.bincount(y).tolist()


def test_weights_are_scikit_learns(digits: tuple[np.ndarray, np.ndarray]) -> None:
    y, p = digits
    w = np.random.default_rng(1).uniform(1, 20, len(y))
    answer, found = p.argmax(axis=1), classification_metrics(y, p, weights=w, replicates=50)
    assert found.overall["accuracy"][0] == pytest.approx(sk.accuracy_score(y, answer, sample_weight=w))
    assert found.overall["log_loss"][0] == pytest.approx(sk.log_loss(y, p, sample_weight=w))
    assert found.overall["f1_macro"][0] == pytest.approx(sk.f1_score(y, answer, average="macro", sample_weight=w))
    assert found.per_class["roc_auc"][3, 0] == pytest.approx(sk.roc_auc_score(y == 3, p[:, 3], sample_weight=w))
    assert found.effective < len(y)


def test_binary_with_ties_and_a_class_nobody_answers() -> None:
    y = np.array([0, 0, 1, 1, 1, 0])
    p = np.array([[0.5, 0.5], [0.9, 0.1], [0.5, 0.5], [0.6, 0.4], [0.8, 0.2], [0.9, 0.1]])
    found = classification_metrics(y, p, replicates=100)
    assert found.overall["roc_auc"][0] == pytest.approx(sk.roc_auc_score(y, p[:, 1]))
    assert found.per_class["precision"][1, 0] == 0.0
    assert found.overall["f1_macro"][0] == pytest.approx(sk.f1_score(y, p.argmax(axis=1), average="macro"))


def test_a_class_without_rows_has_no_recall_and_breaks_nothing() -> None:
    p = np.array([[0.7, 0.2, 0.1], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1]])
    found = classification_metrics(np.array([0, 1, 1, 1]), p, replicates=100)
    assert np.isnan(found.per_class["recall"][2]).all()
    assert found.overall["balanced_accuracy"][0] == pytest.approx((1 + 2 / 3) / 2)


def test_interval_of_accuracy_covers_as_often_as_it_says() -> None:
    rng, covered = np.random.default_rng(2), 0
    for seed in range(300):
        correct = rng.random(120) < 0.9
        p = np.where(correct, 0.8, 0.3)
        found = classification_metrics(np.ones(120, int), np.stack([1 - p, p], 1), replicates=300, seed=seed)
        _, low, high = found.overall["accuracy"]
        covered += low <= 0.9 <= high
    assert 0.91 <= covered / 300 <= 0.98


def test_copies_of_a_row_do_not_narrow_the_interval(digits: tuple[np.ndarray, np.ndarray]) -> None:
    y, p = digits
    once = classification_metrics(y, p, np.arange(len(y)))
    keys = np.tile(np.arange(len(y)), 4)
    four = classification_metrics(np.tile(y, 4), np.tile(p, (4, 1)), keys)
    naive = classification_metrics(np.tile(y, 4), np.tile(p, (4, 1)))

    def width(m: object, name: str) -> float:
        _, low, high = m.overall[name]  # type: ignore[attr-defined]
        return float(high - low)

    for name in ("accuracy", "roc_auc", "f1_macro", "log_loss"):
        assert width(four, name) == pytest.approx(width(once, name), rel=1e-6)
        assert width(naive, name) < 0.6 * width(once, name)
    assert four.units == len(y) and four.effective == pytest.approx(len(y))


def test_all_right_is_not_certainty() -> None:
    p = np.tile([0.1, 0.9], (30, 1))
    found = classification_metrics(np.ones(30, int), p, replicates=100)
    value, low, high = found.overall["accuracy"]
    assert (value, high) == (1.0, 1.0)
    assert low == pytest.approx(0.025 ** (1 / 30))  # Clopper and Pearson
    assert 0.88 < found.per_class["recall"][1, 1] < 1


def test_the_auc_interval_agrees_with_a_plain_bootstrap() -> None:
    rng = np.random.default_rng(4)
    y = rng.integers(0, 2, 400)
    score = 1 / (1 + np.exp(-(rng.normal(size=400) + 1.2 * y)))
    found = classification_metrics(y, np.stack([1 - score, score], 1))
    plain = []
    for _ in range(400):
        rows = rng.integers(0, 400, 400)
        plain.append(sk.roc_auc_score(y[rows], score[rows]))
    assert found.overall["roc_auc"][1:] == pytest.approx(np.quantile(plain, [0.025, 0.975]), abs=0.012)


def test_calibration_error_is_debiased_and_finds_real_overconfidence() -> None:
    rng = np.random.default_rng(3)
    truth = rng.uniform(0.5, 1, 600)
    y = (rng.random(600) < truth).astype(int)
    honest = classification_metrics(y, np.stack([1 - truth, truth], 1))
    sure = 1 - (1 - truth) * 0.2
    boasting = classification_metrics(y, np.stack([1 - sure, sure], 1))
    assert honest.overall["calibration_error_debiased"][0] < honest.overall["calibration_error"][0]
    assert honest.overall["calibration_error_debiased"][1] == 0.0  # chance explains it
    value, low, high = boasting.overall["calibration_error_debiased"]
    assert 0 < low < value < high
    expected = np.sqrt(np.mean((sure - truth) ** 2))
    assert low < expected < high
    bins = boasting.calibration.bins
    assert sum(b["weight"] for b in bins) == pytest.approx(1) and len(bins) == 15
    assert all(b["low"] <= b["accuracy"] <= b["high"] for b in bins)
