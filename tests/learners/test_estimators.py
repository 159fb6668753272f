"""A user's scikit-learn estimator: found, seeded, fitted, and converted where that gives the same scores."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.linear_model import LogisticRegression

from tidemill.errors import TrainingError
from tidemill.features._base import FeatureInfo
from tidemill.learners import get_learner
from tidemill.learners._base import Context, Problem, RecipeView
from tidemill.packages.proof import difference

USER_FILE = """
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
import numpy as np

def scaled(C=1.0):
    return make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=300))

def scaled_svm():
    return make_pipeline(StandardScaler(), LinearSVC())

class Nearest(ClassifierMixin, BaseEstimator):
    '''An estimator of one's own that no converter knows.'''
    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.means_ = np.stack([X[y == c].mean(axis=0) for c in self.classes_])
        return self
    def predict_proba(self, X):
        far = np.square(X[:, None] - self.means_).sum(axis=2)
        p = np.exp(far.min(axis=1, keepdims=True) - far)
        return p / p.sum(axis=1, keepdims=True)

class Mute(ClassifierMixin, BaseEstimator):
    pass

def number():
    return 3

def halved():
    return 1 / 0


class Lost(Nearest):
    def fit(self, X, y):
        return {}["nothing"]

class Silent(Nearest):
    def predict_proba(self, X):
        assert not len(X)
