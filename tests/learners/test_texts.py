"""Naive Bayes, ridge and the linear learner on n-grams of real texts: equal to scikit-learn, and the same as graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from scipy import sparse
from sklearn.linear_model import Ridge
from sklearn.naive_bayes import MultinomialNB
from sklearn.svm import LinearSVC

from tidemill.data.arrays import Ragged
from tidemill.errors import TrainingError
from tidemill.features._base import FeatureInfo, Sparse
from tidemill.features.ngrams import Ngrams
from tidemill.learners import get_learner
from tidemill.learners._base import Context, Problem, RecipeView
from tidemill.learners.closed_form.rows import sparser
from tidemill.packages.graph import tensors
from tidemill.packages.proof import difference

TRAIN, ALL = 1200, 1500
TOLERANCE = 1e-5


Messages = tuple[Sparse, np.ndarray]


@pytest.fixture(scope="module")
def messages(data_dir: Path) -> Messages:
    lines = (data_dir / "sms-spam" / "SMSSpamCollection").read_text("utf-8").splitlines()[:ALL]
    label, text = zip(*(line.split("\t", 1) for line in lines), strict=True)
    step = Ngrams(["text"], max_features=4000)
    columns = {"text": Ragged.from_strings(text)}
    step.observe(columns)
    step.finish()
    return step.sparse(columns), (np.array(label) == "spam").astype(np.int64)


def problem(messages: Messages, **more: Any) -> Problem:
    ngrams, spam = messages
    given: dict[str, Any] = {
        "kind": "classification",
        "features": {"ngrams": ngrams},
        "info": {"ngrams": FeatureInfo("sparse", (ngrams.width,))},
        "target": spam,
        "train": TRAIN,
        "classes": 2,
    }
    return Problem(**given | more)


def several(messages: Messages) -> np.ndarray:
    """Whether a message is spam, is long, and holds a certain n-gram."""
    ngrams, spam = messages
    dense = ngrams.to_scipy()
    long = np.diff(ngrams.offsets) > 150
    common = np.asarray(dense[:, [int(np.bincount(ngrams.indices).argmax())]].toarray()).ravel() > 0
    return np.stack([spam, long, common], axis=1).astype(np.uint8)


def fit(learner: str, given: Problem, **params: Any) -> Any:
    return get_learner(learner).fit(given, RecipeView(params=params), Context())


def graph_scores(fitted: Any, features: Any) -> np.ndarray:
    session = onnxruntime.InferenceSession(fitted.export().onnx, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]
    return session.run(["scores"], tensors(features, names))[0]


def test_naive_bayes_equals_scikit_learn(messages: Messages) -> None:
    given = problem(messages)
    ngrams, spam = messages
    theirs = MultinomialNB(alpha=0.1).fit(ngrams[:TRAIN].to_scipy(), spam[:TRAIN])
    ours = fit("closed_form", given, alpha=0.1, scale=1.0).scores(given.features)
    np.testing.assert_allclose(ours, theirs.predict_joint_log_proba(ngrams.to_scipy()), rtol=1e-4, atol=1e-4)


def test_naive_bayes_with_weights_counts_rows_as_often(messages: Messages) -> None:
    ngrams, spam = messages
    rows = np.arange(TRAIN).repeat(1 + (np.arange(TRAIN) % 3 == 0))
    weight = np.where(np.arange(ALL) % 3 == 0, 2, 1).astype(np.float32)
    repeated = problem(messages, features={"ngrams": ngrams[rows]}, target=spam[rows], train=len(rows))
    for method in ("naive-bayes", "ridge"):
        params = {"method": method, "alpha": 0.5, "scale": 1.0}
        weighted = fit("closed_form", problem(messages, weight=weight), **params).scores({"ngrams": ngrams})
        twice = fit("closed_form", repeated, **params).scores({"ngrams": ngrams})
        np.testing.assert_allclose(weighted, twice, rtol=1e-3, atol=3e-3)


def test_ridge_equals_scikit_learn(messages: Messages) -> None:
    ngrams, spam = messages
    ours = fit("closed_form", problem(messages), method="ridge", alpha=0.5, scale=1.0).scores({"ngrams": ngrams})
    design = ngrams.to_scipy().toarray().astype(np.float64)
    theirs = Ridge(alpha=0.5).fit(design[:TRAIN], np.eye(2)[spam[:TRAIN]] * 2 - 1).predict(design)
    assert np.abs(ours - theirs).max() < 0.01 * np.abs(theirs).max()


def test_ridge_takes_numbers_and_codes_beside_ngrams(messages: Messages) -> None:
    ngrams, spam = messages
    rng = np.random.default_rng(0)
    x, codes = rng.normal(3, 2, (ALL, 2)).astype(np.float32), rng.integers(0, 3, (ALL, 1))
    value = (x[:, 0] * 2 + (codes[:, 0] == 1) * 5 + spam * 3).astype(np.float32)
    info = {
        "x": FeatureInfo("float32", (2,)),
        "codes": FeatureInfo("int64", (1,), {"cardinalities": [3]}),
        "ngrams": FeatureInfo("sparse", (ngrams.width,)),
    }
    features = {"x": x, "codes": codes, "ngrams": ngrams}
    given = problem(messages, kind="regression", features=features, info=info, target=value, classes=1)
    fitted = fit("closed_form", given, method="ridge", alpha=1.0)
    design = np.concatenate([x, np.eye(3)[codes[:, 0]], ngrams.to_scipy().toarray()], axis=1)
    theirs = Ridge(alpha=1.0).fit(design[:TRAIN], value[:TRAIN]).predict(design)
    ours = fitted.scores(features)[:, 0]
    assert np.abs(ours - theirs).max() < 0.02 * np.ptp(value)
    assert difference("regression", graph_scores(fitted, features), ours[:, None]) < TOLERANCE


@pytest.mark.parametrize(
    ("learner", "params"),
    [("closed_form", {"method": "naive-bayes"}), ("closed_form", {"method": "ridge"}), ("linear", {})],
)
@pytest.mark.parametrize("kind", ["classification", "multilabel"])
def test_defaults_learn_and_the_graph_gives_the_same(
    messages: Messages, learner: str, params: dict[str, Any], kind: str
) -> None:
    more = {"kind": kind, "target": several(messages), "classes": 3} if kind == "multilabel" else {}
    given = problem(messages, **more)
    heard: list[dict[str, float]] = []
    context = Context(report=lambda _epoch, metrics: heard.append(metrics))
    fitted = get_learner(learner).fit(given, RecipeView(params=params), context)
    scores = fitted.scores(given.features)
    assert scores.dtype == np.float32 and scores.shape == (ALL, given.classes)
    assert difference(kind, graph_scores(fitted, given.features), scores) < TOLERANCE
    right = scores.argmax(axis=1) == given.target if kind == "classification" else (scores > 0) == (given.target > 0)
    assert right[TRAIN:].mean() > (0.96 if kind == "classification" else 0.8)
    assert heard[0]["validation_score"] == pytest.approx(right[TRAIN:].mean())
    again = problem(messages, **more, train=ALL)
    refitted = get_learner(learner).fit(again, RecipeView(params={**params, **fitted.summary["chosen"]}), Context())
    assert refitted.summary["chosen"] == fitted.summary["chosen"]


def test_several_labels_are_questions_of_their_own(messages: Messages) -> None:
    """Each label's score is the difference of what naive Bayes of that label alone gives its two answers."""
    target = several(messages)
    ngrams, _ = messages
    together = fit("closed_form", problem(messages, kind="multilabel", target=target, classes=3), alpha=0.1)
    for label in range(3):
        alone = fit("closed_form", problem(messages, target=target[:, label].astype(np.int64)), alpha=0.1, scale=1.0)
        each = alone.scores({"ngrams": ngrams})
        np.testing.assert_allclose(
            together.scores({"ngrams": ngrams})[:, label], each[:, 1] - each[:, 0], rtol=1e-3, atol=1e-3
        )


