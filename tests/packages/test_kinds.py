"""A package of each kind of answer: written from a real fit, opened again, asked as users ask."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score

from tidemill.data.arrays import Column, Ragged, take
from tidemill.data.schema import Field, Signature
from tidemill.errors import InputError, PackageError
from tidemill.features.pipeline import Pipeline
from tidemill.learners._base import Context, Fitted, Problem, RecipeView
from tidemill.learners.gradient import GradientLearner
from tidemill.metrics import fit_answer
from tidemill.packages import Manifest, write_package
from tidemill.runtime import load
from tidemill.runtime.predictor import Predictor

TEXT = (Field(name="message", type="text"),)
HOUSE = (
    Field(name="income", type="number"),
    Field(name="rooms", type="number", optional=True),
    Field(name="sea", type="category"),
    Field(name="sold", type="date", optional=True),
)


def packed(
    folder: Path,
    signature: Signature,
    steps: list[dict[str, Any]],
    columns: dict[str, Column],
    target: np.ndarray,
    network: dict[str, Any],
    answer: dict[str, Any],
    params: dict[str, Any],
) -> tuple[Fitted, dict[str, Any]]:
    """Fit on the first half, calibrate on the second, and write the package as training does."""
    rows = len(target)
    pipeline = Pipeline(steps, signature)
    pipeline.fit([take(columns, np.arange(rows // 2))])
    features = pipeline.transform(columns)
    problem = Problem(
        kind=signature.kind,
        features=features,
        info=pipeline.info(),
        target=target,
        train=rows // 2,
        classes=max(1, len(signature.labels)),
    )
    fitted = GradientLearner().fit(problem, RecipeView(network=network, params=params), Context())
    export = fitted.export()
    held = {name: array[slice(rows // 2, None)] for name, array in features.items()}
    spec = fit_answer(answer, fitted.scores(held), target[rows // 2 :])
    manifest = Manifest(
        id="model_kinds",
        created=1.75e9,
        task="text-classification",
        recipe="net",
        runtime="onnx",
        signature=signature.to_json(),
        features=pipeline.to_json(),
        answer=spec,
        network=export.network,
    )
    few = {name: array[slice(0, 32)] for name, array in features.items()}
    write_package(folder, manifest, export, few, fitted.scores(few))
    return fitted, features


def by_torch(folder: Path) -> Predictor:
    """The same package answered by its weights."""
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"runtime": "torch"}))
    return load(folder)


@pytest.fixture(scope="module")
def messages(data_dir: Path) -> tuple[list[str], np.ndarray]:
    lines = (data_dir / "sms-spam" / "SMSSpamCollection").read_text("utf-8").split("\n")[:600]
    pairs = [line.split("\t", 1) for line in lines]
    return [text for _, text in pairs], np.array([label == "spam" for label, _ in pairs], np.int64)


LEARNING = {"epochs": 8, "learning_rate": 0.01}
STRANGE = ["🌊🌊", "磨坊", "a\x00b", "mill " * 40_000]


@pytest.mark.parametrize(
    ("steps", "network"),
    [
        ([{"step": "ngrams"}], {"name": "ngram", "hidden": 8}),
        ([{"step": "bpe", "max_length": 48}], {"name": "transformer", "width": 32, "layers": 1}),
    ],
    ids=["ngram", "transformer"],
)
def test_one_label_or_none(
    tmp_path: Path, messages: tuple[list[str], np.ndarray], steps: list[dict[str, Any]], network: dict[str, Any]
) -> None:
    texts, spam = messages
    signature = Signature(inputs=TEXT, target="kind", kind="classification", labels=("ham", "spam"))
    costs = {"costs": [[0, 8], [1, 0]], "abstain_cost": 0.2}
    spec = {"kind": "classification", "labels": ["ham", "spam"], "temperature": 1.0} | costs
    columns: dict[str, Column] = {"message": Ragged.from_strings(texts)}
    fitted, features = packed(tmp_path / "m", signature, steps, columns, spam, network, spec, LEARNING)
    predictor = load(tmp_path / "m")
    predictor.warm_up()
    np.testing.assert_allclose(predictor.scores(columns), fitted.scores(features), atol=1e-4)
    found = predictor.predict([{"message": text} for text in texts[300:]])
    said = [answer["label"] for answer in found]
    assert set(said) == {"ham", "spam", None}
    given = [i for i, label in enumerate(said) if label is not None]
    right = np.mean([said[i] == ["ham", "spam"][spam[300 + i]] for i in given])
    assert right > 0.95 and len(given) > 200  # what is answered is right, and silence is rare
    for answer in found:
        expected = answer["scores"]["ham"] * 8, answer["scores"]["spam"] * 1
        silent = min(expected) > 0.2
        assert (answer["label"] is None) == silent == ("abstained" in answer)
        assert answer["guess" if silent else "label"] == ("spam" if expected[0] < expected[1] else "ham")
    assert all(np.isfinite(a["score"]) for a in predictor.predict([{"message": text} for text in STRANGE]))
    for empty in ("", "  ", "\x00"):
        with pytest.raises(InputError, match="message"):
            predictor.predict([{"message": empty}])
    again = by_torch(tmp_path / "m").predict([{"message": text} for text in texts[300:]])
    assert [answer["label"] for answer in again] == said
    assert [a["score"] for a in again] == pytest.approx([a["score"] for a in found], abs=1e-4)


def test_any_number_of_labels(tmp_path: Path, messages: tuple[list[str], np.ndarray]) -> None:
    texts, spam = messages
    labels = ("asks", "long", "spam")
    target = np.stack([["?" in text for text in texts], [len(text) > 80 for text in texts], spam], 1).astype(np.uint8)
    signature = Signature(
        inputs=(Field(name="message", type="text", optional=True),), target="tags", kind="multilabel", labels=labels
    )
    columns: dict[str, Column] = {"message": Ragged.from_strings(texts)}
    spec = {"kind": "multilabel", "labels": list(labels)}
    network, steps = {"name": "ngram"}, [{"step": "ngrams"}]
    packed(tmp_path / "m", signature, steps, columns, target, network, spec, LEARNING)
    predictor = load(tmp_path / "m")
    answer = json.loads((tmp_path / "m" / "manifest.json").read_text())["answer"]
    assert {len(answer[key]) for key in ("scale", "bias", "thresholds")} == {3}
    found = predictor.predict([{"message": text} for text in texts])
    together = predictor.probabilities(columns)
    for row, each in enumerate(found):
        assert [each["scores"][label] for label in labels] == pytest.approx(together[row].tolist(), abs=1e-6)
        reached = zip(labels, answer["thresholds"], strict=True)
        assert each["labels"] == [label for label, threshold in reached if each["scores"][label] >= threshold]
    carried = np.array([[label in each["labels"] for label in labels] for each in found[300:]])
    assert f1_score(target[300:], carried, average="micro") > 0.7 and carried.any(axis=0).all()
    [nothing] = predictor.predict([{"message": None}])  # a text that may be missing
    assert set(nothing) == {"labels", "scores"}
    again = by_torch(tmp_path / "m").predict([{"message": text} for text in texts])
    assert [each["labels"] for each in again] == [each["labels"] for each in found]
    card = (tmp_path / "m" / "README.md").read_text("utf-8")
    assert "`tags`, any number of `asks`, `long`, `spam`" in card


@pytest.fixture(scope="module")
def houses(data_dir: Path) -> tuple[dict[str, Column], np.ndarray]:
    with (data_dir / "california-housing" / "housing.csv").open() as file:
        rows = list(csv.DictReader(file))
    rows = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))[:3000]]
    random = np.random.default_rng(1)
    columns: dict[str, Column] = {
        "income": np.array([float(row["median_income"]) for row in rows]),
        "rooms": np.array([float(row["total_bedrooms"] or "nan") for row in rows]),
        "sea": Ragged.from_strings([row["ocean_proximity"] for row in rows]),
        "sold": np.where(random.random(len(rows)) < 0.1, np.nan, random.uniform(6e8, 6.5e8, len(rows))),
    }
    return columns, np.array([float(row["median_house_value"]) for row in rows], np.float32)


@pytest.mark.parametrize("bins", [0, 8])
def test_a_number_with_its_interval(tmp_path: Path, houses: tuple[dict[str, Column], np.ndarray], bins: int) -> None:
    columns, value = houses
    signature = Signature(inputs=HOUSE, target="value", kind="regression")
    steps = [{"step": "numbers", "quantile": True}, {"step": "dates"}, {"step": "categories"}]
    spec = {"kind": "regression", "interval": {"level": 0.9}}
    network = {"name": "mlp", "hidden": [32], "bins": bins, "dropout": 0.1}
    known, new = take(columns, np.arange(1500)), take(columns, np.arange(1500, 3000))
    fitted, features = packed(tmp_path / "m", signature, steps, known, value[:1500], network, spec, {"epochs": 15})
    predictor = load(tmp_path / "m")
    predictor.warm_up()
    np.testing.assert_allclose(predictor.scores(known), fitted.scores(features), atol=0.5)  # dollars
    found = predictor.probabilities(new)
    assert ((found[:, 1] <= value[1500:]) & (value[1500:] <= found[:, 2])).mean() == pytest.approx(0.9, abs=0.035)
    assert np.square(found[:, 0] - value[1500:]).mean() < 0.6 * value[1500:].var()
    records: list[dict[str, Any]] = [
        {"income": 3.5, "rooms": 400, "sea": "INLAND", "sold": "1989-03-01"},
        {"income": 3.5, "sea": "NEAR BAY"},
        {"income": 1e30, "rooms": None, "sea": "nowhere", "sold": None},
    ]
    answers = predictor.predict(records)
    for answer in answers:
        assert list(answer) == ["value", "interval", "level"] and answer["level"] == 0.9
        assert answer["interval"][0] <= answer["value"] <= answer["interval"][1] and np.isfinite(answer["value"])
    assert answers[0]["value"] < answers[1]["value"]  # by the bay is dearer
    again = by_torch(tmp_path / "m").predict(records)
    assert [a["value"] for a in again] == pytest.approx([a["value"] for a in answers], rel=1e-4)
    assert "the number `value`" in (tmp_path / "m" / "README.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"kind": "multilabel", "labels": ["ham", "spam"]}, "do not agree"),
        ({"kind": "classification", "labels": ["ham", "spam", "eggs"]}, "do not agree"),
        ({"kind": "regression"}, "do not agree"),
        ({"kind": "classification", "labels": ["ham", "spam"], "costs": [[0, 1]]}, "costs is no square"),
    ],
)
def test_an_answer_spec_that_does_not_fit_the_signature_is_refused(
    tmp_path: Path, messages: tuple[list[str], np.ndarray], answer: dict[str, Any], said: str
) -> None:
    texts, spam = messages
    signature = Signature(inputs=TEXT, target="kind", kind="classification", labels=("ham", "spam"))
    columns: dict[str, Column] = {"message": Ragged.from_strings(texts[:100])}
    spec = {"kind": "classification", "labels": ["ham", "spam"]}
    packed(tmp_path / "m", signature, [{"step": "ngrams"}], columns, spam[:100], {"name": "ngram"}, spec, {"epochs": 1})
    path = tmp_path / "m" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"answer": answer}))
    with pytest.raises(PackageError, match=said):
        load(tmp_path / "m")
