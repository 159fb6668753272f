"""Metrics of several labels agree with scikit-learn, and their intervals with plain resampling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from tidemill.metrics import MultilabelMetrics, multilabel_metrics, row_scores
from tidemill.metrics.multilabel import OVERALL


def drawn(rows: int = 400, labels: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """0 and 1, some rows without any label, and probabilities that know something of them."""
    random = np.random.default_rng(seed)
    y = (random.random((rows, labels)) < np.linspace(0.05, 0.6, labels)).astype(np.uint8)
    p = 1 / (1 + np.exp(-(random.normal(0, 1.5, y.shape) + 2.0 * y - 1.5)))
    return y, np.round(p, 2)  # with ties


@pytest.mark.parametrize("weighted", [False, True])
def test_every_value_is_scikit_learns(weighted: bool) -> None:
    y, p = drawn()
    w = np.random.default_rng(1).uniform(0.5, 9, len(y)) if weighted else None
    answers = p >= 0.4
    found = multilabel_metrics(y, p, answers, weights=w, replicates=100)
    said, options = answers.astype(int), {"sample_weight": w}
    expected = {
        "subset_accuracy": sk.accuracy_score(y, said, **options),
        "hamming_loss": sk.hamming_loss(y, said, **options),
        "log_loss": np.mean([sk.log_loss(y[:, i], p[:, i], **options) for i in range(5)]),
        "roc_auc": sk.roc_auc_score(y, p, average="macro", **options),
        "average_precision_macro": sk.average_precision_score(y, p, average="macro", **options),
    }
    scores = {"f1": sk.f1_score, "precision": sk.precision_score, "recall": sk.recall_score}
    for name, score in scores.items():
        for average in ("macro", "micro"):
            expected[f"{name}_{average}"] = score(y, said, average=average, **options)
        expected[f"{name}_samples"] = score(y, said, average="samples", zero_division=1, **options)
        each = score(y, said, average=None, **options)
        np.testing.assert_allclose(found.per_class[name][:, 0], each)
    for name, value in expected.items():
        assert found.overall[name][0] == pytest.approx(value, abs=1e-9), name
    assert set(found.overall) == set(OVERALL) == {*expected, "calibration_error", "calibration_error_debiased"}
    np.testing.assert_allclose(found.support, y.T @ (np.ones(len(y)) if w is None else w))
    for name, (value, low, high) in found.overall.items():
        if name not in ("average_precision_macro", "calibration_error"):
            assert low <= value <= high, name


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 4), st.integers(0, 10**6), st.floats(0, 1), st.floats(0, 1))
def test_small_and_one_sided_sets(rows: int, labels: int, seed: int, carried: float, answered: float) -> None:
    random = np.random.default_rng(seed)
    y, said = random.random((rows, labels)) < carried, random.random((rows, labels)) < answered
    p = random.random((rows, labels))
    found = multilabel_metrics(y, p, said, replicates=20).overall
    assert found["subset_accuracy"][0] == pytest.approx((y == said).all(axis=1).mean())
    assert found["hamming_loss"][0] == pytest.approx((y != said).mean())
    both, either = (y & said).sum(1), y.sum(1) + said.sum(1)
    assert found["f1_samples"][0] == pytest.approx(np.where(either, 2 * both / np.maximum(either, 1), 1).mean())
    present = (y | said).any(axis=0)
    if present.any():  # a label that neither occurs nor is answered counts for nothing
        each = [sk.f1_score(y[:, i], said[:, i], zero_division=0) for i in np.flatnonzero(present)]
        assert found["f1_macro"][0] == pytest.approx(np.mean(each))
    else:
        assert np.isnan(found["f1_macro"][0])
    ranked = [i for i in range(labels) if 0 < y[:, i].sum() < rows]
    if ranked:
        assert found["roc_auc"][0] == pytest.approx(np.mean([sk.roc_auc_score(y[:, i], p[:, i]) for i in ranked]))


def test_answers_are_those_of_at_least_one_half_unless_given() -> None:
    y, p = drawn(50)
    assert multilabel_metrics(y, p).overall == multilabel_metrics(y, p, p >= 0.5).overall


def test_row_scores_are_the_metrics_row_by_row() -> None:
    y, p = drawn()
    said = p >= 0.3
    found = multilabel_metrics(y, p, said, replicates=20).overall
    for name, metric, sign in (
        ("f1_samples", "f1_samples", 1),
        ("subset_accuracy", "subset_accuracy", 1),
        ("label_log_loss", "log_loss", -1),
    ):
        assert sign * row_scores(name, y, p, said).mean() == pytest.approx(found[metric][0])
    assert 1 - row_scores("hamming", y, p, said).mean() == pytest.approx(found["hamming_loss"][0])


def width(found: MultilabelMetrics, name: str) -> float:
    _, low, high = found.overall[name]
    return high - low


def test_copies_of_a_row_do_not_narrow_the_intervals() -> None:
    y, p = drawn(150)
    once, keys = multilabel_metrics(y, p), np.tile(np.arange(150), 4)
    four = multilabel_metrics(np.tile(y, (4, 1)), np.tile(p, (4, 1)), keys=keys)
    naive = multilabel_metrics(np.tile(y, (4, 1)), np.tile(p, (4, 1)))
    for name in ("subset_accuracy", "f1_micro", "f1_macro", "roc_auc", "hamming_loss", "log_loss"):
        assert width(four, name) == pytest.approx(width(once, name), rel=1e-6)
        assert width(naive, name) < 0.6 * width(once, name)
    assert (four.rows, four.units) == (600, 150) and four.effective == pytest.approx(150)


def test_intervals_agree_with_a_plain_bootstrap() -> None:
    y, p = drawn(300, seed=2)
    said, found, random = p >= 0.5, multilabel_metrics(y, p), np.random.default_rng(3)
    plain = {"f1_micro": [], "f1_macro": [], "subset_accuracy": []}  # type: dict[str, list[float]]
    for _ in range(1000):
        rows = random.integers(0, 300, 300)
        both, either = (y & said)[rows].sum(axis=0), y[rows].sum(axis=0) + said[rows].sum(axis=0)
        plain["f1_micro"].append(2 * both.sum() / either.sum())
        plain["f1_macro"].append((2 * both / either).mean())
        plain["subset_accuracy"].append((y[rows] == said[rows]).all(axis=1).mean())
    for name, values in plain.items():
        assert found.overall[name][1:] == pytest.approx(np.quantile(values, [0.025, 0.975]), abs=0.02), name


def test_all_right_is_not_certainty() -> None:
    y = np.eye(3)[np.arange(30) % 3].astype(int)
    value, low, high = multilabel_metrics(y, y * 0.98 + 0.01).overall["subset_accuracy"]
    assert (value, high) == (1.0, 1.0) and low == pytest.approx(0.025 ** (1 / 30))
    assert multilabel_metrics(y, y * 0.98 + 0.01).per_class["recall"][0, 1] == pytest.approx(0.025 ** (1 / 10))


def test_calibration_looks_at_the_decision_of_every_label() -> None:
    random = np.random.default_rng(4)
    p = random.random((2000, 3))
    y = random.random((2000, 3)) < p
    honest, bold = multilabel_metrics(y, p, replicates=50), multilabel_metrics(y, p**0.3, replicates=50)
    assert honest.overall["calibration_error_debiased"][0] < 0.02
    expected = np.sqrt(np.mean((p**0.3 - p) ** 2))
    assert bold.overall["calibration_error_debiased"][0] == pytest.approx(expected, abs=0.03)