"""


@pytest.fixture(scope="module")
def user_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("user") / "recipes.py"
    path.write_text(USER_FILE)
    return str(path)


def problem(loader=load_digits, **more: Any) -> Problem:
    x, y = loader(return_X_y=True)
    x = ((x - x.mean(axis=0)) / (x.std(axis=0) + 1e-9)).astype(np.float32)
    kind = more.pop("kind", "classification")
    classes = more.pop("classes", 1 if kind == "regression" else int(y.max()) + 1)
    features = {"x": x, **more.pop("features", {})}
    info = {"x": FeatureInfo("float32", x.shape[1:]), **more.pop("info", {})}
    target = more.pop("target", y).astype(np.float32 if kind == "regression" else np.int64)
    train = len(x) * 4 // 5
    return Problem(kind=kind, features=features, info=info, target=target, train=train, classes=classes, **more)


def fit(given: Problem, ref: str, context: Context | None = None, **params: Any):
    return get_learner("sklearn").fit(given, RecipeView(network={"ref": ref}, params=params), context or Context())


def assert_graph_is_equal(fitted, given: Problem) -> None:
    export = fitted.export()
    assert export.onnx is not None, export.note
    session = onnxruntime.InferenceSession(export.onnx, providers=["CPUExecutionProvider"])
    got = session.run(["scores"], {node.name: given.features[node.name] for node in session.get_inputs()})[0]
    expected = fitted.scores(given.features)
    np.testing.assert_allclose(got, expected, rtol=1e-2, atol=1e-4)
    assert difference(given.kind, got, expected) < 5e-5


@pytest.mark.parametrize(
    ("ref", "params"),
    [
        ("sklearn.ensemble:RandomForestClassifier", {"n_estimators": 10}),
        ("sklearn.linear_model:RidgeClassifier", {}),
        ("sklearn.naive_bayes:GaussianNB", {"var_smoothing": 0.1}),
        ("FILE:scaled", {"C": 0.1}),
        ("FILE:scaled_svm", {}),
    ],
)
@pytest.mark.parametrize("loader", [load_digits, load_breast_cancer], ids=["ten", "two"])
def test_estimators_convert_to_equal_graphs(ref: str, params: dict[str, Any], loader, user_file: str) -> None:
    given = problem(loader)
    fitted = fit(given, ref.replace("FILE", user_file), **params)
    right = fitted.scores(given.features).argmax(axis=1) == given.target
    assert right[given.train :].mean() > 0.75
    assert_graph_is_equal(fitted, given)


def test_one_that_does_not_convert_says_why(user_file: str) -> None:
    given = problem()
    fitted = fit(given, f"{user_file}:Nearest")
    assert (fitted.scores(given.features).argmax(axis=1) == given.target).mean() > 0.8
    export = fitted.export()
    assert export.onnx is None and export.note is not None
    assert export.note.startswith("Nearest does not convert to ONNX: ")


def test_a_graph_with_other_scores_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = fit(problem(), "sklearn.naive_bayes:GaussianNB", var_smoothing=0.1)
    other = fit(problem(), "sklearn.naive_bayes:GaussianNB", var_smoothing=0.5)
    wrong = other.export().onnx
    monkeypatch.setattr(type(fitted), "_convert", lambda _self: wrong)
    export = fitted.export()
    assert export.onnx is None and "gives other scores" in (export.note or "")


def test_images_and_codes_go_in_beside_numbers() -> None:
    data = load_digits()
    codes = np.random.default_rng(0).integers(0, 3, (len(data.target), 2))
    images = data.images.astype(np.uint8)[..., None]
    given = problem(
        features={"image": images, "codes": codes},
        info={
            "image": FeatureInfo("uint8", (8, 8, 1), {"mean": [0.0], "std": [1.0]}),
            "codes": FeatureInfo("int64", (2,), {"cardinalities": [3, 3]}),
        },
    )
    fitted = fit(given, "sklearn.linear_model:RidgeClassifier")
    assert fitted.estimator.n_features_in_ == 64 + 64 + 2
    assert_graph_is_equal(fitted, given)


@pytest.mark.parametrize("ref", ["sklearn.naive_bayes:GaussianNB", "sklearn.linear_model:RidgeClassifier"])
def test_classes_that_training_never_saw_are_never_the_answer(ref: str) -> None:
    target = load_digits().target
    target = np.where(target == 3, 4, target)
    given = problem(target=target, classes=12)
    fitted = fit(given, ref)
    scores = fitted.scores(given.features)
    assert scores.shape == (len(target), 12)
    assert not {3, 10, 11} & set(scores.argmax(axis=1).tolist())
    assert_graph_is_equal(fitted, given)


def test_regression() -> None:
    given = problem(load_diabetes, kind="regression")
    fitted = fit(given, "sklearn.linear_model:Ridge")
    assert fitted.scores(given.features).shape == (442, 1)
    assert_graph_is_equal(fitted, given)


def several_labels(**more: Any) -> Problem:
    digits = load_digits().target
    target = np.stack([digits % 2 == 0, digits > 4, digits == 8], axis=1).astype(np.uint8)
    return dataclasses.replace(problem(), kind="multilabel", target=target, classes=3, **more)


@pytest.mark.parametrize(
    ("ref", "inner", "converts"),
    [
        ("sklearn.multiclass:OneVsRestClassifier", LogisticRegression(C=0.1), True),
        ("sklearn.multioutput:MultiOutputClassifier", LogisticRegression(C=0.1), False),
        ("sklearn.ensemble:RandomForestClassifier", None, False),
    ],
)
def test_several_labels(ref: str, inner: Any, converts: bool) -> None:
    given = several_labels()
    fitted = fit(given, ref, **({} if inner is None else {"estimator": inner}))
    scores = fitted.scores(given.features)
    right = (scores > 0) == (given.target > 0)
    assert scores.shape == (1797, 3) and (right[given.train :].mean(axis=0) > 0.8).all()
    if converts:
        assert_graph_is_equal(fitted, given)
    else:
        assert "OneVsRestClassifier" in (fitted.export().note or "")


def test_a_fit_needs_no_validation_rows() -> None:
    given = problem()
    fitted = fit(dataclasses.replace(given, train=len(given.target)), "sklearn.linear_model:RidgeClassifier")
    assert fitted.summary["chosen"] == {}


def test_sparse_features_are_refused_by_name() -> None:
    given = problem()
    with pytest.raises(TrainingError, match="hold ngrams"):
        fit(
            dataclasses.replace(given, info={**given.info, "ngrams": FeatureInfo("sparse", (9,))}),
            "sklearn.linear_model:RidgeClassifier",
        )


def test_the_seed_and_the_weights_reach_it() -> None:
    given = problem()
    forest = "sklearn.ensemble:RandomForestClassifier"
    one, two, three = (fit(given, forest, Context(seed=s), n_estimators=5).scores(given.features) for s in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, three)
    assert fit(given, forest, n_estimators=5, random_state=9).estimator.random_state == 9
    heavy = np.where(given.target == 8, 50, 1).astype(np.float32)
    weighted = fit(problem(weight=heavy), "sklearn.linear_model:RidgeClassifier").scores(given.features)
    plain = fit(given, "sklearn.linear_model:RidgeClassifier").scores(given.features)
    assert (weighted.argmax(axis=1) == 8).mean() > (plain.argmax(axis=1) == 8).mean()


def test_validation_is_reported() -> None:
    heard: list[dict[str, float]] = []
    context = Context(report=lambda _epoch, metrics: heard.append(metrics))
    fit(problem(), "sklearn.linear_model:RidgeClassifier", context)
    assert heard[0]["validation_score"] > 0.8 and heard[0]["validation_loss"] < 2


@pytest.mark.parametrize(
    ("ref", "params", "message"),
    [
        ("nowhere.py:f", {}, "there is no file 'nowhere.py'"),
        ("sklearn.nothing:f", {}, "there is no module 'sklearn.nothing'"),
        ("GaussianNB", {}, "there is no module ''"),
        ("sklearn.naive_bayes:Gauss", {}, "has no 'Gauss'"),
        ("sklearn.naive_bayes:GaussianNB", {"colour": 1}, "does not take these parameters"),
        ("sklearn.naive_bayes:GaussianNB", {"var_smoothing": -1.0}, "GaussianNB refused the training data"),
        ("FILE:number", {}, "no scikit-learn estimator"),
        ("FILE:Mute", {}, "CalibratedClassifierCV"),
        ("FILE:halved", {}, r"recipes.py, line 33: halved made no estimator: ZeroDivisionError: division"),
        ("FILE:Lost", {}, r"recipes.py, line 38: Lost refused the training data: KeyError: 'nothing'"),
        ("FILE:Silent", {}, r"recipes.py, line 42: Silent gives no scores: AssertionError"),
    ],
)
def test_mistakes_get_one_clear_message(ref: str, params: dict[str, Any], message: str, user_file: str) -> None:
    with pytest.raises(TrainingError, match=message):
        fit(problem(), ref.replace("FILE", user_file), **params)


def test_a_file_or_module_that_cannot_be_imported_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_here.py").write_text("number = 0\n\n1 / number\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    for place in (f"{tmp_path}/broken_here.py", "broken_here"):
        with pytest.raises(TrainingError, match="cannot be imported: ZeroDivisionError: division"):
            fit(problem(), f"{place}:Any")


def test_a_recipe_without_a_reference_is_refused() -> None:
    with pytest.raises(TrainingError, match="names no estimator"):
        get_learner("sklearn").fit(problem(), RecipeView(), Context())


def test_a_user_file_is_read_where_it_lies(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("from sklearn.naive_bayes import BernoulliNB as Mine")
    assert fit(problem(), f"{path}:Mine").summary["estimator"] == "BernoulliNB"