def test_the_linear_learner_weighs_by_the_ratio_that_naive_bayes_finds(messages: Messages) -> None:
    ngrams, spam = messages
    ours = fit("linear", problem(messages), C=0.2, scale=1.0).scores({"ngrams": ngrams})
    rows = ngrams.to_scipy().astype(np.float64)
    train, y = rows[:TRAIN], spam[:TRAIN] == 1
    inside, outside = train[y].sum(axis=0) + 0.1, train[~y].sum(axis=0) + 0.1
    scale = 0.3 + np.abs(np.log((inside / inside.sum()) / (outside / outside.sum())))
    scaled = sparse.csr_array(rows * scale[None, :])
    theirs = LinearSVC(C=0.2, tol=1e-8, max_iter=100_000).fit(scaled[:TRAIN], y).decision_function(scaled)
    np.testing.assert_allclose(ours[:, 1], theirs, atol=0.01)
    np.testing.assert_array_equal(ours[:, 0], -ours[:, 1])


def test_the_linear_learner_minds_weights_and_numbers(messages: Messages) -> None:
    ngrams, spam = messages
    x = np.stack([spam * 2.0 - 1, np.zeros(ALL)], axis=1).astype(np.float32)
    info = {"x": FeatureInfo("float32", (2,)), "ngrams": FeatureInfo("sparse", (ngrams.width,))}
    features = {"x": x, "ngrams": ngrams}
    told = fit("linear", problem(messages, features=features, info=info)).scores(features)
    assert (told.argmax(axis=1) == spam).all()
    heavy = np.where(spam == 1, 100, 1).astype(np.float32)
    plain, weighted = (fit("linear", problem(messages, weight=w)).scores({"ngrams": ngrams}) for w in (None, heavy))
    assert (weighted.argmax(axis=1) == 1).sum() > (plain.argmax(axis=1) == 1).sum()


