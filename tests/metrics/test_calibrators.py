"""What is fitted on held-out rows holds on rows that nobody has seen."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit, log_softmax, softmax
from scipy.stats import beta
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from tidemill.metrics import fit_answer, multilabel_metrics
from tidemill.metrics.calibration import calibration
from tidemill.metrics.units import Units
from tidemill.runtime.answers import Answers

BINARY = {"kind": "classification", "labels": ["a", "b"], "temperature": 1.0}
FIVE = {"kind": "classification", "labels": list("abcde"), "temperature": 1.0}
SEVERAL = {"kind": "multilabel", "labels": ["common", "rare", "even"]}
NUMBER = {"kind": "regression", "interval": {"level": 0.9}}


def drawn(logits: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Labels as often as softmax(*logits*) says."""
    return np.asarray((logits + random.gumbel(size=logits.shape)).argmax(axis=1))


def log_loss(target: np.ndarray, p: np.ndarray) -> float:
    return float(-np.log(np.maximum(p[np.arange(len(p)), target], 1e-7)).mean())


def probabilities(spec: dict[str, Any], scores: np.ndarray) -> np.ndarray:
    return np.asarray(Answers(spec).probabilities(scores.astype(np.float32)), np.float64)


def test_rows_of_which_scores_say_nothing_do_not_flatten_the_others() -> None:
    """Three labels in a hundred are drawn evenly, whatever the scores say: that share is found, and honest."""
    random = np.random.default_rng(8)
    scores = random.normal(0, 4, (12_000, 5))
    target = drawn(scores, random)
    wrong = random.random(len(target)) < 0.03
    target[wrong] = random.integers(0, 5, int(wrong.sum()))
    fitted = fit_answer(FIVE, scores[:6000], target[:6000])
    assert fitted["doubt"]["share"] == pytest.approx(0.03, abs=0.015) and fitted["doubt"]["sharpness"] < 0.3
    assert fitted["temperature"] == pytest.approx(1, abs=0.1)
    p, unseen = probabilities(fitted, scores[6000:]), target[6000:]
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
    without = {key: value for key, value in fitted.items() if key != "doubt"}
    assert log_loss(unseen, p) < log_loss(unseen, probabilities(without, scores[6000:]))
    right = p.argmax(axis=1) == unseen
    found = calibration(p.max(axis=1), right, Units.of(np.arange(6000)), np.ones(6000))
    assert found.debiased < 0.012


def test_doubt_is_left_out_where_the_rows_do_not_show_it() -> None:
    random = np.random.default_rng(9)
    scores = random.normal(0, 3, (4000, 5))
    honest = fit_answer(FIVE | {"doubt": {"share": 0.2, "sharpness": 0.0}}, scores, drawn(scores, random))
    assert "doubt" not in honest
    assert "doubt" not in fit_answer(BINARY, scores[:30, :2], drawn(scores[:30, :2], random))


@pytest.mark.parametrize("factor", [1e-4, 0.3, 1.0, 5.0, 1e4])
def test_a_temperature_undoes_any_scale(factor: float) -> None:
    random = np.random.default_rng(0)
    true = random.normal(0, 2, (4000, 5))
    target = drawn(true, random)
    fitted = fit_answer(FIVE, true[:2000] * factor, target[:2000])
    assert "bias" not in fitted and fitted["temperature"] == pytest.approx(factor, rel=0.05)
    p = probabilities(fitted, true[2000:] * factor)
    assert log_loss(target[2000:], p) < log_loss(target[2000:], softmax(true[2000:], axis=1)) + 0.001
    error = calibration(p.max(axis=1), p.argmax(axis=1) == target[2000:], Units.of(np.arange(2000)), np.ones(2000))
    assert error.debiased < 0.02


def test_a_bias_mends_scores_that_prefer_a_label() -> None:
    random = np.random.default_rng(1)
    shift = np.array([1.5, -0.5, 0.0, -2.0, 1.0])
    true = random.normal(0, 2, (6000, 5))
    target, scores = drawn(true, random), (true - shift) * 2
    fitted = fit_answer(FIVE, scores[:3000], target[:3000])
    assert fitted["temperature"] == pytest.approx(2, rel=0.08)
    np.testing.assert_allclose(fitted["bias"], shift - shift.mean(), atol=0.2)
    assert log_loss(target[3000:], probabilities(fitted, scores[3000:])) < 0.003 + log_loss(
        target[3000:], softmax(true[3000:], axis=1)
    )


