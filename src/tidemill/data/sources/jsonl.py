"""JSON Lines, one object a line, and ``.json`` files that hold one list of objects."""

from __future__ import annotations

import io
import json
import math
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import orjson
import pyarrow as pa

from tidemill.data.sources._arrow import LABELS
from tidemill.data.sources._base import (
    BATCH_BYTES,
    Batch,
    Fault,
    Limits,
    RawColumn,
    Shapes,
    Source,
    Summary,
    numbered_rows,
)
from tidemill.data.sources._encodings import Recoded, RowDecoder
from tidemill.data.sources._files import (
    common_root,
    fingerprint,
    open_stream,
    split_of_file,
    split_of_value,
    unpacked_name,
)
from tidemill.data.sources._summary import summarise
from tidemill.errors import SourceError

_HEAD = 10_000
_HEAD_BYTES = 64 << 20
_BOM = b"\xef\xbb\xbf"
_SCALARS = (str, int, bool)
_LISTED = 0.1
"""From this share of lists on, single values among them are lists of one; below it, the lists are strays."""
MAX_BROKEN = 0.5
"""A file with a larger share of lines that are no objects is no JSON Lines, or is damaged throughout."""

Record = tuple[int, dict[str, Any] | None, str, int]
"""Line number, object or ``None``, what is wrong with the line or was done to it, and its length."""


