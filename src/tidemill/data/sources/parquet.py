"""Parquet files, also several of one table, with images and class names as the Hugging Face datasets store them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tidemill.data.sources._arrow import ArrowColumns, holds_bytes
from tidemill.data.sources._base import Batch, Limits, Shapes, Source, Summary, numbered, rows_for
from tidemill.data.sources._files import common_root, fingerprint, require, split_of_file
from tidemill.data.sources._summary import summarise
from tidemill.data.sources.delimited import check_columns
from tidemill.errors import SourceError

_DAMAGED = (pa.ArrowException, OSError, ValueError)  # ValueError: bytes that are no UTF-8
_READ_BYTES = 1 << 16  # of each column at once: row groups may be as large as the file


class ParquetSource(Source):
    """One table in one or several files; ``train`` and ``test`` in their names give the split.

    A column of bytes, or of ``{"bytes": …, "path": …}``, is taken for images and is delivered as ``image`` pixels under
    its own name.
    """

    def __init__(self, files: list[Path], limits: Limits, *, name: str | None = None, root: Path | None = None) -> None:
        super().__init__(name or files[0].name, limits)
        self.files = files
        self.root = root or common_root(files)
        schemas = [self._schema(path) for path in files]
        for path, schema in zip(files, schemas, strict=True):
            check_columns(path, schema.names, files[0], schemas[0].names, self.root, ordered=True)
            for ours, theirs in zip(schema, schemas[0], strict=True):
                if holds_bytes(ours.type) != holds_bytes(theirs.type):
                    message = f"column {ours.name!r} is {ours.type} here and {theirs.type} in {files[0].name}."
                    raise SourceError(message, where=str(path), mend="Give files of the same columns.")
        self.columns = ArrowColumns(schemas[0], limits, str(files[0]), features=_features(schemas[0]))
        if self.columns.image_columns:
            try:
                self.columns.probe(self._open(files[0]).iter_batches(64))
            except _DAMAGED as error:
                raise _damaged(files[0], 1, error) from error
        self.notes.append(f"Parquet: {len(schemas[0].names)} columns in {len(files)} file{'s' * (len(files) > 1)}")
        self.notes += self.columns.notes

    def _open(self, path: Path) -> pq.ParquetFile:
        require(path)
        try:
            # Read ahead, all buffers of the file would be kept until its last row.
            return pq.ParquetFile(path, pre_buffer=False, buffer_size=_READ_BYTES)
        except _DAMAGED as error:
            raise _incomplete(path, error) from error

    def _schema(self, path: Path) -> pa.Schema:
        file = self._open(path)
        try:
            schema = file.schema_arrow
            "".join(schema.names)  # names that are no UTF-8 show themselves here
        except _DAMAGED as error:
            raise _incomplete(path, error) from error
        return schema

    def fingerprint(self) -> str:
        """Paths, sizes and times of the files."""
        return fingerprint("parquet", self.root, self.files)

    def summary(self) -> Summary:
        """One pass over all row groups."""
        return summarise(self.name, self.batches(), self.notes)

    def batches(self, size: int = 8192, *, shapes: Shapes | None = None) -> Iterator[Batch]:
        """All rows in order."""
        wanted = self.columns.wanted(shapes)
        for shape in wanted.values():
            size = rows_for(size, int(np.prod(shape)))
        for path in self.files:
            code = split_of_file(path, self.root)
            name = path.relative_to(self.root).as_posix()
            first = 1
            try:
                file = self._open(path)
                for table in file.iter_batches(rows_for(size, _row_bytes(file))):
                    yield self.columns.batch(table, numbered(name, first, table.num_rows), code, wanted)
                    first += table.num_rows
            except _DAMAGED as error:
                raise _damaged(path, first, error) from error


def _incomplete(path: Path, error: Exception) -> SourceError:
    message = f"this is no complete Parquet file ({error})."
    return SourceError(message, where=str(path), mend="Write or copy it again.")


def _damaged(path: Path, row: int, error: Exception) -> SourceError:
    message = f"the file is damaged after row {row - 1} ({error})."
    return SourceError(message, where=str(path), mend="Write or copy it again.")


def _row_bytes(file: pq.ParquetFile) -> int:
    """Unpacked bytes of an average row of the widest row group."""
    groups = (file.metadata.row_group(i) for i in range(file.metadata.num_row_groups))
    return max((int(g.total_byte_size / g.num_rows) for g in groups if g.num_rows), default=1)


def _features(schema: pa.Schema) -> Mapping[str, Any] | None:
    """What the ``datasets`` library says of the columns in the file itself."""
    try:
        said = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = said["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return None
    return features if isinstance(features, dict) else None
