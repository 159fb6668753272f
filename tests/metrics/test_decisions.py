"""Answers cost least in expectation, silence has its price, and what reports say of both is what was paid."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tidemill.metrics import Decisions, Units, decision_metrics, risk_coverage, row_scores

COSTS = hnp.arrays(np.float64, (3, 3), elements=st.integers(0, 9).map(float)).filter(lambda costs: costs.max() > 0)
SIMPLEX = hnp.arrays(np.float64, (6, 3), elements=st.floats(0.01, 1)).map(lambda p: p / p.sum(1, keepdims=True))


@settings(max_examples=100, deadline=None)
@given(SIMPLEX, COSTS, st.none() | st.floats(0, 5))
def test_no_other_answer_would_cost_less_in_expectation(p: np.ndarray, costs: np.ndarray, silence: float) -> None:
    chosen = Decisions(costs=costs, abstain_cost=silence).choose(p)
    for row, answer in zip(p, chosen, strict=True):
        expected = [sum(row[true] * costs[true, said] for true in range(3)) for said in range(3)]
        paid = silence if answer < 0 else expected[answer]
        assert paid <= min([*expected, *([] if silence is None else [silence])]) + 1e-9


@settings(max_examples=60, deadline=None)
@given(SIMPLEX, st.floats(0.01, 0.99))
def test_without_costs_abstaining_is_a_threshold(p: np.ndarray, price: float) -> None:
    sure = p.max(axis=1)
    clear = np.abs(sure - (1 - price)) > 1e-9  # floats may disagree about a tie
    priced = Decisions(abstain_cost=price).choose(p)
    held = Decisions(threshold=1 - price).choose(p)
    np.testing.assert_array_equal(priced[clear], np.where(sure >= 1 - price, p.argmax(axis=1), -1)[clear])
    np.testing.assert_array_equal(priced[clear], held[clear])
    np.testing.assert_array_equal(Decisions().choose(p), p.argmax(axis=1))
    assert not Decisions().abstains and Decisions(threshold=0.5).abstains


def test_a_threshold_asks_for_the_probability_of_the_cheapest_answer() -> None:
    rule = Decisions(costs=np.array([[0.0, 10.0], [1.0, 0.0]]), threshold=0.3)
    p = np.array([[0.2, 0.8], [0.4, 0.6], [0.05, 0.95]])
    assert rule.guess(p).tolist() == [0, 0, 1]
    assert rule.choose(p).tolist() == [-1, 0, 1]  # 0.2 for the cautious answer is too little


def test_every_answer_pays_its_cell_and_silence_its_price() -> None:
    costs = np.array([[0.0, 10.0], [1.0, 0.0]])
    target, answers = np.array([0, 0, 1, 1, 0, 1]), np.array([0, 1, 0, 1, -1, -1])
    priced = Decisions(costs=costs, abstain_cost=0.5)
    assert priced.cost(target, answers).tolist() == [0, 10, 1, 0, 0.5, 0.5]
    worst = Decisions(costs=costs, threshold=0.9)  # silence without a price is no better than the worst answer
    assert worst.cost(target, answers).tolist() == [0, 10, 1, 0, 10, 1]
    plain = Decisions(abstain_cost=0.2)
    assert plain.cost(target, answers).tolist() == [0, 1, 1, 0, 0.2, 0.2]
    assert (priced.largest, plain.largest, Decisions(abstain_cost=3.0).largest) == (10, 1, 3)


@settings(max_examples=60, deadline=None)
@given(SIMPLEX, COSTS, st.none() | st.floats(0, 20), st.integers(0, 10**6))
def test_utility_is_one_minus_the_share_of_the_largest_cost(
    p: np.ndarray, costs: np.ndarray, silence: float | None, seed: int
) -> None:
    rule, target = Decisions(costs=costs, abstain_cost=silence), np.random.default_rng(seed).integers(0, 3, 6)
    answers = rule.choose(p)
    utility = row_scores("utility", target, p, costs=rule)
    assert (utility >= 0).all() and (utility <= 1).all()
    np.testing.assert_allclose(utility, 1 - rule.cost(target, answers) / rule.largest)
    np.testing.assert_array_equal(utility, row_scores("utility", target, p, answers, costs=rule))
    accuracy = row_scores("accuracy", target, p, answers)  # there the guess stands for an answer that is withheld
    np.testing.assert_array_equal(accuracy, np.where(answers < 0, p.argmax(axis=1), answers) == target)


def test_the_spec_of_a_manifest_gives_the_rule() -> None:
    rule = Decisions.of({"kind": "classification", "costs": [[0, 2], [1, 0]], "abstain_cost": 0.5, "threshold": None})
    assert rule.costs is not None and rule.costs.tolist() == [[0, 2], [1, 0]]
    assert rule.abstain_cost == 0.5 and rule.threshold is None
    assert Decisions.of({"kind": "classification"}) == Decisions()


def test_metrics_of_withheld_answers_are_means_of_what_was_paid() -> None:
    random = np.random.default_rng(0)
    target, answers = random.integers(0, 3, 500), random.integers(-1, 3, 500)
    keys, weights = random.integers(0, 200, 500), random.uniform(0.5, 4, 500)
    rule = Decisions(costs=random.uniform(0, 5, (3, 3)), abstain_cost=1.0)
    found = decision_metrics(target, answers, Units.of(keys), weights, costs=rule)
    given, paid = answers >= 0, rule.cost(target, answers)
    expected = {
        "answered": np.average(given, weights=weights),
        "accuracy_answered": np.average((answers == target)[given], weights=weights[given]),
        "expected_cost": np.average(paid, weights=weights),
        "utility": 1 - np.average(paid, weights=weights) / rule.largest,
    }
    assert list(found) == list(expected)
    for name, (value, low, high) in found.items():
        assert value == pytest.approx(expected[name]) and low < value < high
    assert not decision_metrics(target, np.abs(answers), Units.of(keys), weights)  # nothing withheld, nothing priced


def test_thirty_answers_that_were_right_are_not_certainty() -> None:
    answers = np.array([1] * 30 + [-1] * 10)
    found = decision_metrics(np.ones(40, int), answers, Units.of(np.arange(40)), np.ones(40))
    value, low, high = found["accuracy_answered"]
    assert (value, high) == (1.0, 1.0) and low == pytest.approx(0.025 ** (1 / 30))
    silent = decision_metrics(np.ones(9, int), np.full(9, -1), Units.of(np.arange(9)), np.ones(9))
    assert silent["answered"][0] == 0 and 0 < silent["answered"][2] < 0.4
    assert np.isnan(silent["accuracy_answered"][0])


def curve_by_hand(confidence: np.ndarray, loss: np.ndarray, weights: np.ndarray) -> list[tuple[float, float]]:
    points = []
    for level in sorted(set(confidence.tolist()), reverse=True):
        answered = confidence >= level
        points.append(
            (float(weights[answered].sum() / weights.sum()), np.average(loss[answered], weights=weights[answered]))
        )
    return points


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 10**6))
def test_the_risk_coverage_curve_is_counted_level_by_level(n: int, levels: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    confidence, loss = random.integers(1, levels + 1, n) / levels, random.integers(0, 2, n).astype(float)
    weights = random.uniform(0.5, 3, n)
    curve, points = risk_coverage(confidence, loss, weights), curve_by_hand(confidence, loss, weights)
    # the first point that reaches each fiftieth
    reached = {next(i for i, (c, _) in enumerate(points) if c >= k / 50 - 1e-12) for k in range(1, 51)}
    np.testing.assert_allclose(curve["coverage"], [points[i][0] for i in sorted(reached)])
    np.testing.assert_allclose(curve["risk"], [points[i][1] for i in sorted(reached)], atol=1e-12)
    assert curve["coverage"][-1] == pytest.approx(1)
    before = [0.0, *(c for c, _ in points[:-1])]
    assert curve["area"] == pytest.approx(sum((c - b) * r for b, (c, r) in zip(before, points, strict=True)))


def test_a_long_curve_is_drawn_with_fifty_points_and_all_of_its_area() -> None:
    random = np.random.default_rng(1)
    confidence = random.random(2000)
    loss = (random.random(2000) > confidence).astype(float)
    curve = risk_coverage(confidence, loss, np.ones(2000))
    assert len(curve["coverage"]) == 50 and curve["coverage"][-1] == 1 and curve["confidence"][-1] == confidence.min()
    points = curve_by_hand(confidence, loss, np.ones(2000))
    assert curve["area"] == pytest.approx(np.mean([risk for _, risk in points]))
    unsure = risk_coverage(random.random(2000), loss, np.ones(2000))
    assert curve["area"] < 0.6 * unsure["area"]  # it errs where it is unsure
