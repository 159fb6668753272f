"""Naive Bayes and ridge: equal to scikit-learn on real data, exact as graphs, flat in memory, sane at the edges."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.linear_model import Ridge
from sklearn.naive_bayes import CategoricalNB, GaussianNB

from tidemill.errors import ConfigError, TrainingError
from tidemill.features._base import FeatureInfo
from tidemill.learners import get_learner
from tidemill.learners._base import Context, Problem, RecipeView
from tidemill.learners._scoring import best_scale, log_loss

NUMBERS = FeatureInfo("float32", (64,))


def problem(x: np.ndarray, y: np.ndarray, train: int, **more: Any) -> Problem:
    classes = more.pop("classes", int(y.max()) + 1)
    features = {"x": x.astype(np.float32), **more.pop("features", {})}
    info = {"x": FeatureInfo("float32", x.shape[1:]), **more.pop("info", {})}
    kind = more.pop("kind", "classification")
    target = y.astype(np.float32 if kind == "regression" else np.int64)
    return Problem(kind=kind, features=features, info=info, target=target, train=train, classes=classes, **more)


def digits(train: int = 1400, **more: Any) -> Problem:
    x, y = load_digits(return_X_y=True)
    return problem(x / 16, y, train, **more)


def diabetes() -> Problem:
    x, y = load_diabetes(return_X_y=True)
    return problem(x / x.std(axis=0), y, 350, kind="regression", classes=1)


def fit(given: Problem, **params: Any):
    return get_learner("closed_form").fit(given, RecipeView(params=params), Context())


def graph_scores(fitted, features) -> np.ndarray:
    session = onnxruntime.InferenceSession(fitted.export().onnx, providers=["CPUExecutionProvider"])
    assert {node.name for node in session.get_inputs()} <= set(features)
    return session.run(["scores"], {node.name: features[node.name] for node in session.get_inputs()})[0]


def test_naive_bayes_equals_scikit_learn() -> None:
    given = digits()
    ours = fit(given, method="naive-bayes", smoothing=1e-9, scale=1.0)
    x, y = given.features["x"].astype(np.float64), given.target
    theirs = GaussianNB(var_smoothing=1e-9).fit(x[:1400], y[:1400])
    expected = theirs.predict_joint_log_proba(x)
    np.testing.assert_allclose(ours.scores(given.features), expected, rtol=1e-6, atol=1e-6)
    assert (ours.scores(given.features).argmax(axis=1) == theirs.predict(x)).all()


def test_naive_bayes_with_weights_equals_scikit_learn() -> None:
    weight = np.random.default_rng(0).uniform(0.1, 2, 569).astype(np.float32)
    x, y = load_breast_cancer(return_X_y=True)
    given = problem(x / x.std(axis=0), y, 400, weight=weight)
    ours = fit(given, smoothing=1e-12, scale=1.0)
    wide = given.features["x"].astype(np.float64)
    theirs = GaussianNB(var_smoothing=1e-12).fit(wide[:400], y[:400], sample_weight=weight[:400])
    np.testing.assert_allclose(ours.scores(given.features), theirs.predict_joint_log_proba(wide), rtol=1e-6)


def test_naive_bayes_on_codes_equals_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 900)
    codes = np.stack([rng.integers(0, 4, 900), np.minimum(y + rng.integers(0, 2, 900), 2)], axis=1)
    info = {"codes": FeatureInfo("int64", (2,), {"cardinalities": [4, 3]})}
    given = Problem(kind="classification", features={"codes": codes}, info=info, target=y, train=700, classes=3)
    ours = fit(given, scale=1.0)
    theirs = CategoricalNB(alpha=1, min_categories=[4, 3]).fit(codes[:700], y[:700])
    np.testing.assert_allclose(ours.scores(given.features), theirs.predict_joint_log_proba(codes), rtol=1e-6)
    np.testing.assert_array_equal(graph_scores(ours, given.features), ours.scores(given.features))


def test_ridge_equals_scikit_learn() -> None:
    given = digits()
    ours = fit(given, method="ridge", alpha=2.5, scale=1.0)
    x = given.features["x"].astype(np.float64)
    theirs = Ridge(alpha=2.5).fit(x[:1400], np.eye(10)[given.target[:1400]] * 2 - 1)
    np.testing.assert_allclose(ours.scores(given.features), theirs.predict(x), atol=1e-6)


def test_ridge_regression_with_weights_equals_scikit_learn() -> None:
    weight = np.random.default_rng(0).uniform(0.1, 2, 442).astype(np.float32)
    x, y = load_diabetes(return_X_y=True)
    given = problem(x * 20, y, 350, kind="regression", classes=1, weight=weight)
    ours = fit(given, method="ridge", alpha=3.0)
    wide = given.features["x"].astype(np.float64)
    theirs = Ridge(alpha=3.0).fit(wide[:350], given.target[:350].astype(np.float64), sample_weight=weight[:350])
    np.testing.assert_allclose(ours.scores(given.features)[:, 0], theirs.predict(wide), rtol=1e-6)


def test_ridge_takes_codes_as_columns_of_0_and_1() -> None:
    rng = np.random.default_rng(1)
    x, codes = rng.normal(size=(500, 3)), rng.integers(0, 4, (500, 2))
    y = (x[:, 0] + (codes[:, 1] == 2) * 3 > 1).astype(np.int64)
    info = {"codes": FeatureInfo("int64", (2,), {"cardinalities": [4, 4]})}
    given = problem(x, y, 400, features={"codes": codes}, info=info)
    ours = fit(given, method="ridge", alpha=1.0, scale=1.0)
    design = np.concatenate([x.astype(np.float32), np.eye(4)[codes[:, 0]], np.eye(4)[codes[:, 1]]], axis=1)
    theirs = Ridge(alpha=1.0).fit(design[:400], np.eye(2)[y[:400]] * 2 - 1)
    np.testing.assert_allclose(ours.scores(given.features), theirs.predict(design), atol=1e-6)
    np.testing.assert_array_equal(graph_scores(ours, given.features), ours.scores(given.features))


@pytest.mark.parametrize("method", ["naive-bayes", "ridge"])
def test_the_graph_gives_the_very_same_scores(method: str) -> None:
    given = digits()
    fitted = fit(given, method=method)
    np.testing.assert_array_equal(graph_scores(fitted, given.features), fitted.scores(given.features))


@pytest.mark.parametrize(("side", "max_side"), [(8, 32), (8, 3)])
def test_images_go_in_as_pixels(side: int, max_side: int) -> None:
    """The graph takes uint8 pixels, shrinks them where that was asked for, and equals the vector's way."""
    data = load_digits()
    images = (data.images * 15).astype(np.uint8)[..., None]
    info = {"image": FeatureInfo("uint8", (side, side, 1), {"mean": [0.0], "std": [1.0]})}
    given = Problem(
        kind="classification", features={"image": images}, info=info, target=data.target, train=1400, classes=10
    )
    fitted = fit(given, method="ridge", max_side=max_side)
    np.testing.assert_allclose(graph_scores(fitted, given.features), fitted.scores(given.features), atol=1e-5)
    if max_side == 32:
        vector = problem(images.reshape(len(images), -1) / np.float32(255), data.target, 1400)
        np.testing.assert_array_equal(
            fit(vector, method="ridge").scores(vector.features), fitted.scores(given.features)
        )
    else:
        assert fitted.linear.shape == (9, 10)


