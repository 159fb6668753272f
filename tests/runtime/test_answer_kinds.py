"""The shape of every kind of answer: one label or none, any number of labels, a number with its interval."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import expit, softmax

from tidemill.errors import InputError, PackageError
from tidemill.metrics import Decisions
from tidemill.runtime.answers import Answers, answers, parse_label, probabilities

ONE = {"kind": "classification", "labels": ["ham", "spam", "unsure"], "temperature": 0.5}
SEVERAL = {"kind": "multilabel", "labels": ["owl", "cat"]}
NUMBER = {"kind": "regression"}
SCORES = hnp.arrays(np.float32, (5, 3), elements=st.floats(-50, 50, width=32))


@settings(max_examples=50, deadline=None)
@given(SCORES, st.lists(st.floats(-5, 5), min_size=3, max_size=3))
def test_a_bias_stands_beside_the_temperature(scores: np.ndarray, bias: list[float]) -> None:
    got = probabilities(ONE | {"bias": bias}, scores)
    np.testing.assert_allclose(got, softmax(scores.astype(np.float64) / 0.5 + bias, axis=1), atol=1e-4)
    assert got.dtype == np.float32


RULES: list[dict[str, Any]] = [
    {},
    {"threshold": 0.6},
    {"abstain_cost": 0.3},
    {"costs": [[0, 5, 1], [1, 0, 1], [2, 2, 0]]},
    {"costs": [[0, 5, 1], [1, 0, 1], [2, 2, 0]], "abstain_cost": 0.4},
    {"costs": [[0, 5, 1], [1, 0, 1], [2, 2, 0]], "threshold": 0.9, "min_precision": 0.8},
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: " ".join(rule) or "plain")
@settings(max_examples=30, deadline=None)
@given(SCORES)
def test_an_answer_is_what_the_rule_decides(rule: dict[str, Any], scores: np.ndarray) -> None:
    spec = ONE | rule
    found, p = answers(spec, scores), probabilities(spec, scores)
    decided = Answers(spec).decide(p)
    np.testing.assert_array_equal(decided, Decisions.of(spec).choose(p))
    guesses = Decisions.of(spec).guess(p)
    for row, (answer, code, guess) in enumerate(zip(found, decided.tolist(), guesses.tolist(), strict=True)):
        assert answer["scores"] == dict(zip(ONE["labels"], p[row].tolist(), strict=True))
        if code < 0:
            assert list(answer) == ["label", "abstained", "guess", "score", "scores"]
            assert answer["label"] is None and answer["abstained"] is True
            assert answer["guess"] == ONE["labels"][guess] and answer["score"] == p[row, guess]
        else:
            assert list(answer) == ["label", "score", "scores"]
            assert answer["label"] == ONE["labels"][code] and answer["score"] == p[row, code]
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert [answers(spec, scores[[row]])[0]["label"] for row in range(5)] == [answer["label"] for answer in found]


def test_costs_may_answer_what_is_not_likeliest() -> None:
    spec = {"kind": "classification", "labels": ["ham", "spam"], "costs": [[0, 10], [1, 0]]}
    [careful] = answers(spec, np.log(np.array([[0.2, 0.8]], np.float32)))
    assert careful["label"] == "ham" and careful["score"] == pytest.approx(0.2)
    [silent] = answers(spec | {"abstain_cost": 0.5}, np.log(np.array([[0.2, 0.8]], np.float32)))
    assert (silent["label"], silent["guess"]) == (None, "ham")
    [sure] = answers(spec | {"abstain_cost": 0.5}, np.log(np.array([[0.01, 0.99]], np.float32)))
    assert sure["label"] == "spam"


@settings(max_examples=50, deadline=None)
@given(
    hnp.arrays(np.float32, (4, 2), elements=st.floats(-(2.0**100), 2.0**100, width=32)),
    st.lists(st.floats(0, 100), min_size=2, max_size=2),
    st.lists(st.floats(-100, 100), min_size=2, max_size=2),
    st.lists(st.floats(0, 1), min_size=2, max_size=2),
)
def test_several_labels_are_those_that_reach_their_threshold(
    scores: np.ndarray, scale: list[float], bias: list[float], thresholds: list[float]
) -> None:
    spec = SEVERAL | {"scale": scale, "bias": bias, "thresholds": thresholds}
    p = probabilities(spec, scores)
    logits = scores.astype(np.float64) * np.array(scale, np.float32) + np.array(bias, np.float32)
    rounding = 1e-6 * (np.abs(scores.astype(np.float64)) * scale + np.abs(bias))
    assert ((expit(logits - rounding) - 1e-6 <= p) & (p <= expit(logits + rounding) + 1e-6)).all()
    reached = (p >= np.array(thresholds, np.float32)).tolist()
    for row, said, answer in zip(p, reached, answers(spec, scores), strict=True):
        assert list(answer) == ["labels", "scores"] and list(answer["scores"]) == ["owl", "cat"]
        assert list(answer["scores"].values()) == row.tolist()
        assert answer["labels"] == [name for name, is_in in zip(["owl", "cat"], said, strict=True) if is_in]
    assert json.loads(json.dumps(answers(spec, scores), allow_nan=False)) == answers(spec, scores)


def test_no_label_at_all_is_an_answer() -> None:
    spec = SEVERAL | {"thresholds": [0.9, 0.2]}
    none, one, both = answers(spec, np.array([[0, -5], [0, 0], [9, 9]], np.float32))
    assert none["labels"] == [] and one["labels"] == ["cat"] and both["labels"] == ["owl", "cat"]
    assert answers(SEVERAL, np.zeros((0, 2), np.float32)) == []
    single = {"kind": "multilabel", "labels": ["only"]}  # one label that holds or not
    assert [answer["labels"] for answer in answers(single, np.array([[1], [-1]], np.float32))] == [["only"], []]


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.float32, (6, 3), elements=st.floats(-1e6, 1e6, width=32)), st.floats(-1e5, 1e5))
def test_a_value_always_lies_inside_its_interval(scores: np.ndarray, offset: float) -> None:
    spec = NUMBER | {"interval": {"level": 0.9, "offset": offset}}
    for raw, answer in zip(scores, answers(spec, scores), strict=True):
        low, high = answer["interval"]
        assert list(answer) == ["value", "interval", "level"] and answer["level"] == 0.9
        assert low <= answer["value"] == raw[0] <= high
        # an end on the wrong side of the value counts as the value
        assert low == pytest.approx(min(min(raw[1], raw[0]) - offset, raw[0]), rel=1e-5, abs=0.1)
        assert high == pytest.approx(max(max(raw[2], raw[0]) + offset, raw[0]), rel=1e-5, abs=0.1)


def test_an_interval_around_a_value_alone_is_even() -> None:
    spec = NUMBER | {"interval": {"level": 0.8, "offset": 1.5}}
    assert answers(spec, np.array([[2.0]], np.float32)) == [{"value": 2.0, "interval": [0.5, 3.5], "level": 0.8}]
    np.testing.assert_array_equal(probabilities(spec, np.array([[2.0]], np.float32)), [[2.0, 0.5, 3.5]])
    np.testing.assert_array_equal(Answers(spec).decide(np.array([[2.0, 0.5, 3.5]])), [2.0])
    # without an interval in the spec, whatever ends the model gives are left out
    assert answers(NUMBER, np.array([[2.0, 1.0, 3.0]], np.float32)) == [{"value": 2.0}]
    assert Answers(NUMBER).widths == (1, 3) and Answers(SEVERAL).widths == (2,) and Answers(NUMBER).classes == 1


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (ONE | {"bias": [0, 0]}, "bias is no list of 3"),
        (ONE | {"bias": [0, 0, float("inf")]}, "bias holds"),
        (ONE | {"costs": [[0, 1], [1, 0]]}, "costs is no square"),
        (ONE | {"costs": [[0, 1, 1], [1, 0], [1, 1, 0]]}, "costs is no list of 3"),
        (ONE | {"costs": [[0, -1, 1], [1, 0, 1], [1, 1, 0]]}, "too small"),
        (ONE | {"costs": [[0] * 3] * 3}, "every answer costs 0"),
        (ONE | {"abstain_cost": -1}, "abstain_cost is -1"),
        (ONE | {"threshold": 1.5}, "threshold is 1.5"),
        (ONE | {"threshold": True}, "threshold is True"),
        (ONE | {"min_precision": "high"}, "min_precision is 'high'"),
        (SEVERAL | {"scale": [1, -1]}, "scale holds"),
        (SEVERAL | {"thresholds": [0.5]}, "thresholds is no list of 2"),
        (SEVERAL | {"thresholds": [0.5, None]}, "thresholds holds"),
        ({"kind": "multilabel", "labels": []}, "1 or more labels"),
        (NUMBER | {"interval": 3}, "interval is no object"),
        (NUMBER | {"interval": {"level": 0, "offset": 1}}, "level is 0"),
        (NUMBER | {"interval": {"level": 0.9, "offset": float("nan")}}, "offset is nan"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_spec_that_makes_no_sense_says_where(spec: dict[str, Any], said: str) -> None:
    with pytest.raises(PackageError, match=said):
        Answers(spec)


@pytest.mark.parametrize(
    ("value", "stored"), [([], []), (["cat", "OWL ", "cat"], ["owl", "cat"]), ("owl", ["owl"]), (("cat",), ["cat"])]
)
def test_stated_labels_come_in_the_order_of_the_spec(value: Any, stored: list[str]) -> None:
    assert parse_label(SEVERAL, value) == stored


@pytest.mark.parametrize(
    ("spec", "value", "said"),
    [
        (SEVERAL, ["cta"], "Did you mean 'cat'"),
        (SEVERAL, ["cat", None], "there is no label None"),
        (ONE, ["ham"], "not one label"),
        (ONE, {"label": "ham"}, "not one label"),
        (NUMBER, "1e999", "is not a number"),
        (NUMBER, 10**400, "is not a number"),
    ],
)
def test_what_is_no_label_is_said(spec: dict[str, Any], value: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_label(spec, value)
