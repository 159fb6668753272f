"""The OpenAPI document: FastAPI's own routes, the hot ones, and the schemas narrowed to this project.

``Inputs`` follows the signature of the model that answers; labels, lists, numbers, intervals and abstentions stand
there only where this project's answers have them. So a client made from the document knows the fields and the labels.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from tidemill.data.offers import OFFER
from tidemill.data.schema import NUMBERS, Field, Signature
from tidemill.runtime.statements import MAX_NAME, NAME
from tidemill.serving.access import need_of
from tidemill.serving.examples import answered, row, stated, tensors
from tidemill.serving.repeats import KEY
from tidemill.serving.schemas import (
    ErrorAnswer,
    FeedbackAnswer,
    FeedbackBody,
    InferAnswer,
    InferBody,
    PredictBody,
    Predictions,
    ProtocolError,
)

SHOWN_LABELS = 50
"""Labels up to which the page shows a made-up answer with the probability of each."""
MOST_BYTES = 10**15
"""Bytes that a header may say that a body has; far more than one can have."""
MOST_LABELS = 1000
"""Labels that the document names one by one; where there are more, any text may stand."""

_MEANINGS = {
    400: "not JSON, or no proper HTTP request",
    401: "there is no token, or none that is valid",
    403: "addressed to a foreign host, sent by a foreign page, or the token lacks the scope",
    404: "no record has this id",
    408: "the body did not arrive in time",
    409: "the same key with another body",
    413: "the body, an image or the number of rows is over its limit",
    415: "the body is declared as what is not taken here",
    422: "a field is unknown, missing or wrong",
    429: "too many requests by this token or address; try again after Retry-After",
    500: "a fault of the server, with its id in the log",
    503: "not ready, overloaded, or the disk failed; try again after Retry-After",
}
_OFFERED: dict[str, Any] = {
    "description": "what may be chosen: names, or objects with a name and features; all actions unless given",
    "anyOf": [
        {"type": "array", "minItems": 1, "items": {"anyOf": [{"type": "string"}, {"type": "object"}]}},
        {"type": "null"},
    ],
}
_DATES = [{"type": "string", "format": "date"}, {"type": "string", "format": "date-time"}]
_HOT = (400, 401, 403, 408, 413, 415, 422, 429, 500, 503)
_PREDICT = (*_HOT, 409)
BULK = "/v1/feedback/bulk"
INFER_PATHS = ("/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer")


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route, as FastAPI takes them.

    >>> errors(404)[404]["description"]
    'no record has this id'
    """
    return {
        status: {"model": ErrorAnswer, "description": _MEANINGS[status]} for status in sorted({403, 500, *statuses})
    }


