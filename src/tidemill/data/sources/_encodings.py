"""The encoding of a text file, and of each row in it: files put together from several sources mix them.

A line speaks for UTF-8 when it is valid UTF-8, and for GB 18030 when its bytes pair up to the common characters of
GB 2312 (rows A1-A3 and B0-D7 of the standard, over 99 % of running text); a short line may speak for both, and then
the others decide.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterable, Sequence
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tidemill.data import spelling
from tidemill.data.sources._base import Fault
from tidemill.errors import SourceError

UTF8 = ("utf-8", "utf-8-sig")
REPLACED = "bytes that are no text in this encoding were replaced by \ufffd"
_BOMS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_CONTROLS = bytes(c for c in range(32) if c not in b"\t\n\f\r\x1b")
_CHINESE = re.compile(rb"([\xa1-\xa3\xb0-\xd7][\xa1-\xfe])|[\x81-\xfe][\x40-\xfe]|[\x80-\xff]")
_NO_TEXT = bytes([*range(0x80), 0xFE, 0xFF])
"""FE and FF stand in marks of UTF-16 and in damage; as the letters they are in Latin-1 they hardly occur alone."""
_LINES = 1000
_SURE = 4
"""With as many common characters, a row is Chinese whatever the other foreign rows are."""
_SHARE = 0.1
"""A file with at least this share of lines in UTF-8 is UTF-8 with foreign rows in it."""


def sniff_encoding(sample: bytes, where: str, *, whole: bool = True) -> str:
    """UTF-8, UTF-16 by its mark, GB 18030, Windows-1252 or Latin-1: what most lines of the sample speak for.

    Args:
        sample: the first bytes of the file.
        where: the file's name, for messages.
        whole: the sample is the whole file; else its last line may be cut.

    Raises:
        SourceError: it is no text.
    """
    for mark, name in _BOMS:
        if sample.startswith(mark):
            return name
    controls = len(sample) - len(sample.translate(None, _CONTROLS))
    if controls > len(sample) // 100:
        mend = "Give a CSV or TSV in UTF-8, a JSONL, Parquet, IDX or npz file, or a folder or zip of images."
        raise SourceError("the file is binary and of no known format.", where=where, mend=mend)
    if sample.isascii():
        return "utf-8"
    lines = sample.split(b"\n")
    lines = lines[:-1] if not whole and len(lines) > 1 else lines
    foreign = [line for line in lines if not line.isascii()][:_LINES]
    valid = [line for line in foreign if _is_utf8(line)]
    if len(valid) == len(foreign):
        return "utf-8"
    clear = [line for line in valid if not is_chinese(line)]
    wrong = [line for line in foreign if not _is_utf8(line)]
    if len(clear) >= max(1, _SHARE * (len(clear) + len(wrong))) or all(_mostly_utf8(line) for line in wrong):
        return "utf-8"
    return other_encoding(wrong)


def other_encoding(lines: Iterable[bytes]) -> str:
    """GB 18030, Windows-1252 or Latin-1, for lines that are no UTF-8."""
    lines = list(lines)
    if 2 * sum(is_chinese(line) for line in lines) > len(lines):
        return "gb18030"
    try:
        b"\n".join(lines).decode("cp1252")
    except UnicodeDecodeError:
        return "latin-1"
    return "cp1252"


def is_chinese(line: bytes) -> bool:
    """The bytes beyond ASCII pair up to common characters of GB 2312."""
    found = [bool(match.group(1)) for match in _CHINESE.finditer(line)]
    return bool(found) and sum(found) >= 0.7 * len(found)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _mostly_utf8(data: bytes) -> bool:
    """UTF-8 with a few wrong bytes, such as a character that was cut."""
    text = data.decode("utf-8", "replace")
    wrong = text.count("\ufffd")
    return sum(c > "\x7f" for c in text) - wrong > wrong


class RowDecoder:
    """Decodes rows of bytes; one that is not in the file's encoding is read in another, and stated.

    Args:
        encoding: the file's, as sniffed: UTF-8 or one that leaves ASCII bytes as they are.
        file: its name, for faults.
    """

    def __init__(self, encoding: str, file: str) -> None:
        self.encoding = "utf-8" if encoding in UTF8 else encoding
        self._file = file
        self._other: str | None = None

    def row(self, data: bytes) -> tuple[str, str]:
        """The text of one row, and what was done to it (empty when it is in the file's encoding)."""
        if self.encoding == "utf-8":
            return self._utf8_row(data)
        if _is_utf8(data) and not data.isascii() and not (self.encoding == "gb18030" and is_chinese(data)):
            return data.decode(), f"the row is UTF-8 in a file of {self.encoding}, and was read as such"
        try:
            return data.decode(self.encoding), ""
        except UnicodeDecodeError:
            if self.encoding == "cp1252":
                return data.decode("latin-1"), "the row is no cp1252 and was read as latin-1"
            return data.decode(self.encoding, "replace"), REPLACED

    def _utf8_row(self, data: bytes) -> tuple[str, str]:
        if _is_utf8(data):
            return data.decode(), ""
        if _mostly_utf8(data) or not data.translate(None, _NO_TEXT):
            return data.decode("utf-8", "replace"), REPLACED
        if self._other is None:
            self._other = other_encoding([data])
        likely = "gb18030" if len(_CHINESE.findall(data)) >= _SURE and is_chinese(data) else self._other
        for encoding in (likely, "cp1252"):
            try:
                return data.decode(encoding), f"the row is no UTF-8 and was read as {encoding}"
            except UnicodeDecodeError:
                continue
        return data.decode("latin-1"), "the row is no UTF-8 and was read as latin-1"

    def columns(
        self, cells: Sequence[pa.Array], names: Sequence[str], rows: npt.NDArray[np.int64], faults: list[Fault]
    ) -> dict[str, pa.Array]:
        """Columns of bytes as columns of text, row by row where one is not plain.

        Args:
            cells: large binary ``[n]`` each.
            names: of the columns.
            rows: row numbers ``[n]``, for faults.
            faults: what was done is added here.
        """
        if self.encoding == "utf-8":
            try:
                return {n: c.cast(pa.large_string()) for n, c in zip(names, cells, strict=True)}
            except pa.ArrowInvalid:
                pass
        foreign = [_beyond_ascii(c) for c in cells]
        if self.encoding == "utf-8" and self._other is None:
            self._other = self._choose(cells, foreign)
        decoded: list[dict[int, str]] = [{} for _ in cells]
        for at in np.flatnonzero(np.logical_or.reduce(foreign)).tolist():
            touched = [i for i, mask in enumerate(foreign) if mask[at]]
            text, done = self.row(b"\x00".join(cells[i][at].as_py() for i in touched))
            parts = text.split("\x00")
            if len(parts) != len(touched):  # the value itself holds a zero byte
                parts = [self.row(cells[i][at].as_py())[0] for i in touched]
            for i, part in zip(touched, parts, strict=True):
                decoded[i][at] = part
            if done:
                faults.append(Fault(f"{self._file}, row {rows[at]}", done, f"{names[touched[0]]}: {parts[0][:60]}"))
        return {n: _replaced(c, d) for n, c, d in zip(names, cells, decoded, strict=True)}

    @staticmethod
    def _choose(cells: Sequence[pa.Array], foreign: list[npt.NDArray[np.bool_]]) -> str:
        wrong: list[bytes] = []
        for column, mask in zip(cells, foreign, strict=True):
            values = column.filter(pa.array(mask)).to_pylist()
            wrong += [v for v in values if not _is_utf8(v) and not _mostly_utf8(v)]
        return other_encoding(wrong[:_LINES])


def marked(text: pa.Array, file: str, column: str, rows: npt.NDArray[np.int64]) -> list[Fault]:
    """Faults for the values of a recoded column in which bytes fitted no character."""
    found = np.flatnonzero(spelling.mask(pc.match_substring(text, "\ufffd"))).tolist()
    return [Fault(f"{file}, row {rows[i]}", REPLACED, f"{column}: {text[i].as_py()[:60]}") for i in found]


def _beyond_ascii(cells: pa.Array) -> npt.NDArray[np.bool_]:
    """Which values of a large binary column hold a byte beyond ASCII."""
    if not len(cells):
        return np.zeros(0, np.bool_)
    _, offsets, data = cells.buffers()
    ends = np.frombuffer(offsets, np.int64)[cells.offset : cells.offset + len(cells) + 1]
    if data is None:
        return np.zeros(len(cells), np.bool_)
    high = np.frombuffer(data, np.uint8)[ends[0] : ends[-1]] >= 0x80
    before = np.concatenate([np.zeros(1, np.int64), np.cumsum(high)])
    found: npt.NDArray[np.bool_] = np.diff(before[ends - ends[0]]) > 0
    return found


def _replaced(cells: pa.Array, decoded: dict[int, str]) -> pa.Array:
    if not decoded:
        return cells.cast(pa.large_string())
    mask = np.zeros(len(cells), np.bool_)
    mask[list(decoded)] = True
    plain = pc.if_else(pa.array(mask), pa.scalar(b"", pa.large_binary()), cells).cast(pa.large_string())
    values = pa.array([decoded[i] for i in sorted(decoded)], pa.large_string())
    return pc.replace_with_mask(plain, pa.array(mask), values)


class Recoded(io.RawIOBase):
    """Another encoding read as UTF-8; bytes that fit no character become U+FFFD."""

    def __init__(self, stream: IO[bytes], encoding: str) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)("replace")
        self._rest = b""
        self._done = False

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill *buffer* as far as one read goes."""
        while not self._rest and not self._done:
            data = self._stream.read(1 << 16)
            self._done = not data
            self._rest = self._decoder.decode(data, final=self._done).encode("utf-8", "replace")
        part, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)
