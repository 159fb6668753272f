"""Features on disk: fitted once for a dataset version and a recipe's spec, then memory-mapped by every run.

The folder is ``ROOT/DATASET/HASH`` and holds one ``.npy`` a feature array (three for a sparse one), ``rows.npy``,
``pipeline.json`` and, written last, ``complete.json``. It is built beside its place and renamed into it, so a process
that is killed leaves nothing that could be mistaken for a finished cache, and two processes that build the same one do
not disturb each other.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tidemill.data.arrays import Column, Columns, Rows, length
from tidemill.data.schema import Signature
from tidemill.data.storage import ArrayWriter, allocate, open_array
from tidemill.errors import StoreError
from tidemill.features._base import Feature, FeatureInfo, Sparse
from tidemill.features.pipeline import Pipeline, step_class

_FORMAT = 1  # part of the hash: raise it when a step's output changes
_CHUNK_BYTES = 16 << 20
_SPARSE = ("indices", "values", "offsets")
_PER_BYTE_OF_TEXT = 8  # n-grams of a text take many times its own bytes
_LOOKED_AT = 256  # rows that tell how large a row is
_TARGETS = {"classification": np.int64, "multilabel": np.uint8, "regression": np.float32, "choice": np.float32}


class Samples(Protocol):
    """What is needed of a dataset version (see :class:`tidemill.data.dataset.DatasetArrays`)."""

    @property
    def id(self) -> str: ...  # noqa: D102
    @property
    def signature(self) -> Signature: ...  # noqa: D102
    @property
    def target(self) -> npt.NDArray[Any]: ...  # noqa: D102
    @property
    def weight(self) -> npt.NDArray[np.float32]: ...  # noqa: D102
    def rows(self, split: str, labelled: bool | None = True) -> Rows: ...  # noqa: D102
    def chunks(self, rows: Rows, size: int = 4096) -> Any: ...  # noqa: D102
    def columns(self, rows: Rows) -> dict[str, Column]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """A dataset version as one recipe's learner sees it: labelled training rows first, then validation rows.

    Attributes:
        pipeline: the fitted steps.
        arrays: feature arrays, ``n`` rows each, memory-mapped read-only.
        train: how many of the rows train; all of them in a refit.
        target: int64 codes or float32 values ``[n]``, for multilabel uint8 ``[n, labels]`` of 0 and 1.
        weight: float32 ``[n]``, or ``None`` when all are one.
        rows: int64 ``[n]``, the dataset's row behind each row.
    """

    pipeline: Pipeline
    arrays: dict[str, Feature]
    train: int
    target: npt.NDArray[Any]
    weight: npt.NDArray[np.float32] | None
    rows: Rows

    @property
    def info(self) -> dict[str, FeatureInfo]:
        """What each array is."""
        return self.pipeline.info()


def feature_set(
    dataset: Samples,
    specs: Sequence[Mapping[str, Any]],
    root: Path,
    *,
    refit: bool = False,
    states: Sequence[Mapping[str, Any]] | None = None,
) -> FeatureSet:
    """The features of a dataset version by a recipe's *specs*, from the cache or built into it.

    Building streams: two passes in chunks of about 16 MB, and the arrays are mapped files, so anonymous memory stays
    flat. Targets and weights are read from the dataset each time, they are never cached.

    Args:
        dataset: an opened dataset version.
        specs: the recipe's feature steps.
        root: the folder of all caches.
        refit: the validation rows train too: steps are fitted on both, and no row validates.
        states: what each step is to know instead of being fitted, as another model's did.

    Raises:
        ConfigError: the specs do not fit the signature.
        TrainingError: there are no labelled training rows.
        StoreError: the disk is full or cannot be written.
    """
    train, validation = dataset.rows("train"), dataset.rows("validation")
    rows = np.concatenate([train, validation]).astype(np.int64)
    fitted = len(rows) if refit else len(train)
    if states is None:
        name = spec_hash(specs) + ("-refit" if refit and learning(specs) else "")
    else:
        name = spec_hash([*specs, *states])
    place = root / dataset.id / name
    found = _open(place, rows)
    if found is None:
        try:
            _build(place, dataset, specs, rows, fitted, states)
        except OSError as error:
            raise StoreError(
                f"the features could not be written: {error.strerror or error}",
                where=str(place),
                mend="Free some disk space (tidemill gc) and run it again.",
            ) from error
        found = _open(place, rows)
        if found is None:
            raise StoreError("the features were written but cannot be read back", where=str(place), mend="Try again.")
    pipeline, arrays = found
    target = dataset.target[rows].astype(_TARGETS[dataset.signature.kind])
    weight = np.asarray(dataset.weight[rows], np.float32)
    return FeatureSet(pipeline, arrays, fitted, target, None if (weight == 1).all() else weight, rows)


def spec_hash(specs: Sequence[Mapping[str, Any]]) -> str:
    """16 hex digits that name a list of step specs.

    >>> spec_hash([{"step": "pixels"}]) == spec_hash([{"step": "numbers"}])
    False
    """
    text = json.dumps([_FORMAT, [dict(spec) for spec in specs]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def learning(specs: Sequence[Mapping[str, Any]]) -> bool:
    """Whether what the steps write follows from the rows they are fitted on."""
    return any(step_class(spec.get("step", "")).learns for spec in specs)


def _open(place: Path, rows: Rows) -> tuple[Pipeline, dict[str, Feature]] | None:
    """What a finished cache holds; ``None`` when there is none, it is damaged, or its rows are others."""
    try:
        marker = json.loads((place / "complete.json").read_bytes())
        if any((place / name).stat().st_size != size for name, size in marker["bytes"].items()):
            return None
        if not np.array_equal(np.load(place / "rows.npy", mmap_mode="r"), rows):
            return None
        arrays: dict[str, Feature] = {}
        for name in marker["arrays"]:
            arrays[name] = np.load(place / f"{name}.npy", mmap_mode="r")
        for name, width in marker["sparse"].items():
            indices, values, offsets = (open_array(place / f"{name}.{part}.npy") for part in _SPARSE)
            arrays[name] = Sparse(indices, values, offsets, width)
        pipeline = Pipeline.from_json(json.loads((place / "pipeline.json").read_bytes()))
    except (OSError, ValueError, KeyError, StoreError):
        return None
    return pipeline, arrays


def _build(
    place: Path,
    dataset: Samples,
    specs: Sequence[Mapping[str, Any]],
    rows: Rows,
    train: int,
    states: Sequence[Mapping[str, Any]] | None,
) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    _sweep(place)
    building = place.with_name(f"{place.name}.{os.getpid()}.part")
    building.mkdir()
    try:
        size = _chunk_rows(dataset, rows)
        pipeline = Pipeline(specs, dataset.signature)
        if states is None:
            pipeline.fit(dataset.chunks(rows[:train], size))
        else:
            pipeline.restore(states)
        arrays, sparse = _write_arrays(building, pipeline, dataset.chunks(rows, size), len(rows))
        np.save(building / "rows.npy", rows)
        (building / "pipeline.json").write_text(json.dumps(pipeline.to_json()))
        sizes = {}
        for path in sorted(building.iterdir()):
            _sync(path)
            sizes[path.name] = path.stat().st_size
        marker = building / "complete.json"
        facts = {"bytes": sizes, "arrays": arrays, "sparse": sparse, "specs": [dict(spec) for spec in specs]}
        marker.write_text(json.dumps(facts))
        _sync(marker)
        _sync(building)
        with _alone_in(place.parent):
            if _open(place, rows) is None:  # otherwise another process was quicker, and may be reading it by now
                shutil.rmtree(place, ignore_errors=True)  # damaged, or of other rows
                building.rename(place)
        _sync(place.parent)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _write_arrays(folder: Path, pipeline: Pipeline, chunks: Any, n: int) -> tuple[list[str], dict[str, int]]:
    """Write every feature; the names of the dense ones, and the widths of the sparse ones."""
    out: dict[str, npt.NDArray[Any]] = {}
    sparse: dict[str, _SparseWriter] = {}
    start = 0
    try:
        for chunk in chunks:
            features = pipeline.transform(chunk)
            count = length(chunk)
            for name, part in features.items():
                if isinstance(part, Sparse):
                    if name not in sparse:
                        sparse[name] = _SparseWriter(folder, name, part.width)
                    sparse[name].append(part)
                    continue
                if name not in out:
                    shape = (n, *part.shape[1:])
                    path = folder / f"{name}.npy"
                    out[name] = np.lib.format.open_memmap(path, mode="w+", dtype=part.dtype, shape=shape)
                    allocate(path)
                out[name][start : start + count] = part
            start += count
    finally:
        for writer in sparse.values():
            writer.close()
    return sorted(out), {name: writer.width for name, writer in sparse.items()}


class _SparseWriter:
    """Appends sparse rows to three files; how many values there will be is known only at the end."""

    def __init__(self, folder: Path, name: str, width: int) -> None:
        self.width = width
        types = (np.int32, np.float32, np.int64)
        self._indices, self._values, self._offsets = (
            ArrayWriter(folder / f"{name}.{part}.npy", dtype) for part, dtype in zip(_SPARSE, types, strict=True)
        )
        self._offsets.append(np.zeros(1, np.int64))

    def append(self, part: Sparse) -> None:
        end = self._values.rows
        self._indices.append(part.indices)
        self._values.append(part.values)
        self._offsets.append(part.offsets[1:] - part.offsets[0] + end)

    def close(self) -> None:
        for writer in (self._indices, self._values, self._offsets):
            writer.close()


def _chunk_rows(dataset: Samples, rows: Rows) -> int:
    """How many rows make about 16 MB, judged by the first ones."""
    first: Columns = dataset.columns(rows[:_LOOKED_AT])
    texts = {field.name for field in dataset.signature.inputs if field.type == "text"}
    total = sum(
        column.nbytes
        if isinstance(column, np.ndarray)
        else len(column.values) * (_PER_BYTE_OF_TEXT if name in texts else 1) + column.offsets.nbytes
        for name, column in first.items()
    )
    row_bytes = total * 5 // max(length(first), 1) + 64
    return int(np.clip(_CHUNK_BYTES // row_bytes, 16, 16_384))


def _sweep(place: Path) -> None:
    """Remove what killed processes left half built."""
    for leftover in place.parent.glob(f"{place.name}.*.part"):
        pid = leftover.name.split(".")[-2]
        if not (pid.isdigit() and _alive(int(pid))) or int(pid) == os.getpid():
            shutil.rmtree(leftover, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold the folder itself locked; the kernel lets go of it when the process is killed."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
