"""Requests to typed columns and back, strictly: what does not fit is refused with row, field and the way to mend it."""

from __future__ import annotations

import base64
import binascii
import datetime
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tidemill.data import images, spelling
from tidemill.data.arrays import Column, Columns, Ragged
from tidemill.data.offers import OFFER, offered_text
from tidemill.data.schema import Field, Signature
from tidemill.errors import InputError, TooLargeError

MAX_TEXT = 64_000_000
"""Bytes of UTF-8 that one text may have, unless said otherwise; a project's own limit is checked before."""
T = TypeVar("T")
_NOTHING = frozenset({""})


def encode(
    signature: Signature,
    records: Sequence[Mapping[str, Any]],
    *,
    max_pixels: int = images.MAX_PIXELS,
    max_text: int = MAX_TEXT,
    logged: bool = False,
) -> dict[str, Column]:
    """Records as the columns that a model's features read.

    Args:
        signature: the model's inputs.
        records: one mapping a row, field name to value. Numbers are numbers; categories and texts are strings;
            dates are ISO 8601 strings or UTC seconds; images are base64 or a data URL of an image file, its bytes,
            nested lists or an array ``[h][w]`` or ``[h][w][c]`` of 0 to 255, or a ``PIL.Image``.
        max_pixels: width times height of one image at most.
        max_text: bytes of UTF-8 of one category or text at most.
        logged: the records are of a log, so that they may hold what is known only once a choice was made.

    Control characters and byte order marks inside of texts are removed, as cleaning does, so that the same content has
    the same key. Their Unicode form is left as it is.

    Raises:
        InputError: the first value that does not fit, with its row and field.
        TooLargeError: an image has too many pixels, or a text is too long.

    >>> s = Signature(inputs=(Field(name="age", type="number"),), target="y", kind="regression")
    >>> encode(s, [{"age": 39}])["age"].tolist()
    [39.0]
    """
    names = {f.name for f in (signature.inputs if logged else signature.asked)}
    given_at_all: set[str] = set()
    for row, record in enumerate(records):
        given: Any = record
        if not isinstance(given, Mapping):
            message = f"the inputs are a {type(given).__name__}, not an object of fields."
            raise InputError(message, where=_where(row, records), mend=f"Give {_form(signature)}.")
        for name in record:
            if name not in names:
                raise _unknown(str(name), signature, _where(row, records))
        given_at_all.update(record)
    return {
        f.name: _nothing(f, len(records))
        if f.optional and f.name not in given_at_all and f.type != "image"
        else _column(f, records, max_pixels, max_text)
        for f in signature.inputs
    }


def _nothing(f: Field, rows: int) -> Column:
    """The column of a field that no record has."""
    if f.type in ("number", "date"):
        return np.full(rows, math.nan)
    return Ragged(np.empty(0, np.uint8), np.zeros(rows + 1, np.int64))


def _where(row: int, records: Sequence[Any], field: str | None = None) -> str | None:
    parts = [f"row {row + 1}"] if len(records) > 1 else []
    if field is not None:
        parts.append(f"field {field!r}")
    return ", ".join(parts) or None


def _form(signature: Signature) -> str:
    return (
        "{" + ", ".join(f'"{f.name}": …' for f in signature.asked[:5]) + (", …}" if len(signature.asked) > 5 else "}")
    )


def _unknown(name: str, signature: Signature, where: str | None) -> InputError:
    if name == signature.target:
        return InputError(f"{name!r} is what the model answers, not an input.", where=where, mend="Leave it out.")
    names = [f.name for f in signature.asked]
    folded = {n.casefold(): n for n in names}
    near = get_close_matches(name.casefold(), list(folded), 1)
    mend = f"Did you mean {folded[near[0]]!r}?" if near else f"The fields are {', '.join(map(repr, names[:20]))}."
    return InputError(f"there is no field {name!r}.", where=where, mend=mend)


def _column(f: Field, records: Sequence[Mapping[str, Any]], max_pixels: int, max_text: int) -> Column:
    if f.type == "image":
        return _images(f, records, max_pixels)
    if f.type in ("number", "date"):
        values = [_converted(_number if f.type == "number" else _date, f, records, row) for row in range(len(records))]
        numbers = np.array([math.nan if v is None else v for v in values], np.float64) + 0.0
        _require(f, records, np.isnan(numbers))
        return numbers
    convert = offered_text if f.name == OFFER and f.role == "offer" else partial(_plain, max_text=max_text)
    texts = [_converted(convert, f, records, row) for row in range(len(records))]
    # str.strip and Arrow's trimming, which cleaning uses, agree on every character: the same content has the same key.
    gone = [t is None or t.lower() in (spelling.MISSING if f.type == "category" else _NOTHING) for t in texts]
    _require(f, records, np.array(gone, bool))
    return Ragged.from_strings([None if g else t for t, g in zip(texts, gone, strict=True)])


def _converted(convert: Callable[[Any], T], f: Field, records: Sequence[Mapping[str, Any]], row: int) -> T:
    try:
        return convert(records[row].get(f.name))
    except InputError as error:
        raise type(error)(error.what, where=_where(row, records, f.name), mend=error.mend) from None


