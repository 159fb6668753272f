"""The gradient learner on tables: numbers in bins beside codes, several labels, quantities with intervals, weights."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from tidemill.data.arrays import Column, Ragged, take
from tidemill.errors import TrainingError
from tidemill.features.pipeline import Pipeline
from tidemill.learners._base import Context, Problem, RecipeView
from tidemill.learners.gradient import GradientLearner, GradientModel
from tidemill.packages.graph import open_graph
from tidemill.packages.weights import open_network

STEPS = [
    {"step": "numbers", "columns": ["income", "rooms", "north"], "quantile": True},
    {"step": "categories", "columns": ["sea", "block"], "others": 4},
]


@pytest.fixture(scope="module")
def houses(data_dir: Path) -> Problem:
    """1,200 districts that train and 800 that do not, and how dear houses are there."""
    with (data_dir / "california-housing" / "housing.csv").open() as file:
        rows = list(csv.DictReader(file))
    rows = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))[:2000]]
    columns: dict[str, Column] = {
        "income": np.array([float(row["median_income"]) for row in rows]),
        "rooms": np.array([float(row["total_bedrooms"] or "nan") for row in rows]),
        "north": np.array([float(row["latitude"]) for row in rows]),
        "sea": Ragged.from_strings([row["ocean_proximity"] for row in rows]),
        "block": Ragged.from_strings([row["longitude"][:5] for row in rows]),
    }
    pipeline = Pipeline(STEPS, None)
    pipeline.fit([take(columns, np.arange(1200))])
    value = np.array([float(row["median_house_value"]) for row in rows], np.float32)
    return Problem(
        kind="regression",
        features=pipeline.transform(columns),
        info=pipeline.info(),
        target=value,
        train=1200,
        classes=1,
    )


def of_kind(given: Problem, kind: str) -> Problem:
    value = given.target
    if kind == "regression":
        return given
    if kind == "classification":
        code = np.digitize(value, np.quantile(value[:1200], [0.33, 0.67])).astype(np.int64)
        return dataclasses.replace(given, kind="classification", target=code, classes=3)
    several = np.stack([value > 2e5, value < 1e5, given.features["x"][:, 2] > 0], 1).astype(np.uint8)  # type: ignore[index]
    return dataclasses.replace(given, kind="multilabel", target=several, classes=3)


def fit(given: Problem, network: dict[str, Any], **params: Any) -> GradientModel:
    recipe = RecipeView(network={"name": "mlp", "hidden": [48, 24], **network}, params=params)
    return GradientLearner().fit(given, recipe, Context(seed=1, max_epochs=30, device="cpu"))


def held(given: Problem, scores: np.ndarray) -> float:
    """How good scores of the rows that did not train are, 1 at best and 0 for a constant."""
    target = given.target[1200:]
    if given.kind == "regression":
        return float(1 - np.square(scores[1200:, 0] - target).mean() / target.var())
    if given.kind == "classification":
        return float((scores[1200:].argmax(axis=1) == target).mean() * 1.5 - 0.5)
    return float(((scores[1200:] > 0) == target).mean() * 2 - 1)


@pytest.mark.parametrize("network", [{}, {"bins": 6, "dropout": 0.1}], ids=["plain", "bins"])
@pytest.mark.parametrize("kind", ["classification", "multilabel", "regression"])
def test_graph_and_weights_score_as_the_network_does_and_it_learns(
    houses: Problem, kind: str, network: dict[str, Any]
) -> None:
    given = of_kind(houses, kind)
    model = fit(given, network, epochs=8)
    scores, export = model.scores(given.features), model.export()
    assert held(given, scores) > 0.5
    assert export.onnx is not None and export.tensors is not None and export.network is not None
    session = open_graph(export.onnx, given.info)
    scale = 1e-6 * np.abs(scores).max() if kind == "regression" else 1e-4
    for rows in (slice(None), slice(5, 6), slice(0, 0)):
        part = {name: array[rows] for name, array in given.features.items()}
        np.testing.assert_allclose(session.run(["scores"], part)[0], scores[rows], atol=scale)
    again = open_network(export.network, export.tensors, given.info, given.classes)(given.features)
    np.testing.assert_allclose(again, scores, atol=scale)


def test_bins_stand_at_the_quantiles_of_the_rows_that_train(houses: Problem) -> None:
    silent = np.arange(2000) % 2 == 0
    weighted = dataclasses.replace(houses, weight=np.where(silent, 0, 1).astype(np.float32))
    model = fit(weighted, {"bins": 4}, epochs=0.1)
    low = model.export().tensors["network.piecewise.low"]  # type: ignore[index]
    x = np.asarray(houses.features["x"])[:1200][~silent[:1200]].astype(np.float64)
    np.testing.assert_allclose(low, np.quantile(x, [0, 0.25, 0.5, 0.75], axis=0).T, atol=1e-5)


def test_a_quantity_does_not_depend_on_its_unit(houses: Problem) -> None:
    model = fit(houses, {}, epochs=4)
    small = dataclasses.replace(houses, target=(houses.target / 1e5 - 7).astype(np.float32))
    other = fit(small, {}, epochs=4)
    ours, theirs = model.scores(houses.features), (other.scores(houses.features) + 7) * 1e5
    np.testing.assert_allclose(ours, theirs, atol=0.01 * houses.target.std())


def test_a_network_beats_a_straight_line_and_its_raw_interval_is_near_what_it_should_be(houses: Problem) -> None:
    model = fit(houses, {"bins": 6}, epochs=20)
    scores, target = model.scores(houses.features), houses.target
    x = np.asarray(houses.features["x"])
    line = LinearRegression().fit(x[:1200], target[:1200]).predict(x)
    assert held(houses, scores) > held(houses, line[:, None]) + 0.02
    inside = (scores[1200:, 1] <= target[1200:]) & (target[1200:] <= scores[1200:, 2])
    assert 0.75 < inside.mean() < 0.97


def test_a_constant_target_and_one_row_are_learned_without_a_nan(houses: Problem) -> None:
    constant = dataclasses.replace(houses, target=np.full(2000, 3.5, np.float32))
    np.testing.assert_allclose(fit(constant, {}, epochs=3).scores(houses.features)[:, 0], 3.5, atol=1.0)
    one = {name: array[slice(0, 3)] for name, array in houses.features.items()}
    few = dataclasses.replace(houses, features=one, target=houses.target[:3], train=2)
    assert np.isfinite(fit(few, {"hidden": []}, epochs=2).scores(one)).all()


def test_robust_regression_is_less_moved_by_wild_targets(houses: Problem) -> None:
    wild = houses.target.copy()
    wild[:1200:40] += 5e6
    spoilt = dataclasses.replace(houses, target=wild)
    plain, robust = (fit(spoilt, {}, epochs=6, robust=on).scores(houses.features)[1200:, 0] for on in (False, True))
    truth = houses.target[1200:]
    assert abs(np.median(robust - truth)) < abs(np.median(plain - truth))


def test_a_batch_of_one_row_cannot_be_normalised_and_that_is_said(houses: Problem) -> None:
    with pytest.raises(TrainingError, match="batch_size to 2 or more"):
        fit(houses, {}, batch_size=1)
    with pytest.raises(TrainingError, match="Label more samples"):
        fit(dataclasses.replace(houses, train=1), {})
    assert fit(houses, {"hidden": []}, batch_size=1, epochs=0.01).summary["batch_size"] == 1
