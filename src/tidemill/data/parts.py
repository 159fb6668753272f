"""Parts: the arrays a dataset version is made of, each written once and shared by all versions.

An imported part holds the rows of one source, cached by the source's fingerprint, so that later cycles do not import
again. A live part holds samples from traffic. A part's folder, relative to the store's root, is its name::

    data/parts/<fingerprint>/   data/live/<hash>/
        inputs/                 the signature's columns, cleaned and typed
        index/                  content key, source split, label, origin and what near copies are told by
        manifest.json           written last
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tidemill.data import spelling
from tidemill.data.arrays import Column, Ragged, Rows, length, take
from tidemill.data.clean import Cleaner, Tally
from tidemill.data.encode import encode
from tidemill.data.forgotten import WHAT, Forgotten
from tidemill.data.keys import Keys, content_keys, hash_columns, strings_key
from tidemill.data.near import near_keys, thumbnails
from tidemill.data.schema import Signature
from tidemill.data.sources import Source
from tidemill.data.sources._base import RawColumn
from tidemill.data.storage import (
    ColumnsWriter,
    is_complete,
    new_folder,
    open_columns,
    read_manifest,
    write_manifest,
)
from tidemill.data.targets import unlabelled
from tidemill.errors import InputError

VERSION = 2
FORGOTTEN = "forgotten"
"""The array of an index that says which rows were erased, see :mod:`tidemill.data.erasing`; most parts have none."""
_LIVE_CHUNK = 256

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Part:
    """An opened part; all arrays are memory-mapped.

    Attributes:
        path: its folder, relative to the store's root.
        n: number of rows.
        columns: the inputs by name.
        index: ``content`` uint64, ``source`` int8 (the source's split), ``target``, ``empty`` bool, ``origin`` strings;
            where there are such: ``near`` uint64 (texts), ``thumbs`` uint8 ``[n, 64]`` (images), ``group`` uint64,
            ``time`` float64, ``weight`` float32 (NaN: leave the row out), ``forgotten`` uint8 (not 0: erased).
        actions: what cleaning did, as :meth:`tidemill.data.clean.Tally.to_json` writes it.
        notes: what the source said while it was read.
        live: it holds samples from traffic.
    """

    path: str
    n: int
    columns: dict[str, Column]
    index: dict[str, Column]
    actions: list[dict[str, Any]]
    notes: list[str]
    live: bool

    def array(self, name: str) -> npt.NDArray[Any]:
        """One array of the index that is no text."""
        column = self.index[name]
        assert isinstance(column, np.ndarray)
        return column

    @property
    def origin(self) -> Ragged:
        """Where each row came from: file and row, path of an image, or id of a prediction."""
        column = self.index["origin"]
        assert isinstance(column, Ragged)
        return column


@dataclass(frozen=True, slots=True)
class SideColumns:
    """Columns that are no inputs: what splits are made by besides the content (a group's name, a moment), and what
    says how much a row counts.
    """

    group: str | None = None
    time: str | None = None
    weight: str | None = None


def open_part(root: Path, path: str) -> Part:
    """A complete part.

    Raises:
        StoreError: it is missing, incomplete or damaged.
    """
    folder = root / path
    manifest = read_manifest(folder)
    return Part(
        path,
        manifest["rows"],
        open_columns(folder / "inputs", manifest["inputs"]),
        open_columns(folder / "index", manifest["index"]),
        manifest["actions"],
        manifest["notes"],
        manifest["live"],
    )


def _name(*parts: object) -> str:
    text = json.dumps([VERSION, *parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def import_part(
    root: Path,
    source: Source,
    signature: Signature,
    side: SideColumns,
    progress: Progress = lambda _rows: None,
    forgotten: Forgotten | None = None,
) -> Part:
    """The imported part of a source: opened when it was imported before, else read, cleaned and written.

    Args:
        root: the store's root.
        source: where the rows come from.
        signature: which columns, of which types, with which labels.
        side: the columns that are no inputs but say something of a row.
        progress: called with the number of rows read so far.
        forgotten: samples that are left out, and counted.

    Raises:
        SourceError: the source cannot be read.
        StoreError: the disk is full.
    """
    path = f"data/parts/{_name(source.fingerprint(), signature.to_json(), side.group, side.time, side.weight)}"
    folder = root / path
    if not is_complete(folder):
        shapes = {f.name: f.shape for f in signature.inputs if f.type == "image" and f.shape}
        tally = Tally()
        cleaner = Cleaner(signature, tally)
        unnamed: list[str] = []
        with new_folder(folder) as target, _Writer(target) as writer:
            for batch in source.batches(shapes=shapes):
                cleaned = cleaner.clean(batch)
                more: dict[str, Column] = {}
                if side.group is not None:
                    more["group"] = groups = _group(batch.columns.get(side.group), len(batch))
                    cleaner.count(f"rows without a {side.group!r} are groups of their own", groups == 0, batch)
                if side.time is not None:
                    more["time"] = moments = _time(batch.columns.get(side.time), len(batch))
                    what = f"rows without a moment in {side.time!r} were put among the oldest"
                    cleaner.count(what, np.isnan(moments), batch)
                if side.weight is not None:
                    more["weight"] = cleaner.weights(side.weight, batch)
                gone = writer.append(
                    signature,
                    cleaned.columns,
                    {
                        "source": batch.split,
                        "target": cleaned.target,
                        "empty": cleaned.empty,
                        "origin": Ragged.from_arrow(batch.origin),
                        **more,
                    },
                    forgotten,
                )
                tally.add(WHAT, len(gone))
                unnamed += [batch.origin[i].as_py() for i in gone.tolist()]
                progress(writer.rows)
            cleaner.finish()
            tally.leave_out(unnamed)
            writer.finish(tally, list(source.notes), live=False)
    return open_part(root, path)


def live_part(root: Path, signature: Signature, samples: Sequence[tuple[str, Mapping[str, Any]]]) -> Part | None:
    """A live part of samples from traffic; ``None`` when none of them fits the signature.

    Args:
        root: the store's root.
        signature: as of the imported parts.
        samples: the prediction's id and the inputs of each.
    """
    path = f"data/live/{_name([i for i, _ in samples], signature.to_json())}"
    folder = root / path
    if not is_complete(folder):
        tally = Tally()
        with new_folder(folder) as target, _Writer(target) as writer:
            for start in range(0, len(samples), _LIVE_CHUNK):
                columns, kept = _encoded(signature, samples[start : start + _LIVE_CHUNK], tally)
                writer.append(
                    signature,
                    columns,
                    {
                        "source": np.full(len(kept), -1, np.int8),
                        "target": unlabelled(signature, len(kept)),
                        "empty": np.zeros(len(kept), bool),
                        "origin": Ragged.from_strings(kept),
                    },
                )
            writer.finish(tally, [], live=True)
    part = open_part(root, path)
    return part if part.n else None


def _encoded(
    signature: Signature, samples: Sequence[tuple[str, Mapping[str, Any]]], tally: Tally
) -> tuple[dict[str, Column], list[str]]:
    """Samples as columns, without those that do not fit the signature (any more).

    How large an image may be was settled when it was answered.
    """
    read = partial(encode, signature, max_pixels=sys.maxsize, logged=True)
    try:
        return read([inputs for _, inputs in samples]), [i for i, _ in samples]
    except InputError:
        fitting = []
        for identifier, inputs in samples:
            try:
                read([inputs])
            except InputError as error:
                what = "samples from traffic that no longer fit the signature were left out"
                tally.add(what, 1, [f"{identifier}: {error}"])
            else:
                fitting.append((identifier, inputs))
        return read([inputs for _, inputs in fitting]), [i for i, _ in fitting]


def _group(raw: RawColumn | None, n: int) -> Keys:
    """Keys of the group column's values; 0 where there is none."""
    if raw is None:
        return np.zeros(n, np.uint64)
    strings = spelling.strip(spelling.filled_strings(pa.array(raw)))
    return np.where(spelling.missing(strings), np.uint64(0), strings_key(strings))


def _time(raw: RawColumn | None, n: int) -> npt.NDArray[np.float64]:
    if raw is None:
        return np.full(n, np.nan)
    array = pa.array(raw)
    if pa.types.is_temporal(array.type):
        return (
            np.asarray(array.cast(pa.timestamp("us"), safe=False).cast(pa.int64()).cast(pa.float64(), safe=False)) / 1e6
        )
    strings = spelling.strip(spelling.filled_strings(array))
    seconds = spelling.to_seconds(strings)
    return np.where(np.isnan(seconds), spelling.to_numbers(strings), seconds)


class _Writer:
    """Writes a part's two folders, and the keys that follow from the inputs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows = 0
        (folder / "inputs").mkdir()
        (folder / "index").mkdir()
        self._inputs = ColumnsWriter(folder / "inputs")
        self._index = ColumnsWriter(folder / "index")

    def append(
        self,
        signature: Signature,
        columns: dict[str, Column],
        index: dict[str, Column],
        forgotten: Forgotten | None = None,
    ) -> Rows:
        """Write a chunk; which of its rows were left out since they are forgotten."""
        hashes = hash_columns(columns, signature)
        content = content_keys(columns, signature, hashes)
        gone = np.flatnonzero(forgotten.mask(content)) if forgotten else np.empty(0, np.int64)
        if len(gone):
            left = np.setdiff1d(np.arange(len(content)), gone)
            columns, index, content = take(columns, left), take(index, left), content[left]
            hashes = {name: values[left] for name, values in hashes.items()}
        derived: dict[str, Column] = {"content": content}
        near = near_keys(columns, signature, hashes)
        if near is not None:
            derived["near"] = near
        picture = next((f.name for f in signature.inputs if f.type == "image"), None)
        if picture is not None:
            pixels = columns[picture]
            assert isinstance(pixels, np.ndarray)
            derived["thumbs"] = thumbnails(pixels)
        self._inputs.append(columns)
        self._index.append({**index, **derived})
        self.rows += length(columns)
        return gone

    def finish(self, tally: Tally, notes: list[str], *, live: bool) -> None:
        self.close()
        manifest = {
            "version": VERSION,
            "rows": self.rows,
            "live": live,
            "inputs": self._inputs.kinds,
            "index": self._index.kinds,
            "actions": tally.to_json(),
            "notes": notes,
        }
        write_manifest(self.folder, manifest)

    def close(self) -> None:
        self._inputs.close()
        self._index.close()

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
