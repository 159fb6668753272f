"""JSON Lines, one object a line, and ``.json`` files that hold one list of objects."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from tidemill.data.sources._base import Batch, Fault, Limits, RawColumn, Shapes, Source, Summary, numbered_rows
from tidemill.data.sources._files import fingerprint, open_stream, split_of, split_of_value
from tidemill.data.sources._summary import summarise
from tidemill.errors import SourceError

_HEAD = 10_000


class JsonSource(Source):
    """Objects with the same fields; what only later lines have is left out and said."""

    def __init__(self, files: list[Path], limits: Limits, *, name: str | None = None) -> None:
        super().__init__(name or files[0].name, limits)
        self.files = files
        head = [r for path in files for _, r, _ in islice(self._records(path), _HEAD) if r is not None]
        if not head:
            mend = 'Give one object a line, such as {"text": "…", "label": "…"}.'
            raise SourceError("there is no JSON object in it.", where=str(files[0]), mend=mend)
        names = dict.fromkeys(k for r in head for k in r)
        self.nested = [n for n in names if any(isinstance(r.get(n), list | dict) for r in head)]
        self.columns = [n for n in names if n not in self.nested]
        for n in self.nested:
            self.notes.append(f"field {n!r} holds lists or objects and is left out")
        words = {str(r.get("split", "")) for r in head}
        self.split_column = "split" if "split" in names and all(split_of_value(w) >= 0 for w in words) else None
        if self.split_column:
            self.notes.append("field 'split' holds the source's own split")
            self.columns.remove("split")

    def _records(self, path: Path) -> Iterator[tuple[int, dict[str, Any] | None, str]]:
        """Line number, object or ``None``, and what is wrong with the line."""
        with open_stream(path, self.limits) as stream:
            if path.name.removesuffix(".gz").endswith(".json"):
                yield from self._listed(stream.read(self.limits.max_file_bytes + 1), path)
                return
            number = 0
            while line := stream.readline(64 * self.limits.max_field_bytes):
                number += 1
                if not line.strip():
                    continue
                try:
                    value = orjson.loads(line)
                except orjson.JSONDecodeError as error:
                    yield number, None, str(error)
                    continue
                yield (number, value, "") if isinstance(value, dict) else (number, None, "no object")

    def _listed(self, data: bytes, path: Path) -> Iterator[tuple[int, dict[str, Any] | None, str]]:
        if len(data) > self.limits.max_file_bytes:
            raise SourceError("the JSON file is too large to be read whole.", where=str(path), mend="Give JSON Lines.")
        try:
            values = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            mend = "Mend it, or give JSON Lines."
            raise SourceError(f"the file is no JSON: {error}.", where=str(path), mend=mend) from error
        if not isinstance(values, list):
            mend = "Give a list, or JSON Lines."
            raise SourceError("the file does not hold a list of objects.", where=str(path), mend=mend)
        for number, value in enumerate(values, 1):
            yield (number, value, "") if isinstance(value, dict) else (number, None, "no object")

    def fingerprint(self) -> str:
        """Paths, sizes and times of the files."""
        return fingerprint("json", self.files[0].parent, self.files)

    def summary(self) -> Summary:
        """One pass over all lines."""
        return summarise(self.name, self.batches(), self.notes)

    def batches(self, size: int = 8192, *, shapes: Shapes | None = None) -> Iterator[Batch]:
        """All objects in order; lines that are none are faults."""
        for path in self.files:
            code = split_of(path.name)
            records = self._records(path)
            while chunk := list(islice(records, size)):
                yield self._batch(path, chunk, code)

    def _batch(self, path: Path, chunk: list[tuple[int, dict[str, Any] | None, str]], code: int) -> Batch:
        what = "the line is no JSON object and was left out"
        faults = [Fault(f"{path.name}, line {n}", what, e) for n, r, e in chunk if r is None]
        kept = [(n, r) for n, r, _ in chunk if r is not None]
        columns: dict[str, RawColumn] = {}
        for name in self.columns:
            columns[name] = self._column(path, name, [(n, r.get(name)) for n, r in kept], faults)
        known = {*self.columns, *self.nested, "split"}
        strange = [(n, k) for n, r in kept if not r.keys() <= known for k in r.keys() - known]
        unknown = "a field that earlier lines lack was left out"
        faults += [Fault(f"{path.name}, line {n}", unknown, k) for n, k in strange]
        split = np.full(len(kept), code, np.int8)
        if self.split_column:
            split = np.array([split_of_value(str(r.get("split", ""))) for _, r in kept], np.int8)
        return Batch(columns, split, numbered_rows(path.name, np.array([n for n, _ in kept], np.int64)), tuple(faults))

    def _column(self, path: Path, name: str, cells: list[tuple[int, Any]], faults: list[Fault]) -> pa.Array:
        values = [v for _, v in cells]
        kinds = {type(v) for v in values} - {type(None)}
        if kinds & {list, dict}:
            what = "a list or object where other lines have a value was taken for missing"
            faults += [Fault(f"{path.name}, line {n}", what, name) for n, v in cells if isinstance(v, list | dict)]
            values = [None if isinstance(v, list | dict) else v for v in values]
            kinds -= {list, dict}
        if kinds <= {int, float} and kinds and all(v is None or abs(v) < 2**53 for v in values):
            return pa.array(values, pa.float64())
        if kinds == {bool}:
            return pa.array(values, pa.bool_())
        limit = self.limits.max_field_bytes
        texts = [v if v is None or isinstance(v, str) else orjson.dumps(v).decode() for v in values]
        for i, text in enumerate(texts):
            if text is not None and len(text) > limit:
                what = f"a value longer than {limit:,} characters was taken for missing"
                faults.append(Fault(f"{path.name}, line {cells[i][0]}", what, name))
                texts[i] = None
        return pa.array(texts, pa.large_string())
