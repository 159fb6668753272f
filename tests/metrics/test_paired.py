"""Paired tests keep their level where they must, and see what is there."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tidemill.metrics import Paired, holm, paired
from tidemill.metrics.paired import _robust, _tail, exact_above, sign_flip, tango


def test_sign_flip_is_mcnemars_exact_test() -> None:
    assert sign_flip(np.array([1.0] * 9 + [-1.0] * 2 + [0.0] * 50)) == pytest.approx(stats.binom.sf(8, 11, 0.5))
    assert sign_flip(np.zeros(40)) == 1.0


def test_sign_flip_enumerates_few_units() -> None:
    totals = np.array([3.0, 1.0, -0.5, 2.0])
    exact = stats.permutation_test(
        (totals,), np.mean, permutation_type="samples", alternative="greater", n_resamples=np.inf
    )
    assert sign_flip(totals) == pytest.approx(exact.pvalue)


def test_sign_flip_of_many_agrees_with_the_t_test() -> None:
    totals = np.random.default_rng(0).normal(0.1, 1, 500)
    assert sign_flip(totals) == pytest.approx(stats.ttest_1samp(totals, 0, alternative="greater").pvalue, abs=0.01)


def test_sign_flip_keeps_its_level_for_skewed_clusters() -> None:
    """A few heavy units, as inclusion weights make them; the mean difference is zero."""
    rng = np.random.default_rng(1)
    rejected = 0
    for _ in range(400):
        weights = rng.choice([1.0, 5.0], 120, p=[0.8, 0.2])
        rejected += sign_flip(weights * rng.choice([-1.0, 0.0, 1.0], 120, p=[0.1, 0.8, 0.1]), flips=1000) <= 0.05
    assert rejected / 400 <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 400)


@pytest.mark.parametrize(("n", "margin", "disagree"), [(100, 0.05, 0.05), (100, 0.05, 0.1), (300, 0.01, 0.01)])
def test_exact_non_inferiority_never_exceeds_its_level(n: int, margin: float, disagree: float) -> None:
    """The true size at the edge of the margin, by summing over all outcomes."""
    share = (1 - margin / disagree) / 2
    size = 0.0
    for d in range(int(stats.binom.ppf(1 - 1e-6, n, disagree)) + 1):
        for wins in range(d, -1, -1):
            if exact_above(n, wins, d - wins, -margin) > 0.05:
                break
            size += stats.binom.pmf(d, n, disagree) * stats.binom.pmf(wins, d, share)
    assert size <= 0.05
    assert size >= 0.025  # and it is not idle


def test_exact_agrees_with_tangos_score_test_for_many() -> None:
    score = stats.norm.sf(tango(10_000, np.array(300), np.array(310), -0.01))
    assert exact_above(10_000, 300, 310, -0.01) == pytest.approx(score, rel=0.1)


def test_no_disagreement_proves_little() -> None:
    assert exact_above(50, 0, 0, -0.05) == pytest.approx(0.95**50, abs=1e-4)
    assert exact_above(300, 0, 0, -0.01) == pytest.approx(0.99**300, abs=1e-4)
    assert exact_above(0, 0, 0, -0.01) == 1.0


def test_more_wins_never_raise_the_p_value() -> None:
    found = [exact_above(200, wins, 6, -0.02) for wins in range(20)]
    assert found == sorted(found, reverse=True)


def test_clusters_count_once() -> None:
    """Each of 30 pictures asked ten times: the copies add nothing."""
    rng = np.random.default_rng(3)
    a, b = (rng.random(30) < 0.9).astype(float), (rng.random(30) < 0.6).astype(float)
    once, ten = paired(a, b, np.arange(30)), paired(np.tile(a, 10), np.tile(b, 10), np.tile(np.arange(30), 10))
    assert ten.above_zero() == pytest.approx(once.above_zero())
    assert ten.above(-0.05) == pytest.approx(once.above(-0.05))
    assert (ten.low, ten.high) == pytest.approx((once.low, once.high))
    assert ten.rows == 300 and ten.units == 30


def test_graded_scores_test_both_sides() -> None:
    rng = np.random.default_rng(4)
    b = rng.normal(0, 1, 400)
    a = b + rng.normal(0.2, 0.3, 400)
    result = paired(a, b, np.arange(400))
    assert result.above_zero() < 1e-3 and result.above(-0.01) < 1e-6 and result.below(-0.01) > 0.99
    assert result.low < 0.2 < result.high
    swapped = paired(b, a, np.arange(400))
    assert swapped.below(-0.1) < 1e-6 and swapped.above_zero() > 0.99


def test_graded_scores_without_a_difference_prove_nothing_in_a_small_set() -> None:
    same = np.linspace(0, 1, 10)
    assert paired(same, same, np.arange(10)).above(-0.01) > 0.05


def test_interval_of_the_difference_covers() -> None:
    rng, covered = np.random.default_rng(5), 0
    for _ in range(500):
        u = rng.random(150)
        a, b = (u < 0.88).astype(float), ((u < 0.80) | (u > 0.97)).astype(float)
        result = paired(a, b, np.arange(150))
        covered += result.low <= 0.05 <= result.high
    assert covered / 500 >= 0.93


def test_holm_is_holms() -> None:
    assert holm([]) == []
    assert holm([0.01, 0.02, 0.9]) == pytest.approx([0.03, 0.04, 0.9])
    assert holm([0.5, 0.5]) == [1.0, 1.0]


@pytest.mark.parametrize("draw", ["exponential", "rarely much worse"])
def test_skewed_differences_of_mean_zero_are_rarely_called_better(draw: str) -> None:
    """Mostly a little better, sometimes much worse: sign flips alone find that better at 5 % in 7 and 9 % of sets."""
    rng, found = np.random.default_rng(5), []
    for _ in range(1500):
        if draw == "exponential":
            gap = 1 - rng.exponential(size=200)
        else:
            gap = np.where(rng.random(200) < 0.1, -9.0, 1.0) * rng.uniform(0.5, 1.5, 200)
        found.append(_graded(gap).above(0.0) <= 0.05)
    assert np.mean(found) < 0.062


def test_a_clear_gain_stays_clear_however_skewed() -> None:
    rng = np.random.default_rng(6)
    gap = 1.3 - rng.exponential(size=800)
    assert _graded(gap).above_zero() < 1e-3
    assert _graded(gap + 5).above_zero() < 1e-3
    assert _graded(-gap).above_zero() > 0.9


def _graded(gap: np.ndarray) -> Paired:
    return paired(gap, np.zeros(len(gap)), np.arange(len(gap)))


@pytest.mark.parametrize("draw", ["normal", "log-normal", "weighted"])
def test_the_graded_test_keeps_its_level(draw: str) -> None:
    """Two models that are equally good on average; the larger of both p-values counts."""
    rng, found = np.random.default_rng(7), []
    for _ in range(400):
        weights = None
        if draw == "normal":
            gap = rng.normal(size=400)
        elif draw == "log-normal":
            gap = np.exp(0.5) - rng.lognormal(size=400)
        else:
            gap, weights = rng.normal(size=400), rng.choice([1.0, 5.0], 400, p=[0.8, 0.2])
        result = paired(gap, np.zeros(400), np.arange(400), weights)
        found.append((result.above(0.0) <= 0.05, sign_flip(result.totals, flips=1000) <= 0.05))
    robust, flips = np.mean(found, axis=0)
    assert robust <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 400)
    if draw == "log-normal":
        assert flips > robust  # what the adjustment is for


def test_without_skewness_the_test_is_students() -> None:
    rng = np.random.default_rng(8)
    for shift in (0.05, 0.15, 0.3):
        gap = rng.normal(shift, 1, 300)
        gap = np.concatenate([gap, 2 * gap.mean() - gap])  # mirrored: no skewness at all
        student = stats.ttest_1samp(gap, 0, alternative="greater").pvalue
        assert _graded(gap).above_zero() == pytest.approx(student, rel=0.15, abs=0.002)
        assert _graded(gap).above(0.0) >= student * 0.99  # the pseudo-units only ever make it more careful


def test_more_to_show_never_lowers_the_p_value() -> None:
    rng = np.random.default_rng(9)
    for gap in (1 - rng.exponential(size=60), rng.exponential(size=60) - 1, rng.normal(size=5)):
        found = [_graded(gap).above(bound) for bound in np.linspace(-3, 3, 30)]
        assert found == sorted(found) and found[0] < 0.2 and found[-1] > 0.9


def test_a_constant_gain_and_no_rows_are_no_special_trouble() -> None:
    assert _graded(np.full(12, 0.1)).above_zero() == pytest.approx(0.5**12)
    assert _graded(np.full(12, -0.1)).above_zero() == 1.0
    assert _graded(np.zeros(12)).above_zero() == 1.0
    for few in (np.array([0.3]), np.zeros(0)):
        result = paired(few, np.zeros(len(few)), np.arange(len(few)))
        assert result.above(-0.1) == 1.0 and result.above_zero() in (0.5, 1.0)


@pytest.mark.parametrize("n", [100, 300])
def test_the_adjustment_gives_what_resampled_t_statistics_give(n: int) -> None:
    """An independent way to the same second order: the bootstrap's own distribution of the t-statistic."""
    rng = np.random.default_rng(11)
    gap = 1.15 - rng.exponential(size=n)
    drawn = gap[rng.integers(0, n, (20_000, n))]
    resampled = (drawn.mean(axis=1) - gap.mean()) / drawn.std(axis=1, ddof=1)
    share = (resampled >= gap.mean() / gap.std(ddof=1)).mean()
    result = _graded(gap)
    estimate, error, residual, freedom = _robust(result.totals, result.sizes, 0.0)
    assert _tail(estimate / error, residual, freedom) == pytest.approx(share, rel=0.12)
    assert stats.ttest_1samp(gap, 0, alternative="greater").pvalue < 0.75 * share  # without it, too sure
