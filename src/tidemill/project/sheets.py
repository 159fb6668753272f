"""Tables of answers: written part by part, then joined; of each format one class, found by the file's suffix."""

from __future__ import annotations

import csv
import gzip
import io
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, cast

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from tidemill.errors import InputError

Rows = Sequence[Mapping[str, Any]]
Types = Mapping[str, "pa.DataType | None"]
"""The columns in their order; ``None`` where a column's type shows only in its values."""


class Sheet(ABC):
    """One table.

    Args:
        types: its columns.
        separator: what stands between several labels where a cell can hold one text only.
    """

    def __init__(self, types: Types, separator: str) -> None:
        self.types = dict(types)
        self.separator = separator

    @abstractmethod
    def write(self, rows: Rows, path: Path) -> None:
        """Write a part of the table.

        Raises:
            InputError: a value does not fit its column.
        """

    @abstractmethod
    def join(self, parts: Sequence[Path], path: Path) -> None:
        """Make the whole table of its parts, the same bytes whenever the parts are the same."""


class JsonLines(Sheet):
    """An object a line, with the values as they are."""

    def write(self, rows: Rows, path: Path) -> None:
        """Write a part of the table."""
        options = orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
        with path.open("wb") as file:
            file.writelines(orjson.dumps(row, option=options, default=str) for row in rows)

    def join(self, parts: Sequence[Path], path: Path) -> None:
        """Lay the parts one behind the other."""
        with _packed(path) as file:
            _copy(parts, file)


class Delimited(Sheet):
    """CSV, or with another delimiter: a header, and quotes where they are needed."""

    delimiter = ","

    def write(self, rows: Rows, path: Path) -> None:
        """Write a part of the table, without a header."""
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = self._writer(file)
            writer.writerows([self._cell(row.get(name)) for name in self.types] for row in rows)

    def join(self, parts: Sequence[Path], path: Path) -> None:
        """A header, then the parts one behind the other."""
        header = io.StringIO(newline="")
        self._writer(header).writerow(self.types)
        with _packed(path) as file:
            file.write(header.getvalue().encode())
            _copy(parts, file)

    def _writer(self, file: IO[str]) -> Any:
        return csv.writer(file, delimiter=self.delimiter, lineterminator="\n")

    def _cell(self, value: Any) -> Any:
        if isinstance(value, list | tuple) and all(isinstance(one, str) for one in value):
            return self.separator.join(value)
        if isinstance(value, bool | list | tuple | dict):
            return orjson.dumps(value, default=str).decode()
        return value


class TabDelimited(Delimited):
    """The same with tabs."""

    delimiter = "\t"


class Parquet(Sheet):
    """Columns of one type each; a part is a row group."""

    def write(self, rows: Rows, path: Path) -> None:
        """Write a part of the table; the first one settles the types that were open."""
        columns = {}
        for name, kind in self.types.items():
            values = [row.get(name) for row in rows]
            try:
                columns[name] = pa.array(values, kind)
            except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
                if kind is not None:
                    raise self._refusal(name, kind, rows) from None
                columns[name] = pa.array([None if value is None else _text(value) for value in values], pa.string())
            if kind is None:
                self.types[name] = columns[name].type if columns[name].null_count < len(rows) else pa.string()
                columns[name] = columns[name].cast(self.types[name])
        pq.write_table(pa.table(columns), path)

    def join(self, parts: Sequence[Path], path: Path) -> None:
        """One file with a row group for each part."""
        schema = (
            pq.read_schema(parts[0]) if parts else pa.schema([(n, t or pa.string()) for n, t in self.types.items()])
        )
        with pq.ParquetWriter(path, schema) as writer:
            for part in parts:
                writer.write_table(pq.read_table(part, schema=schema))

    def settle(self, part: Path) -> None:
        """Take the types that an earlier run settled."""
        schema = pq.read_schema(part)
        self.types = {name: schema.field(name).type for name in self.types}

    def _refusal(self, name: str, kind: pa.DataType, rows: Rows) -> InputError:
        for row in rows:
            try:
                pa.array([row.get(name)], kind)
            except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
                what = f"{row.get(name)!r:.80} is no {kind}, as the rows before have it"
                return InputError(
                    what, where=f"{row.get('origin')}, {name}", mend="Write JSON lines or CSV, which take any value."
                )
        return InputError(f"the column {name!r} is no {kind}", mend="Write JSON lines or CSV, which take any value.")


_SHEETS: dict[str, type[Sheet]] = {
    ".csv": Delimited, ".tsv": TabDelimited, ".jsonl": JsonLines, ".ndjson": JsonLines, ".parquet": Parquet,
    ".pq": Parquet,
}  # fmt: skip


def sheet_class(path: Path) -> type[Sheet]:
    """The format that a file's name asks for.

    >>> sheet_class(Path("answers.csv.gz")).__name__
    'Delimited'

    Raises:
        InputError: it asks for none that can be written.
    """
    name = path.name.lower()
    plain = name.removesuffix(".gz")
    found = _SHEETS.get(Path(plain).suffix)
    if found is None or (found is Parquet and plain != name):
        suffixes = ", ".join(suffix for suffix in _SHEETS if suffix != ".pq")
        raise InputError(
            "the file's name does not say in which format to write",
            where=str(path),
            mend=f"Let it end in one of {suffixes}; text may be packed, as in .csv.gz.",
        )
    return found


@contextmanager
def _packed(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to, which is packed where its name says so, without the time at which it was."""
    with ExitStack() as stack:
        file = stack.enter_context(path.open("wb"))
        if not path.name.lower().removesuffix(".tmp").endswith(".gz"):
            yield file
            return
        packed = gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=6)
        yield cast("IO[bytes]", stack.enter_context(packed))


def _copy(parts: Sequence[Path], file: IO[bytes]) -> None:
    for part in parts:
        with part.open("rb") as source:
            shutil.copyfileobj(source, file, 1 << 20)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value, default=str).decode()