@pytest.mark.parametrize(
    ("learner", "params"), [("closed_form", {}), ("closed_form", {"method": "ridge"}), ("linear", {})]
)
def test_edges(messages: Messages, learner: str, params: dict[str, Any]) -> None:
    """A class that no row has is never answered; texts without a known n-gram and no texts at all have scores."""
    ngrams, spam = messages
    fitted = fit(learner, problem(messages, classes=3), **params)
    scores = fitted.scores({"ngrams": ngrams})
    assert np.isfinite(scores).all() and scores.argmax(axis=1).max() == 1
    blank = {"ngrams": FeatureInfo("sparse", (ngrams.width,)).blank(2)}
    assert np.isfinite(fitted.scores(blank)).all() and fitted.scores({"ngrams": ngrams[:0]}).shape == (0, 3)
    np.testing.assert_allclose(graph_scores(fitted, blank), fitted.scores(blank), atol=1e-5)
    constant = problem(
        messages, kind="multilabel", target=np.stack([spam, spam * 0, spam * 0 + 1], 1).astype(np.uint8), classes=3
    )
    answers = fit(learner, constant, **params).scores({"ngrams": ngrams}) > 0
    assert not answers[:, 1].any() and answers[:, 2].all()


def test_what_the_linear_learner_cannot_learn_from_is_refused(messages: Messages) -> None:
    ngrams, spam = messages
    with pytest.raises(TrainingError, match="answers with classes"):
        fit("linear", problem(messages, kind="regression", target=spam.astype(np.float32), classes=1))
    info = {"codes": FeatureInfo("int64", (1,), {"cardinalities": [2]})}
    with pytest.raises(TrainingError, match=r"reads ngrams and x.*codes"):
        fit("linear", problem(messages, features={"codes": spam[:, None]}, info=info))
    with pytest.raises(TrainingError, match="C is 0"):
        fit("linear", problem(messages), C=0)
    assert len(ngrams) == ALL


def test_of_many_texts_a_part_chooses_the_penalty_and_all_are_fitted(
    messages: Messages, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = problem(messages)
    recipe = RecipeView(params={"method": "ridge"})
    monkeypatch.setattr("tidemill.learners.closed_form.learner._PART", (300, 100))
    fitted = get_learner("closed_form").fit(whole, recipe, Context())
    part = sparser(whole, 300, 100)
    assert (part.train, len(part.target), len(part.features["ngrams"])) == (300, 400, 400)
    assert set(part.target[: part.train]) == {0, 1}
    on_part = get_learner("closed_form").fit(part, recipe, Context())
    assert fitted.summary["chosen"]["alpha"] == on_part.summary["chosen"]["alpha"]
    assert fitted.summary["rows"] == TRAIN
    told = RecipeView(params={"method": "ridge", "alpha": fitted.summary["chosen"]["alpha"]})
    same = get_learner("closed_form").fit(whole, told, Context())
    np.testing.assert_array_equal(fitted.scores(whole.features), same.scores(whole.features))
