"""Parquet files, also several of one table, with images as the Hugging Face datasets store them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tidemill.data import images, spelling
from tidemill.data.sources._base import Batch, Fault, Limits, RawColumn, Shapes, Source, Summary, numbered, rows_for
from tidemill.data.sources._files import fingerprint, require, split_of, split_of_value
from tidemill.data.sources._summary import summarise
from tidemill.errors import InputError, SourceError

_READ_BYTES = 1 << 16  # of each column at once: row groups may be as large as the file


class ParquetSource(Source):
    """One table in one or several files; ``train`` and ``test`` in their names give the split.

    A column of bytes, or of ``{"bytes": …, "path": …}``, is taken for images and is delivered as ``image`` pixels under
    its own name.
    """

    def __init__(self, files: list[Path], limits: Limits, *, name: str | None = None) -> None:
        super().__init__(name or files[0].name, limits)
        self.files = files
        schemas = [self._open(path).schema_arrow for path in files]
        for path, schema in zip(files, schemas, strict=True):
            if schema.names != schemas[0].names:
                message = f"its columns are not those of {files[0].name}."
                raise SourceError(message, where=str(path), mend="Give files of the same columns.")
        self.schema = schemas[0]
        self.image_columns = [f.name for f in self.schema if _holds_bytes(f.type)]
        self.shapes = {name: self._probe(name) for name in self.image_columns}
        self.split_column = next((n for n in self.schema.names if n.casefold() == "split"), None)
        self.notes.append(f"Parquet: {len(self.schema.names)} columns in {len(files)} file{'s' * (len(files) > 1)}")

    def _open(self, path: Path) -> pq.ParquetFile:
        require(path)
        try:
            # Read ahead, all buffers of the file would be kept until its last row.
            return pq.ParquetFile(path, pre_buffer=False, buffer_size=_READ_BYTES)
        except (pa.ArrowException, OSError) as error:
            message = f"this is no complete Parquet file ({error})."
            raise SourceError(message, where=str(path), mend="Write or copy it again.") from error

    def _probe(self, name: str) -> tuple[int, ...]:
        for table in self._open(self.files[0]).iter_batches(64, columns=[name]):
            for data in _bytes(table.column(0)).to_pylist():
                if data:
                    try:
                        return images.probe(data, max_pixels=self.limits.max_image_pixels)
                    except InputError:
                        continue
        message = f"column {name!r} holds bytes that are no images."
        raise SourceError(message, where=str(self.files[0]), mend="Leave the column out.")

    def fingerprint(self) -> str:
        """Paths, sizes and times of the files."""
        return fingerprint("parquet", self.files[0].parent, self.files)

    def summary(self) -> Summary:
        """One pass over all row groups."""
        return summarise(self.name, self.batches(), self.notes)

    def batches(self, size: int = 8192, *, shapes: Shapes | None = None) -> Iterator[Batch]:
        """All rows in order."""
        wanted = {n: tuple((shapes or {}).get(n, s)) for n, s in self.shapes.items()}
        for shape in wanted.values():
            size = rows_for(size, int(np.prod(shape)))
        for path in self.files:
            code = split_of(path.name)
            first = 1
            try:
                for table in self._open(path).iter_batches(size):
                    yield self._batch(path, table, code, first, wanted)
                    first += table.num_rows
            except (pa.ArrowException, OSError) as error:
                message = f"the file is damaged after row {first - 1} ({error})."
                raise SourceError(message, where=str(path), mend="Write or copy it again.") from error

    def _batch(self, path: Path, table: pa.RecordBatch, code: int, first: int, shapes: Shapes) -> Batch:
        origin = numbered(path.name, first, table.num_rows)
        columns: dict[str, RawColumn] = dict(zip(table.schema.names, table.columns, strict=True))
        split = np.full(table.num_rows, code, np.int8)
        if self.split_column:
            words = spelling.strings_of(columns[self.split_column]).fill_null("")
            codes = np.array([split_of_value(w) for w in words.to_pylist()], np.int8)
            if (codes >= 0).all():
                split = codes
                del columns[self.split_column]
        faults: list[Fault] = []
        keep = np.ones(table.num_rows, bool)
        for name, shape in shapes.items():
            columns[name] = self._decode(_bytes(cast("pa.Array", columns[name])), shape, origin, keep, faults)
        self._check_length(columns, origin, keep, faults)
        if not keep.all():
            arrow = pa.array(keep)
            columns = {n: c[keep] if isinstance(c, np.ndarray) else c.filter(arrow) for n, c in columns.items()}
            origin, split = origin.filter(arrow), split[keep]
        return Batch(columns, split, origin, tuple(faults))

    def _decode(
        self, data: pa.Array, shape: tuple[int, ...], origin: pa.Array, keep: np.ndarray, faults: list[Fault]
    ) -> images.Pixels:
        pixels = np.zeros((len(data), *shape), np.uint8)
        for i, value in enumerate(data):
            try:
                pixels[i] = images.decode(value.as_py() or b"", shape, max_pixels=self.limits.max_image_pixels)
            except InputError as error:
                keep[i] = False
                what = "the image could not be read and was left out"
                faults.append(Fault(origin[i].as_py(), what, error.what))
        return pixels

    def _check_length(
        self, columns: dict[str, RawColumn], origin: pa.Array, keep: np.ndarray, faults: list[Fault]
    ) -> None:
        limit = self.limits.max_field_bytes
        for name, column in columns.items():
            if isinstance(column, np.ndarray) or not (
                pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
            ):
                continue
            long = spelling.mask(pc.greater(pc.binary_length(column), limit))
            for i in np.flatnonzero(long).tolist():
                what = f"a field is longer than {limit:,} bytes, and the row was left out"
                faults.append(Fault(origin[i].as_py(), what, name))
            keep &= ~long


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(kind.field(i).name == "bytes" for i in range(kind.num_fields))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _bytes(column: pa.Array) -> pa.Array:
    return column.field("bytes") if pa.types.is_struct(column.type) else column