def _require(f: Field, records: Sequence[Mapping[str, Any]], gone: npt.NDArray[np.bool_]) -> None:
    if f.optional or not gone.any():
        return
    row = int(np.argmax(gone))
    said = "has no value" if f.name in records[row] else "is missing"
    raise InputError(f"the field {said}.", where=_where(row, records, f.name), mend=f"Give a {f.type}.")


def _number(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise InputError(f"{value!r:.80} is no number.", mend="Give a number without quotes.")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InputError(f"{value!r:.40} is not finite.", mend="Give a finite number, or null for a missing value.")
    return number


def _date(value: Any) -> float | None:
    if isinstance(value, str):
        text = value.strip()
        quick = spelling.plain_seconds(text)
        if quick is not None:
            return quick
        if text.casefold() in spelling.MISSING:
            return None
        seconds = float(spelling.to_seconds(pa.array([text], pa.large_string()))[0])
        if math.isnan(seconds):
            raise InputError(f"{value!r:.80} is no date.", mend="Give it as 2026-01-31 or 2026-01-31T12:00:00Z.")
        return seconds
    return _number(value)


def _plain(value: Any, max_text: int) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        try:
            size = len(value) if value.isascii() else len(value.encode())
        except UnicodeEncodeError:
            raise InputError("the text holds half a surrogate pair.", mend="Give valid Unicode.") from None
        if size > max_text:
            mend = f"Give at most {max_text:,}, or its parts one by one."
            raise TooLargeError(f"the text has {size:,} bytes.", mend=mend)
        return spelling.tidy_text(value)
    if isinstance(value, bool | int | float | np.integer | np.floating | np.bool_):
        if isinstance(value, float | np.floating) and not math.isfinite(value):
            raise InputError(f"{value!r} is not finite.", mend="Give a text, or null for a missing value.")
        return str(spelling.strings_of(pa.array([value]))[0].as_py())
    raise InputError(f"a {type(value).__name__} is no text.", mend="Give a string.")


def _images(f: Field, records: Sequence[Mapping[str, Any]], max_pixels: int) -> Column:
    shape = f.shape or ()
    pixels = np.zeros((len(records), *shape), np.uint8)
    for row, record in enumerate(records):
        try:
            pixels[row] = _image(record.get(f.name), shape, max_pixels)
        except InputError as error:
            raise type(error)(error.what, where=_where(row, records, f.name), mend=error.mend) from None
    return pixels


def _image(value: Any, shape: tuple[int, ...], max_pixels: int) -> images.Pixels:
    if value is None:
        raise InputError("there is no image.", mend="Give it as base64 of an image file, or as nested lists.")
    if isinstance(value, str):
        return images.decode(_base64(value), shape, max_pixels=max_pixels)
    if isinstance(value, bytes | bytearray | memoryview):
        return images.decode(bytes(value), shape, max_pixels=max_pixels)
    if isinstance(value, list | tuple | np.ndarray):
        return images.from_array(value, shape)
    pillow = sys.modules.get("PIL.Image")
    if pillow is not None and isinstance(value, pillow.Image):
        return images.from_pil(value, shape, max_pixels=max_pixels)
    raise InputError(f"a {type(value).__name__} is no image.", mend="Give base64 of an image file, or nested lists.")


def _base64(text: str) -> bytes:
    body = text
    if text.startswith("data:"):
        head, _, body = text.partition(",")
        if not head.endswith(";base64"):
            raise InputError("the data URL is not in base64.", mend="Give data:image/png;base64,….")
    try:
        return base64.b64decode("".join(body.split()), validate=True)
    except (binascii.Error, ValueError):
        mend = "Encode the bytes of an image file in base64; a path or an address is not read."
        raise InputError("the text is no base64.", mend=mend) from None


def pixels(value: Any) -> int:
    """Width times height of an image file in base64, from its header alone; 0 for anything else.

    >>> pixels("data:image/png;base64,bm90aGluZw=="), pixels(None)
    (0, 0)
    """
    if not isinstance(value, str):
        return 0
    try:
        height, width, _ = images.probe(_base64(value), max_pixels=sys.maxsize)
    except InputError:  # encode says what is wrong with it
        return 0
    return height * width


def decode_row(signature: Signature, columns: Columns, row: int) -> dict[str, Any]:
    """One row as JSON that :func:`encode` takes back: images as data URLs of PNG files, missing values as ``None``."""
    shown: dict[str, Any] = {}
    for f in signature.inputs:
        column = columns[f.name]
        if isinstance(column, Ragged):
            shown[f.name] = column[row] or None
        elif f.type == "image":
            png = images.encode_png(np.asarray(column[row]))
            shown[f.name] = f"data:image/png;base64,{base64.b64encode(png).decode()}"
        else:
            shown[f.name] = _json_number(float(column[row]), f.type)
    return shown


def _json_number(value: float, kind: str) -> Any:
    if math.isnan(value):
        return None
    if kind == "date":
        return datetime.datetime.fromtimestamp(value, datetime.UTC).isoformat().replace("+00:00", "Z")
    return int(value) if value.is_integer() and abs(value) < 2**53 else value
