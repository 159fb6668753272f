"""How values are spelled: what counts as missing, as a number, as a date, and when two labels are the same.

Sources use it to tell types, cleaning to convert columns, and requests to convert records, so that the same
spelling means the same value everywhere. All functions work on whole Arrow columns.
"""

from __future__ import annotations

import re
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

MISSING = frozenset({"", "?", "na", "n/a", "#n/a", "<na>", "null", "none", "nan", "nil", "-", "--", "\\n"})
"""Lower-case spellings of a missing value in columns of numbers, dates, categories and labels. In free text only the
empty string is missing: ``none`` may be all that someone said."""

_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_INFINITE = r"(?i)^[+-]?inf(inity)?$"
_DATE = r"^\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?)?$"
_WHOLE = re.compile(r"^([+-]?\d+)\.0+$")
_ZONED = r"^\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:?\d{2})$"
_MISSING_SET = pa.array(
    sorted({"".join(letters) for word in MISSING for letters in product(*({c, c.upper()} for c in word))}),
    pa.large_string(),
)
_UNSEEN = "".join(map(chr, (*range(9), *range(14, 28), 127)))
_NO_TEXT = str.maketrans("", "", _UNSEEN + "\ufeff")
_NO_TEXT_REGEX = r"[\x00-\x08\x0e-\x1b\x7f\x{FEFF}]+"


def strings_of(array: pa.Array) -> pa.Array:
    """Any Arrow column as large strings, whole floats without their ``.0``, booleans as ``true`` and ``false``.

    >>> strings_of(pa.array([3.0, 2.0, None])).to_pylist()
    ['3', '2', None]
    """
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    if pa.types.is_floating(array.type):
        array = array.cast(pa.float64())
        values = array.to_numpy(zero_copy_only=False)
        known = values[np.isfinite(values)]
        if len(known) and np.all(known == np.floor(known)) and np.all(np.abs(known) < 2**53):
            whole = pa.array(np.where(np.isfinite(values), values, 0).astype(np.int64), mask=~np.isfinite(values))
            return whole.cast(pa.large_string())
        array = pa.array(values, mask=np.isnan(values))
    return array.cast(pa.large_string())


def strip(strings: pa.Array) -> pa.Array:
    """Without white space at both ends."""
    return pc.utf8_trim_whitespace(strings)


def untidy(strings: pa.Array) -> Mask | None:
    r"""Which strings hold characters that no text means: NUL and other controls, byte order marks inside.

    White space is none of them. ``None`` when there is nothing of the kind, which a look at the bytes tells.

    >>> untidy(pa.array(["a\x00b", "a b"], pa.large_string())).tolist(), untidy(pa.array(["a"], pa.large_string()))
    ([True, False], None)
    """
    _, offsets, values = strings.buffers()
    if values is None or not len(strings):
        return None
    ends = np.frombuffer(offsets, np.int64)[strings.offset : strings.offset + len(strings) + 1]
    data = np.frombuffer(values, np.uint8)[ends[0] : ends[-1]]
    low = data[data < 32]
    marked = data == 0xEF
    if not (_ODD[low].any() or (data == 127).any() or (marked.any() and _has_mark(data, marked))):
        return None
    found = mask(pc.match_substring_regex(strings, _NO_TEXT_REGEX))
    return found if found.any() else None


_ODD = np.array([chr(code) in _UNSEEN for code in range(32)], bool)


def _has_mark(data: npt.NDArray[np.uint8], first: Mask) -> bool:
    at = np.flatnonzero(first[:-2])
    return bool(((data[at + 1] == 0xBB) & (data[at + 2] == 0xBF)).any())


def tidy(strings: pa.Array) -> pa.Array:
    """Without the characters that :func:`untidy` finds."""
    return pc.replace_substring_regex(strings, _NO_TEXT_REGEX, "")


def tidy_text(text: str) -> str:
    r"""The same for one string, as a request gives it, and without white space at both ends.

    >>> tidy_text("\ufeff tide\x00 ")
    'tide'
    """
    return text.translate(_NO_TEXT).strip()


def mask(array: pa.Array) -> Mask:
    """A boolean Arrow column as NumPy; null is false."""
    result: Mask = array.fill_null(False).to_numpy(zero_copy_only=False)
    return result


def missing(strings: pa.Array) -> Mask:
    """Which stripped strings spell a missing value; null does.

    >>> missing(pa.array(["?", "N/A", "x", None], pa.large_string())).tolist()
    [True, True, False, True]
    """
    return mask(pc.or_kleene(pc.is_null(strings), pc.is_in(strings, value_set=_MISSING_SET)))


