"""A table beside images that says what they show: ``metadata.csv`` or ``metadata.jsonl``, as ``datasets`` has it.

One row an image: ``file_name``, relative to the table's folder, and any other columns. Labels may be a list (in JSON
Lines) or one text with a separator.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa

from tidemill.data import spelling
from tidemill.data.sources._base import NO_SPLIT, Fault, Limits, RawColumn, Splits
from tidemill.data.sources._dialect import unique_names
from tidemill.data.sources._summary import likely_target
from tidemill.errors import SourceError

NAMES = ("metadata.csv", "metadata.jsonl")
KEY = "file_name"


class Metadata:
    """The rows of all metadata files, by the path of the image they speak of.

    Args:
        files: for each file its folder relative to the source (``.`` for the root), and where it can be read.
        limits: what it may cost.

    Attributes:
        columns: one row an image that a file names, without ``file_name``.
        target: the column that looks like the target.
        notes: what was found out while reading.

    Raises:
        SourceError: a file cannot be read, or has no ``file_name``.
    """

    def __init__(self, files: Sequence[tuple[str, Path]], limits: Limits) -> None:
        self.notes: list[str] = []
        self._rows: dict[str, int] = {}
        self._splits: list[Splits] = []
        self._faults: list[Fault] = []
        chunks: dict[str, list[pa.Array]] = {}
        lengths: list[int] = []
        for folder, path in files:
            self._read(folder, path, limits, chunks, lengths)
        names = unique_names(["image", *chunks])[1:]
        self.columns = {n: _joined(c, lengths) for n, c in zip(names, chunks.values(), strict=True)}
        self.target = likely_target(list(self.columns))
        if not self.columns:
            message = f"{files[0][1].name} has no column besides {KEY!r}."
            where = "; ".join([str(files[0][1]), *(note for note in self.notes if "left out" in note)])
            raise SourceError(message, where=where, mend="Add a column of labels.")

    def _read(
        self, folder: str, path: Path, limits: Limits, chunks: dict[str, list[pa.Array]], lengths: list[int]
    ) -> None:
        from tidemill.data.sources.delimited import DelimitedSource
        from tidemill.data.sources.jsonl import JsonSource

        kind = JsonSource if path.suffix == ".jsonl" else DelimitedSource
        source = kind([path], limits, name=path.name)
        for batch in source.batches():
            keys = batch.columns.get(KEY)
            if keys is None:
                mend = f"Give each image's path, relative to the folder of {path.name}, under {KEY!r}."
                raise SourceError(f"it has no column {KEY!r}.", where=str(path), mend=mend)
            self._faults += batch.faults
            start = sum(lengths)
            said = posixpath.join(folder, path.name) if folder != "." else path.name
            for i, name in enumerate(pa.array(keys).cast(pa.large_string()).to_pylist()):
                self._name(folder, name, start + i, said)
            for name, column in batch.columns.items():
                if name != KEY:
                    found = chunks.setdefault(name, [])
                    found += [pa.nulls(n) for n in lengths[len(found) :]]
                    found.append(column)
            lengths.append(len(batch))
            self._splits.append(batch.split)
        self.notes += source.notes

    def _name(self, folder: str, name: str | None, row: int, said: str) -> None:
        path = posixpath.normpath(posixpath.join(folder, (name or "").strip().replace("\\", "/")))
        if not name or path.startswith(("../", "/")) or path == "..":
            self._faults.append(Fault(f"{said}, {name}", "the name in the metadata is no path below it", ""))
        elif path in self._rows:
            what = "the metadata names an image twice; its first row counts"
            self._faults.append(Fault(f"{said}, {name}", what))
        else:
            self._rows[path] = row

    def match(self, paths: Sequence[str]) -> tuple[list[int | None], list[Fault]]:
        """The row of each image (``None`` when nothing is said of it), and what does not match.

        Raises:
            SourceError: no image is named at all.
        """
        known = set(paths)
        if not known & self._rows.keys():
            first = next(iter(self._rows), "nothing")
            message = f"none of the images that the metadata names is there; the first is {first!r}."
            raise SourceError(message, mend="Give paths relative to the folder that the metadata file is in.")
        absent = "the metadata names an image that is not there; the row was left out"
        silent = "the metadata does not name the image, which has no values but its own"
        faults = [*self._faults, *(Fault(p, absent) for p in self._rows if p not in known)]
        faults += [Fault(p, silent) for p in paths if p not in self._rows]
        return [self._rows.get(p) for p in paths], faults

    def split(self, row: int | None) -> int:
        """The split that a column ``split`` of the metadata gives the row, -1 for none."""
        if row is None:
            return NO_SPLIT
        for chunk in self._splits:
            if row < len(chunk):
                return int(chunk[row])
            row -= len(chunk)
        return NO_SPLIT


def _joined(chunks: list[pa.Array], lengths: list[int]) -> pa.Array:
    """The chunks as one column; chunks of different types as text."""
    chunks = [*chunks, *(pa.nulls(n) for n in lengths[len(chunks) :])]
    kinds = {c.type for c in chunks} - {pa.null()}
    if len(kinds) > 1 and any(pa.types.is_nested(k) for k in kinds):
        message = "a column of the metadata holds lists in one place and single values in another."
        raise SourceError(message, mend="Write it in one way.")
    kind = next(iter(kinds)) if len(kinds) == 1 else pa.large_string()
    return pa.concat_arrays([pa.nulls(len(c), kind) if pa.types.is_null(c.type) else _as(c, kind) for c in chunks])


def _as(column: RawColumn, kind: pa.DataType) -> pa.Array:
    array = column if isinstance(column, pa.Array) else pa.array(np.asarray(column))
    return array if array.type == kind else spelling.strings_of(array)


def is_metadata(name: str) -> bool:
    """Whether a file is called as such a table is."""
    return PurePosixPath(name).name.casefold() in NAMES
