"""A dataset version, opened: the arrays of its parts and the index that says what each row is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.data.arrays import Column, Ragged, Rows, stacked, take
from tidemill.data.build import Index
from tidemill.data.encode import decode_row
from tidemill.data.keys import key_int, key_text
from tidemill.data.parts import Part, open_part
from tidemill.data.schema import Signature
from tidemill.data.splits import SPLITS, Assignments
from tidemill.data.storage import is_complete, new_folder, open_array, read_manifest, save_array, write_manifest
from tidemill.data.targets import is_labelled
from tidemill.errors import NotFoundError
from tidemill.records import Dataset

_ARRAYS = ("samples", "content", "keys", "split", "target", "weight")


class DatasetArrays:
    """Everything that learning and judging read of one dataset version. Rows are numbered from 0 over all its parts.

    Attributes:
        id: of the version.
        signature: the inputs and the output.
        n: number of rows, dropped ones included.
        samples: what the ids of samples are made of, uint64 ``[n]``.
        content: content keys, uint64 ``[n]``.
        keys: split keys, uint64 ``[n]``: equal for rows that must not be torn apart; what intervals are clustered by.
        split: uint8 ``[n]``: indices into :data:`tidemill.data.splits.SPLITS`, 255 for dropped.
        target: int32 codes ``[n]``, int8 ``[n, labels]`` or float32 ``[n]``, see :mod:`tidemill.data.targets`.
        weight: float32 ``[n]``: the weight that the source gives a row (1 unless it does), times how often a row of a
            table occurs; for audited traffic one over the inclusion probability.
        weak: bool ``[n]``: the label is that of labelling functions, and nobody gave it.
        parts: what its rows lie in, one part after the other.
        starts: the number of the first row of each part, and behind them the number of all rows.
    """

    def __init__(self, root: Path, path: str) -> None:
        folder = root / path
        manifest = read_manifest(folder)
        arrays = {name: open_array(folder / f"{name}.npy") for name in _ARRAYS}
        self.id: str = manifest["id"]
        self.signature = Signature.from_json(manifest["signature"])
        self.keys: npt.NDArray[np.uint64] = arrays["keys"]
        self.content: npt.NDArray[np.uint64] = arrays["content"]
        self.split: npt.NDArray[np.uint8] = arrays["split"]
        self.target: npt.NDArray[Any] = arrays["target"]
        self.weight: npt.NDArray[np.float32] = arrays["weight"]
        self.weak: npt.NDArray[np.bool_] = _weak(folder, len(self.split))
        self.parts: list[Part] = [open_part(root, p) for p in manifest["parts"]]
        self.n = len(self.split)
        self.samples: npt.NDArray[np.uint64] = arrays["samples"]
        self.starts = np.cumsum([0, *[p.n for p in self.parts]])

    def rows(self, split: str, labelled: bool | None = True) -> Rows:
        """The rows of a split, int64, in order.

        Args:
            split: one of :data:`tidemill.data.splits.SPLITS`.
            labelled: only those with a label, only those without, or (``None``) all.
        """
        which = self.split == SPLITS.index(split)
        if labelled is not None:
            which &= is_labelled(self.target) == labelled
        return np.flatnonzero(which).astype(np.int64)

    def unanswered(self, split: str) -> Rows:
        """The rows of a split whose label nobody gave, int64, in order: those without one, and those of functions."""
        which = (self.split == SPLITS.index(split)) & (~is_labelled(self.target) | self.weak)
        return np.flatnonzero(which).astype(np.int64)

    def columns(self, rows: Rows) -> dict[str, Column]:
        """The inputs of the given rows, in their order, in memory."""
        part = np.searchsorted(self.starts, rows, side="right") - 1
        involved = np.unique(part)
        if len(involved) == 1:
            only = int(involved[0])
            return take(self.parts[only].columns, rows - self.starts[only])
        picked = [take(self.parts[i].columns, rows[part == i] - self.starts[i]) for i in involved.tolist()]
        if not picked:
            return take(self.parts[0].columns, rows)
        back = np.argsort(np.argsort(part, kind="stable"), kind="stable")
        return {name: _joined([columns[name] for columns in picked], back) for name in picked[0]}

    def chunks(self, rows: Rows, size: int = 4096) -> Iterator[dict[str, Column]]:
        """The inputs of the given rows, at most *size* at a time."""
        for start in range(0, len(rows), size):
            yield self.columns(rows[start : start + size])

    def sample_id(self, row: int) -> str:
        """The id of a row that is not dropped: the same content has the same id in every version."""
        return f"smp_{key_text(self.samples[row])}"

    def row_of(self, sample_id: str) -> int:
        """The row of a sample.

        Raises:
            NotFoundError: this version has no such sample.
            InputError: it is no sample id.
        """
        key = np.uint64(key_int(sample_id.removeprefix("smp_")))
        found = np.flatnonzero((self.samples == key) & (self.split < len(SPLITS)))
        if not len(found):
            raise NotFoundError(f"dataset {self.id} has no sample {sample_id}.")
        return int(found[0])

    def origin(self, row: int) -> str:
        """Where a row came from: file and row, path of an image, or the id of a prediction."""
        part = int(np.searchsorted(self.starts, row, side="right")) - 1
        return self.parts[part].origin[int(row - self.starts[part])]

    def show(self, row: int) -> dict[str, Any]:
        """The inputs of one row as JSON, as a request would give them."""
        part = int(np.searchsorted(self.starts, row, side="right")) - 1
        return decode_row(self.signature, self.parts[part].columns, int(row - self.starts[part]))


def _weak(folder: Path, rows: int) -> npt.NDArray[np.bool_]:
    """Which labels are weak; versions without labelling functions, and those of earlier days, say nothing of it."""
    path = folder / "weak.npy"
    return np.asarray(open_array(path), np.bool_) if path.is_file() else np.zeros(rows, np.bool_)


def _joined(columns: Sequence[Column], back: npt.NDArray[np.int64]) -> Column:
    joined = stacked(columns)
    return joined.take(back) if isinstance(joined, Ragged) else joined[back]


def open_dataset(root: Path, dataset: Dataset) -> DatasetArrays:
    """The arrays of a dataset version.

    Args:
        root: the store's root.
        dataset: its record.

    Raises:
        StoreError: its files are missing or damaged.
    """
    return DatasetArrays(root, dataset.path)


def open_assignments(root: Path, dataset: Dataset | None) -> Assignments:
    """The splits of all keys as of a version; none when there is no version yet."""
    return Assignments.empty() if dataset is None else Assignments.open(root / dataset.path)


def folders(root: Path, dataset: Dataset) -> list[str]:
    """The folders that a version needs, relative to the root: for whoever cleans up what no version needs."""
    return [dataset.path, *read_manifest(root / dataset.path)["parts"]]


def write_version(
    root: Path, identifier: str, signature: Signature, parts: Sequence[Part], index: Index, report: Mapping[str, Any]
) -> str:
    """Write the index of a version, unless it stands already; returns its folder relative to the root."""
    path = f"data/versions/{identifier}"
    if not is_complete(root / path):
        with new_folder(root / path) as folder:
            for name in _ARRAYS:
                save_array(folder / f"{name}.npy", getattr(index, name))
            if index.weak is not None:
                save_array(folder / "weak.npy", index.weak)
            index.assignments.save(folder)
            content = {
                "id": identifier,
                "signature": signature.to_json(),
                "parts": [p.path for p in parts],
                "report": dict(report),
            }
            write_manifest(folder, content)
    return path
