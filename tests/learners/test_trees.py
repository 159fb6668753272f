"""LightGBM: learns the real Adult census, stops early, repeats itself, and answers by an equal ONNX graph."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from sklearn.datasets import load_diabetes, load_digits

from tidemill.data.arrays import Ragged, take
from tidemill.data.schema import Field, Signature
from tidemill.errors import TrainingError
from tidemill.features._base import FeatureInfo
from tidemill.features.pipeline import Pipeline
from tidemill.learners import get_learner
from tidemill.learners._base import Context, Problem, Pruned, RecipeView

TRAIN = 6000


@pytest.fixture(scope="module")
def adult(data_dir: Path) -> Problem:
    with (data_dir / "adult-census" / "adult-train.csv").open() as file:
        rows = [[cell.strip() for cell in row] for row in csv.reader(file) if row][:8000]
    numbers = (0, 2, 4, 10, 11, 12)
    columns: dict[str, Any] = {}
    for place in range(14):
        cells = [row[place] for row in rows]
        known = ["" if cell == "?" else cell for cell in cells]
        columns[str(place)] = np.array(cells, np.float64) if place in numbers else Ragged.from_strings(known)
    columns["0"][::9] = np.nan  # age is missing now and then, also in training; the others never
    fields = tuple(Field(name=str(p), type="number" if p in numbers else "category") for p in range(14))
    signature = Signature(inputs=fields, target="income", kind="classification", labels=("<=50K", ">50K"))
    pipeline = Pipeline([{"step": "numbers", "raw": True}, {"step": "categories"}], signature)
    pipeline.fit([take(columns, np.arange(TRAIN))])
    target = np.array([row[14] == ">50K" for row in rows], np.int64)
    return Problem(
        kind="classification",
        features=pipeline.transform(columns),
        info=pipeline.info(),
        target=target,
        train=TRAIN,
        classes=2,
    )


def digits() -> Problem:
    x, y = load_digits(return_X_y=True)
    info = {"x": FeatureInfo("float32", (64,))}
    features = {"x": x.astype(np.float32)}
    return Problem(kind="classification", features=features, info=info, target=y, train=1400, classes=10)


def fit(problem: Problem, context: Context | None = None, **params: Any):
    return get_learner("trees").fit(problem, RecipeView(params=params), context or Context())


def graph_scores(fitted, features) -> np.ndarray:
    session = onnxruntime.InferenceSession(fitted.export().onnx, providers=["CPUExecutionProvider"])
    types = {node.name: node.type for node in session.get_inputs()}
    assert types == {n: {"x": "tensor(float)", "codes": "tensor(int64)"}[n] for n in features}
    return session.run(["scores"], dict(features))[0]


def test_adult_census_is_learned(adult: Problem) -> None:
    fitted = fit(adult)
    right = fitted.scores(adult.features).argmax(axis=1) == adult.target
    assert right[TRAIN:].mean() > 0.85  # 0.76 answer "<=50K" always
    assert fitted.summary["rounds"] < 500  # it stopped early
    assert fitted.scores({n: a[:0] for n, a in adult.features.items()}).shape == (0, 2)


def test_the_graph_equals_the_trees_with_categories_and_missing_values(adult: Problem) -> None:
    fitted = fit(adult)
    rng = np.random.default_rng(0)
    holes = {name: array.copy() for name, array in adult.features.items()}
    holes["x"][rng.random(holes["x"].shape) < 0.2] = np.nan  # also where training missed nothing
    holes["codes"][rng.random(holes["codes"].shape) < 0.2] = 0  # missing or never seen
    for features in (adult.features, holes):
        np.testing.assert_allclose(graph_scores(fitted, features), fitted.scores(features), atol=1e-5)
    assert not np.array_equal(fitted.scores(holes), fitted.scores(adult.features))


def test_values_that_only_float32_tells_apart_are_split_alike() -> None:
    """A threshold between two neighbouring float32 values must not be rounded onto the upper one."""
    low = np.float32(0.3)
    high = np.nextafter(low, np.float32(1))
    x = np.where(np.arange(400) % 2 == 0, low, high).astype(np.float32)[:, None]
    target = np.arange(400) % 2
    problem = Problem(
        kind="classification",
        features={"x": x},
        info={"x": FeatureInfo("float32", (1,))},
        target=target,
        train=300,
        classes=2,
    )
    fitted = fit(problem, min_child_samples=5)
    np.testing.assert_allclose(graph_scores(fitted, problem.features), fitted.scores(problem.features), atol=1e-5)


def test_many_classes(adult: Problem) -> None:
    problem = digits()
    fitted = fit(problem, n_estimators=30)
    scores = fitted.scores(problem.features)
    assert scores.shape == (1797, 10) and (scores.argmax(axis=1) == problem.target)[1400:].mean() > 0.85
    np.testing.assert_allclose(graph_scores(fitted, problem.features), scores, atol=1e-5)


def diabetes(plus: float = 0.0, **more: Any) -> Problem:
    x, y = load_diabetes(return_X_y=True)
    features, info = {"x": x.astype(np.float32)}, {"x": FeatureInfo("float32", (10,))}
    target = (y + plus).astype(np.float32)
    return Problem(kind="regression", features=features, info=info, target=target, train=350, classes=1, **more)


def test_regression() -> None:
    problem = diabetes()
    fitted = fit(problem)
    scores, y = fitted.scores(problem.features), problem.target
    assert scores.shape == (442, 3)
    error = np.square(scores[350:, 0] - y[350:]).mean()
    assert error < 0.75 * np.square(y[350:] - y[:350].mean()).mean()
    assert (scores[:, 1] <= scores[:, 0]).all() and (scores[:, 0] <= scores[:, 2]).all()
    np.testing.assert_allclose(graph_scores(fitted, problem.features), scores, rtol=1e-5)
    assert fit(problem, interval_rounds=0).scores(problem.features).shape == (442, 1)


def test_large_values_keep_their_digits() -> None:
    problem = diabetes(plus=500_001)
    fitted = fit(problem, n_estimators=300, early_stopping_rounds=0)
    scores, plain = fitted.scores(problem.features), fit(diabetes(), n_estimators=300, early_stopping_rounds=0)
    np.testing.assert_allclose(graph_scores(fitted, problem.features), scores, rtol=2e-7)
    # the trees are those of the plain target, however far from 0 it was moved
    np.testing.assert_allclose(scores - 500_001, plain.scores(problem.features), atol=0.1)


def housing(data_dir: Path, rows: int = 4000) -> Problem:
    with (data_dir / "california-housing" / "housing.csv").open() as file:
        lines = list(csv.DictReader(file))
    chosen = np.random.default_rng(0).permutation(len(lines))[:rows]
    names = [n for n in lines[0] if n not in ("median_house_value", "ocean_proximity")]
    x = np.array([[float(lines[i][n] or "nan") for n in names] for i in chosen], np.float32)
    kinds = sorted({line["ocean_proximity"] for line in lines})
    codes = np.array([[kinds.index(lines[i]["ocean_proximity"])] for i in chosen])
    return Problem(
        kind="regression",
        features={"x": x, "codes": codes},
        info={"x": FeatureInfo("float32", (8,)), "codes": FeatureInfo("int64", (1,), {"cardinalities": [5]})},
        target=np.array([float(lines[i]["median_house_value"]) for i in chosen], np.float32),
        train=rows * 3 // 4,
        classes=1,
    )


def test_houses_get_a_price_and_an_interval_that_holds_it(data_dir: Path) -> None:
    problem = housing(data_dir)
    fitted = fit(problem, learning_rate=0.1)
    scores, price = fitted.scores(problem.features)[3000:], problem.target[3000:]
    assert np.square(scores[:, 0] - price).mean() < 0.28 * price.var()
    inside = ((scores[:, 1] <= price) & (price <= scores[:, 2])).mean()
    assert 0.80 < inside < 0.95  # raw; what answers is conformalised
    widths = scores[:, 2] - scores[:, 1]
    assert np.quantile(widths, 0.9) > 2 * np.quantile(widths, 0.1)  # it knows where it is uncertain
    np.testing.assert_allclose(graph_scores(fitted, problem.features), fitted.scores(problem.features), rtol=1e-5)


def rounds_of(fitted: Any) -> list[tuple[int, int]]:
    return [(column, booster.current_iteration()) for column, booster in fitted.boosters]


def test_a_fit_on_all_rows_keeps_what_validation_chose(adult: Problem) -> None:
    first = fit(adult)
    chosen = first.summary["chosen"]
    assert chosen == {"n_estimators": first.summary["rounds"]} and len(first.boosters) == 1
    whole = dataclasses.replace(adult, train=len(adult.target))
    assert rounds_of(fit(whole, bags=1, **chosen)) == [(0, chosen["n_estimators"])]
    chosen = fit(diabetes()).summary["chosen"]
    whole = fit(dataclasses.replace(diabetes(), train=442), bags=1, **chosen)
    ends = chosen["interval_rounds"]
    assert rounds_of(whole) == [(0, chosen["n_estimators"]), (1, ends), (2, ends)]


@pytest.mark.parametrize("kind", ["adult", "diabetes"])
def test_a_fit_on_all_rows_averages_ensembles_of_other_draws(kind: str, adult: Problem) -> None:
    given = adult if kind == "adult" else diabetes()
    half = np.arange(0, len(given.target), 2)
    part = {name: array[half] for name, array in given.features.items()}
    whole = dataclasses.replace(given, features=part, target=given.target[half], train=len(half))
    bagged = fit(whole, n_estimators=40, interval_rounds=20)
    each = [booster for column, booster in bagged.boosters if column == 0]
    assert len({booster.model_to_string() for booster in each}) == 3
    alone = [dataclasses.replace(bagged, boosters=[(0, b)], scale=bagged.scale * 3).scores(part) for b in each]
    column = 1 if kind == "adult" else 0
    scores = bagged.scores(part)
    np.testing.assert_allclose(scores[:, column], np.mean(alone, axis=0)[:, column], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(graph_scores(bagged, part), scores, rtol=1e-5, atol=1e-5)


def test_without_validation_rows_and_rounds_the_number_is_bounded() -> None:
    assert fit(dataclasses.replace(diabetes(), train=442), learning_rate=0.1).summary["rounds"] == 200


def test_several_labels_share_the_data(adult: Problem) -> None:
    job, money = adult.features["codes"][:, 3], adult.target
    target = np.stack([money, job == 1, np.zeros(len(job)), np.ones(len(job))], axis=1).astype(np.uint8)
    problem = dataclasses.replace(adult, kind="multilabel", target=target, classes=4)
    heard: list[tuple[int, dict[str, float]]] = []
    fitted = fit(problem, Context(report=lambda *told: heard.append(told)), learning_rate=0.1)
    scores = fitted.scores(problem.features)
    assert scores.shape == (8000, 4)
    right = (scores > 0) == (target > 0)
    assert right[TRAIN:, 0].mean() > 0.85 and right[:, 2:].all() and np.isfinite(scores).all()
    # each label is what it would be alone: other labels' trees do not touch it
    alone = fit(adult, learning_rate=0.1)
    np.testing.assert_allclose(scores[:, 0], alone.scores(adult.features)[:, 1], atol=1e-5)
    np.testing.assert_allclose(graph_scores(fitted, problem.features), scores, rtol=1e-5, atol=1e-5)
    assert [epoch for epoch, _ in heard] == [1, 2] and heard[-1][1]["validation_score"] > 0.85
    chosen = fitted.summary["chosen"]
    whole = fit(dataclasses.replace(problem, train=len(target)), learning_rate=0.1, **chosen)
    assert rounds_of(whole) == [(label, rounds) for label, rounds in enumerate(chosen["label_rounds"]) if rounds]
    with pytest.raises(TrainingError, match="1 numbers for 4 labels"):
        fit(problem, label_rounds=[3])
    with pytest.raises(TrainingError, match="the same labels"):
        fit(dataclasses.replace(problem, target=target[:, 2:], classes=2))


def test_weights_count_in_a_regression() -> None:
    heavy = np.where(diabetes().target > 200, 50, 1).astype(np.float32)
    plain, pushed = fit(diabetes()), fit(diabetes(weight=heavy))
    features = diabetes().features
    assert (pushed.scores(features).mean(axis=0) > plain.scores(features).mean(axis=0) + np.array([20, 20, 0])).all()


def test_sparse_features_are_refused_by_name() -> None:
    problem = diabetes()
    info = {**problem.info, "ngrams": FeatureInfo("sparse", (1000,))}
    with pytest.raises(TrainingError, match="text_vector instead of ngrams"):
        fit(dataclasses.replace(problem, info=info))


def test_sets_of_hundreds_of_categories_convert() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 2000, (12_000, 1))
    effect = rng.normal(size=2000)[codes[:, 0]]
    problem = Problem(
        kind="regression",
        features={"codes": codes},
        info={"codes": FeatureInfo("int64", (1,), {"cardinalities": [2000]})},
        target=(effect + rng.normal(size=12_000)).astype(np.float32),
        train=10_000,
        classes=1,
    )
    fitted = fit(problem, n_estimators=8, num_leaves=63, max_cat_threshold=256, max_bin=2000, interval_rounds=0)
    features = {"codes": codes[:2000]}
    np.testing.assert_allclose(graph_scores(fitted, features), fitted.scores(features), rtol=1e-5, atol=1e-6)


def test_the_same_seed_gives_the_same_trees_with_any_number_of_threads(adult: Problem) -> None:
    params = {"n_estimators": 40, "subsample": 0.7, "colsample_bytree": 0.6}
    first = fit(adult, Context(seed=3, threads=1), **params)
    again = fit(adult, Context(seed=3, threads=2), **params)
    other = fit(adult, Context(seed=4, threads=1), **params)
    np.testing.assert_array_equal(first.scores(adult.features), again.scores(adult.features))
    assert not np.array_equal(first.scores(adult.features), other.scores(adult.features))
    assert first.export().onnx == again.export().onnx


def test_the_learning_curve_is_told_and_tuning_can_give_up(adult: Problem) -> None:
    heard: list[tuple[int, dict[str, float]]] = []
    fit(adult, Context(report=lambda epoch, metrics: heard.append((epoch, metrics))), n_estimators=35)
    assert [epoch for epoch, _ in heard] == [1, 2, 3, 4]
    assert heard[-1][1]["validation_loss"] < heard[0][1]["validation_loss"]
    assert heard[-1][1]["validation_score"] > 0.8

    def enough(epoch: int, _metrics: dict[str, float]) -> None:
        if epoch == 2:
            raise Pruned

    with pytest.raises(Pruned):
        fit(adult, Context(report=enough), n_estimators=35)


def test_epochs_bound_the_rounds(adult: Problem) -> None:
    assert fit(adult, Context(max_epochs=2)).summary["rounds"] == 20
    # a slower learner gets more rounds for an epoch, so that curves compare
    assert fit(adult, Context(max_epochs=2), learning_rate=0.02).summary["rounds"] == 50


def test_weights_count(adult: Problem) -> None:
    heavy = np.where(adult.target == 1, 20, 1).astype(np.float32)
    weighted = Problem(
        kind="classification",
        features=adult.features,
        info=adult.info,
        target=adult.target,
        train=TRAIN,
        classes=2,
        weight=heavy,
    )
    plain, pushed = (fit(p, n_estimators=20).scores(adult.features).argmax(axis=1).mean() for p in (adult, weighted))
    assert pushed > plain + 0.2


def test_forty_rows_are_enough_to_cut() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 2)).astype(np.float32)
    problem = Problem(
        kind="classification",
        features={"x": x},
        info={"x": FeatureInfo("float32", (2,))},
        target=(x[:, 0] > 0).astype(np.int64),
        train=40,
        classes=2,
    )
    fitted = fit(problem)
    assert (fitted.scores(problem.features).argmax(axis=1) == problem.target).mean() > 0.9


def test_features_that_say_nothing_give_the_base_rate() -> None:
    problem = Problem(
        kind="classification",
        features={"x": np.zeros((100, 1), np.float32)},
        info={"x": FeatureInfo("float32", (1,))},
        target=(np.arange(100) % 4 == 0).astype(np.int64),
        train=80,
        classes=2,
    )
    fitted = fit(problem)
    scores = fitted.scores(problem.features)
    probability = 1 / (1 + np.exp(scores[0, 0] - scores[0, 1]))
    assert probability == pytest.approx(0.25, abs=0.01)
    np.testing.assert_allclose(graph_scores(fitted, problem.features), scores, atol=1e-5)


def test_what_trees_cannot_learn_from_is_refused(adult: Problem) -> None:
    one = Problem(
        kind="classification",
        features=adult.features,
        info=adult.info,
        target=np.zeros(8000, np.int64),
        train=TRAIN,
        classes=2,
    )
    with pytest.raises(TrainingError, match="of one class"):
        fit(one)
    image = {"image": np.zeros((4, 2, 2, 1), np.uint8)}
    pixels = Problem(
        kind="classification",
        features=image,
        info={"image": FeatureInfo("uint8", (2, 2, 1))},
        target=np.array([0, 1, 0, 1]),
        train=2,
        classes=2,
    )
    with pytest.raises(TrainingError, match="pixel_vector"):
        fit(pixels)
    with pytest.raises(TrainingError, match="Did you mean num_leaves"):
        fit(adult, num_leafs=3)
    for wrong, said in (({"learning_rate": "fast"}, "is 'fast', which is no number"), ({"learning_rate": -1}, "is -1")):
        with pytest.raises(TrainingError, match=said):
            get_learner("trees").epochs(8000, wrong)  # which a plan asks for first
    with pytest.raises(TrainingError, match="n_estimators is 'many', which is no number"):
        fit(adult, n_estimators="many")
    with pytest.raises(TrainingError, match="LightGBM cannot train"):
        fit(adult, num_leaves=1)
