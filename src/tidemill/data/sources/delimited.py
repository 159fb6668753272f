"""CSV and TSV, plain or gzipped: encoding, delimiter, quotes and header are sniffed and said."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from tidemill.data import spelling
from tidemill.data.sources._base import Batch, Fault, Limits, RawColumn, Shapes, Source, Summary, numbered_rows
from tidemill.data.sources._dialect import SAMPLE_BYTES, Dialect, sniff
from tidemill.data.sources._files import fingerprint, open_stream, split_of, split_of_value
from tidemill.data.sources._summary import summarise
from tidemill.errors import SourceError, TidemillError

BLOCK_BYTES = 2 << 20
MAX_RAGGED = 0.5
"""A file with a larger share of rows of another width was sniffed wrongly, or is no table."""


class DelimitedSource(Source):
    """One text table, or several of the same columns (``train`` and ``test`` in their names give the split).

    Args:
        files: the files, the training file first.
        limits: what it may cost.
        target: what to call the target column of a file without a header.
        name: what to call the source.
    """

    def __init__(
        self, files: list[Path], limits: Limits, *, target: str | None = None, name: str | None = None
    ) -> None:
        super().__init__(name or files[0].name, limits)
        self.files = files
        self.dialects = [self._sniff(path) for path in files]
        first = self.dialects[0]
        if not first.header and target and target not in first.names:
            self.notes.append(f"the file has no header; its {first.target!r} is taken for {target!r}")
            self.dialects = [_rename(d, first.target, target) for d in self.dialects]
            first = self.dialects[0]
        for path, dialect in zip(files[1:], self.dialects[1:], strict=True):
            if dialect.names != first.names:
                raise SourceError(
                    f"its columns ({_brief(dialect.names)}) are not those of {files[0].name} ({_brief(first.names)}).",
                    where=str(path),
                    mend="Give files of the same columns, or name one of them under `data`.",
                )
        several = len(files) > 1
        for path, dialect in zip(files, self.dialects, strict=True):
            self.notes += [f"{path.name}: {note}" if several else note for note in dialect.notes()]
        self.columns = list(first.names)
        self.split_column = self._find_split_column()

    def _sniff(self, path: Path) -> Dialect:
        with open_stream(path, self.limits) as stream:
            sample = stream.read(SAMPLE_BYTES)
            return sniff(sample, str(path), whole=not stream.read(1))

    def _find_split_column(self) -> str | None:
        name = next((c for c in self.columns if c.casefold() == "split"), None)
        if name is None or len(self.columns) < 3:
            return None
        head = next(self._read(0, 1000), None)
        if head is None:
            return None
        values = set(cast("pa.Array", head.columns[name]).to_pylist())
        if not all(split_of_value(v) >= 0 for v in values):
            return None
        self.notes.append(f"column {name!r} holds the source's own split")
        return name

    def fingerprint(self) -> str:
        """Paths, sizes, times, and how the columns are called."""
        root = self.files[0].parent
        return fingerprint(f"delimited {self.columns}", root, self.files)

    def summary(self) -> Summary:
        """One pass over all files."""
        return summarise(self.name, self.batches(), self.notes, self.dialects[0].target)

    def batches(self, size: int = 8192, *, shapes: Shapes | None = None) -> Iterator[Batch]:
        """All rows of all files, each cell as it is written."""
        for i, path in enumerate(self.files):
            code = split_of(path.name)
            for batch in self._read(i, size):
                if self.split_column is None:
                    yield replace(batch, split=np.full(len(batch), code, np.int8))
                else:
                    columns = dict(batch.columns)
                    words = cast("pa.Array", columns.pop(self.split_column)).dictionary_encode()
                    codes = np.array([split_of_value(v) for v in words.dictionary.to_pylist()], np.int8)
                    yield replace(batch, columns=columns, split=codes[words.indices.to_numpy()])

    def _read(self, index: int, size: int) -> Iterator[Batch]:
        path, dialect = self.files[index], self.dialects[index]
        ragged: list[_Ragged] = []

        def skip(row: pacsv.InvalidRow) -> str:
            ragged.append(_Ragged(row.number - int(dialect.header), row.actual_columns, row.text[:80]))
            return "skip"

        with open_stream(path, self.limits) as stream:
            numbers = _Numbers()
            try:
                for block in self._open(stream, dialect, skip):
                    rows, left_out = numbers.next(block.num_rows, ragged)
                    faults = self._ragged(path, dialect, left_out)
                    yield from self._batches(path, dialect, block, rows, faults, size)
                    self._check_width(path, numbers)
            except pa.ArrowInvalid as error:
                raise self._explain(path, error) from error
            numbers.finish(len(ragged))
            self._check_width(path, numbers)
            if ragged:
                nothing: dict[str, RawColumn] = {n: pa.array([], pa.large_string()) for n in dialect.names}
                rows = np.empty(0, np.int64)
                last = tuple(self._ragged(path, dialect, ragged))
                yield Batch(nothing, np.empty(0, np.int8), numbered_rows(path.name, rows), last)

    @staticmethod
    def _ragged(path: Path, dialect: Dialect, rows: list[_Ragged]) -> list[Fault]:
        what = "the row has another number of fields than the table and was left out"
        width = len(dialect.names)
        return [Fault(f"{path.name}, row {r.number}", what, f"{r.fields} instead of {width}: {r.text}") for r in rows]

    def _check_width(self, path: Path, numbers: _Numbers) -> None:
        if numbers.skipped > 20 and numbers.skipped > MAX_RAGGED * numbers.cursor:
            raise SourceError(
                f"{numbers.skipped} of the first {numbers.cursor} rows have another number of fields than the table.",
                where=str(path),
                mend="Use one delimiter throughout, and put fields that hold it in double quotes.",
            )

    def _open(self, stream: IO[bytes], dialect: Dialect, skip: object) -> Iterator[pa.RecordBatch]:
        plain = dialect.encoding in ("utf-8", "utf-8-sig")
        names = list(dialect.names)
        data: IO[bytes] = stream if plain else cast("IO[bytes]", io.BufferedReader(_Recoded(stream, dialect.encoding)))
        reader = pacsv.open_csv(
            data,
            read_options=pacsv.ReadOptions(
                column_names=names, skip_rows=int(dialect.header), block_size=BLOCK_BYTES, use_threads=False
            ),
            parse_options=pacsv.ParseOptions(
                delimiter=dialect.delimiter,
                quote_char='"' if dialect.quoted else False,
                newlines_in_values=dialect.quoted,
                invalid_row_handler=skip,
            ),
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.large_binary()), strings_can_be_null=False
            ),
        )
        yield from reader

    def _batches(
        self,
        path: Path,
        dialect: Dialect,
        block: pa.RecordBatch,
        rows: npt.NDArray[np.int64],
        faults: list[Fault],
        size: int,
    ) -> Iterator[Batch]:
        recoded = dialect.encoding not in ("utf-8", "utf-8-sig")
        columns: dict[str, pa.Array] = {}
        for name, cells in zip(dialect.names, block.columns, strict=True):
            columns[name] = _as_text(cells, f"{path.name}", name, rows, faults, recoded=recoded)
        keep = _short_enough(columns, path.name, rows, faults, self.limits.max_field_bytes)
        if keep is not None:
            columns = {n: c.filter(pa.array(keep)) for n, c in columns.items()}
            rows = rows[keep]
        for start in range(0, max(1, len(rows)), size):
            part = rows[start : start + size]
            yield Batch(
                {n: c.slice(start, size) for n, c in columns.items()},
                np.full(len(part), -1, np.int8),
                numbered_rows(path.name, part),
                tuple(faults) if start == 0 else (),
            )

    @staticmethod
    def _explain(path: Path, error: pa.ArrowInvalid) -> TidemillError:
        text = str(error)
        if "straddling" in text:
            return SourceError(
                f"a row is longer than {BLOCK_BYTES >> 20} MB.",
                where=str(path),
                mend="Look for a double quote that is never closed, or shorten the row.",
            )
        if "Empty CSV" in text:
            return SourceError("the file has a header but no rows.", where=str(path), mend="Give at least one row.")
        return SourceError(f"the table cannot be read: {text.splitlines()[0]}", where=str(path), mend="Mend the file.")


@dataclass(frozen=True, slots=True)
class _Ragged:
    number: int
    fields: int
    text: str


class _Numbers:
    """Row numbers of the rows that were kept; the parser reads ahead, so later ragged rows wait their turn."""

    def __init__(self) -> None:
        self.cursor = 0
        self.skipped = 0

    def next(self, count: int, ragged: list[_Ragged]) -> tuple[npt.NDArray[np.int64], list[_Ragged]]:
        waiting = np.array([r.number for r in ragged], np.int64)
        candidates = np.arange(self.cursor + 1, self.cursor + 1 + count + len(waiting))
        rows = np.setdiff1d(candidates, waiting, assume_unique=True)[:count]
        last = int(rows[-1]) if count else self.cursor
        passed = [r for r in ragged if r.number <= last]
        del ragged[: len(passed)]
        self.skipped += len(passed)
        self.cursor = last
        return rows, passed

    def finish(self, left: int) -> None:
        self.skipped += left
        self.cursor += left


class _Recoded(io.RawIOBase):
    """Another encoding read as UTF-8; bytes that fit no character become U+FFFD."""

    def __init__(self, stream: IO[bytes], encoding: str) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)("replace")
        self._rest = b""
        self._done = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        while not self._rest and not self._done:
            data = self._stream.read(1 << 16)
            self._done = not data
            self._rest = self._decoder.decode(data, final=self._done).encode("utf-8", "replace")
        part, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)


def _as_text(
    cells: pa.Array, file: str, column: str, rows: npt.NDArray[np.int64], faults: list[Fault], *, recoded: bool
) -> pa.Array:
    what = "bytes that are no text in this encoding were replaced by \ufffd"
    try:
        text = cells.cast(pa.large_string())
    except pa.ArrowInvalid:
        text = pa.array([c.decode("utf-8", "replace") for c in cells.to_pylist()], pa.large_string())
        recoded = True
    if recoded:
        marked = np.flatnonzero(spelling.mask(pc.match_substring(text, "\ufffd")))
        faults.extend(
            Fault(f"{file}, row {rows[i]}", what, f"{column}: {text[int(i)].as_py()[:60]}") for i in marked.tolist()
        )
    return text


def _short_enough(
    columns: dict[str, pa.Array], file: str, rows: npt.NDArray[np.int64], faults: list[Fault], limit: int
) -> npt.NDArray[np.bool_] | None:
    """Which rows have no field above the limit; ``None`` when all are fine."""
    keep: npt.NDArray[np.bool_] | None = None
    for name, column in columns.items():
        if len(column) and pc.max(pc.binary_length(column)).as_py() > limit:
            long = spelling.mask(pc.greater(pc.binary_length(column), limit))
            for i in np.flatnonzero(long).tolist():
                what = f"a field is longer than {limit:,} bytes, and the row was left out"
                faults.append(Fault(f"{file}, row {rows[i]}", what, f"{name}: {column[i].as_py()[:60]}…"))
            keep = ~long if keep is None else keep & ~long
    return keep


def _rename(dialect: Dialect, old: str, new: str) -> Dialect:
    names = tuple(new if n == old else n for n in dialect.names)
    return replace(dialect, names=names, target=new)


def _brief(names: tuple[str, ...]) -> str:
    return ", ".join(names[:6]) + (", …" if len(names) > 6 else "")