class JsonSource(Source):
    """Objects with the same fields; what only later lines have is left out and said.

    Lists of texts, whole numbers or truth values are several labels a row; objects and other lists are left out.
    """

    def __init__(self, files: list[Path], limits: Limits, *, name: str | None = None, root: Path | None = None) -> None:
        super().__init__(name or files[0].name, limits)
        self.files = files
        self.root = root or common_root(files)
        kinds: dict[str, Counter[str]] = {}
        words: set[str] = set()
        for path in files:
            own = self._look(path, kinds, words)
            if own and (lacks := [n for n in kinds if n not in own]):
                self.notes.append(f"{self._called(path)} has no field {', '.join(map(repr, lacks[:5]))}")
        if not kinds:
            mend = 'Give one object a line, such as {"text": "…", "label": "…"}.'
            raise SourceError("there is no JSON object in it.", where=str(files[0]), mend=mend)
        forms = {n: _form(k) for n, k in kinds.items()}
        self.nested = [n for n, form in forms.items() if form == "nested"]
        self.lists = [n for n, form in forms.items() if form == "list"]
        self.columns = [n for n in kinds if n not in self.nested]
        for n in self.nested:
            self.notes.append(f"field {n!r} holds objects or nested lists and is left out")
        self.split_column = "split" if "split" in kinds and all(split_of_value(w) >= 0 for w in words) else None
        if self.split_column:
            self.notes.append("field 'split' holds the source's own split")
            self.columns.remove("split")

    def _called(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _look(self, path: Path, kinds: dict[str, Counter[str]], words: set[str]) -> set[str]:
        """The fields of the file's first objects; what they hold and the words of ``split`` are added."""
        own: set[str] = set()
        total = 0
        for _, record, _, size in islice(self._records(path), _HEAD):
            total += size
            if record is not None:
                for name, value in record.items():
                    kinds.setdefault(name, Counter())[_kind(value)] += value is not None
                    own.add(name)
                words.add(str(record.get("split", "")))
            if total > _HEAD_BYTES:
                break
        return own

    def _records(self, path: Path) -> Iterator[Record]:
        with open_stream(path, self.limits) as stream:
            if unpacked_name(path.name).endswith(".json"):
                yield from self._listed(stream.read(self.limits.max_file_bytes + 1), path)
                return
            decoder = RowDecoder("utf-8", path.name)
            lines = self._lines(stream)
            number = 0
            while line := lines.readline(64 * self.limits.max_field_bytes):
                number += 1
                if number == 1:
                    line = line.removeprefix(_BOM)
                if line.strip():
                    yield self._parsed(number, line, decoder)

    @staticmethod
    def _lines(stream: IO[bytes]) -> IO[bytes]:
        """The stream, recoded when it begins with the mark of UTF-16."""
        buffered = cast("io.BufferedReader", stream)
        if buffered.peek(2)[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return cast("IO[bytes]", io.BufferedReader(Recoded(stream, "utf-16")))
        return stream

    @staticmethod
    def _parsed(number: int, line: bytes, decoder: RowDecoder) -> Record:
        done = ""
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            text, done = decoder.row(line)
            value, mended = _mended(text)
            if value is None:
                return number, None, str(error), len(line)
            done = done or mended
        if not isinstance(value, dict):
            return number, None, "no object", len(line)
        if not done and line.count(b'":') + line.count(b'" :') > len(value) and _repeats(line, value):
            done = "a field that stands twice in the line was read as its last value"
        return number, value, done, len(line)

    def _listed(self, data: bytes, path: Path) -> Iterator[Record]:
        if len(data) > self.limits.max_file_bytes:
            raise SourceError("the JSON file is too large to be read whole.", where=str(path), mend="Give JSON Lines.")
        try:
            values = orjson.loads(data.removeprefix(_BOM))
        except orjson.JSONDecodeError as error:
            values, mended = _mended(data.decode("utf-8", "replace"))
            if values is None:
                mend = "Mend it, or give JSON Lines."
                raise SourceError(f"the file is no JSON: {error}.", where=str(path), mend=mend) from error
            if (note := f"{self._called(path)}: {mended}") not in self.notes:
                self.notes.append(note)
        if not isinstance(values, list):
            mend = "Give a list, or JSON Lines."
            raise SourceError("the file does not hold a list of objects.", where=str(path), mend=mend)
        size = len(data) // max(1, len(values))
        for number, value in enumerate(values, 1):
            yield (number, value, "", size) if isinstance(value, dict) else (number, None, "no object", size)

    def fingerprint(self) -> str:
        """Paths, sizes and times of the files."""
        return fingerprint("json", self.root, self.files)

    def summary(self) -> Summary:
        """One pass over all lines."""
        return summarise(self.name, self.batches(), self.notes)

    def batches(self, size: int = 8192, *, shapes: Shapes | None = None) -> Iterator[Batch]:
        """All objects in order; lines that are none are faults."""
        for path in self.files:
            code = split_of_file(path, self.root)
            chunk: list[Record] = []
            total = lines = broken = 0
            for record in self._records(path):
                chunk.append(record)
                total += record[3]
                lines += 1
                broken += record[1] is None
                if len(chunk) >= size or total >= BATCH_BYTES:
                    yield self._batch(self._called(path), chunk, code)
                    chunk, total = [], 0
            if broken > 20 and broken > MAX_BROKEN * lines:
                message = f"{broken:,} of {lines:,} lines are no JSON objects."
                raise SourceError(message, where=str(path), mend="Write one whole JSON object a line.")
            if chunk:
                yield self._batch(self._called(path), chunk, code)

    def _batch(self, file: str, chunk: list[Record], code: int) -> Batch:
        what = "the line is no JSON object and was left out"
        faults = [
            Fault(f"{file}, line {n}", what, done) if r is None else Fault(f"{file}, line {n}", done)
            for n, r, done, _ in chunk
            if r is None or done
        ]
        kept = [(n, r) for n, r, _, _ in chunk if r is not None]
        columns: dict[str, RawColumn] = {}
        for name in self.columns:
            cells = [(n, r.get(name)) for n, r in kept]
            make = self._labels if name in self.lists else self._values
            columns[name] = make(file, name, cells, faults)
        known = {*self.columns, *self.nested, "split"}
        strange = [(n, k) for n, r in kept if not r.keys() <= known for k in r.keys() - known]
        unknown = "a field that earlier lines lack was left out"
        faults += [Fault(f"{file}, line {n}", unknown, k) for n, k in strange]
        split = np.full(len(kept), code, np.int8)
        if self.split_column:
            split = np.array([split_of_value(str(r.get("split", ""))) for _, r in kept], np.int8)
        return Batch(columns, split, numbered_rows(file, np.array([n for n, _ in kept], np.int64)), tuple(faults))

    def _values(self, file: str, name: str, cells: list[tuple[int, Any]], faults: list[Fault]) -> pa.Array:
        values = [v for _, v in cells]
        kinds = {type(v) for v in values} - {type(None)}
        if kinds & {list, dict}:
            what = "a list or object where other lines have a value was taken for missing"
            faults += [Fault(f"{file}, line {n}", what, name) for n, v in cells if isinstance(v, list | dict)]
            values = [None if isinstance(v, list | dict) else v for v in values]
            kinds -= {list, dict}
        if kinds <= {int, float} and kinds and all(v is None or abs(v) < 2**53 for v in values):
            return pa.array(values, pa.float64())
        if kinds == {bool}:
            return pa.array(values, pa.bool_())
        limit = self.limits.max_field_bytes
        texts = [_text(v) for v in values]
        for i, text in enumerate(texts):
            if text is not None and len(text) > limit:
                what = f"a value longer than {limit:,} characters was taken for missing"
                faults.append(Fault(f"{file}, line {cells[i][0]}", what, name))
                texts[i] = None
        return pa.array(texts, pa.large_string())

    @staticmethod
    def _labels(file: str, name: str, cells: list[tuple[int, Any]], faults: list[Fault]) -> pa.Array:
        rows: list[list[str | None] | None] = []
        for number, value in cells:
            if value is None:
                rows.append(None)
            elif not isinstance(value, list):
                what = "a single value where other lines have lists was taken for a list of one"
                faults.append(Fault(f"{file}, line {number}", what, name))
                rows.append(None if isinstance(value, dict) else [_text(value)])
            elif _kind(value) == "nested":
                what = "a nested list where other lines have labels was taken for missing"
                faults.append(Fault(f"{file}, line {number}", what, name))
                rows.append(None)
            else:
                rows.append([_text(v) for v in value if v is not None])
        return pa.array(rows, LABELS)


def _mended(text: str) -> tuple[Any, str]:
    """What is almost JSON, as some writers leave it, and what was done to it; ``None`` where it is not even that.

    >>> _mended('{"a": NaN}')
    ({'a': None}, 'NaN and infinite numbers, which JSON has not, were taken for missing')
    """
    odd: list[str] = []

    def number(digits: str) -> float | None:
        value = float(digits)
        if math.isfinite(value):
            return value
        odd.append(digits)
        return None

    try:
        value = json.loads(text, parse_constant=number, parse_float=number)
        whole = json.dumps(value, ensure_ascii=False).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        value = orjson.loads(whole)
    except (ValueError, RecursionError):
        return None, ""
    if odd:
        return value, "NaN and infinite numbers, which JSON has not, were taken for missing"
    halved = "\ufffd" in whole and "\ufffd" not in text
    return value, "halves of characters were replaced by \ufffd" if halved else ""


def _form(kinds: Counter[str]) -> str:
    """What a field holds by how often it holds what; a few strange values among many do not decide.

    >>> _form(Counter(value=50, list=2)), _form(Counter(value=50, list=9)), _form(Counter(value=1, nested=9))
    ('value', 'list', 'nested')
    """
    listed = kinds["list"] + kinds["empty"]
    if kinds["nested"] > max(kinds["value"], kinds["list"]):
        return "nested"
    return "list" if listed and listed >= _LISTED * kinds.total() else "value"


def _kind(value: Any) -> str:
    if isinstance(value, list):
        if not value:
            return "empty"
        return "list" if all(v is None or isinstance(v, _SCALARS) for v in value) else "nested"
    return "nested" if isinstance(value, dict) else "value"


def _text(value: Any) -> str | None:
    """A value as text, in the same words whatever the other rows hold: ``2.0`` is ``2``, as in a column of numbers."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    return orjson.dumps(value).decode()


def _repeats(line: bytes, value: dict[str, Any]) -> bool:
    """A field of the object stands twice; only a slower parser tells."""
    if line.count(b'":') + line.count(b'" :') <= _fields(value):
        return False
    found: list[bool] = []

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found.append(len({k for k, _ in items}) < len(items))
        return dict(items)

    json.loads(line, object_pairs_hook=pairs)
    return found[-1]  # the outermost object closes last


def _fields(value: Any) -> int:
    if isinstance(value, dict):
        return len(value) + sum(map(_fields, value.values()))
    return sum(map(_fields, value)) if isinstance(value, list) else 0
