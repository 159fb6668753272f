"""Keys: a sample's content as 64 bits, equal whether it came by import or by request.

A content key is a hash of the cleaned inputs (uint8 pixels, float64 numbers, UTF-8 strings) and never of the label.
Splits are assigned by keys, so content decides once and for all where it is judged or trained.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tidemill.data.arrays import Column, Columns, Ragged, length
from tidemill.data.schema import Signature
from tidemill.errors import InputError

Keys = npt.NDArray[np.uint64]

_SEED = np.uint64(0x9E3779B97F4A7C15)
_FEW = 64
_SHORT = 128
_MANY, _PROBED = 2048, 512
_RARE = 16
_MASK = 2**64 - 1
_KEY = re.compile(r"^[0-9a-f]{16}$")


def mix(values: Keys) -> Keys:
    """A bijection that spreads every bit over all 64 (the finaliser of SplitMix64, Steele, Lea and Flood 2014).

    >>> mix(np.array([1, 2], np.uint64)).tolist()
    [10451216379200822465, 10905525725756348110]
    """
    z: Keys = values + _SEED
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z


_PLACES = mix(np.arange(1024, dtype=np.uint64))


@lru_cache(maxsize=4096)
def salt(text: str) -> np.uint64:
    """A fixed 64-bit number for a name."""
    return np.uint64(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little"))


def content_keys(columns: Columns, signature: Signature, hashes: Mapping[str, Keys] | None = None) -> Keys:
    """The content key of every row, uint64 ``[n]``.

    Args:
        columns: the cleaned or encoded inputs, all of the signature's fields.
        signature: says which columns count, and in which order.
        hashes: what :func:`hash_columns` says of them, where that is known already.

    >>> from tidemill.data.schema import Field
    >>> s = Signature(inputs=(Field(name="a", type="number"),), target="y", kind="regression")
    >>> a, b = content_keys({"a": np.array([0.0, -0.0])}, s)
    >>> bool(a == b)
    True
    """
    hashes = hashes or hash_columns(columns, signature)
    keys = np.full(length(columns), _SEED, np.uint64)
    for field in signature.inputs:
        keys = mix(keys ^ (hashes[field.name] + salt(field.name)))
    return keys


def hash_columns(columns: Columns, signature: Signature) -> dict[str, Keys]:
    """The hash of every value of the signature's columns."""
    return {field.name: hash_column(columns[field.name]) for field in signature.inputs}


def hash_column(column: Column) -> Keys:
    """uint64 ``[n]``: equal values have equal hashes; NaN equals NaN, and 0.0 equals -0.0."""
    if isinstance(column, Ragged):
        return hash_strings(column)
    if column.ndim > 1:
        rows = np.ascontiguousarray(column).reshape(len(column), -1)
        return _digests(row.data for row in rows)
    values = np.asarray(column, np.float64) + 0.0
    bits = np.where(np.isnan(values), np.nan, values).view(np.uint64)
    return mix(bits)


def once_each(column: Ragged, hashed: Callable[[Ragged], Keys]) -> Keys:
    """The hash of every string, made once for each different one where the first of many repeat one another.

    >>> words = Ragged.from_strings(["ebb", "flood"] * 1000)
    >>> bool((once_each(words, near_text) == near_text(words)).all())
    True
    """
    if len(column) > _MANY:
        strings = column.to_arrow()
        if len(strings.slice(0, _PROBED).unique()) < 0.75 * _PROBED:
            words = strings.dictionary_encode()
            each: Keys = hashed(Ragged.from_arrow(words.dictionary))[words.indices.to_numpy()]
            return each
    return hashed(column)


def hash_strings(column: Ragged) -> Keys:
    """uint64 ``[n]`` from the bytes of strings: the mixed sum of their 8-byte words, each mixed with its place.

    The same whether strings come one at a time, as requests do, or by the thousand.

    >>> words = Ragged.from_strings(["tide", "the mill and the tide", ""] * 30)
    >>> bool((hash_strings(words)[:3] == hash_strings(words.take(np.arange(3)))).all())
    True
    """
    offsets, values = column.offsets, column.values
    if not len(values):
        return np.full(len(column), _word_hash(b""), np.uint64)
    if len(offsets) <= _FEW and offsets[-1] - offsets[0] <= _SHORT:
        return np.array([_word_hash(values[a:b].tobytes()) for a, b in pairwise(offsets.tolist())], np.uint64)
    lengths = np.diff(offsets)
    padded = np.zeros(len(values) + 8, np.uint8)
    padded[: len(values)] = values
    at_any_byte = np.ndarray((len(values) + 1,), "<u8", padded.data, 0, (1,))
    counts = np.minimum((lengths + 7) >> 3, len(_PLACES) + 1).astype(np.uint16)
    order = np.argsort(counts, kind="stable")[::-1]  # the longest first: who has a word at some place is a slice
    begins, unfilled = offsets[:-1][order], ((-lengths[order]) & 7).astype(np.uint64) << np.uint64(3)
    longer = (len(counts) - np.cumsum(np.bincount(counts))).tolist()
    sums = np.zeros(len(counts), np.uint64)
    for place, (n, more) in enumerate(pairwise(longer)):
        if n < _RARE or place == len(_PLACES):
            sums[:n] += _sums(at_any_byte, begins[:n], lengths[order[:n]], place)
            break
        words = at_any_byte[begins[:n] + 8 * place].astype(np.uint64, copy=False)
        words[more:] <<= unfilled[more:n]  # drop the bytes of the next string
        words ^= _PLACES[place]
        sums[:n] += mix(words)
    hashes = np.empty_like(sums)
    hashes[order] = sums
    return mix(hashes ^ lengths.astype(np.uint64))


