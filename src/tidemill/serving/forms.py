"""Rows that come as a form or as a bare image file, the way browsers and ``curl -F`` send them.

Other than JSON, a page of another site may send forms without asking first; but browsers name that page in ``Origin``,
and the guard has refused it before anything is read here.
"""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from tidemill.data.schema import Field, Signature
from tidemill.errors import InputError, TooLargeError
from tidemill.runtime.statements import name
from tidemill.serving.answering import RequestError
from tidemill.serving.requests import PredictRequest, require_rows

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

JSON, FORM, IMAGE = "application/json", "multipart/form-data", "image/"
MOST_PARTS = 1000
"""Parts of one form: reading them takes much longer than reading as many values of JSON."""
MOST_HEADERS = 8
_OWN = ("key", "caller")
_log = logging.getLogger("python_multipart")
_log.setLevel(logging.CRITICAL)  # it warns of forms that are none; their senders are told, and nobody else need know
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def declared(content_type: bytes | None) -> str:
    """The type of a body, in lower case and without parameters.

    >>> declared(b"Multipart/Form-Data; boundary=x"), declared(None)
    ('multipart/form-data', '')
    """
    return (content_type or b"")[:200].decode("latin-1").partition(";")[0].strip().lower()


def require_readable(content_type: bytes | None) -> None:
    """Refuse what no reader below takes.

    Raises:
        RequestError: 415.
    """
    kind = declared(content_type)
    if kind not in (JSON, FORM) and not kind.startswith(IMAGE):
        raise RequestError(
            415,
            f"the body is declared as {kind!r}" if kind else "the body's type is not declared",
            where="Content-Type header",
            mend="Send JSON, declared as application/json; or a form (multipart/form-data); or an image.",
        )


@dataclass(slots=True)
class _Part:
    """One part of a form: a field's name, and its value as it came."""

    headers: dict[bytes, bytes] = field(default_factory=dict)
    pieces: list[bytes] = field(default_factory=list)

    @property
    def content(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def is_file(self) -> bool:
        """Whether it came from a file; a value that was typed has neither a file's name nor a type but text."""
        kind = declared(self.headers.get(b"content-type"))
        return b"filename" in self._options or bool(kind and not kind.startswith("text/"))

    @property
    def name(self) -> str:
        return self._options.get(b"name", b"").decode("utf-8", "replace")

    @property
    def _options(self) -> Mapping[bytes, bytes]:
        return parse_options_header(self.headers.get(b"content-disposition", b""))[1]


class _Reader:
    """Gathers the parts of a form from the parser's calls."""

    def __init__(self, boundary: bytes) -> None:
        self.parts: list[_Part] = []
        self.ended = False
        self._name = self._value = b""
        calls: MultipartCallbacks = {
            "on_part_begin": self._begin,
            "on_header_field": self._add_name,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_part_data": self._add_data,
            "on_end": self._end,
        }
        self.parser = MultipartParser(boundary, calls, max_header_count=MOST_HEADERS)

    def _begin(self) -> None:
        if len(self.parts) >= MOST_PARTS:
            raise TooLargeError(
                f"the form has more than {MOST_PARTS} parts", where="body", mend="Send several forms, or JSON."
            )
        self.parts.append(_Part())

    def _add_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self.parts[-1].headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1].pieces.append(data[start:end])

    def _end(self) -> None:
        self.ended = True


def _parts(body: bytes, content_type: bytes) -> list[_Part]:
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise _no_form("the Content-Type header names no boundary")
    try:
        reader = _Reader(boundary)
        reader.parser.write(body)
        reader.parser.finalize()
    except FormParserError as error:
        raise _no_form(str(error)) from None
    if not reader.ended:
        raise _no_form("its last boundary is missing")
    return reader.parts


def _no_form(why: str) -> RequestError:
    mend = "Let a library or `curl -F FIELD=VALUE` write it."
    return RequestError(400, f"the body is no multipart form: {why[:200]}", where="body", mend=mend)


def parse_form(body: bytes, content_type: bytes, signature: Signature, max_rows: int) -> PredictRequest:
    """The request in a form: a part for each field, a file for an image; several rows by repeating the fields.

    The parts ``key`` and ``caller`` are those of the request, unless the model has an input of that name.

    Raises:
        RequestError: 400, it is no whole form.
        InputError: a value does not fit its field, or fields come in different numbers.
        TooLargeError: there are too many parts, or more than *max_rows* rows.
    """
    fields = {f.name: f for f in signature.asked}
    values: dict[str, list[Any]] = {}
    own: dict[str, Any] = {}
    for part in _parts(body, content_type):
        called = part.name
        if not called:
            raise _no_form("a part of it has no name")
        if called in _OWN and called not in fields:
            if called in own:
                raise InputError(f"{called} is given twice", where="body", mend="Give it once, for all rows.")
            own[called] = _text(part, called) or None
        else:  # also a field that there is not: it is named together with those that there are
            said = values.setdefault(called, [])
            said.append(_value(fields.get(called), part, f"field {called!r}, value {len(said) + 1}"))
    if not values:
        raise InputError("the form holds no input", where="body", mend=f"The fields are {', '.join(fields)}.")
    rows = max(map(len, values.values()))
    short = next((name for name, given in values.items() if len(given) < rows), None)
    if short is not None:
        raise InputError(
            f"the form has {rows} rows, and of this field {len(values[short])}",
            where=f"field {short!r}",
            mend="Repeat every field as often as there are rows; an empty value says that there is none.",
        )
    require_rows(rows, max_rows, "body")
    records = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    return PredictRequest(records, name(own, "key", "body"), name(own, "caller", "body"))


def parse_image(body: bytes, signature: Signature) -> PredictRequest:
    """The request that a bare image file makes, where an image is all that the model needs.

    Raises:
        InputError: it needs something else.
    """
    needed = [f for f in signature.asked if not f.optional] or list(signature.asked)
    if [f.type for f in needed] != ["image"]:
        raise InputError(
            "a bare image is not what the model takes",
            where="body",
            mend=f"Send a form or JSON with {', '.join(f.name for f in needed[:20])}.",
        )
    return PredictRequest([{needed[0].name: base64.b64encode(body).decode()}], None, None)


def _value(known: Field | None, part: _Part, where: str) -> Any:
    """A part as JSON would have it."""
    if known is not None and known.type == "image" and part.is_file:
        return base64.b64encode(part.content).decode()
    text = _text(part, where)
    if known is not None and known.type == "number":
        return _number(text.strip(), where)
    return text or None


def _number(text: str, where: str) -> int | float | None:
    if not text:
        return None
    if _NUMBER.fullmatch(text) is None or len(text) > 400:
        raise InputError(f"{text!r:.80} is no number", where=where, mend="Write it like 3.5, or leave it empty.")
    number = float(text)
    return int(text) if number.is_integer() and abs(number) < 2**53 and text.lstrip("+-").isdigit() else number


def _text(part: _Part, where: str) -> str:
    try:
        return part.content.decode()
    except UnicodeDecodeError:
        raise InputError("the value is not UTF-8 text", where=where, mend="Send UTF-8.") from None