@pytest.mark.parametrize(("method", "floor"), [("naive-bayes", 0.8), ("ridge", 0.85)])
def test_defaults_learn_and_their_probabilities_are_honest(method: str, floor: float) -> None:
    heard: list[dict[str, float]] = []
    given = digits()
    context = Context(report=lambda _epoch, metrics: heard.append(metrics))
    fitted = get_learner("closed_form").fit(given, RecipeView(params={"method": method}), context)
    assert heard[0]["validation_score"] > floor
    held_out = fitted.scores({"x": given.features["x"][1400:]})
    target = given.target[1400:]
    assert heard[0]["validation_loss"] == pytest.approx(log_loss(held_out, target))
    # no other temperature would make them better
    assert best_scale(held_out, target) == pytest.approx(1, abs=0.01)
    assert fitted.summary["rows"] == 1400 and fitted.summary["seconds"] > 0


def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {method: fit(digits(), method=method).scores(digits().features) for method in ("naive-bayes", "ridge")}
    monkeypatch.setattr("tidemill.learners._dense.chunks.__defaults__", (97,))
    for method, expected in whole.items():
        np.testing.assert_allclose(fit(digits(), method=method).scores(digits().features), expected, atol=1e-4)


def test_a_class_without_training_rows_is_never_the_answer() -> None:
    given = digits(classes=12)
    for method in ("naive-bayes", "ridge"):
        scores = fit(given, method=method).scores(given.features)
        assert scores.shape == (1797, 12) and np.isfinite(scores).all()
        assert scores.argmax(axis=1).max() < 10


def test_no_validation_rows_and_constant_columns_still_give_a_model() -> None:
    x, y = load_breast_cancer(return_X_y=True)
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    for method in ("naive-bayes", "ridge"):
        given = problem(x, y, len(x))
        scores = fit(given, method=method).scores(given.features)
        assert np.isfinite(scores).all() and (scores.argmax(axis=1) == y).mean() > 0.85


def test_no_rows_get_no_scores() -> None:
    fitted = fit(digits())
    assert fitted.scores({"x": np.zeros((0, 64), np.float32)}).shape == (0, 10)
    assert graph_scores(fitted, {"x": np.zeros((0, 64), np.float32)}).shape == (0, 10)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"method": "ridges"}, "no method 'ridges'"),
        ({"metod": "ridge"}, "no parameter 'metod'.*Did you mean method"),
        ({"method": "ridge", "alpha": 0}, "alpha is 0.*above zero"),
        ({"smoothing": -1.0}, "smoothing is -1.0"),
        ({"method": 3}, "method is 3"),
    ],
)
def test_wrong_parameters_are_refused(params: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        fit(digits(), **params)


def test_what_they_cannot_learn_from_is_refused() -> None:
    with pytest.raises(TrainingError, match="Use method: ridge"):
        fit(diabetes(), method="naive-bayes")
    x, y = load_digits(return_X_y=True)
    x[3, 4] = np.nan
    with pytest.raises(TrainingError, match=r"missing values.*without raw"):
        fit(problem(x, y, 1400))
    with pytest.raises(TrainingError, match="9000 columns"):
        fit(problem(np.zeros((4, 9000)), np.array([0, 1, 0, 1]), 2), method="ridge")


def test_an_unknown_learner_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean closed_form"):
        get_learner("closedform")


def test_every_learner_bears_its_name() -> None:
    assert {name: get_learner(name).streams for name in ("closed_form", "trees", "gradient", "sklearn")} == {
        "closed_form": True, "trees": False, "gradient": True, "sklearn": False,
    }  # fmt: skip
    assert all(get_learner(name).name == name for name in ("closed_form", "trees", "gradient", "sklearn"))