def _sums(at_any_byte: Keys, begins: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], first: int) -> Keys:
    """Sums over the words of each string from its word *first* on, all at once: for few long ones."""
    counts = ((lengths + 7) >> 3) - first
    ends = np.cumsum(counts)
    place = np.arange(int(ends[-1])) - np.repeat(ends - counts, counts) + first
    words = at_any_byte[np.repeat(begins, counts) + (place << 3)].astype(np.uint64, copy=False)
    words[ends - 1] <<= ((-lengths) & 7).astype(np.uint64) << np.uint64(3)
    words ^= mix(place.astype(np.uint64))
    sums: Keys = np.add.reduceat(mix(words), ends - counts)
    return sums


def _word_hash(text: bytes) -> int:
    """One string's hash by plain integers: for a few short ones faster than the start of NumPy's loops."""
    total = 0
    for place in range(0, len(text), 8):
        word = int.from_bytes(text[place : place + 8], "little") << 8 * max(0, place + 8 - len(text))
        total += _mix_int(word ^ _mix_int(place >> 3))
    return _mix_int((total & _MASK) ^ len(text))


def _mix_int(value: int) -> int:
    """:func:`mix` of one plain integer."""
    z = value + int(_SEED) & _MASK
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & _MASK
    return z ^ z >> 31


def _digests(rows: Iterable[Any]) -> Keys:
    blake2b = hashlib.blake2b
    joined = b"".join(blake2b(row, digest_size=8).digest() for row in rows)
    return np.frombuffer(joined, "<u8").astype(np.uint64, copy=False)


def near_text(column: Ragged) -> Keys:
    """uint64 ``[n]``, equal for texts that differ only in case, white space, punctuation or Unicode form.

    Pictographs are what was said, so they count, without their variants of colour and style; in texts of nothing but
    signs the signs count.

    >>> a, b, c, d = near_text(Ragged.from_strings(["Good!", "good", "好 👍🏽", "好 👎"])).tolist()
    >>> a == b, c == d
    (True, False)
    """
    other = _not_ascii(column)
    if not other.any():
        return hash_strings(_plain_ascii(column))
    if other.all():
        return hash_strings(_plain_unicode(column))
    keys = np.empty(len(column), np.uint64)
    for rows, plain in ((np.flatnonzero(~other), _plain_ascii), (np.flatnonzero(other), _plain_unicode)):
        keys[rows] = hash_strings(plain(column.take(rows)))
    return keys


_ALNUM = bytes(code for code in range(128) if chr(code).isalnum())
_SIGNS = bytes(code for code in range(256) if code not in _ALNUM)
_IS_SIGN = bytes(code not in _ALNUM for code in range(256))
_LOWER = bytes(range(256)).lower()
_UNICODE_SIGNS = r"[\p{P}\p{Sc}\p{Sk}\p{Sm}\p{Z}\p{Cc}\p{Cf}\x{FE00}-\x{FE0F}\s]+"


def _not_ascii(column: Ragged) -> npt.NDArray[np.bool_]:
    """Which strings hold a character beyond ASCII."""
    beyond = np.flatnonzero(column.values >= 128)
    result: npt.NDArray[np.bool_] = np.diff(np.searchsorted(beyond, column.offsets)) > 0
    return result


def _plain_ascii(column: Ragged) -> Ragged:
    """Lower-case letters and digits alone, unless there are none. Whole buffers at once: this is the fast way."""
    data = column.values.tobytes()
    signs = np.flatnonzero(np.frombuffer(data.translate(_IS_SIGN), np.bool_))
    offsets = column.offsets - np.searchsorted(signs, column.offsets)
    plain = Ragged(np.frombuffer(data.translate(_LOWER, _SIGNS), np.uint8), offsets)
    return _or_signs(plain, column)


def _plain_unicode(column: Ragged) -> Ragged:
    """The same for any script, in Unicode's form for compatibility (NFKC)."""
    text = pc.utf8_lower(pc.utf8_normalize(column.to_arrow(), form="NFKC"))
    return _or_signs(Ragged.from_arrow(pc.replace_substring_regex(text, _UNICODE_SIGNS, "")), column)


def _or_signs(plain: Ragged, column: Ragged) -> Ragged:
    bare = (np.diff(plain.offsets) == 0) & (np.diff(column.offsets) > 0)
    if not bare.any():
        return plain
    return Ragged.from_arrow(pc.if_else(pa.array(bare), column.to_arrow(), plain.to_arrow()))


def key_text(key: int | np.uint64) -> str:
    """16 hexadecimal digits.

    >>> key_text(255)
    '00000000000000ff'
    """
    return f"{int(key):016x}"


def key_int(text: str) -> int:
    """The key that :func:`key_text` wrote.

    Raises:
        InputError: it is no key.
    """
    if not _KEY.match(text):
        raise InputError(f"{text!r:.60} is no key.", mend="A key has 16 hexadecimal digits.")
    return int(text, 16)


def key_array(texts: Iterable[str]) -> Keys:
    """uint64 ``[n]`` from keys as text."""
    return np.array([key_int(t) for t in texts], np.uint64)


def strings_key(values: pa.Array) -> Keys:
    """uint64 ``[n]`` from the values of a split key's column (a user, a speaker, a document)."""
    return mix(hash_strings(Ragged.from_arrow(values)) ^ salt("split key"))