def protocol_errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route of the Open Inference Protocol, as FastAPI takes them.

    >>> protocol_errors(404)[404]["model"].__name__
    'ProtocolError'
    """
    return {status: {**said, "model": ProtocolError} for status, said in errors(*statuses).items()}


def describe(
    api: FastAPI,
    signature: Signature | None,
    answer: Mapping[str, Any] | None,
    labels: Iterable[str],
    *,
    max_rows: int,
    text_mb: float,
    closed: bool = False,
) -> dict[str, Any]:
    """The OpenAPI document of the whole service.

    Args:
        api: whose own routes are in it.
        signature: of the inputs, or ``None`` while nothing has been prepared.
        answer: the answer spec of the model that serves, or of the task while there is none; ``None`` with *signature*.
        labels: those that feedback may name.
        max_rows: how many rows or statements one request may hold.
        text_mb: how long one text may be.
        closed: whether callers have to show a token.
    """
    document = get_openapi(title=api.title, version=api.version, description=api.description, routes=api.routes)
    bodies = (
        PredictBody,
        Predictions,
        FeedbackBody,
        FeedbackAnswer,
        InferBody,
        InferAnswer,
        ErrorAnswer,
        ProtocolError,
    )
    _, made = models_json_schema([(body, "validation") for body in bodies], ref_template="#/components/schemas/{model}")
    schemas = document["components"]["schemas"]
    schemas.update(made["$defs"])
    predicted = told = inferred = None
    if signature is not None and answer is not None:
        schemas["Inputs"] = inputs_schema(signature, text_mb)
        _narrow_answers(schemas, answer)
        schemas["Correction"]["properties"]["value"] = correction_schema(answer["kind"], list(labels))
        few = len(answer.get("labels", ())) <= SHOWN_LABELS
        predicted = ({"inputs": row(signature)}, answered(answer) if few else None)
        told = (stated(answer), None)
        inferred = ({"inputs": tensors(signature)}, None)
    for option in schemas["PredictBody"]["properties"]["inputs"]["anyOf"]:
        if option.get("type") == "array":
            option["maxItems"] = max_rows
    schemas["Statements"]["properties"]["feedback"]["maxItems"] = max_rows
    hot = {
        "/v1/predict": {
            "post": _operation("predict", "Predict", "PredictBody", {200: "Predictions"}, _PREDICT, predicted)
        },
        "/v1/feedback": {
            "post": _operation(
                "feedback",
                "Say whether a prediction was right",
                "FeedbackBody",
                {201: "FeedbackAnswer", 200: "FeedbackAnswer"},
                (*_HOT, 404, 409),
                told,
            )
        },
    }
    hot["/v1/predict"]["post"]["requestBody"]["content"] |= form_content(signature)
    hot[BULK] = {"post": _bulk()}
    for path in INFER_PATHS:
        hot[path] = {"post": _inference(path, inferred if path == INFER_PATHS[0] else None)}
    header = {"type": "string", "minLength": 1, "maxLength": MAX_NAME, "pattern": KEY}
    for operations in hot.values():
        operations["post"].setdefault("parameters", []).append(
            {"name": "Idempotency-Key", "in": "header", "required": False, "schema": header}
        )
    for path in document["paths"].values():
        for operation in path.values():
            if "requestBody" not in operation:
                operation["responses"].pop("422", None)  # FastAPI's own shape, for parameters that none of them has
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    document["paths"] = {**hot, **document["paths"]}
    if closed:
        _close(document)
    return document


def _close(document: dict[str, Any]) -> None:
    """Say of each operation which scope its token must have."""
    said = "A token from `tidemill token new`; the roles are its scopes, and `admin` opens everything."
    document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer", "description": said}}
    for path, operations in document["paths"].items():
        need = need_of(path)
        for operation in operations.values():
            if need != "open":
                operation["security"] = [{"token": [] if need in ("any", "page") else [need]}]


_DONE = {
    "Predictions": "the predictions are on disk",
    "FeedbackAnswer": "committed (201), or the first result again (200)",
    "InferAnswer": "the predictions are on disk",
}


def _inference(path: str, shown: tuple[Any, Any] | None) -> dict[str, Any]:
    """Inference by the Open Inference Protocol, whose bodies may be followed by tensors as bytes."""
    versioned = "{version}" in path
    summary = "Predict by tensors" + (", with the version that is meant" if versioned else "")
    identifier = "infer_version" if versioned else "infer"
    made = _operation(identifier, summary, "InferBody", {200: "InferAnswer"}, (*_PREDICT, 404), shown, "ProtocolError")
    made["tags"] = ["open inference protocol"]
    behind = {"schema": {"type": "string", "format": "binary"}}
    made["requestBody"]["content"]["application/octet-stream"] = behind
    made["responses"]["200"]["content"]["application/octet-stream"] = behind
    names = re.findall(r"\{(\w+)\}", path)
    made["parameters"] = [{"name": n, "in": "path", "required": True, "schema": {"type": "string"}} for n in names]
    length = {"type": "integer", "minimum": 0, "maximum": MOST_BYTES}
    made["parameters"].append(
        {"name": "Inference-Header-Content-Length", "in": "header", "required": False, "schema": length}
    )
    return made


def _bulk() -> dict[str, Any]:
    """The bulk door of feedback: what it takes and what it answers are lines, of which JSON Schema knows nothing."""
    failures = (400, 401, 403, 408, 415, 422, 429, 500, 503)
    made = _operation("feedback_bulk", "Say it of many", "FeedbackBody", {200: "FeedbackAnswer"}, failures, None)
    statements = "one statement a line, each as /v1/feedback takes it"
    answers = "a line for each, in their order: what /v1/feedback answers, or its error, with the number of the line"
    lines = "application/x-ndjson"
    made["requestBody"]["content"] = {lines: {"schema": {"type": "string", "description": statements}}}
    made["responses"]["200"] = {
        "description": "what became of each line; what is answered is committed",
        "content": {lines: {"schema": {"type": "string", "description": answers}}},
    }
    return made


def form_content(signature: Signature | None) -> dict[str, Any]:
    """What ``POST /v1/predict`` takes besides JSON: a form, and where an image is all that is needed, its file.

    >>> form_content(None)["multipart/form-data"]["schema"]["type"]
    'object'
    """
    binary = {"type": "string", "format": "binary"}
    said = "a part for each field, a file for an image; several rows by repeating every field"
    form: dict[str, Any] = {"type": "object", "description": said}
    if signature is None:
        return {"multipart/form-data": {"schema": form}}
    plain = {"image": binary, "number": {"type": "number"}, "date": {"anyOf": _DATES}}
    short = {"type": "string", "maxLength": MAX_NAME, "pattern": f"^$|{NAME}"}
    own = {"key": short, "caller": short}
    form["properties"] = own | {f.name: plain.get(f.type, {"type": "string"}) for f in signature.asked}
    form["required"] = [f.name for f in signature.asked if not f.optional]
    form["additionalProperties"] = False
    content: dict[str, Any] = {"multipart/form-data": {"schema": form}}
    if [f.type for f in signature.asked if not f.optional] == ["image"]:
        content["image/*"] = {"schema": binary}
    return content


def _operation(
    identifier: str,
    summary: str,
    body: str,
    answers: dict[int, str],
    failures: Iterable[int],
    shown: tuple[Any, Any] | None,
    error: str = "ErrorAnswer",
) -> dict[str, Any]:
    def content(name: str, example: Any = None) -> dict[str, Any]:
        schema: dict[str, Any] = {"schema": {"$ref": f"#/components/schemas/{name}"}}
        return {"application/json": schema if example is None else {**schema, "example": example}}

    sent, told = shown or (None, None)

    responses = {str(s): {"description": _DONE[name], "content": content(name, told)} for s, name in answers.items()}
    for status in sorted(failures):
        responses[str(status)] = {"description": _MEANINGS[status], "content": content(error)}
    return {
        "operationId": identifier,
        "summary": summary,
        "tags": ["loop"],
        "requestBody": {"required": True, "content": content(body, sent)},
        "responses": responses,
    }


def _narrow_answers(schemas: dict[str, Any], answer: Mapping[str, Any]) -> None:
    """Leave the one kind of answer that this project's model gives, with its labels."""
    kind = answer["kind"]
    used = [{"multilabel": "Labelled", "regression": "Estimated", "choice": "Chosen"}.get(kind, "Classified")]
    if kind == "classification" and any(answer.get(key) is not None for key in ("abstain_cost", "threshold")):
        used.append("Abstained")
    for name in {"Classified", "Abstained", "Labelled", "Estimated", "Chosen"} - set(used):
        del schemas[name]
    items = [{"$ref": f"#/components/schemas/{name}"} for name in used]
    listed = schemas["Predictions"]["properties"]["predictions"]
    listed.pop("anyOf")
    listed |= {"type": "array", "items": items[0] if len(items) == 1 else {"anyOf": items}}
    if kind == "choice":  # its actions may be of the moment
        return
    if kind == "regression":
        estimated = schemas["Estimated"]
        if answer.get("interval") is None:
            del estimated["properties"]["interval"], estimated["properties"]["level"]
        else:
            number = {"type": "number"}
            estimated["properties"]["interval"] = {
                "type": "array", "items": number, "minItems": 2, "maxItems": 2, "description": "from low to high"
            }  # fmt: skip
            estimated["properties"]["level"] = {
                "const": answer["interval"]["level"], "description": "share of true values that such intervals cover"
            }  # fmt: skip
            estimated["required"] += ["interval", "level"]
        return
    labels = list(answer["labels"])
    if len(labels) > MOST_LABELS:
        return
    one = {"type": "string", "enum": labels}
    for name in used:
        properties = schemas[name]["properties"]
        properties["scores"] |= {
            "properties": {label: {"type": "number"} for label in labels},
            "required": labels,
            "additionalProperties": False,
        }
        if name == "Classified":
            properties["label"] |= one
        elif name == "Abstained":
            properties["guess"] |= one
        else:
            properties["labels"] |= {"items": one, "uniqueItems": True}


