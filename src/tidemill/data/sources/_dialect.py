"""Telling from a sample how a text table is written: encoding, delimiter, quotes, header."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pyarrow as pa

from tidemill.data import spelling
from tidemill.errors import SourceError

SAMPLE_BYTES = 1 << 20
_BOMS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_CONTROLS = bytes(c for c in range(32) if c not in b"\t\n\f\r\x1b")
_DELIMITERS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}
_IDENTIFIER = re.compile(r"^[^\W\d][\w .\-/()%#:?]{0,40}$")


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a text table is written.

    Attributes:
        encoding: a Python codec name.
        delimiter: one character.
        quoted: double quotes enclose fields.
        header: the first row names the columns.
        names: the column names, from the header or ``column_1`` ….
        target: the column that looks like the target.
    """

    encoding: str
    delimiter: str
    quoted: bool
    header: bool
    names: tuple[str, ...]
    target: str

    def notes(self) -> list[str]:
        """What was found out, for people."""
        head = "with a header" if self.header else f"no header, columns named column_1 … column_{len(self.names)}"
        quotes = "fields in double quotes" if self.quoted else "no quotes"
        return [f"text in {self.encoding}, separated by {_DELIMITERS[self.delimiter]}, {quotes}, {head}"]


def sniff(sample: bytes, where: str, *, whole: bool) -> Dialect:
    """The dialect of a text table.

    Args:
        sample: its first bytes.
        where: the file's name, for messages.
        whole: the sample is the whole file.

    Raises:
        SourceError: it is no text, or has no rows.
    """
    encoding = sniff_encoding(sample, where)
    text = sample.decode(encoding, "replace")
    if not whole and "\n" in text:
        text = text[: text.rindex("\n") + 1]
    if not text.strip():
        raise SourceError("the file holds nothing but white space.", where=where, mend="Give at least one row.")
    delimiter, quoted, rows = _layout(text)
    width = Counter(len(r) for r in rows).most_common(1)[0][0]
    body = [r for r in rows if len(r) == width]
    header = len(rows[0]) == width and _has_header(body)
    names = unique_names(body[0]) if header else tuple(f"column_{i + 1}" for i in range(width))
    target = _target(names, body[1:] if header else body, header=header)
    return Dialect(encoding, delimiter, quoted, header, names, target)


def sniff_encoding(sample: bytes, where: str) -> str:
    """UTF-8, UTF-16 by its mark, GB 18030, Windows-1252 or Latin-1: a codec that fits nearly all of the sample."""
    for mark, name in _BOMS:
        if sample.startswith(mark):
            return name
    controls = len(sample) - len(sample.translate(None, _CONTROLS))
    if controls > len(sample) // 100:
        mend = "Give a CSV or TSV in UTF-8, a JSONL, Parquet, IDX or npz file, or a folder or zip of images."
        raise SourceError("the file is binary and of no known format.", where=where, mend=mend)
    high = len(sample) - len(sample.decode("ascii", "ignore"))
    if high == 0:
        return "utf-8"
    wrong = sample.decode("utf-8", "replace").count("\ufffd") - sample.count("\ufffd".encode())
    right = sum(c > "\x7f" for c in sample.decode("utf-8", "ignore"))
    if right and wrong <= max(1 + high // 50, right // 2):  # a few wrong bytes, or a character cut at the sample's end
        return "utf-8"
    chinese = sample.decode("gb18030", "ignore")
    common = sum("\u4e00" <= c <= "\u9fff" for c in chinese)
    # Both bytes of a common Chinese character are high; a lone accent with the next letter would pass for a rare one.
    if high * 0.7 < common * 2 < high * 1.3 and chinese.encode("gb18030")[:64] == sample[:64]:
        return "gb18030"
    try:
        sample.decode("cp1252")
    except UnicodeDecodeError:
        return "latin-1"
    return "cp1252"


def _layout(text: str) -> tuple[str, bool, list[list[str]]]:
    """The delimiter and quoting under which most rows have the same number (above one) of fields."""
    best: tuple[float, str, bool, list[list[str]]] | None = None
    for delimiter in _DELIMITERS:
        for quoted in (True, False):
            if quoted and not _quotes_fields(text, delimiter):
                continue
            lines = io.StringIO(text, newline="")
            reader = (
                csv.reader(lines, delimiter=delimiter)
                if quoted
                else csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
            )
            try:
                rows = [r for r in islice(reader, 2000) if r]
            except csv.Error:
                continue
            if not rows:
                continue
            width, hits = Counter(len(r) for r in rows).most_common(1)[0]
            score = hits / len(rows) * (1 + 0.01 * min(width, 20)) if width > 1 else 0.2
            # Tab-separated text rarely quotes: marks in it are speech, unless the table falls apart without them.
            needed = 0.02 if best and best[2] and not quoted and delimiter != "\t" else 0.0
            if best is None or score > best[0] + needed or (score >= best[0] and (delimiter, quoted) == ("\t", False)):
                best = (score, delimiter, quoted, rows)
    if best is None:
        return ",", False, [[line] for line in text.splitlines() if line][:2000]
    return best[1], best[2], best[3]


def _quotes_fields(text: str, delimiter: str) -> bool:
    """Fields that begin with a double quote also end with one (a text that merely holds quotes does not)."""
    mark = re.escape(delimiter)
    opened = len(re.findall(rf'(?:^|{mark})\s?"', text, re.MULTILINE))
    closed = len(re.findall(rf'"(?:$|\r|{mark})', text, re.MULTILINE))
    return opened > 0 and closed >= 0.9 * opened


def _has_header(rows: list[list[str]]) -> bool:
    first, body = [cell.strip() for cell in rows[0]], rows[1:200]
    named = [cell.casefold() for cell in first if cell]
    if any(_numeric(cell) for cell in first) or len(set(named)) < len(named) / 2:
        return False
    if not body:
        return all(_IDENTIFIER.match(cell) for cell in first)
    votes = 0.0
    for cell, column in zip(first, zip(*body, strict=True), strict=True):
        values = [v.strip() for v in column]
        if sum(map(_numeric, values)) >= 0.5 * len(values):
            votes += 1
        elif cell in values:
            votes -= 1
        elif len(set(values)) <= max(2, len(values) // 4) or (
            _IDENTIFIER.match(cell) and np.mean([len(v) for v in values]) > 2 * len(cell)
        ):
            votes += 0.5
    return votes > 0 or (votes == 0 and len(body) < 20 and all(_IDENTIFIER.match(cell) for cell in first))


def _numeric(cell: str) -> bool:
    return bool(spelling.numeric(pa.array([cell.strip()], pa.large_string()))[0])


def _target(names: tuple[str, ...], body: list[list[str]], *, header: bool) -> str:
    from tidemill.data.sources._summary import likely_target

    if header or len(names) < 2 or not body:
        return likely_target(list(names)) or names[-1]
    first, last = ([row[i].strip() for row in body] for i in (0, -1))
    wordy = np.mean([len(v) for v in last]) > 24 and len(set(last)) > len(last) / 2
    return names[0] if wordy and len(set(first)) <= len(first) / 2 else names[-1]


def unique_names(cells: list[str]) -> tuple[str, ...]:
    """Header cells as names: nameless ones numbered, repeated ones told apart.

    >>> unique_names(["a", "", "a"])
    ('a', 'column_2', 'a_2')
    """
    names: list[str] = []
    for i, cell in enumerate(cells):
        name = base = cell.strip().strip("\ufeff") or f"column_{i + 1}"
        count = 1
        while name in names:
            count += 1
            name = f"{base}_{count}"
        names.append(name)
    return tuple(names)
