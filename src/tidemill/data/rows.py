"""Rows to answer, read bit by bit from JSON lines or from any source; what cannot be read is told, not left out.

Nothing heavy is imported before a file is read: the command line asks this module for one row, too.
"""

from __future__ import annotations

import datetime
import gzip
import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tidemill.errors import InputError, TooLargeError

if TYPE_CHECKING:
    from tidemill.data.schema import Field
    from tidemill.data.sources import Batch, Limits, Source

Fields = Mapping[str, "Field"]

LINES = (".jsonl", ".ndjson")
LONGEST_LINE = 64 << 20
_BATCH = 1000
_SAMPLE = 4 << 20
MISSING = ("", "?", "NA", "N/A", "nan", "null")


class Row(dict[str, Any]):
    """The inputs of one row.

    Attributes:
        origin: where it stood, ``None`` for one that stood nowhere.
        kept: every column as it was read, but for pixels, where they were asked for.
    """

    origin: str | None = None
    kept: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Bad:
    """A row that cannot be answered, and why; the error names its place."""

    error: InputError


class RowFile:
    """The rows of a file, a folder or a data set by name.

    Args:
        spec: what :func:`tidemill.data.sources.open_source` takes. JSON lines are read as requests are: an image may be
            a path relative to their file, base64 or nested lists.
        fields: of the model.
        limits: what it may cost.
        wanted: whether a column is an input; one that the model does not know is refused later, by name.
        keep: keep every column as it was read.

    Raises:
        SourceError: it cannot be read.
    """

    def __init__(
        self, spec: str, fields: Fields, limits: Limits, wanted: Callable[[str], bool], *, keep: bool = False
    ) -> None:
        self._spec = spec
        self._fields = fields
        self._limits = limits
        self._wanted = wanted
        self._keep = keep
        self._path = Path(spec)
        self._lines = self._path.is_file() and self._path.name.removesuffix(".gz").endswith(LINES)
        self._source: Source | None = None
        if not self._lines:
            from tidemill.data.sources import open_source

            self._source = open_source(spec, limits=limits)

    def __iter__(self) -> Iterator[Row | Bad]:
        """All rows in order, and what is wrong where there should be one."""
        if self._source is None:
            with _opened(self._path) as stream:
                lines = _bounded(stream, self._path.name)
                for row in from_lines(lines, self._fields, self._path.name, self._path.parent, keep=self._keep):
                    if isinstance(row, Row):
                        for name in [name for name in row if not self._wanted(name)]:
                            del row[name]
                    yield row
            return
        shapes = {f.name: f.shape for f in self._fields.values() if f.shape is not None}
        for batch in self._source.batches(_BATCH, shapes=shapes):
            yield from self._of_batch(batch)

    def fingerprint(self) -> str:
        """Changes when the files do."""
        if self._source is not None:
            return self._source.fingerprint()
        seen = self._path.stat()
        return hashlib.sha256(f"{self._path.resolve()} {seen.st_size} {seen.st_mtime_ns}".encode()).hexdigest()

    def about(self) -> tuple[int | None, bool]:
        """How many rows there are, and whether that is only about right; ``None`` where only reading would tell."""
        if not self._path.is_file():
            return None, False
        if self._path.suffix in (".parquet", ".pq"):
            import pyarrow.parquet as pq

            return int(pq.read_metadata(self._path).num_rows), False
        if self._path.suffix not in (*LINES, ".csv", ".tsv"):
            return None, False
        with self._path.open("rb") as stream:
            head = stream.read(_SAMPLE)
        return int(head.count(b"\n") * self._path.stat().st_size / max(1, len(head))), True

    def types(self) -> dict[str, Any]:
        """The Arrow types of the columns that are kept, from the first rows; nothing is known of JSON lines."""
        if self._source is None:
            return {}
        first = next(iter(self._source.batches(_BATCH)), None)
        return {} if first is None else {n: getattr(c, "type", None) for n, c in first.columns.items() if _is_plain(c)}

    def _of_batch(self, batch: Batch) -> Iterator[Row | Bad]:
        faulty = set()
        for fault in batch.faults:
            what = fault.what.removesuffix(" and was left out").removesuffix(", and the row was left out")
            said = f"{what}: {fault.detail}" if fault.detail else what
            faulty.add(fault.origin)
            yield Bad(InputError(said, where=fault.origin, mend="Mend or remove this row."))
        names = [name for name in batch.columns if self._wanted(name)]
        plain = [name for name in batch.columns if self._keep and _is_plain(batch.columns[name])]
        columns = {name: _values(batch.columns[name]) for name in {*names, *plain}}
        for index, origin in enumerate(batch.origin.to_pylist()):
            if origin in faulty:
                continue
            try:
                cells = {n: from_cell(self._fields.get(n), columns[n][index], f"{origin}, {n}") for n in names}
            except InputError as error:
                yield Bad(error)
                continue
            row = Row(cells)
            row.origin = origin
            if plain:
                row.kept = {name: columns[name][index] for name in plain}
            yield row


