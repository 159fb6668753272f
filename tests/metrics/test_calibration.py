"""Calibration error is near nothing where nothing is wrong, and near the truth where something is."""

from __future__ import annotations

import numpy as np
import pytest

from tidemill.metrics.calibration import BINS, Calibration, calibration
from tidemill.metrics.units import Units

TRUTHS = {
    "honest": lambda p: p,
    "overconfident": lambda p: 0.5 + 0.7 * (p - 0.5),
    "four points too high": lambda p: p - 0.04,
    "shy": lambda p: np.minimum(p + 0.08, 1),
}


def measured(truth: str, rows: int, seed: int, copies: int = 1, **options: int) -> tuple[Calibration, float]:
    """The estimate, and the root mean square gap that it estimates."""
    random = np.random.default_rng(seed)
    p = random.uniform(0.5, 1, rows)
    real = TRUTHS[truth](p)
    right = random.random(rows) < real
    keys = np.repeat(np.arange(rows), copies)
    found = calibration(np.repeat(p, copies), np.repeat(right, copies), Units.of(keys), np.ones(len(keys)), **options)
    return found, float(np.sqrt(np.mean((p - real) ** 2)))


@pytest.mark.parametrize("rows", [300, 3000])
def test_the_debiased_error_of_an_honest_model_is_near_nothing(rows: int) -> None:
    found = [measured("honest", rows, seed, replicates=50)[0] for seed in range(40)]
    debiased, usual = np.mean([f.debiased for f in found]), np.mean([f.ece for f in found])
    assert debiased < 0.4 / np.sqrt(rows) and usual > 2 * debiased
    assert np.mean([f.debiased == 0 for f in found]) > 0.4  # chance explains all of it about every second time
    assert np.mean([f.low == 0 for f in found]) > 0.9


@pytest.mark.parametrize(("truth", "rows"), [("overconfident", 1000), ("shy", 1000), ("four points too high", 5000)])
def test_the_debiased_error_of_a_wrong_model_is_near_the_truth(truth: str, rows: int) -> None:
    found = [measured(truth, rows, seed, replicates=100) for seed in range(30)]
    squares = np.mean([f.debiased**2 for f, _ in found])
    assert np.sqrt(squares) == pytest.approx(found[0][1], rel=0.12)
    assert np.mean([f.low <= true <= f.high for f, true in found]) >= 0.9


def test_copies_of_a_row_are_one_row() -> None:
    for truth in ("honest", "overconfident"):
        once, _ = measured(truth, 500, 3)
        four, _ = measured(truth, 500, 3, copies=4)
        assert four.debiased == pytest.approx(once.debiased, abs=1e-9)
        assert (four.low, four.high) == pytest.approx((once.low, once.high), abs=1e-9)


def test_bins_hold_about_as_much_and_say_what_is_in_them() -> None:
    random = np.random.default_rng(0)
    p, w = random.uniform(0.3, 1, 3000), random.uniform(0.5, 4, 3000)
    right = (random.random(3000) < p).astype(float)
    found = calibration(p, right, Units.of(np.arange(3000)), w)
    assert len(found.bins) == BINS
    weights = np.array([b["weight"] for b in found.bins])
    np.testing.assert_allclose(weights, 1 / BINS, atol=0.003)
    for name, values in (("confidence", p), ("accuracy", right)):
        assert weights @ [b[name] for b in found.bins] == pytest.approx(np.average(values, weights=w))
    gaps = [abs(b["confidence"] - b["accuracy"]) for b in found.bins]
    assert found.ece == pytest.approx(weights @ gaps)
    inside = [b["low"] <= b["confidence"] <= b["high"] for b in found.bins]
    assert np.mean(inside) > 0.8
    assert [b["confidence"] for b in found.bins] == sorted(b["confidence"] for b in found.bins)


@pytest.mark.parametrize(
    ("confidence", "bins"),
    [(np.full(100, 0.7), 1), (np.repeat([0.6, 0.9], 50), 2), (np.linspace(0.5, 1, 35), 3), (np.array([0.8]), 1)],
)
def test_equal_confidences_share_a_bin_and_few_rows_have_few(confidence: np.ndarray, bins: int) -> None:
    right = np.arange(len(confidence)) % 10 < 7
    found = calibration(confidence, right, Units.of(np.arange(len(confidence))), np.ones(len(confidence)))
    assert len(found.bins) == bins and found.ece >= 0 and np.isfinite([found.debiased, found.low, found.high]).all()
    assert all(0 <= b["low"] <= b["accuracy"] <= b["high"] <= 1 for b in found.bins)


def test_rows_that_weigh_nothing_change_nothing() -> None:
    random = np.random.default_rng(1)
    p, right = random.uniform(0.5, 1, 600), random.random(600) < 0.7
    once = calibration(p, right, Units.of(np.arange(600)), np.ones(600))
    more, wrong = np.append(p, np.full(200, 0.99)), np.append(right, np.zeros(200, bool))
    found = calibration(more, wrong, Units.of(np.arange(800)), np.append(np.ones(600), np.zeros(200)))
    assert found.ece == pytest.approx(once.ece, abs=0.01) and found.debiased == pytest.approx(once.debiased, abs=0.01)
