"""Bodies are read strictly, and as the OpenAPI document describes them."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pydantic
import pytest

from tidemill.errors import InputError, NotFoundError, TidemillError, TooLargeError
from tidemill.runtime.statements import parse_feedback
from tidemill.serving.requests import parse_json, parse_predict
from tidemill.serving.schemas import FeedbackBody, PredictBody

SPEC = {"kind": "classification", "labels": ["ebb", "flood"], "temperature": 1.0}
IDENTIFIER, OTHER = "pred_known", "pred_other_known"


def feedback(**fields: Any) -> dict[str, Any]:
    return {"prediction": IDENTIFIER, "kind": "confirmation", **fields}


def parse(content: Any) -> Any:
    return parse_feedback(content, "body", SPEC, lambda identifier: identifier in (IDENTIFIER, OTHER))


def episode(**fields: Any) -> dict[str, Any]:
    return {"episode": "game 7", "kind": "reward", "value": 1, **fields}


GOOD_FEEDBACK = [
    feedback(),
    feedback(value=None, author="Ada", asked=True, key="k1"),
    feedback(kind="correction", value="ebb"),
    feedback(kind="rating", value=4),
    feedback(kind="reward", value=-0.5),
    feedback(kind="comment", value="die Flut kam später\n潮"),
    feedback(kind="preference", value={"over": OTHER}),
    episode(),
    episode(predictions=[IDENTIFIER, OTHER], author="Ada", key="k2", asked=False),
    episode(kind="rating", value=0.5, predictions=None),
    episode(kind="comment", value="lost at the end", predictions=[]),
]
BAD_FEEDBACK = [
    ({}, "prediction"),
    (feedback(prediction=7), "prediction"),
    (feedback(kind="agree"), "kind"),
    (feedback(kind=["confirmation"]), "kind"),
    (feedback(value="ebb"), "value"),
    (feedback(kind="correction"), "value"),
    (feedback(kind="correction", value={"ebb": 1}), "value"),
    (feedback(kind="rating", value="5"), "value"),
    (feedback(kind="rating", value=True), "value"),
    (feedback(kind="rating"), "value"),
    (feedback(kind="comment", value=""), "value"),
    (feedback(kind="comment", value="x" * 10_001), "value"),
    (feedback(kind="preference", value=IDENTIFIER), "value"),
    (feedback(kind="preference", value={"over": IDENTIFIER, "by": 2}), "value"),
    (feedback(author=""), "author"),
    (feedback(author="x" * 201), "author"),
    (feedback(author=3), "author"),
    (feedback(asked="yes"), "asked"),
    (feedback(asked=1), "asked"),
    (feedback(key=1), "key"),
    (feedback(autor="Ada"), "body"),
    (feedback(predictions=[OTHER]), "predictions"),
    (feedback(episode="game 7"), "body"),
    (episode(episode=""), "episode"),
    (episode(episode=None), "episode"),
    (episode(episode="a" * 201), "episode"),
    (episode(kind="correction", value="ebb"), "kind"),
    (episode(kind="preference", value={"over": OTHER}), "kind"),
    (episode(asked=True), "asked"),
    (episode(value="good"), "value"),
    (episode(predictions=IDENTIFIER), "predictions"),
    (episode(predictions=[7]), "predictions[0]"),
    (episode(predictions=[IDENTIFIER] * 1001), "predictions"),
]


@pytest.mark.parametrize("content", GOOD_FEEDBACK)
def test_good_feedback_is_taken_and_is_described(content: dict[str, Any]) -> None:
    statement = parse(content)
    about = "episode:game 7" if "episode" in content else IDENTIFIER
    if content["kind"] == "preference":
        about = f"pair:{IDENTIFIER}:{OTHER}"
    assert (statement.subject, statement.kind) == (about, content["kind"])
    assert statement.author == content.get("author", "anonymous")
    assert statement.key == content.get("key", statement.id)
    FeedbackBody.model_validate_json(json.dumps(content), strict=True)


@pytest.mark.parametrize(("content", "place"), BAD_FEEDBACK)
def test_bad_feedback_is_refused_with_its_place_and_is_not_described(content: dict[str, Any], place: str) -> None:
    with pytest.raises(InputError) as refused:
        parse(content)
    assert place in (refused.value.where or "")
    assert refused.value.mend
    with pytest.raises(pydantic.ValidationError):
        FeedbackBody.model_validate_json(json.dumps(content), strict=True)


def test_a_wrong_word_is_answered_with_the_nearest_right_one() -> None:
    for content, right in [
        (feedback(autor="Ada"), "author"),
        (feedback(kind="corection", value="ebb"), "correction"),
        (feedback(kind="correction", value="flod"), "flood"),
    ]:
        with pytest.raises(InputError) as refused:
            parse(content)
        assert right in str(refused.value)


def test_feedback_for_an_unknown_prediction_is_not_found() -> None:
    for content in (feedback(prediction="pred_other"), feedback(kind="preference", value={"over": "pred_other"})):
        with pytest.raises(NotFoundError, match="pred_other") as refused:
            parse(content)
        assert "/v1/predict" in (refused.value.mend or "")


def test_a_pair_is_the_same_whoever_is_named_first() -> None:
    one = parse(feedback(kind="preference", value={"over": OTHER}))
    back = parse(feedback(prediction=OTHER, kind="preference", value={"over": IDENTIFIER}))
    assert one.subject == back.subject == f"pair:{IDENTIFIER}:{OTHER}"
    assert (one.predictions, back.predictions) == ((IDENTIFIER, OTHER), (OTHER, IDENTIFIER))
    with pytest.raises(InputError, match="better than itself"):
        parse(feedback(kind="preference", value={"over": IDENTIFIER}))


def test_an_episode_is_known_by_its_name_and_names_each_prediction_once() -> None:
    said = parse(episode(predictions=[OTHER, IDENTIFIER, OTHER]))
    assert (said.subject, said.predictions) == ("episode:game 7", (OTHER, IDENTIFIER))
    with pytest.raises(NotFoundError, match="pred_unknown") as refused:
        parse(episode(predictions=[IDENTIFIER, "pred_unknown"]))
    assert refused.value.where == "body.predictions[1]"


def test_control_characters_are_refused() -> None:
    for content in (feedback(author="a\x00"), feedback(key="a\nb"), feedback(kind="comment", value="a\x00b")):
        with pytest.raises(InputError):
            parse(content)


GOOD_PREDICT = [{"inputs": {"a": 1}}, {"inputs": [{"a": 1}, {"a": 2}], "key": "user-7", "caller": "shop"}]
BAD_PREDICT = [
    ({}, "body"),
    ({"inputs": None}, "body"),
    ({"inputs": "a"}, "body"),
    ({"inputs": []}, "inputs"),
    ({"inputs": [{"a": 1}, 2]}, "inputs[1]"),
    ({"inputs": {"a": 1}, "key": ""}, "key"),
    ({"inputs": {"a": 1}, "caller": 5}, "caller"),
    ({"input": {"a": 1}}, "body"),
]


@pytest.mark.parametrize("content", GOOD_PREDICT)
def test_a_good_prediction_request_is_taken_and_is_described(content: dict[str, Any]) -> None:
    request = parse_predict(orjson.dumps(content), max_rows=2)
    assert len(request.records) == (2 if isinstance(content["inputs"], list) else 1)
    assert request.key == content.get("key")
    PredictBody.model_validate_json(json.dumps(content), strict=True)


@pytest.mark.parametrize(("content", "place"), BAD_PREDICT)
def test_a_bad_prediction_request_is_refused_with_its_place(content: dict[str, Any], place: str) -> None:
    with pytest.raises(InputError) as refused:
        parse_predict(orjson.dumps(content), max_rows=2)
    assert place in (refused.value.where or "")
    with pytest.raises(pydantic.ValidationError):
        PredictBody.model_validate_json(json.dumps(content), strict=True)


def test_too_many_rows_are_refused() -> None:
    with pytest.raises(TooLargeError, match="3 rows") as refused:
        parse_predict(orjson.dumps({"inputs": [{}, {}, {}]}), max_rows=2)
    assert "serve.max_rows" in (refused.value.mend or "")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": 1e999}',
        b"\xff",
        b'{"a": "\\ud800"}',
        b"[" * 5000,
        b"[]",
        b"7",
    ],
)
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(TidemillError) as refused:
        parse_json(body)
    assert refused.value.where == "body"
    assert refused.value.mend


def test_numbers_that_json_does_not_know_get_their_own_advice() -> None:
    with pytest.raises(InputError, match="NaN"):
        parse_json(b'{"inputs": {"age": NaN}}')
