"""The shapes of requests and answers, as OpenAPI describes them.

FastAPI describes its own routes; the hot routes are added here. The schema of ``Inputs`` follows the project's
signature, so that a client made from the document knows the fields.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, ConfigDict, Field, RootModel
from pydantic.json_schema import models_json_schema

from tidemill.data.schema import Field as InputField
from tidemill.data.schema import Signature
from tidemill.runtime.statements import MAX_COMMENT, MAX_NAME

Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME)]


class Strict(BaseModel):
    """A body in which no other field may stand."""

    model_config = ConfigDict(extra="forbid")


class Inputs(RootModel[dict[str, Any]]):
    """One row of inputs, by field."""


class PredictBody(Strict):
    """What ``POST /v1/predict`` takes."""

    inputs: Inputs | Annotated[list[Inputs], Field(min_length=1)] = Field(description="one row, or several")
    key: Name | None = Field(default=None, description="your own split key for all rows, such as a user's id")
    caller: Name | None = Field(default=None, description="who asks")


class Classified(BaseModel):
    """One answer: the likeliest label, and the probability of each."""

    id: str = Field(description="give it back with your feedback")
    label: str
    score: float = Field(description="the label's probability")
    scores: dict[str, float]
    audit: bool = Field(description="drawn for the audit: please ask someone for the right answer")


class Estimated(BaseModel):
    """One answer: a number."""

    id: str = Field(description="give it back with your feedback")
    value: float
    audit: bool = Field(description="drawn for the audit: please ask someone for the right answer")


class Predictions(BaseModel):
    """What ``POST /v1/predict`` answers, in the order of the inputs."""

    model: str
    deployment: str
    predictions: list[Classified] | list[Estimated]


class Statement(Strict):
    """What every statement of feedback has."""

    prediction: str = Field(description="the id that /v1/predict answered")
    author: Name | None = Field(default=None, description="who says it; anonymous unless given")
    asked: bool = Field(default=False, description="it answers an audit request, so it may judge models")
    key: Name | None = Field(default=None, description="idempotency key; also as header Idempotency-Key")


class Confirmation(Statement):
    """The answer was right."""

    kind: Literal["confirmation"]
    value: None = None


class Correction(Statement):
    """The answer was wrong, and this is right."""

    kind: Literal["correction"]
    value: str | int | float | bool = Field(description="a label of the project, or for numbers the right number")


class Rating(Statement):
    """How good the answer was, or what came of it, as a number."""

    kind: Literal["rating", "reward"]
    value: float = Field(allow_inf_nan=False)


class Comment(Statement):
    """Free text."""

    kind: Literal["comment"]
    value: str = Field(min_length=1, max_length=MAX_COMMENT)


class Over(Strict):
    """The prediction that was liked less."""

    over: str


class Preference(Statement):
    """The answer was better than another one."""

    kind: Literal["preference"]
    value: Over


AnyStatement = Annotated[Confirmation | Correction | Rating | Comment | Preference, Field(discriminator="kind")]


class Statements(Strict):
    """Several statements at once."""

    feedback: list[AnyStatement] = Field(min_length=1)


class FeedbackBody(RootModel[AnyStatement | Statements]):
    """What ``POST /v1/feedback`` takes: one statement, or a list."""


class Accepted(BaseModel):
    """What became of one statement."""

    feedback: str = Field(description="its id; for a repeated key the id of the first")
    status: Literal["accepted", "repeated", "conflict"]
    superseded: str | None = Field(description="the older statement of the same author that it takes the place of")


class AcceptedList(BaseModel):
    """What became of each statement of a list, in its order."""

    feedback: list[Accepted]


class FeedbackAnswer(RootModel[Accepted | AcceptedList]):
    """What ``POST /v1/feedback`` answers."""


class ErrorBody(BaseModel):
    """What is wrong, where, and how to mend it."""

    code: str = Field(description="a stable name for programs")
    what: str
    where: str | None
    mend: str | None


class ErrorAnswer(BaseModel):
    """Every error has this shape."""

    error: ErrorBody


class Health(BaseModel):
    """The process is alive."""

    status: Literal["ok"]


class Readiness(BaseModel):
    """A model is loaded."""

    status: Literal["ready"]
    model: str
    deployment: str
    detail: str | None = Field(description="why a newer model could not be taken up, if so")


class ListedModel(BaseModel):
    """One model; further fields tell its recipe, metrics and size."""

    model_config = ConfigDict(extra="allow")

    id: str
    object: Literal["model"]
    created: int = Field(description="UTC seconds")
    owned_by: Literal["tidemill"]
    champion: bool = Field(description="it is the one that answers")


class ModelList(BaseModel):
    """The shape of OpenAI's list of models."""

    object: Literal["list"]
    data: list[ListedModel]


