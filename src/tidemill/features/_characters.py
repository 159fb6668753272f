"""Texts as one array of folded code points, and what kind of character each code point is."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tidemill.data.arrays import Ragged

WORD, ALONE, MARK, SPACE = 1, 2, 4, 8
"""Bits of :func:`kinds`: part of a word, of a script without blanks, a mark on another character, white space."""

BLOCK_ROWS = (1 << 14) - 1
_BLOCK_BYTES = 1 << 17  # of text at once: the arrays of hashes over it stay within the processor's cache
_LAST = 0x110000
_MARKED = ((0x300, 0x12000), (0x16A00, 0x17000), (0x1D100, 0x1D300), (0x1E000, 0x1E900), (0xE0100, 0xE01F0))
_UNSPACED = (
    (0x0E00, 0x0F00),  # Thai, Lao
    (0x1000, 0x10A0),  # Myanmar
    (0x1780, 0x1800),  # Khmer
    (0x3005, 0x3008),
    (0x3040, 0x3100),  # Hiragana, Katakana
    (0x31F0, 0x3200),
    (0x3400, 0x4DC0),
    (0x4E00, 0xA000),  # Han
    (0xF900, 0xFB00),
    (0x20000, 0x32400),
)


@dataclass(frozen=True, slots=True)
class Block:
    """Some texts end to end, a zero before, between and after them.

    Attributes:
        codes: uint8 (all ASCII) or uint32 ``[m]``, Unicode code points after case folding and NFKC.
        wide: uint64 ``[m]``, the same.
        kinds: uint8 ``[m]``, the bits of each, see :func:`kinds`.
        rows: uint64 ``[m]``, the text of each code point; a zero belongs to the text that follows it.
        count: how many texts there are.
    """

    codes: npt.NDArray[Any]
    wide: npt.NDArray[np.uint64]
    kinds: npt.NDArray[np.uint8]
    rows: npt.NDArray[np.uint64]
    count: int


def blocks(column: Ragged, max_chars: int) -> Iterator[Block]:
    """*column* in blocks of about 128 KB, in its order.

    Args:
        column: the texts.
        max_chars: of a longer text only this many characters are read.
    """
    n, start = len(column), 0
    offsets = column.offsets
    arrow = column.to_arrow()
    while start < n:
        stop = int(np.searchsorted(offsets, offsets[start] + _BLOCK_BYTES, "right")) - 1
        stop = min(max(stop, start + 1), start + BLOCK_ROWS, n)
        longest = int((offsets[start + 1 : stop + 1] - offsets[start:stop]).max())
        yield block(arrow.slice(start, stop - start), max_chars if longest > max_chars else None)
        start = stop


def block(texts: pa.LargeStringArray, max_chars: int | None = None) -> Block:
    r"""At least one text as one :class:`Block`.

    >>> b = block(pa.array(["Tide", "MÜHLE"], pa.large_string()))
    >>> "".join(map(chr, b.codes)), b.rows.tolist()
    ('\x00tide\x00mühle\x00', [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1])
    """
    raw = _joined(texts, max_chars)
    if raw.isascii():
        codes: npt.NDArray[Any] = np.frombuffer(raw.lower(), np.uint8)
        kind = np.frombuffer(raw.translate(_ascii_kinds()), np.uint8)
    else:
        # folding may take a composed character apart, so NFKC comes last as well; it leaves what is in order as it is
        text = unicodedata.normalize("NFKC", raw.decode("utf-8"))
        codes = np.frombuffer(unicodedata.normalize("NFKC", text.casefold()).encode("utf-32-le"), np.uint32)
        kind = kinds()[codes]
    zeros = np.flatnonzero(codes == 0)
    rows = np.repeat(np.arange(len(texts), dtype=np.uint64), np.diff(zeros[:-1], append=len(codes)))
    return Block(codes, codes.astype(np.uint64), kind, rows, len(texts))


def _joined(texts: pa.LargeStringArray, max_chars: int | None) -> bytes:
    """The UTF-8 of the texts with a zero before, between and after them, and none within."""
    if max_chars is None:
        together = pa.LargeListArray.from_arrays(pa.array([0, len(texts)], pa.int64()), texts)
        inner: bytes = pc.binary_join(together, pa.scalar("\0", pa.large_string()))[0].as_buffer().to_pybytes()
        joined = b"\0" + inner + b"\0"
        if joined.count(0) == len(texts) + 1:
            return joined
    # rare: a text is too long, or holds a zero of its own
    parts: list[bytes] = [text.as_py()[:max_chars].encode().replace(b"\0", b" ") for text in texts]
    return b"\0".join([b"", *parts, b""])


@functools.cache
def _ascii_kinds() -> bytes:
    return kinds()[:128].tobytes() + bytes(128)


@functools.cache
def kinds() -> npt.NDArray[np.uint8]:
    """The bits of every code point, uint8 ``[0x110000]``.

    >>> table = kinds()
    >>> [int(table[ord(c)]) for c in "a, 磨"]
    [1, 0, 8, 3]
    """
    table = np.zeros(_LAST, np.uint8)
    everything = np.arange(_LAST, dtype=np.uint32).tobytes().decode("utf-32-le", "surrogatepass")
    for pattern, bit in ((r"\w+", WORD), (r"\s+", SPACE)):
        for match in re.finditer(pattern, everything):
            table[match.start() : match.end()] |= bit
    for low, high in _MARKED:  # vowel signs and accents belong to their word, though \w leaves them out
        marks = [code for code in range(low, high) if unicodedata.category(chr(code))[0] == "M"]
        table[marks] |= WORD | MARK
    for low, high in _UNSPACED:
        part = table[low:high]
        part[part & WORD > 0] |= ALONE
    return table
