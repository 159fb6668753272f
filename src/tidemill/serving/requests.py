"""What callers may send to the hot routes: JSON bodies, read strictly, each fault named with its place and its mend.

These two bodies are read by hand rather than by pydantic because they are the hot path; :mod:`tidemill.serving.schemas`
describes them for OpenAPI, and a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from tidemill.data.encode import pixels
from tidemill.data.schema import Signature
from tidemill.errors import InputError, TooLargeError
from tidemill.records import Prediction
from tidemill.runtime.statements import kind_of, name, only_fields
from tidemill.serving._base import Served
from tidemill.serving.answering import RequestError
from tidemill.serving.repeats import Once

_PREDICT_FIELDS = ("inputs", "key", "caller")

Writer = Callable[[Served, Sequence[Prediction]], bytes]
"""Writes the body of an answer, on the batcher's thread. It must not fail: others are answered with it."""


@dataclass(frozen=True, slots=True)
class PredictRequest:
    """What a caller wants to be answered, through whichever door.

    Attributes:
        records: the inputs, one mapping a row; their fields are checked against the signature later, in bulk.
        key: the caller's own split key for all rows, or ``None`` for the content of each.
        caller: who asks, or ``None``.
        once: what is the same when the request is sent again, so that its predictions get the same ids; ``None``
            where each request is a new one.
        writer: writes the answer where it is not that of ``/v1/predict``.
        pinned: the model in force shall answer, and none that is only tried out.
    """

    records: list[dict[str, Any]]
    key: str | None
    caller: str | None
    once: Once | None = None
    writer: Writer | None = None
    pinned: bool = False

    def content(self) -> bytes:
        """What it says, however it is written: a form has another boundary each time it is sent.

        Raises:
            InputError: values are nested deeper than can be written again, which no field takes.
        """
        try:
            return orjson.dumps([self.records, self.key, self.caller])
        except orjson.JSONEncodeError as error:
            raise InputError(
                f"the rows cannot be written as JSON: {error}", where="inputs", mend="Give the fields as documented."
            ) from None


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
            400, f"the body is {kind_of(content)}, not an object", where="body", mend='Send an object, {"…": …}.'
        )
    return content


def require_short(records: Sequence[Mapping[str, Any]], signature: Signature, most: int) -> None:
    """Refuse texts of more than *most* bytes, which would hold up everybody else's answers.

    Raises:
        TooLargeError: there is one; the message names its row and field.
    """
    fields = [field.name for field in signature.inputs if field.type != "image"]
    for row, record in enumerate(records, 1):
        for field in fields:
            value = record.get(field)
            if isinstance(value, str) and len(value) > most // 4 and (size := len(value.encode())) > most:
                raise TooLargeError(
                    f"the text takes {size / 1e6:.2f} MB, and {most / 1e6:g} MB are the limit",
                    where=f"row {row}, field {field!r}" if len(records) > 1 else f"field {field!r}",
                    mend="Send less of it, or raise limits.text_mb in tidemill.yaml.",
                )


def require_few_pixels(records: Sequence[Mapping[str, Any]], signature: Signature, each: int, most: int) -> None:
    """Refuse images that have more than *most* pixels together, before one of them is decoded.

    A picture of one colour has a thousand times as many pixels as bytes, so the size of a body says little about the
    work that is in it. Only headers are read, and only where images of *each* pixels could be too much at all.

    Raises:
        TooLargeError: they have.
    """
    fields = [field.name for field in signature.inputs if field.type == "image"]
    if len(records) * len(fields) * each <= most:
        return
    total = sum(pixels(record.get(field)) for record in records for field in fields)
    if total > most:
        raise TooLargeError(
            f"the images of the request have {total / 1e6:.0f} megapixels together, and {most / 1e6:g} are the limit",
            where="inputs",
            mend="Send fewer a request, or smaller ones, or raise serve.max_megapixels in tidemill.yaml.",
        )


def require_rows(rows: int, max_rows: int, where: str) -> None:
    """Refuse more rows than one request may have.

    Raises:
        TooLargeError: there are more than *max_rows*.
    """
    if rows > max_rows:
        raise TooLargeError(
            f"{rows} rows are over the limit of {max_rows}",
            where=where,
            mend="Split them over several requests, or raise serve.max_rows in tidemill.yaml.",
        )


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
    only_fields(content, _PREDICT_FIELDS, "body", "Send inputs, and if you like key and caller.")
    inputs = content.get("inputs")
    records = [inputs] if isinstance(inputs, dict) else inputs
    if not isinstance(records, list):
        what = "inputs are missing" if "inputs" not in content else f"inputs are {kind_of(inputs)}"
        raise InputError(what, where="body", mend='Give {"inputs": {FIELD: VALUE, …}}, or a list of such rows.')
    if not records:
        raise InputError("inputs are an empty list", where="inputs", mend="Give at least one row.")
    require_rows(len(records), max_rows, "inputs")
    for row, record in enumerate(records):
        if not isinstance(record, dict):
            raise InputError(
                f"the row is {kind_of(record)}, not an object", where=f"inputs[{row}]", mend="Give {FIELD: VALUE, …}."
            )
    return PredictRequest(records, name(content, "key", "body"), name(content, "caller", "body"))
