"""What the journal holds: predictions, and what the other model of a roll-out would have answered.

A prediction is a line of JSON with its inputs behind it, which are most of it: nobody has to read them to put them into
their column. A shadow is a line ``{"id", "shadow"}``.
"""

from __future__ import annotations

import dataclasses
import operator
from typing import cast

import orjson

from tidemill.errors import InputError
from tidemill.records import JSON, Feedback, Prediction
from tidemill.store.tables import mapping_of

_FIELDS = tuple(field.name for field in dataclasses.fields(Prediction) if field.name != "inputs")
_values = operator.attrgetter(*_FIELDS)
_SHADOW = {"id", "shadow"}


def written(prediction: Prediction) -> bytes:
    """The payload of *prediction*.

    Raises:
        InputError: it holds what JSON cannot, or the character NUL outside its inputs and answer.
    """
    line = _json(dict(zip(_FIELDS, _values(prediction), strict=True)), prediction.id)
    _require_columns(prediction, line)
    return b"%s\n%s" % (line, _json(prediction.inputs, prediction.id))


def written_shadow(identifier: str, shadow: JSON) -> bytes:
    """The payload of what another model would have answered to a prediction.

    Raises:
        InputError: it holds what JSON cannot.
    """
    return _json({"id": identifier, "shadow": shadow}, identifier)


def read(payload: bytes) -> Prediction | JSON:
    """What a payload holds; a prediction's inputs can be written as JSON again, and nothing else.

    Raises:
        TypeError: no prediction that this version knows.
        ValueError: no JSON.
    """
    line, apart, inputs = payload.partition(b"\n")
    fields: JSON = orjson.loads(line)
    if fields.keys() == _SHADOW:
        return fields
    if apart:  # in segments of earlier versions they are within the line
        fields["inputs"] = cast("JSON", orjson.Fragment(inputs))
    return Prediction(**fields)


def require_storable(feedback: Feedback) -> None:
    """Refuse what no table could hold: it must not fail the others of its group.

    Raises:
        InputError: it holds what JSON cannot, or the character NUL outside its value.
    """
    _require_columns(feedback, _json(feedback, feedback.id))


def _require_columns(record: Prediction | Feedback, payload: bytes) -> None:
    # Within JSON it may stand; in a column of its own it could not be stored, and what is journaled must be.
    if b"\\u0000" in payload and (name := mapping_of(type(record)).refused(record)) is not None:
        raise InputError("the character NUL stands in it", where=name, mend="Leave it out.")


def _json(content: object, identifier: str) -> bytes:
    try:
        return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError as error:
        raise InputError(f"{identifier} holds a value that is not JSON ({error})") from error