def correction_schema(kind: str, labels: list[str]) -> dict[str, Any]:
    """What a correction may state.

    >>> correction_schema("multilabel", ["a", "b"])["items"]
    {'type': 'string', 'enum': ['a', 'b']}
    """
    if kind in NUMBERS:
        return {"title": "Value", "type": "number", "description": "the right number"}
    one: dict[str, Any] = {"type": "string"}
    if len(labels) <= MOST_LABELS:
        one["enum"] = labels
    if kind == "classification":
        return {"title": "Value", **one, "description": "the right label"}
    said = "all right labels; [] says that none is"
    return {"title": "Value", "type": "array", "items": one, "uniqueItems": True, "description": said}


def inputs_schema(signature: Signature, text_mb: float = 1) -> dict[str, Any]:
    """The JSON Schema of one row of inputs.

    >>> age = Field(name="age", type="number")
    >>> inputs_schema(Signature(inputs=(age,), target="y", kind="regression"))["properties"]
    {'age': {'type': 'number'}}
    """
    return {
        "title": "Inputs",
        "description": "One row of inputs, by field.",
        "type": "object",
        "properties": {field.name: _field_schema(field, text_mb) for field in signature.asked},
        "required": [field.name for field in signature.asked if not field.optional],
        "additionalProperties": False,
        "example": row(signature),
    }


def _field_schema(field: Field, text_mb: float) -> dict[str, Any]:
    if field.type == "image":
        shape = " × ".join(str(side) for side in field.shape or ())
        return {
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "array"}}],
            "description": "A PNG, JPEG, GIF, BMP, WebP, PPM or TIFF file as base64 or data URL, or nested lists of "
            f"values from 0 to 255, [height][width] or [height][width][channel]; it is resized to {shape}.",
        }
    if field.name == OFFER and field.role == "offer":
        return _OFFERED
    schema: dict[str, Any] = {"type": "number" if field.type == "number" else "string"}
    if field.type == "date":
        missing: list[dict[str, Any]] = [{"type": "null"}] if field.optional else []
        return {"anyOf": [*_DATES, *missing], "description": "date or time, ISO 8601; one without a zone is UTC"}
    if field.type == "text":
        schema["description"] = f"text in any language, at most {text_mb:g} MB of UTF-8"
    return {**schema, "type": [schema["type"], "null"]} if field.optional else schema
