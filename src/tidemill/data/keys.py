"""Keys: a sample's content as 64 bits, equal whether it came by import or by request.

A content key is a hash of the cleaned inputs (uint8 pixels, float64 numbers, UTF-8 strings) and never of the label.
Splits are assigned by keys, so content decides once and for all where it is judged or trained.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache
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
_KEY = re.compile(r"^[0-9a-f]{16}$")


def mix(values: Keys) -> Keys:
    """A bijection that spreads every bit over all 64 (the finaliser of SplitMix64, Steele, Lea and Flood 2014).

    >>> mix(np.array([1, 2], np.uint64)).tolist()
    [10451216379200822465, 10905525725756348110]
    """
    z = values + _SEED
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    result: Keys = z ^ (z >> np.uint64(31))
    return result


@lru_cache(maxsize=4096)
def salt(text: str) -> np.uint64:
    """A fixed 64-bit number for a name."""
    return np.uint64(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little"))


def content_keys(columns: Columns, signature: Signature) -> Keys:
    """The content key of every row, uint64 ``[n]``.

    Args:
        columns: the cleaned or encoded inputs, all of the signature's fields.
        signature: says which columns count, and in which order.

    >>> from tidemill.data.schema import Field
    >>> s = Signature(inputs=(Field(name="a", type="number"),), target="y", kind="regression")
    >>> a, b = content_keys({"a": np.array([0.0, -0.0])}, s)
    >>> bool(a == b)
    True
    """
    keys = np.full(length(columns), _SEED, np.uint64)
    for field in signature.inputs:
        keys = mix(keys ^ (hash_column(columns[field.name]) + salt(field.name)))
    return keys


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


def hash_strings(column: Ragged) -> Keys:
    """uint64 ``[n]`` from strings; each distinct string is hashed once."""
    if len(column) <= _FEW:
        offsets, values = column.offsets, column.values
        return _digests(values[offsets[i] : offsets[i + 1]].tobytes() for i in range(len(column)))
    words = column.to_arrow().dictionary_encode()
    distinct = _digests(word.encode() for word in words.dictionary.to_pylist())
    hashes: Keys = distinct[words.indices.to_numpy()]
    return hashes


def _digests(rows: Iterable[Any]) -> Keys:
    blake2b = hashlib.blake2b
    joined = b"".join(blake2b(row, digest_size=8).digest() for row in rows)
    return np.frombuffer(joined, "<u8").astype(np.uint64, copy=False)


def near_text(column: Ragged) -> Keys:
    """uint64 ``[n]``, equal for texts that differ only in case, white space, punctuation or Unicode form."""
    text = column.to_arrow()
    plain = pc.utf8_lower(pc.utf8_normalize(text, form="NFKC"))
    plain = pc.replace_substring_regex(plain, r"[\p{P}\p{S}\p{Z}\s]+", "")
    bare = pc.equal(plain, "")  # nothing but signs: then the signs are what was said
    return hash_strings(Ragged.from_arrow(pc.if_else(bare, text, plain)))


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