def numeric(strings: pa.Array) -> Mask:
    """Which stripped strings are decimal numbers."""
    return mask(pc.match_substring_regex(strings, _NUMBER))


def infinite(strings: pa.Array) -> Mask:
    """Which stripped strings spell an infinity."""
    return mask(pc.match_substring_regex(strings, _INFINITE))


def dates(strings: pa.Array) -> Mask:
    """Which stripped strings are ISO 8601 dates or times."""
    return mask(pc.or_(pc.match_substring_regex(strings, _DATE), pc.match_substring_regex(strings, _ZONED)))


def plain_numbers(strings: pa.Array) -> Floats | None:
    """float64 ``[n]`` when every string is a finite number and nothing else, else ``None``: a fast way to try first.

    >>> plain_numbers(pa.array(["1", "-2.5e3"])).tolist(), plain_numbers(pa.array(["1", " 2"]))
    ([1.0, -2500.0], None)
    """
    if strings.null_count or not len(strings):
        return None
    try:
        numbers: Floats = strings.cast(pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        return None
    return numbers if bool(np.isfinite(numbers).all()) else None


def numbers_and_gaps(strings: pa.Array) -> Floats | None:
    """The same with NaN for empty and null cells, which are what most gaps in a table are.

    >>> numbers_and_gaps(pa.array(["1", "", None])).tolist(), numbers_and_gaps(pa.array(["1", "?"]))
    ([1.0, nan, nan], None)
    """
    filled = pc.if_else(pc.equal(strings, ""), pa.scalar(None, strings.type), strings)
    try:
        numbers = filled.cast(pa.float64())
    except pa.ArrowInvalid:
        return None
    values = numbers.to_numpy(zero_copy_only=False)
    return values if bool((np.isfinite(values) == mask(pc.is_valid(numbers))).all()) else None


def to_numbers(strings: pa.Array) -> Floats:
    """float64 ``[n]`` from stripped strings; NaN where :func:`numeric` is false. May hold infinities (``1e999``).

    >>> to_numbers(pa.array(["1", "+.5", "2.", "x", None], pa.large_string())).tolist()
    [1.0, 0.5, 2.0, nan, nan]
    """
    kept = pc.if_else(pa.array(numeric(strings)), strings, pa.scalar(None, pa.large_string()))
    plain = pc.replace_substring_regex(kept, r"^\+", "")
    plain = pc.replace_substring_regex(plain, r"\.($|[eE])", r".0\1")
    result: Floats = plain.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return np.asarray(result, np.float64)


def to_seconds(strings: pa.Array) -> Floats:
    """UTC seconds since the epoch, float64 ``[n]``, from stripped ISO strings; NaN for what is no date.

    Times without a zone are UTC.

    >>> to_seconds(pa.array(["1970-01-02", "1970-01-01T01:00:00+01:00", "soon"], pa.large_string())).tolist()
    [86400.0, 0.0, nan]
    """
    seconds = np.full(len(strings), np.nan)
    for pattern, zone in ((_DATE, None), (_ZONED, "UTC")):
        fits = mask(pc.match_substring_regex(strings, pattern))
        if fits.any():
            seconds[fits] = _parsed(strings.filter(pa.array(fits)), zone)
    return seconds


def _parsed(strings: pa.Array, zone: str | None) -> Floats:
    kind = pa.timestamp("us", zone)
    short = pc.replace_substring_regex(strings, r"(\.\d{6})\d+", r"\1")
    try:
        moments = short.cast(kind)
    except pa.ArrowInvalid:  # a 30th of February among many: find the bad ones one by one
        moments = pa.array([_moment(text, kind) for text in short.to_pylist()], kind)
    micros = moments.cast(pa.int64())
    return np.asarray(micros.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64) / 1e6


def _moment(text: str, kind: Any) -> Any:
    try:
        return pa.scalar(text).cast(kind)
    except pa.ArrowInvalid:
        return None


def label_form(label: str) -> str:
    """What two spellings of one label have in common: no case, no padding, single spaces, no final full stop.

    >>> label_form(" >50K.") == label_form(">50k")
    True
    """
    folded = whole_number(" ".join(label.split()).casefold())
    return folded.rstrip(". ") or folded


def whole_number(text: str) -> str:
    """``3.0`` as ``3``, which is what people mean by a label that pandas wrote as a float; other text unchanged.

    >>> whole_number("3.0"), whole_number("3.5")
    ('3', '3.5')
    """
    return _WHOLE.sub(r"\1", text)