def test_two_labels_are_platts_logistic_regression() -> None:
    random = np.random.default_rng(2)
    margin = random.normal(0.5, 3, 5000)
    target = (random.random(5000) < expit(0.4 * margin - 1)).astype(np.int64)
    weight = random.uniform(0.5, 2, 5000)
    fitted = fit_answer(BINARY, np.stack([-margin, margin], 1) / 2, target, weight)
    theirs = LogisticRegression(C=np.inf).fit(margin[:, None], target, sample_weight=weight)
    assert 1 / fitted["temperature"] == pytest.approx(theirs.coef_[0, 0], rel=0.01)
    assert fitted["bias"][1] - fitted["bias"][0] == pytest.approx(theirs.intercept_[0], rel=0.01)


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("factor", [1e-5, 1.0, 1e5])
@pytest.mark.parametrize("n", [1, 3, 20, 500])
def test_answers_that_were_all_right_are_not_certain(n: int, factor: float, classes: int) -> None:
    random = np.random.default_rng(n)
    target = random.integers(0, classes, n)
    scores = np.eye(classes)[target] * factor * (1 + random.random((n, 1)))
    spec = fit_answer(BINARY if classes == 2 else FIVE, scores, target)
    sure = probabilities(spec, scores)[np.arange(n), target]
    assert sure.mean() == pytest.approx((n + 0.5) / (n + 1), abs=0.03 if n < 20 else 0.006)  # Jeffreys' estimate


def test_few_rows_do_little_harm() -> None:
    """Of a model that is right in 97 % of rows, 25 rows mostly show no mistake; on new rows it still makes some."""
    random = np.random.default_rng(3)
    lost = []
    for _ in range(40):
        margin = random.normal(0, 6, 2025)
        target = (random.random(2025) < expit(margin)).astype(np.int64)
        scores = np.stack([-margin, margin], 1)
        p = probabilities(fit_answer(BINARY, scores[:25], target[:25]), scores[25:])
        best = log_softmax(scores[25:] / 2, axis=1)[np.arange(2000), target[25:]]
        lost.append(log_loss(target[25:], p) + best.mean())
    assert np.mean(lost) < 0.1 and np.max(lost) < 0.4


def test_scores_that_say_nothing_and_no_rows_change_nothing() -> None:
    assert fit_answer(BINARY, np.zeros((30, 2)), np.arange(30) % 2) == BINARY
    assert fit_answer(BINARY, np.zeros((0, 2)), np.zeros(0, np.int64)) == BINARY
    careful = fit_answer(BINARY | {"min_precision": 0.9}, np.zeros((0, 2)), np.zeros(0, np.int64))
    assert careful["threshold"] == 1.0  # nothing was shown, so nothing uncertain is answered
    none = fit_answer(SEVERAL, np.zeros((0, 3)), np.zeros((0, 3)))
    assert none == SEVERAL | {"scale": [1.0] * 3, "bias": [0.0] * 3, "thresholds": [0.5] * 3}
    assert fit_answer(NUMBER, np.zeros((0, 1)), np.zeros(0)) == {"kind": "regression"}


@pytest.mark.parametrize("wanted", [0.9, 0.97])
def test_a_minimal_precision_is_kept_on_new_rows(wanted: float) -> None:
    random = np.random.default_rng(4)
    kept, answered = [], []
    for _ in range(40):
        true = random.normal(0, 4, (6000, 3))
        target = drawn(true, random)
        spec = {"kind": "classification", "labels": list("abc"), "temperature": 1.0, "min_precision": wanted}
        rule = Answers(fit_answer(spec, true[:1500], target[:1500]))
        chosen = rule.decide(rule.probabilities(true[1500:].astype(np.float32)))
        given = chosen >= 0
        kept.append(not given.any() or (chosen[given] == target[1500:][given]).mean() >= wanted)
        answered.append(given.mean())
    assert np.mean(kept) >= 0.95 and 0.1 < np.mean(answered) < 0.9


def test_a_precision_that_cannot_be_shown_leaves_only_certainty() -> None:
    random = np.random.default_rng(5)
    coin = random.integers(0, 2, 300)
    spec = fit_answer(BINARY | {"min_precision": 0.9}, random.normal(0, 1, (300, 2)), coin)
    assert spec["threshold"] == 1.0
    # twenty right of twenty show 0.76 at the level of twenty thresholds, by Clopper and Pearson
    scores = np.eye(2)[coin[:20]] * 9
    low = beta.ppf(0.05 / 20, 20, 1)
    assert fit_answer(BINARY | {"min_precision": low - 0.01}, scores, coin[:20])["threshold"] < 1
    assert fit_answer(BINARY | {"min_precision": low + 0.01}, scores, coin[:20])["threshold"] == 1.0


def test_several_labels_are_platts_each_and_thresholds_favour_f1() -> None:
    random = np.random.default_rng(6)
    true = random.normal([1.0, -4.0, 0.0], [2.0, 2.0, 1.0], (25_000, 3))
    target = (random.random(true.shape) < expit(true)).astype(np.uint8)
    scores = (true - [0.5, -1.0, 0.0]) * [3.0, 0.5, 1.0]
    fitted = fit_answer(SEVERAL, scores[:5000], target[:5000])
    for label in range(3):
        theirs = LogisticRegression(C=np.inf).fit(scores[:5000, [label]], target[:5000, label])
        assert fitted["scale"][label] == pytest.approx(theirs.coef_[0, 0], rel=0.02)
        assert fitted["bias"][label] == pytest.approx(theirs.intercept_[0], abs=0.05)
    rule = Answers(fitted)
    p = rule.probabilities(scores[5000:].astype(np.float32))
    assert multilabel_metrics(target[5000:], p, replicates=20).overall["calibration_error_debiased"][0] < 0.02
    chosen = rule.decide(p)
    for label in range(3):
        unseen = target[5000:, label]
        best = max(f1_score(unseen, p[:, label] >= t) for t in np.linspace(0.05, 0.6, 23))
        assert f1_score(unseen, chosen[:, label]) > best - 0.01
    rare = target[5000:, 1]
    assert f1_score(rare, chosen[:, 1]) > f1_score(rare, p[:, 1] >= 0.5) + 0.03