_MEANINGS = {
    400: "not JSON, or no proper HTTP request",
    403: "addressed to a foreign host, or sent by a foreign page",
    404: "no record has this id",
    408: "the body did not arrive in time",
    409: "the same key with another body",
    413: "the body, an image or the number of rows is over its limit",
    415: "the body is not declared as JSON",
    422: "a field is unknown, missing or wrong",
    500: "a fault of the server, with its id in the log",
    503: "not ready, overloaded, or the disk failed; try again after Retry-After",
}
_HOT = (400, 403, 408, 413, 415, 422, 500, 503)


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route, as FastAPI takes them.

    >>> errors(404)[404]["description"]
    'no record has this id'
    """
    return {
        status: {"model": ErrorAnswer, "description": _MEANINGS[status]} for status in sorted({403, 500, *statuses})
    }


def describe(api: FastAPI, signature: Signature | None, max_rows: int) -> dict[str, Any]:
    """The OpenAPI document of the whole service.

    Args:
        api: whose own routes are in it.
        signature: of the project's inputs, or ``None`` while nothing has been prepared.
        max_rows: how many rows or statements one request may hold.
    """
    document = get_openapi(title=api.title, version=api.version, description=api.description, routes=api.routes)
    bodies = (PredictBody, Predictions, FeedbackBody, FeedbackAnswer, ErrorAnswer)
    _, made = models_json_schema([(body, "validation") for body in bodies], ref_template="#/components/schemas/{model}")
    schemas = document["components"]["schemas"]
    schemas.update(made["$defs"])
    if signature is not None:
        schemas["Inputs"] = inputs_schema(signature)
    for option in schemas["PredictBody"]["properties"]["inputs"]["anyOf"]:
        if option.get("type") == "array":
            option["maxItems"] = max_rows
    schemas["Statements"]["properties"]["feedback"]["maxItems"] = max_rows
    hot = {
        "/v1/predict": {"post": _operation("predict", "Predict", "PredictBody", {200: "Predictions"}, _HOT)},
        "/v1/feedback": {
            "post": _operation(
                "feedback",
                "Say whether a prediction was right",
                "FeedbackBody",
                {201: "FeedbackAnswer", 200: "FeedbackAnswer"},
                (*_HOT, 404, 409),
            )
        },
    }
    header = {"type": "string", "minLength": 1, "maxLength": MAX_NAME}
    hot["/v1/feedback"]["post"]["parameters"] = [
        {"name": "Idempotency-Key", "in": "header", "required": False, "schema": header}
    ]
    for path in document["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)  # FastAPI's own shape, for parameters that none of them has
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    document["paths"] = {**hot, **document["paths"]}
    return document


_DONE = {
    "Predictions": "the predictions are on disk",
    "FeedbackAnswer": "committed (201), or the first result again (200)",
}


def _operation(
    identifier: str, summary: str, body: str, answers: dict[int, str], failures: Iterable[int]
) -> dict[str, Any]:
    def content(name: str) -> dict[str, Any]:
        return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}

    responses = {str(s): {"description": _DONE[name], "content": content(name)} for s, name in answers.items()}
    for status in sorted(failures):
        responses[str(status)] = {"description": _MEANINGS[status], "content": content("ErrorAnswer")}
    return {
        "operationId": identifier,
        "summary": summary,
        "tags": ["loop"],
        "requestBody": {"required": True, "content": content(body)},
        "responses": responses,
    }


def inputs_schema(signature: Signature) -> dict[str, Any]:
    """The JSON Schema of one row of inputs.

    >>> age = InputField(name="age", type="number")
    >>> inputs_schema(Signature(inputs=(age,), target="y", kind="regression"))["properties"]
    {'age': {'type': 'number'}}
    """
    return {
        "title": "Inputs",
        "description": "One row of inputs, by field.",
        "type": "object",
        "properties": {field.name: _field_schema(field) for field in signature.inputs},
        "required": [field.name for field in signature.inputs if not field.optional],
        "additionalProperties": False,
    }


def _field_schema(field: InputField) -> dict[str, Any]:
    if field.type == "image":
        shape = " × ".join(str(side) for side in field.shape or ())
        return {
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "array"}}],
            "description": "A PNG, JPEG, GIF, BMP, WebP, PPM or TIFF file as base64 or data URL, or nested lists of "
            f"values from 0 to 255, [height][width] or [height][width][channel]; it is resized to {shape}.",
        }
    if field.type == "date":
        schema: dict[str, Any] = {"type": "string", "description": "date or time, ISO 8601"}
    else:
        schema = {"type": "number" if field.type == "number" else "string"}
    return {**schema, "type": [schema["type"], "null"]} if field.optional else schema
