"""What a source is: batches of raw columns, each row with its origin and the source's own split."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tidemill.data.schema import FieldType

RawColumn: TypeAlias = "pa.Array | npt.NDArray[Any]"
Shapes = Mapping[str, tuple[int, ...]]
Splits = npt.NDArray[np.int8]

NO_SPLIT, TRAIN, VALIDATION, TEST = -1, 0, 1, 2
SPLIT_NAMES = ("train", "validation", "test")
DISTINCT_CAP = 1000
BATCH_BYTES = 16 << 20
"""Batches of images hold fewer rows than asked for when they would be larger than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a source may cost before it is refused.

    Attributes:
        max_image_pixels: width times height of one image.
        max_archive_bytes: the unpacked size of an archive, or of one compressed file.
        max_archive_ratio: unpacked over packed size of one member above 1 MB, or of a compressed file or tar.
        max_file_bytes: one file that has to be held in memory whole.
        max_field_bytes: one text value.
    """

    max_image_pixels: int = 50_000_000
    max_archive_bytes: int = 8_000_000_000
    max_archive_ratio: float = 200.0
    max_file_bytes: int = 512 << 20
    max_field_bytes: int = 1_000_000


@dataclass(frozen=True, slots=True)
class Fault:
    """One row that was repaired or left out: where it stands, what happened (in the same words every time), details."""

    origin: str
    what: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of a source.

    Attributes:
        columns: by name, Arrow arrays ``[n]`` (several labels a row: ``list<large_string>``), or NumPy arrays: uint8
            ``[n, h, w, c]`` for images, ``[n]`` else.
        split: int8 ``[n]``: -1 none, 0 train, 1 validation, 2 test.
        origin: Arrow strings ``[n]`` that say where each row came from, for people.
        faults: rows repaired or left out while this batch was read.
    """

    columns: dict[str, RawColumn]
    split: Splits
    origin: pa.Array
    faults: tuple[Fault, ...] = ()

    def __len__(self) -> int:
        return len(self.split)


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnSummary:
    """One column after a full pass.

    Attributes:
        type: what its values look like.
        distinct: number of distinct values that are not missing, at most 1001 (which means: more than 1000).
        missing: number of missing values.
        examples: up to five values, as text.
        shape: for images ``(height, width, channels)`` as they will be stored.
        integers: all numbers are whole.
        values: the distinct values as sorted text when there are at most 1000, variants of one label (case, padding,
            final full stop) merged into the spelling seen most; empty for images and for more values.
        counts: how often each of ``values`` was seen.
        lists: its values are lists of texts, any number of labels each.
        separator: what parts several labels in one text; ``None`` unless the texts look like that.
        members: the distinct single labels, sorted, of a column with ``lists`` or ``separator``.
    """

    name: str
    type: FieldType
    distinct: int
    missing: int
    examples: tuple[str, ...] = ()
    shape: tuple[int, ...] | None = None
    integers: bool = False
    values: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    lists: bool = False
    separator: str | None = None
    members: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a source holds.

    Attributes:
        columns: in the order of the source.
        rows: number of rows that can be read.
        splits: the names of the source's own splits that have rows.
        notes: what was found out and assumed while reading (delimiter, encoding, header, …).
        target: the column that looks like the target, or ``None``.
    """

    columns: tuple[ColumnSummary, ...]
    rows: int | None
    splits: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    target: str | None = None

    def column(self, name: str) -> ColumnSummary | None:
        """The column of that name."""
        return next((c for c in self.columns if c.name == name), None)

    def to_json(self) -> dict[str, Any]:
        """JSON-compatible data."""
        return cast("dict[str, Any]", _lists(asdict(self)))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Summary:
        """The summary that :meth:`to_json` wrote."""
        columns = tuple(ColumnSummary(**{k: _tuple(v) for k, v in c.items()}) for c in data["columns"])
        return cls(**{**{k: _tuple(v) for k, v in data.items()}, "columns": columns})


def _lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _lists(v) for k, v in value.items()}
    return [_lists(v) for v in value] if isinstance(value, tuple | list) else value


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


class Source(ABC):
    """Somewhere that rows come from; one file a format in :mod:`tidemill.data.sources`.

    Attributes:
        name: what people call it: the file's or folder's name.
        notes: what was found out and assumed while opening and reading.
    """

    def __init__(self, name: str, limits: Limits) -> None:
        self.name = name
        self.limits = limits
        self.notes: list[str] = []

    @abstractmethod
    def batches(self, size: int = 8192, *, shapes: Shapes | None = None) -> Iterator[Batch]:
        """All rows in order, at most *size* at a time. Memory does not grow with the number of rows.

        Args:
            size: rows in a batch; batches of images may have fewer.
            shapes: for image columns, ``(height, width, channels)`` to deliver instead of the summary's.

        Raises:
            SourceError: it cannot be read at all.
        """

    @abstractmethod
    def summary(self) -> Summary:
        """Types, values and counts of all columns, after one pass over the data.

        Raises:
            SourceError: it cannot be read, or has no rows.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Changes when the files do (paths, sizes, times of change); 64 hex digits."""


def rows_for(size: int, row_bytes: int) -> int:
    """How many rows of *row_bytes* a batch may hold."""
    return max(1, min(size, BATCH_BYTES // max(1, row_bytes)))


def numbered(name: str, first: int, count: int) -> pa.Array:
    """Origins ``"name, row 7"`` for *count* rows from *first* (1 is the first row of data)."""
    return numbered_rows(name, np.arange(first, first + count))


def numbered_rows(name: str, rows: npt.NDArray[np.int64]) -> pa.Array:
    """Origins ``"name, row 7"`` for the given row numbers."""
    import pyarrow.compute as pc

    text = pa.array(rows, pa.int64()).cast(pa.large_string())
    prefix = pa.scalar(f"{name}, row ", pa.large_string())
    return pc.binary_join_element_wise(prefix, text, pa.scalar("", pa.large_string()))
