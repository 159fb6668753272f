"""Intervals are SciPy's where SciPy has them, and cover where units are clusters."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse, stats

from tidemill.metrics.bootstrap import Intervals, bca, certain, replicate_sums
from tidemill.metrics.units import GROUPS, Units, known_mean, ratio


def mean(totals: np.ndarray) -> np.ndarray:
    return ratio(totals[..., 1:], totals[..., :1])


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_ends_are_scipys_bca(confidence: float) -> None:
    values = np.random.default_rng(0).exponential(size=60)  # skewed, so that correction and acceleration matter
    theirs = stats.bootstrap(
        (values,), np.mean, confidence_level=confidence, n_resamples=20_000, rng=np.random.default_rng(1)
    ).confidence_interval
    ours = bca(np.stack([np.ones(60), values]), mean, replicates=20_000, confidence=confidence)
    assert ours.value[0] == pytest.approx(values.mean())
    assert (ours.low[0], ours.high[0]) == pytest.approx((theirs.low, theirs.high), abs=0.012)
    plain = np.quantile(
        replicate_sums(sparse.csr_array(values[None, :] / 60), 20_000)[:, 0],
        [(1 - confidence) / 2, (1 + confidence) / 2],
    )
    assert ours.high[0] > plain[1] + 0.01  # what a plain percentile interval leaves out


def test_a_resample_is_a_multinomial_draw_of_units() -> None:
    values = np.random.default_rng(2).normal(3, 2, 50)
    drawn = replicate_sums(sparse.csr_array(np.stack([np.ones(50), values])), 4000)
    np.testing.assert_array_equal(drawn[:, 0], 50)  # always as many units as there are
    assert drawn[:, 1].mean() == pytest.approx(values.sum(), rel=0.01)
    assert drawn[:, 1].std() == pytest.approx(values.std() * np.sqrt(50), rel=0.05)
    again = replicate_sums(sparse.csr_array(np.stack([np.ones(50), values])), 4000)
    np.testing.assert_array_equal(drawn, again)
    assert not np.array_equal(drawn, replicate_sums(sparse.csr_array(np.stack([np.ones(50), values])), 4000, seed=1))


def test_a_ratio_over_clusters_is_covered() -> None:
    """Clusters of one to nine rows whose errors belong together: rows taken for independent cover far too seldom."""
    honest, naive = 0, 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        sizes = random.integers(1, 10, 60)
        keys = np.repeat(np.arange(60), sizes)
        right = (random.random(len(keys)) < random.beta(4, 1, 60)[keys]).astype(float)
        for units, counts in ((Units.of(keys), True), (Units.of(np.arange(len(keys))), False)):
            sums = np.stack([units.sum(np.ones(len(keys))), units.sum(right)])
            found = bca(sums, mean, replicates=300, seed=seed)
            inside = found.low[0] <= 0.8 <= found.high[0]
            honest, naive = honest + (inside and counts), naive + (inside and not counts)
    assert 0.9 <= honest / 200 <= 0.985 and naive < honest - 10


def test_undefined_values_have_no_interval_and_do_not_disturb_others() -> None:
    sums = np.stack([np.ones(30), np.arange(30.0), np.zeros(30), np.zeros(30)])

    def two(totals: np.ndarray) -> np.ndarray:
        return np.stack([ratio(totals[..., 1], totals[..., 0]), ratio(totals[..., 2], totals[..., 3])], axis=-1)

    found = bca(sums, two, replicates=200)
    assert found.low[0] < 14.5 < found.high[0]
    assert np.isnan([found.value[1], found.low[1], found.high[1]]).all()
    one = bca(sums[:, :1], two)
    assert one.value[0] == 0 and np.isnan(one.low).all()  # of one unit nothing can be said


@pytest.mark.parametrize(("right", "n"), [(30, 30), (0, 12), (1, 1)])
def test_shares_that_never_vary_get_clopper_and_pearsons_limit(right: int, n: int) -> None:
    share = np.array([right / n])
    found = certain(Intervals(share, share, share), np.array([n]))
    exact = stats.binomtest(right, n).proportion_ci(0.95, method="exact")
    assert (found.low[0], found.high[0]) == pytest.approx((exact.low, exact.high))
    same = certain(Intervals(share, share, share), np.array([np.nan]))
    assert same.low[0] == same.high[0] == share[0]
    wide = Intervals(np.array([0.5]), np.array([0.4]), np.array([0.6]))
    assert certain(wide, np.array([9.0])).low[0] == 0.4


def test_groups_of_many_units_keep_sums_and_spread() -> None:
    values = np.random.default_rng(3).lognormal(size=3 * GROUPS)
    units = Units.of(np.arange(len(values)))
    groups = units.grouped()
    assert groups.count == GROUPS and units.grouped().index.tolist() == groups.index.tolist()
    assert set(np.bincount(groups.index)) == {3}
    sums = groups.sum(values)
    assert sums.sum() == pytest.approx(values.sum())
    assert np.square(sums - sums.mean()).sum() == pytest.approx(np.square(values - values.mean()).sum(), rel=0.1)
    few = Units.of(np.arange(5))
    assert few.grouped() is few


def test_means_leave_out_what_is_not_defined() -> None:
    values = np.array([[1.0, np.nan, 3.0], [np.nan, np.nan, np.nan]])
    assert known_mean(values)[0] == 2.0 and np.isnan(known_mean(values)[1])
    assert ratio(np.array([4.0, 1.0]), np.array([2.0, 0.0]))[0] == 2.0
