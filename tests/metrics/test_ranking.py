"""Metrics of an order agree with scikit-learn, with ties and weights."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from tidemill.metrics.ranking import average_precision, placement_sums, placements
from tidemill.metrics.units import Units


def drawn(rows: int, levels: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.integers(0, levels, rows) / levels, random.random(rows) < 0.4, random.uniform(0.1, 5, rows)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 10**6))
def test_area_and_precision_are_scikit_learns(rows: int, levels: int, seed: int) -> None:
    score, positive, weight = drawn(rows, levels, seed)
    value = placements(score, positive, weight)
    found = average_precision(score, positive, weight)
    if positive.any():
        assert found == pytest.approx(average_precision_score(positive, score, sample_weight=weight))
    else:
        assert np.isnan(found)
    if positive.all() or not positive.any():
        assert np.isnan(value).all()
        return
    expected = roc_auc_score(positive, score, sample_weight=weight)
    assert np.average(value[positive], weights=weight[positive]) == pytest.approx(expected)
    assert np.average(value[~positive], weights=weight[~positive]) == pytest.approx(expected)
    units = Units.of(np.random.default_rng(seed).integers(0, 7, rows))
    sums, area = placement_sums(score, positive, weight, units)
    assert area == pytest.approx(expected)
    up, down = sums.toarray().sum(axis=1)
    assert up / weight[positive].sum() == pytest.approx(expected) == down / weight[~positive].sum()


def test_placements_are_shares_outranked_pair_by_pair() -> None:
    score, positive, weight = drawn(40, 8, 3)
    for row, value in enumerate(placements(score, positive, weight)):
        others = positive != positive[row]
        above = np.sign(score[row] - score[others]) * (1 if positive[row] else -1)
        assert value == pytest.approx(np.average((above + 1) / 2, weights=weight[others]))


def test_an_order_keeps_its_area_under_any_growing_function() -> None:
    score, positive, weight = drawn(200, 50, 4)
    np.testing.assert_allclose(placements(np.exp(score), positive, weight), placements(score, positive, weight))
    turned = placements(-score, positive, weight)
    np.testing.assert_allclose(turned, 1 - placements(score, positive, weight), atol=1e-12)


def test_nothing_to_rank_has_no_area() -> None:
    empty = np.zeros(0)
    sums, area = placement_sums(empty, empty.astype(bool), empty, Units.of(empty))
    assert sums.shape == (2, 0) and np.isnan(area) and np.isnan(average_precision(empty, empty.astype(bool), empty))
