"""CSV, TSV and lines of text, plain or packed: encoding, delimiter, quotes and header are sniffed and said."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
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
from tidemill.data.sources._encodings import UTF8, Recoded, RowDecoder, marked
from tidemill.data.sources._files import (
    common_root,
    fingerprint,
    open_stream,
    split_of_file,
    split_of_value,
    suffix_of,
)
from tidemill.data.sources._summary import summarise
from tidemill.errors import SourceError, TidemillError

BLOCK_BYTES = 2 << 20
"""What the parser takes in at once, and at least twice the longest field, so that a row of two still fits."""
BATCH_ROWS = 1 << 14
"""A block of bytes holds no more than so many rows, unless they are short."""
MAX_RAGGED = 0.5
"""A file with a larger share of rows of another width was sniffed wrongly, or is no table."""


class DelimitedSource(Source):
    """One text table, or several of the same columns (``train`` and ``test`` in their names give the split).

    Args:
        files: the files, the training file first.
        limits: what it may cost.
        target: what to call the target column of a file without a header.
        name: what to call the source.
        root: the folder from which on a file's name and folders tell its split.
    """

    def __init__(
        self,
        files: list[Path],
        limits: Limits,
        *,
        target: str | None = None,
        name: str | None = None,
        root: Path | None = None,
    ) -> None:
        super().__init__(name or files[0].name, limits)
        self.files = files
        self.root = root or common_root(files)
        first = self._sniff(files[0], None, target)
        self.dialects = [first, *(self._sniff(path, first.names) for path in files[1:])]
        if not first.header and target and target not in first.names:
            self.notes.append(f"the file has no header; its {first.target!r} is taken for {target!r}")
            self.dialects = [_rename(d, first.target, target) for d in self.dialects]
            first = self.dialects[0]
        for path, dialect in zip(files[1:], self.dialects[1:], strict=True):
            check_columns(path, dialect.names, files[0], first.names, self.root)
        said: dict[str, list[str]] = {}
        for path, dialect in zip(files, self.dialects, strict=True):
            for note in dialect.notes():
                said.setdefault(note, []).append(self._called(path))
        self.notes += [f"{_listed(paths)}: {note}" if len(files) > 1 else note for note, paths in said.items()]
        self.columns = list(first.names)
        self.split_column = self._find_split_column()

    def _called(self, path: Path) -> str:
        """A file's name for people: from the common folder on."""
        return path.relative_to(self.root).as_posix()

    def _sniff(self, path: Path, like: tuple[str, ...] | None, target: str | None = None) -> Dialect:
        lines = suffix_of(path) not in (".csv", ".tsv", ".tab")
        with open_stream(path, self.limits) as stream:
            sample = stream.read(SAMPLE_BYTES)
            whole = not stream.read(1)
        return sniff(sample, str(path), whole=whole, like=like, lines=lines, target=target)

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
        return fingerprint(f"delimited {self.columns}", self.root, self.files)

    def summary(self) -> Summary:
        """One pass over all files."""
        return summarise(self.name, self.batches(), self.notes, self.dialects[0].target)

    def batches(self, size: int = BATCH_ROWS, *, shapes: Shapes | None = None) -> Iterator[Batch]:
        """All rows of all files, each cell as it is written."""
        for i, path in enumerate(self.files):
            code = split_of_file(path, self.root)
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

        name = self._called(path)
        decoder = None if _needs_recoding(dialect) else RowDecoder(dialect.encoding, name)
        with open_stream(path, self.limits) as stream:
            numbers = _Numbers()
            try:
                for block in self._open(stream, dialect, skip):
                    rows, left_out = numbers.next(block.num_rows, ragged)
                    faults = self._ragged(name, dialect, left_out)
                    yield from self._batches(name, dialect, decoder, block, rows, faults, size)
                    self._check_width(path, numbers)
            except pa.ArrowInvalid as error:
                raise self._explain(path, error, numbers.cursor) from error
            numbers.finish(len(ragged))
            self._check_width(path, numbers)
            if ragged:
                nothing: dict[str, RawColumn] = {n: pa.array([], pa.large_string()) for n in dialect.names}
                rows = np.empty(0, np.int64)
                last = tuple(self._ragged(name, dialect, ragged))
                yield Batch(nothing, np.empty(0, np.int8), numbered_rows(name, rows), last)

    @staticmethod
    def _ragged(name: str, dialect: Dialect, rows: list[_Ragged]) -> list[Fault]:
        what = "the row has another number of fields than the table and was left out"
        width = len(dialect.names)
        return [Fault(f"{name}, row {r.number}", what, f"{r.fields} instead of {width}: {r.text}") for r in rows]

    def _check_width(self, path: Path, numbers: _Numbers) -> None:
        if numbers.skipped > 20 and numbers.skipped > MAX_RAGGED * numbers.cursor:
            raise SourceError(
                f"{numbers.skipped} of the first {numbers.cursor} rows have another number of fields than the table.",
                where=str(path),
                mend="Use one delimiter throughout, and put fields that hold it in double quotes.",
            )

    def _open(self, stream: IO[bytes], dialect: Dialect, skip: object) -> Iterator[pa.RecordBatch]:
        plain = not _needs_recoding(dialect)
        names = list(dialect.names)
        data: IO[bytes] = stream if plain else cast("IO[bytes]", io.BufferedReader(Recoded(stream, dialect.encoding)))
        reader = pacsv.open_csv(
            data,
            read_options=pacsv.ReadOptions(
                column_names=names, skip_rows=int(dialect.header), block_size=self._block_bytes, use_threads=False
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
        name: str,
        dialect: Dialect,
        decoder: RowDecoder | None,
        block: pa.RecordBatch,
        rows: npt.NDArray[np.int64],
        faults: list[Fault],
        size: int,
    ) -> Iterator[Batch]:
        if decoder is not None:
            columns = decoder.columns(block.columns, dialect.names, rows, faults)
        else:
            columns = {n: c.cast(pa.large_string()) for n, c in zip(dialect.names, block.columns, strict=True)}
            faults += [f for n, c in columns.items() for f in marked(c, name, n, rows)]
        keep = _short_enough(columns, name, rows, faults, self.limits.max_field_bytes)
        if keep is not None:
            columns = {n: c.filter(pa.array(keep)) for n, c in columns.items()}
            rows = rows[keep]
        for start in range(0, max(1, len(rows)), size):
            part = rows[start : start + size]
            yield Batch(
                {n: c.slice(start, size) for n, c in columns.items()},
                np.full(len(part), -1, np.int8),
                numbered_rows(name, part),
                tuple(faults) if start == 0 else (),
            )

    @property
    def _block_bytes(self) -> int:
        return max(BLOCK_BYTES, 2 * self.limits.max_field_bytes + (1 << 16))

    def _explain(self, path: Path, error: pa.ArrowInvalid, rows: int) -> TidemillError:
        text = str(error)
        if "straddling" in text:
            return SourceError(
                f"a row is longer than {self._block_bytes / 1e6:.1f} MB.",
                where=f"{path}, after row {rows}" if rows else str(path),
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


def _needs_recoding(dialect: Dialect) -> bool:
    """The parser works on bytes: UTF-16 hides its marks from it, and GB 18030 has characters that end in a bar."""
    if dialect.encoding in UTF8 or dialect.encoding in ("cp1252", "latin-1"):
        return False
    return dialect.encoding != "gb18030" or dialect.delimiter == "|"


def check_columns(
    path: Path, names: Sequence[str], first: Path, expected: Sequence[str], root: Path, *, ordered: bool = False
) -> None:
    """Refuse a file that has not the columns of the first one; their order may differ unless *ordered*.

    Raises:
        SourceError: names the file and the columns that differ.
    """
    if (tuple(names) == tuple(expected)) if ordered else (set(names) == set(expected)):
        return
    lacks, brings = [n for n in expected if n not in names], [n for n in names if n not in expected]
    said = [f"lacks {', '.join(map(repr, lacks[:5]))}"] if lacks else []
    said += [f"has {', '.join(map(repr, brings[:5]))} besides"] if brings else []
    beside = first.relative_to(root).as_posix()
    raise SourceError(
        f"its columns are not those of {beside}: it {' and '.join(said) or 'has them in another order'}.",
        where=str(path),
        mend="Give files of the same columns, or name one of them under `data`.",
    )


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


def _listed(paths: list[str]) -> str:
    return ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
