"""How values are spelled: what counts as missing, as a number, as a date, and when two labels are the same.

Sources use it to tell types, cleaning to convert columns, and requests to convert records, so that the same
spelling means the same value everywhere. All functions work on whole Arrow columns.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
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
_NUMBER_ALONE = re.compile(_NUMBER[:-1] + r"\Z", re.ASCII)
_WHOLE = re.compile(r"^([+-]?\d+)\.0+$")
_ZONED = r"^\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:?\d{2})$"
_USUAL = re.compile(r"\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?(?:Z|[+-]\d\d:\d\d)?)?", re.ASCII)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)
_MISSING_SET = pa.array(
    sorted({"".join(letters) for word in MISSING for letters in product(*({c, c.upper()} for c in word))}),
    pa.large_string(),
)
_LONGEST_MISSING = max(map(len, MISSING))
_TRIED = 16
"""So many values are converted before all are."""


def _letters(chosen: bytes) -> Mask:
    table = np.zeros(256, bool)
    table[list(chosen)] = True
    return table


_DIGITS = _letters(b"0123456789")
OPENS_NUMBER = _letters(b"0123456789+-.")
"""Bytes that a number may begin with."""
_OPENS_INFINITE = _letters(b"+-iI")
_OPENS_MISSING = _letters("".join(w[:1] + w[:1].upper() for w in MISSING).encode())
_MAY_OPEN = _letters(bytes([*range(9, 14), *range(28, 33), 0xC2, 0xE1, 0xE2, 0xE3]))
"""What white space of any script begins with in UTF-8."""
_MAY_CLOSE = _letters(bytes([*range(9, 14), *range(28, 33), *range(0x80, 0x8B), 0x9F, 0xA0, 0xA8, 0xA9, 0xAF]))
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
    return array if pa.types.is_large_string(array.type) else array.cast(pa.large_string())


def filled_strings(array: pa.Array) -> pa.Array:
    """The same with an empty string where there is nothing.

    >>> filled_strings(pa.array(["tide", None])).to_pylist()
    ['tide', '']
    """
    strings = strings_of(array)
    return strings.fill_null("") if strings.null_count else strings


def strip(strings: pa.Array) -> pa.Array:
    """Without white space at both ends; the same object where there is none, which a look at the ends tells."""
    ends, data = laid_out(strings)
    if not len(data):
        return strings
    last = len(data) - 1
    doubtful = _MAY_OPEN[data[np.minimum(ends[:-1], last)]] | _MAY_CLOSE[data[np.maximum(ends[1:] - 1, 0)]]
    if not doubtful.any():
        return strings
    if 4 * np.count_nonzero(doubtful) < len(strings):
        some = strings.take(pa.array(np.flatnonzero(doubtful)))
        if pc.utf8_trim_whitespace(some).equals(some):
            return strings
    return pc.utf8_trim_whitespace(strings)


def laid_out(strings: pa.Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """Strings as they lie in memory: where each begins and ends, int64 ``[n + 1]``, and their bytes, uint8.

    >>> ends, data = laid_out(pa.array(["tide", "mill"], pa.large_string())[1:])
    >>> ends.tolist(), bytes(data)
    ([0, 4], b'mill')
    """
    if not pa.types.is_large_string(strings.type):
        strings = strings.cast(pa.large_string())
    _, offsets, values = strings.buffers()
    if not len(strings) or values is None:
        return np.zeros(len(strings) + 1, np.int64), np.empty(0, np.uint8)
    ends = np.frombuffer(offsets, np.int64)[strings.offset : strings.offset + len(strings) + 1]
    return ends - ends[0], np.frombuffer(values, np.uint8)[ends[0] : ends[-1]]


def begins(strings: pa.Array, letters: Mask) -> Mask:
    """Which strings begin with a byte for which *letters*, bool ``[256]``, is true; an empty one or null does not."""
    ends, data = laid_out(strings)
    if not len(data):
        return np.zeros(len(strings), bool)
    return letters[data[np.minimum(ends[:-1], len(data) - 1)]] & (ends[1:] > ends[:-1])


def _among(strings: pa.Array, likely: Mask, test: Callable[[pa.Array], pa.Array]) -> Mask:
    """What a test says of the strings that may pass it; the others do not."""
    count = np.count_nonzero(likely)
    if 2 * count > len(likely):
        return likely & mask(test(strings))
    if count:
        rows = np.flatnonzero(likely)
        likely[rows] = mask(test(strings.take(pa.array(rows))))
    return likely


def untidy(strings: pa.Array) -> Mask | None:
    r"""Which strings hold characters that no text means: NUL and other controls, byte order marks inside.

    White space is none of them. ``None`` when there is nothing of the kind, which a look at the bytes tells.

    >>> untidy(pa.array(["a\x00b", "a b"], pa.large_string())).tolist(), untidy(pa.array(["a"], pa.large_string()))
    ([True, False], None)
    """
    _, data = laid_out(strings)
    if not len(data):
        return None
    lowest, highest = data.min(), data.max()
    marked = data == 0xEF if highest >= 0xEF else None
    odd = lowest < 32 and _ODD[data[data < 32]].any()
    if not (odd or (data == 127).any() or (marked is not None and _has_mark(data, marked))):
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
    known = array.fill_null(False) if array.null_count else array
    result: Mask = known.to_numpy(zero_copy_only=False)
    return result


def empty(strings: pa.Array) -> Mask:
    """Which strings are the empty string; null is not.

    >>> empty(pa.array(["", "x", None], pa.large_string())).tolist()
    [True, False, False]
    """
    nothing: Mask = np.diff(laid_out(strings)[0]) == 0
    return nothing & mask(pc.is_valid(strings)) if strings.null_count else nothing


def missing(strings: pa.Array) -> Mask:
    """Which stripped strings spell a missing value; null does.

    >>> missing(pa.array(["?", "N/A", "x", None], pa.large_string())).tolist()
    [True, True, False, True]
    """
    ends, _ = laid_out(strings)
    sizes = np.diff(ends)
    gone = begins(strings, _OPENS_MISSING) & (sizes <= _LONGEST_MISSING)
    gone = _among(strings, gone, lambda some: pc.is_in(some, value_set=_MISSING_SET))
    gone |= sizes == 0
    if strings.null_count:
        gone |= mask(pc.is_null(strings))
    return gone


def numeric(strings: pa.Array) -> Mask:
    """Which stripped strings are decimal numbers."""
    return _among(strings, begins(strings, OPENS_NUMBER), lambda some: pc.match_substring_regex(some, _NUMBER))


def is_number(text: str) -> bool:
    """The same for one string.

    >>> is_number("-2.5e3"), is_number("2 m")
    (True, False)
    """
    return _NUMBER_ALONE.match(text) is not None


def infinite(strings: pa.Array) -> Mask:
    """Which stripped strings spell an infinity."""
    return _among(strings, begins(strings, _OPENS_INFINITE), lambda some: pc.match_substring_regex(some, _INFINITE))


def dates(strings: pa.Array) -> Mask:
    """Which stripped strings are ISO 8601 dates or times."""

    def test(some: pa.Array) -> pa.Array:
        return pc.or_(pc.match_substring_regex(some, _DATE), pc.match_substring_regex(some, _ZONED))

    likely = begins(strings, _DIGITS)
    quick = _plain_moments(strings) if likely.any() else None
    return _among(strings, likely, test) if quick is None else ~np.isnan(quick)


def numbers_and_gaps(strings: pa.Array) -> tuple[Floats, Mask] | None:
    """float64 ``[n]`` when every string is a finite number or spells a missing value, else ``None``: a fast way to try.

    NaN is where a value is missing, and the mask says so too.

    >>> numbers, gaps = numbers_and_gaps(pa.array(["-2.5e3", "", "NA", None], pa.large_string()))
    >>> numbers.tolist(), gaps.tolist()
    ([-2500.0, nan, nan, nan], [False, True, True, True])
    >>> numbers_and_gaps(pa.array(["1", " 2"], pa.large_string())) is None
    True
    """
    head = strings.slice(0, _TRIED)
    if not (begins(head, OPENS_NUMBER) | missing(head)).all():
        return None
    gone = missing(strings)
    gaps = bool(gone.any())
    if not (begins(strings, OPENS_NUMBER) | gone).all():
        return None
    known = pc.if_else(pa.array(gone), pa.scalar(None, strings.type), strings) if gaps else strings
    try:
        # Arrow says of every single value why it is no number, so it is asked for a few first
        known.slice(0, _TRIED).cast(pa.float64())
        numbers = known.cast(pa.float64())
    except pa.ArrowInvalid:
        return None
    values: Floats = numbers.to_numpy(zero_copy_only=False)
    return (values, gone) if bool((np.isfinite(values) | gone).all()) else None


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
    quick = _plain_moments(strings)
    if quick is not None:
        return quick
    seconds = np.full(len(strings), np.nan)
    for pattern, zone in ((_DATE, None), (_ZONED, "UTC")):
        fits = mask(pc.match_substring_regex(strings, pattern))
        if fits.any():
            seconds[fits] = _parsed(strings.filter(pa.array(fits)), zone)
    return seconds


def plain_seconds(text: str) -> float | None:
    """The same for one date in its usual form, a hundred times as fast; ``None`` for any other text, date or not.

    >>> plain_seconds("1970-01-02"), plain_seconds("1970-01-01T01:00:00.5+01:00"), plain_seconds("1970")
    (86400.0, 0.5, None)
    """
    if _USUAL.fullmatch(text) is None:
        return None
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    since = moment - (_EPOCH if moment.tzinfo is not None else _EPOCH.replace(tzinfo=None))
    return (since // _MICROSECOND) / 1e6


def _plain_moments(strings: pa.Array) -> Floats | None:
    """The same where all strings are missing or of a length that leaves Arrow no other form of a moment."""
    ends, _ = laid_out(strings)
    sizes = np.diff(ends)
    gone = missing(strings)
    if not (gone | (sizes == 10) | (sizes == 16) | (sizes == 19)).all():
        return None
    known = pc.if_else(pa.array(gone), pa.scalar(None, strings.type), strings) if gone.any() else strings
    kind = pa.timestamp("us")
    try:
        known.slice(0, _TRIED).cast(kind)
        moments = known.cast(kind)
    except pa.ArrowInvalid:
        return None
    return _seconds(moments)


def _parsed(strings: pa.Array, zone: str | None) -> Floats:
    kind = pa.timestamp("us", zone)
    short = pc.replace_substring_regex(strings, r"(\.\d{6})\d+", r"\1")
    try:
        moments = short.cast(kind)
    except pa.ArrowInvalid:  # a 30th of February among many: find the bad ones one by one
        moments = pa.array([_moment(text, kind) for text in short.to_pylist()], kind)
    return _seconds(moments)


def _seconds(moments: pa.Array) -> Floats:
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
