"""What Parquet files, saved Hugging Face sets and query results share: Arrow tables as batches of raw columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tidemill.data import images, spelling
from tidemill.data.sources._base import BATCH_BYTES, Batch, Fault, Limits, RawColumn, Shapes, Splits
from tidemill.data.sources._dialect import unique_names
from tidemill.data.sources._files import split_of_value
from tidemill.data.sources._summary import is_labels
from tidemill.errors import InputError, SourceError

LABELS = pa.list_(pa.large_string())
"""The type of a column of several labels a row."""


class ArrowColumns:
    """Turns record batches of one schema into batches.

    A column of bytes, or of ``{"bytes": …, "path": …}``, is taken for images and is delivered as pixels under its own
    name; lists of texts or whole numbers become lists of labels; codes of a ``ClassLabel`` become their names.

    Args:
        schema: of the record batches.
        features: Hugging Face's description of the columns, as JSON, where there is one.
        limits: what it may cost.
        where: the file, for messages.

    Attributes:
        names: of the columns; repeated ones are told apart.
        notes: what was found out.
        shapes: of the image columns; set by :meth:`probe`.
    """

    def __init__(
        self, schema: pa.Schema, limits: Limits, where: str, *, features: Mapping[str, Any] | None = None
    ) -> None:
        self.names = unique_names(list(schema.names))
        self.limits = limits
        self.where = where
        self.notes: list[str] = []
        twice = [f"{n} is {w!r} again" for n, w in zip(self.names, schema.names, strict=True) if n != w and w]
        if twice:
            self.notes.append(f"names that stand twice are told apart: {', '.join(twice)}")
        self.image_columns = [n for n, f in zip(self.names, schema, strict=True) if holds_bytes(f.type)]
        self.class_names = {n: c for n in self.names if features and (c := _class_names(features.get(n)))}
        for name, classes in self.class_names.items():
            self.notes.append(f"the codes of {name!r} are given by their {len(classes)} names")
        self.split_column = next((n for n in self.names if n.casefold() == "split"), None)
        self.shapes: dict[str, tuple[int, ...]] = {}

    def probe(self, tables: Iterable[pa.RecordBatch]) -> None:
        """Take the shapes of the image columns from the first images that can be read.

        Raises:
            SourceError: a column of bytes holds no images.
        """
        open_columns = set(self.image_columns)
        for table in tables:
            for name in sorted(open_columns):
                shape = self._first_shape(table.column(self.names.index(name)))
                if shape:
                    self.shapes[name] = shape
                    open_columns.discard(name)
            if not open_columns:
                return
        if open_columns:
            message = f"column {min(open_columns)!r} holds bytes that are no images."
            raise SourceError(message, where=self.where, mend="Leave the column out.")

    def _first_shape(self, column: pa.Array) -> tuple[int, ...] | None:
        for data in _bytes(column).to_pylist():
            if data:
                try:
                    return images.probe(data, max_pixels=self.limits.max_image_pixels)
                except InputError:
                    continue
        return None

    def wanted(self, shapes: Shapes | None) -> dict[str, tuple[int, ...]]:
        """The shapes to deliver: those asked for, else those found."""
        return {n: tuple((shapes or {}).get(n, s)) for n, s in self.shapes.items()}

    def batch(self, table: pa.RecordBatch, origin: pa.Array, code: int, shapes: Mapping[str, tuple[int, ...]]) -> Batch:
        """One batch; rows with an unreadable image or an overlong text are left out and are faults."""
        columns: dict[str, RawColumn] = dict(zip(self.names, table.columns, strict=True))
        split: Splits = np.full(table.num_rows, code, np.int8)
        if self.split_column:
            words = spelling.strings_of(columns[self.split_column]).fill_null("")
            codes = np.array([split_of_value(w) for w in words.to_pylist()], np.int8)
            if (codes >= 0).all():
                split = codes
                del columns[self.split_column]
        faults: list[Fault] = []
        keep = np.ones(table.num_rows, np.bool_)
        for name, column in columns.items():
            if name in shapes:
                columns[name] = self._decode(_bytes(cast("pa.Array", column)), shapes[name], origin, keep, faults)
            else:
                columns[name] = as_labels(self._named(name, cast("pa.Array", column)))
        self._check_length(columns, origin, keep, faults)
        if not keep.all():
            arrow = pa.array(keep)
            columns = {n: c[keep] if isinstance(c, np.ndarray) else c.filter(arrow) for n, c in columns.items()}
            origin, split = origin.filter(arrow), split[keep]
        return Batch(columns, split, origin, tuple(faults))

    def _named(self, name: str, column: pa.Array) -> pa.Array:
        """Codes by their names; -1 and what is out of range is missing, as the test sets of the hub have it."""
        classes = self.class_names.get(name)
        if classes is None:
            return column
        if is_labels(column.type):
            flat = _taken(classes, column.flatten())
            return pa.ListArray.from_arrays(_offsets(column), flat, mask=pc.is_null(column))
        return _taken(classes, column) if pa.types.is_integer(column.type) else column

    def _decode(
        self,
        data: pa.Array,
        shape: tuple[int, ...],
        origin: pa.Array,
        keep: npt.NDArray[np.bool_],
        faults: list[Fault],
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
        self, columns: dict[str, RawColumn], origin: pa.Array, keep: npt.NDArray[np.bool_], faults: list[Fault]
    ) -> None:
        limit = self.limits.max_field_bytes
        for name, column in columns.items():
            if isinstance(column, np.ndarray) or not is_text(column.type):
                continue
            long = spelling.mask(pc.greater(pc.binary_length(column), limit))
            for i in np.flatnonzero(long).tolist():
                what = f"a field is longer than {limit:,} bytes, and the row was left out"
                faults.append(Fault(origin[i].as_py(), what, name))
            keep &= ~long


def as_labels(column: pa.Array) -> pa.Array:
    """A list column as :data:`LABELS`; any other column unchanged.

    >>> as_labels(pa.array([[1, 2], [], None])).to_pylist()
    [['1', '2'], [], None]
    """
    if not is_labels(column.type) or column.type == LABELS:
        return column
    values = column.flatten()
    strings = pa.nulls(len(values), pa.large_string()) if pa.types.is_null(values.type) else spelling.strings_of(values)
    return pa.ListArray.from_arrays(_offsets(column), strings, mask=pc.is_null(column))


def _offsets(column: pa.Array) -> pa.Array:
    """Offsets into what ``flatten`` gives, which leaves out the values behind nulls."""
    lengths = pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())


def _taken(classes: list[str], codes: pa.Array) -> pa.Array:
    inside = pc.and_(pc.greater_equal(codes, 0), pc.less(codes, len(classes)))
    return pa.array(classes, pa.large_string()).take(pc.if_else(inside, codes, pa.scalar(None, codes.type)))


def _class_names(feature: Any) -> list[str] | None:
    if isinstance(feature, list) and len(feature) == 1:
        feature = {"_type": "List", "feature": feature[0]}
    if not isinstance(feature, Mapping):
        return None
    if feature.get("_type") in ("Sequence", "List", "LargeList"):
        return _class_names(feature.get("feature"))
    names = feature.get("names")
    return [str(n) for n in names] if feature.get("_type") == "ClassLabel" and isinstance(names, list) else None


def is_text(kind: pa.DataType) -> bool:
    """A column of strings."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def holds_bytes(kind: pa.DataType) -> bool:
    """A column of bytes, or of Hugging Face's ``{"bytes": …, "path": …}``."""
    if pa.types.is_struct(kind):
        return any(kind.field(i).name == "bytes" for i in range(kind.num_fields))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _bytes(column: pa.Array) -> pa.Array:
    return column.field("bytes") if pa.types.is_struct(column.type) else column


def pieces(table: pa.RecordBatch, size: int) -> Iterable[pa.RecordBatch]:
    """A record batch in pieces of at most *size* rows, and of about 16 MB."""
    rows = max(1, min(size, int(BATCH_BYTES * table.num_rows / max(1, table.nbytes))))
    return (table.slice(start, rows) for start in range(0, table.num_rows, rows))
