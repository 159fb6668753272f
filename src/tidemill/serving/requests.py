"""What callers may send to the hot routes: JSON bodies, read strictly, each fault named with its place and its mend.

These two bodies are read by hand rather than by pydantic because they are the hot path; :mod:`tidemill.serving.schemas`
describes them for OpenAPI, and a test holds the two together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast, get_args

import orjson

from tidemill.errors import InputError, NotFoundError, TooLargeError
from tidemill.records import Feedback, FeedbackKind, new_id
from tidemill.runtime.answers import parse_label
from tidemill.serving.answering import RequestError, nearest

Known = Callable[[str], bool]

KINDS: tuple[str, ...] = get_args(FeedbackKind)
MAX_NAME = 200
MAX_COMMENT = 10_000
_MAX_LABEL = 1000
_PREDICT_FIELDS = ("inputs", "key", "caller")
_FEEDBACK_FIELDS = ("prediction", "kind", "value", "author", "asked", "key")


@dataclass(frozen=True, slots=True)
class PredictRequest:
    """The body of ``POST /v1/predict``.

    Attributes:
        records: the inputs, one mapping a row; their fields are checked against the signature later, in bulk.
        key: the caller's own split key for all rows, or ``None`` for the content of each.
        caller: who asks, or ``None``.
    """

    records: list[dict[str, Any]]
    key: str | None
    caller: str | None


def parse_json(body: bytes) -> dict[str, Any]:
    """The JSON object in *body*.

    Raises:
        RequestError: 400 when it is not JSON, or not an object; NaN and infinity are not JSON.
    """
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        mend = "Send one JSON object."
        if any(word in body[max(error.pos - 1, 0) : error.pos + 9] for word in (b"NaN", b"Infinity", b"nan", b"inf")):
            mend = "JSON knows neither NaN nor infinity; send null, or leave the field out, for a missing number."
        raise RequestError(400, f"the body is not JSON: {error}", where="body", mend=mend) from None
    if not isinstance(content, dict):
        raise RequestError(
            400, f"the body is {_kind(content)}, not an object", where="body", mend='Send an object, {"…": …}.'
        )
    return content


def parse_predict(body: bytes, max_rows: int) -> PredictRequest:
    """The request in *body*.

    >>> parse_predict(b'{"inputs": {"age": 39}}', max_rows=10).records
    [{'age': 39}]

    Raises:
        RequestError: 400, it is not a JSON object.
        InputError: a field is unknown, missing or of the wrong type.
        TooLargeError: more than *max_rows* rows.
    """
    content = parse_json(body)
    _only(content, _PREDICT_FIELDS, "body", "Send inputs, and if you like key and caller.")
    inputs = content.get("inputs")
    records = [inputs] if isinstance(inputs, dict) else inputs
    if not isinstance(records, list):
        what = "inputs are missing" if "inputs" not in content else f"inputs are {_kind(inputs)}"
        raise InputError(what, where="body", mend='Give {"inputs": {FIELD: VALUE, …}}, or a list of such rows.')
    if not records:
        raise InputError("inputs are an empty list", where="inputs", mend="Give at least one row.")
    if len(records) > max_rows:
        raise TooLargeError(
            f"{len(records)} rows are over the limit of {max_rows}",
            where="inputs",
            mend="Split them over several requests, or raise serve.max_rows in tidemill.yaml.",
        )
    for row, record in enumerate(records):
        if not isinstance(record, dict):
            raise InputError(
                f"the row is {_kind(record)}, not an object", where=f"inputs[{row}]", mend="Give {FIELD: VALUE, …}."
            )
    return PredictRequest(records, name(content, "key", "body"), name(content, "caller", "body"))


def parse_feedback(content: Mapping[str, Any], where: str, answer: Mapping[str, Any], known: Known) -> Feedback:
    """One statement of feedback, its value checked against the answer spec.

    Args:
        content: the JSON object.
        where: its place in the request.
        answer: the spec of the answers that it may correct.
        known: whether a prediction id was given out by this project.

    Raises:
        InputError: a field is unknown, missing, or not what its kind asks for.
        NotFoundError: no prediction has this id.
    """
    _only(content, _FEEDBACK_FIELDS, where, "Send prediction and kind, and if you like value, author, asked and key.")
    subject = _prediction(content.get("prediction"), f"{where}.prediction", known)
    kind = content.get("kind")
    if kind not in KINDS:
        said = "kind is missing" if kind is None else f"kind {str(kind)[:MAX_NAME]!r} is unknown"
        hint = nearest(kind[:MAX_NAME], KINDS) if isinstance(kind, str) else ""
        raise InputError(f"{said}.{hint}", where=f"{where}.kind", mend=f"Use one of {', '.join(KINDS)}.")
    asked = content.get("asked", False)
    if not isinstance(asked, bool):
        raise InputError(f"asked is {_kind(asked)}", where=f"{where}.asked", mend="Give true or false.")
    identifier = new_id(Feedback.prefix)
    return Feedback(
        id=identifier,
        subject=subject,
        kind=cast("FeedbackKind", kind),
        value=_value(kind, content.get("value"), f"{where}.value", answer, known),
        author=name(content, "author", where) or "anonymous",
        asked=asked,
        key=name(content, "key", where) or identifier,
    )


def _value(kind: str, value: Any, where: str, answer: Mapping[str, Any], known: Known) -> Any:
    if kind == "confirmation":
        if value is not None:
            raise InputError(
                "a confirmation carries no value",
                where=where,
                mend="Leave value out, or send a correction to say what is right instead.",
            )
        return None
    if kind == "correction":
        if value is None:
            raise InputError("a correction needs the right value", where=where, mend="Give the right label or number.")
        if not isinstance(value, str | int | float) or (isinstance(value, str) and len(value) > _MAX_LABEL):
            raise InputError(
                f"{_kind(value)} is no label", where=where, mend=f"Give a number, or at most {_MAX_LABEL} characters."
            )
        return parse_label(answer, value, where=where)
    if kind == "comment":
        if not isinstance(value, str) or not value.strip() or len(value) > MAX_COMMENT:
            raise InputError(
                "a comment is a text", where=where, mend=f"Give between 1 and {MAX_COMMENT} characters of text."
            )
        return _text(value, where)
    if kind == "preference":
        if not isinstance(value, dict) or set(value) != {"over"}:
            raise InputError(
                "a preference names the prediction that this one is better than",
                where=where,
                mend='Give {"over": "pred_…"}.',
            )
        return {"over": _prediction(value["over"], f"{where}.over", known)}
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"a {kind} is a number, not {_kind(value)}", where=where, mend="Give a finite number.")
    return float(value)


def _prediction(identifier: Any, where: str, known: Known) -> str:
    if not isinstance(identifier, str):
        what = "the prediction's id is missing" if identifier is None else f"the id is {_kind(identifier)}"
        raise InputError(what, where=where, mend="Give the id that /v1/predict answered, pred_….")
    if not known(identifier):
        raise NotFoundError(
            f"no prediction has the id {identifier[:MAX_NAME]!r}",
            where=where,
            mend="Give an id as /v1/predict of this project answered it, with all of its letters.",
        )
    return identifier


def name(content: Mapping[str, Any], field: str, where: str) -> str | None:
    """A short text such as a key or an author, or ``None`` when it was not given.

    Raises:
        InputError: it is not a text of 1 to 200 characters, or holds control characters.
    """
    value = content.get(field)
    if value is None:
        return None
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME or not value.isprintable():
        raise InputError(
            f"{field} is not a short text",
            where=f"{where}.{field}",
            mend=f"Give 1 to {MAX_NAME} printable characters, or leave it out.",
        )
    return value


def _text(value: str, where: str) -> str:
    if "\x00" in value:  # which PostgreSQL cannot store
        raise InputError("the text holds a NUL character", where=where, mend="Leave the character out.")
    return value


def _only(content: Mapping[str, Any], fields: tuple[str, ...], where: str, mend: str) -> None:
    for field in content:
        if field not in fields:
            raise InputError(
                f"{field[:MAX_NAME]!r} is unknown.{nearest(field[:MAX_NAME], fields)}", where=where, mend=mend
            )


def _kind(value: Any) -> str:
    """What a JSON value is, in words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    names: dict[type, str] = {str: "a text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names[type(value)]
