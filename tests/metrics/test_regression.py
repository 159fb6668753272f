"""Metrics of numbers and their intervals agree with scikit-learn, and cover."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as sk

from tidemill.metrics import regression_metrics, row_scores
from tidemill.metrics.units import GROUPS


def drawn(rows: int = 500, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    y = random.normal(10, 4, rows)
    value = y + random.standard_t(3, rows)
    return y, np.stack([value, value - random.uniform(0, 4, rows), value + random.uniform(0, 4, rows)], 1)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("level", [0.5, 0.9])
def test_every_value_is_scikit_learns(level: float, weighted: bool) -> None:
    y, predicted = drawn()
    w = np.random.default_rng(1).uniform(0.5, 9, len(y)) if weighted else None
    found = regression_metrics(y, predicted, weights=w, level=level, replicates=200)
    value, low, high = predicted.T
    tail = (1 - level) / 2
    expected = {
        "mae": sk.mean_absolute_error(y, value, sample_weight=w),
        "rmse": sk.root_mean_squared_error(y, value, sample_weight=w),
        "r2": sk.r2_score(y, value, sample_weight=w),
        "interval_coverage": np.average((low <= y) & (y <= high), weights=w),
        "interval_width": np.average(high - low, weights=w),
        "pinball_loss": (
            sk.mean_pinball_loss(y, low, alpha=tail, sample_weight=w)
            + sk.mean_pinball_loss(y, high, alpha=1 - tail, sample_weight=w)
        )
        / 2,
    }
    assert {name: triple[0] for name, triple in found.items()} == pytest.approx(expected)
    assert list(found) == list(expected) and all(low < at < high for at, low, high in found.values())


def test_without_a_level_or_without_ends_there_is_no_word_of_intervals() -> None:
    y, predicted = drawn(60)
    plain = regression_metrics(y, predicted[:, 0])
    assert list(plain) == ["mae", "rmse", "r2"]
    assert regression_metrics(y, predicted) == regression_metrics(y, predicted[:, :1], level=0.9) == plain


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.float64, st.integers(2, 30), elements=st.floats(-1e6, 1e6)), st.floats(-10, 10))
def test_no_set_is_too_small_or_too_flat(y: np.ndarray, off: float) -> None:
    found = regression_metrics(y, y + off, replicates=30)
    assert found["mae"][0] == pytest.approx(abs(off), rel=1e-6, abs=1e-6)
    assert found["rmse"][0] == pytest.approx(abs(off), rel=1e-6, abs=1e-6)
    if (y == y[0]).all():
        assert np.isnan(found["r2"][0])  # nothing varied that could be explained
    elif y.std() > 1e-3:
        assert found["r2"][0] == pytest.approx(1 - off**2 / y.var(), rel=1e-3, abs=1e-6)


def test_one_row_has_values_and_no_intervals() -> None:
    found = regression_metrics(np.array([3.0]), np.array([5.0]))
    assert found["mae"][0] == found["rmse"][0] == 2.0
    assert np.isnan([found["mae"][1], found["r2"][0]]).all()


def test_intervals_cover_as_often_as_they_say() -> None:
    true_mae, covered = np.sqrt(2 / np.pi), 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        error = random.normal(size=80)
        _, low, high = regression_metrics(np.linspace(0, 9, 80) + error, np.linspace(0, 9, 80), replicates=300)["mae"]
        covered += low <= true_mae <= high
    assert 0.9 <= covered / 200 <= 0.99


def test_rows_of_one_key_are_one_draw() -> None:
    y, predicted = drawn(200)
    once = regression_metrics(y, predicted, level=0.9)
    four = regression_metrics(np.tile(y, 4), np.tile(predicted, (4, 1)), np.tile(np.arange(200), 4), level=0.9)
    for name, (_, low, high) in once.items():
        assert four[name][2] - four[name][1] == pytest.approx(high - low, rel=1e-6), name


def test_hundreds_of_thousands_of_rows_are_grouped_without_another_value() -> None:
    y, predicted = drawn(3 * GROUPS)
    found = regression_metrics(y, predicted, replicates=200)
    assert found["rmse"][0] == pytest.approx(sk.root_mean_squared_error(y, predicted[:, 0]))
    spread = np.abs(y - predicted[:, 0]).std() / np.sqrt(len(y))
    assert found["mae"][2] - found["mae"][1] == pytest.approx(2 * 1.96 * spread, rel=0.25)


def test_row_scores_are_the_metrics_row_by_row() -> None:
    y, predicted = drawn()
    assert -row_scores("mae", y, predicted).mean() == pytest.approx(sk.mean_absolute_error(y, predicted[:, 0]))
    assert row_scores("r2", y, predicted, spread=float(y.var())).mean() == pytest.approx(
        sk.r2_score(y, predicted[:, 0])
    )