def from_lines(
    lines: Iterable[bytes], fields: Fields, name: str, folder: Path | None = None, *, keep: bool = False
) -> Iterator[Row | Bad]:
    """A row a line of JSON; an image may be a path, relative to *folder*. Lines are named by their numbers."""
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield _from_line(line, fields, f"{name}, line {number}", folder or Path(), keep=keep)
            except InputError as error:
                yield Bad(error)


def _from_line(line: bytes, fields: Fields, where: str, folder: Path, *, keep: bool) -> Row:
    try:
        data = json.loads(line)
    except UnicodeDecodeError:
        raise InputError("is not UTF-8 text", where=where, mend="Save the file as UTF-8.") from None
    except RecursionError:
        raise InputError("is nested too deeply", where=where, mend="Write one JSON object a line.") from None
    except ValueError as error:
        raise InputError(f"is not JSON: {error}", where=where, mend="Write one JSON object a line.") from None
    if not isinstance(data, dict):
        raise InputError("is not a JSON object", where=where, mend='Write one row a line: {"field": value}.')
    row = Row({k: image_by_path(fields.get(k), v, folder, f"{where}, {k}") for k, v in data.items()})
    row.origin = where
    if keep:
        row.kept = data
    return row


def sound(rows: Iterable[Row | Bad]) -> Iterator[Row]:
    """The rows, of which every one must be good.

    Raises:
        InputError: one is not; the message names its place.
    """
    for row in rows:
        if isinstance(row, Bad):
            raise row.error
        yield row


def require_short(row: Row, most_mb: float) -> None:
    """Refuse texts that are longer than those that are learned from.

    Raises:
        TooLargeError: one is; the message names row and field.
    """
    most = int(most_mb * 1e6)
    for name, value in row.items():
        if isinstance(value, str) and len(value) > most // 4 and len(value.encode(errors="replace")) > most:
            raise TooLargeError(
                f"the text has {len(value):,} characters, and {most_mb:g} MB are the limit",
                where=f"{row.origin}, {name}" if row.origin else name,
                mend="Shorten it, or raise limits.text_mb in tidemill.yaml.",
            )


def from_cell(field: Field | None, value: Any, where: str) -> Any:
    """A cell as a request would have it.

    Raises:
        InputError: it is no number where one belongs.
    """
    kind = None if field is None else field.type
    if isinstance(value, str):
        return value if kind == "image" else from_text(field, value.strip(), where)
    if kind == "number" and isinstance(value, float | Decimal):
        return None if value != value else float(value)  # noqa: PLR0124 - so only NaN is
    if kind == "date" and isinstance(value, datetime.date):
        return value.isoformat()
    return value


def from_text(field: Field | None, text: str, where: str) -> Any:
    """A typed value: a number where one belongs, an image's path, or the text.

    Raises:
        InputError: it is no number, or there is no such file.
    """
    if field is not None and field.type == "image":
        return image_by_path(field, text, Path(), where)
    if field is None or field.type != "number":
        return text or None
    if text in MISSING:
        return None
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{text!r} is not a number", where=where, mend="Write it like 3.5, or leave it out.") from None


def image_by_path(field: Field | None, value: Any, folder: Path, where: str) -> Any:
    """The bytes of an image that is named by its path; everything else (data URL, base64, lists) as it is.

    Raises:
        InputError: there is no such file.
    """
    is_image = field is not None and field.type == "image"
    if not is_image or not isinstance(value, str) or value.startswith("data:") or len(value) > 4096:
        return value
    path = folder / Path(value).expanduser()
    if not path.is_file():
        if path.suffix:
            raise InputError("there is no such image file", where=f"{where}: {value}", mend="Give a path to an image.")
        return value
    return path.read_bytes()


def _is_plain(column: Any) -> bool:
    """Whether it holds one value a row, and no pixels."""
    return getattr(column, "ndim", 0) <= 1


def _values(column: Any) -> Any:
    return column if getattr(column, "ndim", 0) > 1 else column.tolist()


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    with path.open("rb") as stream:
        if path.suffix != ".gz":
            yield stream
            return
        with gzip.GzipFile(fileobj=stream) as unpacked:
            yield unpacked  # type: ignore[misc]


def _bounded(stream: IO[bytes], name: str) -> Iterator[bytes]:
    """The lines of a stream, none of which can fill the memory.

    Raises:
        TooLargeError: one is too long.
        InputError: what was packed is damaged.
    """
    try:
        for number, line in enumerate(iter(partial(stream.readline, LONGEST_LINE), b""), start=1):
            if len(line) >= LONGEST_LINE:
                where = f"{name}, line {number}"
                raise TooLargeError("the line is too long", where=where, mend="Write one JSON object a line.")
            yield line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"the packed file is damaged ({error})", where=name, mend="Copy it again.") from None
