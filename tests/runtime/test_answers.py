"""From scores to answers, and from what people write to labels."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import softmax

from tidemill.errors import InputError, PackageError
from tidemill.runtime.answers import answers, parse_label, probabilities

LABELS = ["cat", "dog", "Owl "]
SPEC = {"kind": "classification", "labels": LABELS, "temperature": 2.0}


@given(hnp.arrays(np.float32, (4, 3), elements=st.floats(-1e4, 1e4, width=32)))
def test_probabilities_are_softmax_at_the_temperature(scores: np.ndarray) -> None:
    before = scores.copy()
    got = probabilities(SPEC, scores)
    np.testing.assert_allclose(got, softmax(scores.astype(np.float64) / 2, axis=1), atol=1e-5)
    np.testing.assert_allclose(got.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(scores, before)


def test_an_answer_is_the_likeliest_label_and_all_probabilities() -> None:
    one, two = answers(SPEC, np.array([[0, 4, 0], [9, 0, 0]], np.float32))
    assert one["label"] == "dog" and two["label"] == "cat"
    assert one["score"] == one["scores"]["dog"] == pytest.approx(math.e**2 / (math.e**2 + 2))
    assert list(one["scores"]) == LABELS
    assert answers(SPEC, np.zeros((0, 3), np.float32)) == []


def test_a_regression_answers_with_its_value() -> None:
    spec = {"kind": "regression"}
    scores = np.array([[1.5], [-2.0]], np.float32)
    assert answers(spec, scores) == [{"value": 1.5}, {"value": -2.0}]
    np.testing.assert_array_equal(probabilities(spec, scores), scores)


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"kind": "poetry"},
        {"kind": "classification", "labels": ["one"]},
        {"kind": "classification", "labels": ["a", "a"]},
        {"kind": "classification", "labels": ["a", "b"], "temperature": 0},
        {"kind": "classification", "labels": ["a", "b"], "temperature": float("nan")},
        {"kind": "classification", "labels": ["a", "b"], "temperature": "1"},
        {"kind": "classification", "labels": 3},
        {"kind": "classification", "labels": ["a", 3]},
    ],
)
def test_a_spec_that_makes_no_sense_is_refused(spec) -> None:
    with pytest.raises(PackageError, match="answer spec"):
        answers(spec, np.zeros((1, 2), np.float32))


@pytest.mark.parametrize(
    ("value", "label"), [("cat", "cat"), (" cat ", "cat"), ("CAT", "cat"), ("owl", "Owl "), ("Owl ", "Owl ")]
)
def test_labels_are_found_in_other_spellings(value: str, label: str) -> None:
    assert parse_label(SPEC, value) == label


def test_numeric_labels_may_come_as_numbers() -> None:
    spec = {"kind": "classification", "labels": ["3", "8"]}
    assert parse_label(spec, 8) == parse_label(spec, 8.0) == parse_label(spec, "8") == "8"


@pytest.mark.parametrize(
    ("value", "mend"), [("dgo", "Did you mean 'dog'?"), ("zebra", "The labels are cat, dog"), (None, "The labels")]
)
def test_an_unknown_label_names_the_nearest(value, mend: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_label(SPEC, value, where="row 3")
    assert caught.value.where == "row 3" and mend in (caught.value.mend or "")


def test_a_number_is_a_finite_number() -> None:
    spec = {"kind": "regression"}
    assert parse_label(spec, "2.5") == 2.5
    for value in ("nan", float("inf"), "much", None, True, [1]):
        with pytest.raises(InputError, match="is not a number"):
            parse_label(spec, value)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_scores_that_are_no_numbers_still_give_answers_that_json_can_write(bad: float) -> None:
    """A graph may leave float32 on values unlike all it was trained on; the other rows are answered as ever."""
    specs: dict[str, dict[str, Any]] = {
        "classification": {"kind": "classification", "labels": ["a", "b", "c"], "bias": [0.0, 0.5, -0.5]},
        "multilabel": {"kind": "multilabel", "labels": ["a", "b", "c"], "scale": [2.0] * 3},
        "regression": {"kind": "regression", "interval": {"level": 0.9, "offset": 3e38}},
    }
    for kind, spec in specs.items():
        fine = np.array([[1.0, 2.0, 3.0]], np.float32)
        for broken in ([[bad] * 3], [[1.0, bad, 2.0]]):
            found = answers(spec, np.concatenate([fine, np.array(broken, np.float32)]))
            json.dumps(found, allow_nan=False)
            assert found[0] == answers(spec, fine)[0], kind
            if kind == "classification":
                assert sum(found[1]["scores"].values()) == pytest.approx(1)