def test_a_label_that_no_row_carries_stays_improbable() -> None:
    random = np.random.default_rng(7)
    scores = random.normal(0, 2, (200, 2))
    target = np.stack([np.zeros(200), scores[:, 1] > 0], 1)
    spec = fit_answer({"kind": "multilabel", "labels": ["never", "plain"]}, scores, target)
    p = probabilities(spec, scores)
    assert p[:, 0].max() < 0.05 and spec["thresholds"][0] < 0.1
    huge = fit_answer({"kind": "multilabel", "labels": ["never", "plain"]}, scores * 1e6, target)
    np.testing.assert_array_equal(probabilities(huge, scores * 1e6)[:, 1] > 0.5, target[:, 1] > 0)


@pytest.fixture(scope="module")
def houses(data_dir: Path) -> tuple[np.ndarray, np.ndarray]:
    """Scores ``[n, 3]`` of 6,000 houses that a model has not seen, and their values."""
    with (data_dir / "california-housing" / "housing.csv").open() as file:
        rows = list(csv.DictReader(file))
    x = np.array([[float(row[name] or "nan") for name in list(row)[:8]] for row in rows])
    y = np.array([float(row["median_house_value"]) for row in rows])
    order = np.random.default_rng(0).permutation(len(y))[:8000]
    x, y = x[order], y[order]
    models = [HistGradientBoostingRegressor(max_iter=40)]
    models += [HistGradientBoostingRegressor(loss="quantile", quantile=q, max_iter=40) for q in (0.05, 0.95)]
    return np.stack([m.fit(x[:2000], y[:2000]).predict(x[2000:]) for m in models], 1).astype(np.float32), y[2000:]


@pytest.mark.parametrize("level", [0.8, 0.9])
@pytest.mark.parametrize("ends", ["quantiles", "value alone", "narrow", "crossed"])
def test_intervals_cover_what_they_promise(houses: tuple[np.ndarray, np.ndarray], ends: str, level: float) -> None:
    scores, target = houses
    value = scores[:, :1]
    if ends == "value alone":
        scores = value
    elif ends == "narrow":
        scores = np.concatenate([value, value - 1000, value + 1000], 1)
    elif ends == "crossed":
        scores = np.concatenate([value, value + 30_000, value + 60_000], 1)
    covered, random = [], np.random.default_rng(1)
    for _ in range(20):
        order = random.permutation(len(target))
        known, new = order[:1000], order[1000:]
        fitted = fit_answer({"kind": "regression", "interval": {"level": level}}, scores[known], target[known])
        found = probabilities(fitted, scores[new])
        assert (found[:, 1] <= found[:, 0]).all() and (found[:, 0] <= found[:, 2]).all()
        covered.append(((found[:, 1] <= target[new]) & (target[new] <= found[:, 2])).mean())
    assert np.mean(covered) == pytest.approx(level, abs=0.012)
    assert min(covered) > level - 0.05 and max(covered) < level + 0.05


def test_rows_that_weigh_more_count_more_for_intervals() -> None:
    random = np.random.default_rng(8)
    calm = np.arange(4000) % 2 == 0
    error = random.normal(0, np.where(calm, 1.0, 10.0))
    target = np.zeros(4000)
    reach = [
        fit_answer(NUMBER, error[:, None], target, weight)["interval"]["offset"]
        for weight in (None, np.where(calm, 1.0, 0.001), np.where(calm, 0.001, 1.0))
    ]
    assert reach[1] == pytest.approx(1.645, abs=0.15) and reach[2] == pytest.approx(16.45, abs=1.5)
    assert reach[1] < reach[0] < reach[2]


def test_too_few_rows_promise_no_interval() -> None:
    error = np.arange(1.0, 11.0)[:, None]
    assert "interval" not in fit_answer(NUMBER, error[:8], np.zeros(8))
    assert fit_answer(NUMBER, error[:9], np.zeros(9))["interval"] == {"level": 0.9, "offset": 9.0}  # 9 of 9 + 1
    assert "interval" not in fit_answer({"kind": "regression"}, error, np.zeros(10))


@pytest.mark.parametrize("spec", [FIVE | {"min_precision": 0.9}, SEVERAL, NUMBER])
@pytest.mark.parametrize("width", [0, 5])
def test_no_rows_at_all_leave_an_answer_spec_that_works(spec: dict[str, Any], width: int) -> None:
    none = np.zeros((0, width), np.float32), np.zeros((0, 3) if spec is SEVERAL else 0)
    fitted = fit_answer(spec, *none)
    assert Answers(fitted).of(np.zeros((1, len(fitted.get("labels", "v"))), np.float32))
    assert fitted.get("threshold", 1.0) == 1.0 and "interval" not in fitted
