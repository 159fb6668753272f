"""Telling from a sample how a text table is written: encoding, delimiter, quotes, header."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from dataclasses import dataclass
from itertools import islice

import numpy as np

from tidemill.data import spelling
from tidemill.data.sources._encodings import sniff_encoding
from tidemill.errors import SourceError

SAMPLE_BYTES = 1 << 20
csv.field_size_limit(max(csv.field_size_limit(), SAMPLE_BYTES))  # 128 KB else, less than a text may have
LINES = "\x1f"
"""The delimiter of a file without columns: no text holds it."""
_DELIMITERS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}
_REGULAR = 0.7
"""A file in which fewer lines than this share have one number of fields is no table."""
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
        renamed: names that the header repeats, as they are called here.
    """

    encoding: str
    delimiter: str
    quoted: bool
    header: bool
    names: tuple[str, ...]
    target: str
    renamed: tuple[str, ...] = ()

    def notes(self) -> list[str]:
        """What was found out, for people."""
        if self.delimiter == LINES:
            return [f"text in {self.encoding}, one a line, in the column {self.names[0]!r}"]
        head = "with a header" if self.header else f"no header, columns named column_1 … column_{len(self.names)}"
        quotes = "fields in double quotes" if self.quoted else "no quotes"
        said = [f"text in {self.encoding}, separated by {_DELIMITERS[self.delimiter]}, {quotes}, {head}"]
        if self.renamed:
            said.append(f"names that stand twice in the header are told apart: {', '.join(self.renamed)}")
        return said


def sniff(
    sample: bytes,
    where: str,
    *,
    whole: bool,
    like: tuple[str, ...] | None = None,
    lines: bool = False,
    target: str | None = None,
) -> Dialect:
    """The dialect of a text table.

    Args:
        sample: its first bytes.
        where: the file's name, for messages.
        whole: the sample is the whole file.
        like: the columns of the table that this file is another piece of.
        lines: a file that falls into no columns is taken for one text a line.
        target: a column that is known to be there; a first row that names it is a header.

    Raises:
        SourceError: it is no text, or has no rows.
    """
    encoding = sniff_encoding(sample, where, whole=whole)
    text = sample.decode(encoding, "replace")
    if not whole and "\n" in text:
        text = text[: text.rindex("\n") + 1]
    if not text.strip():
        raise SourceError("the file holds nothing but white space.", where=where, mend="Give at least one row.")
    delimiter, quoted, rows = _layout(text)
    width, hits = Counter(len(r) for r in rows).most_common(1)[0]
    if lines and (width == 1 or hits < _REGULAR * len(rows)):
        return _as_lines(encoding, text, like)
    body = [r for r in rows if len(r) == width]
    if like is not None and len(like) == width:
        header = unique_names(rows[0]) == like or (len(rows[0]) == width and _has_header(body))
        names = unique_names(body[0]) if header else like
    else:
        named = target is not None and target in map(str.strip, rows[0])
        header = len(rows[0]) == width and (named or _has_header(body))
        names = unique_names(body[0]) if header else tuple(f"column_{i + 1}" for i in range(width))
    target = _target(names, body[1:] if header else body, header=header)
    return Dialect(encoding, delimiter, quoted, header, names, target, _renamed(names, body[0]) if header else ())


def _as_lines(encoding: str, text: str, like: tuple[str, ...] | None) -> Dialect:
    first = next(line.strip().strip("\ufeff") for line in text.splitlines() if line.strip())
    header = first.isidentifier() and first.isascii() and text.count(first) == 1
    name = like[0] if like and len(like) == 1 else "text"
    name = first if header else name
    return Dialect(encoding, LINES, False, header, (name,), name)


def _renamed(names: tuple[str, ...], cells: list[str]) -> tuple[str, ...]:
    written = [cell.strip().strip("\ufeff") for cell in cells]
    return tuple(f"{n} is {w!r} again" for n, w in zip(names, written, strict=True) if w and n != w)


def _layout(text: str) -> tuple[str, bool, list[list[str]]]:
    """The delimiter and quoting under which most rows have the same number (above one) of fields."""
    best: tuple[float, str, bool, list[list[str]]] | None = None
    regular: dict[str, float] = {}
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
            if quoted:
                regular[delimiter] = hits / len(rows)
            elif delimiter != "\t" and hits / len(rows) <= regular.get(delimiter, -1.0) + 0.02:
                continue  # as regular with quotes: then delimiters within them part nothing
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
    text = text.replace('""', "")  # a mark within a field may begin or end a line of it
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
    return spelling.is_number(cell.strip())


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
