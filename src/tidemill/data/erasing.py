"""Erasing rows from parts and versions: payloads are overwritten where they lie, and the rows never train again.

Parts are never rewritten, since versions number their rows. A row of a part goes through three states, in its index
under :data:`FORGOTTEN`: 0; 1 when its payload is overwritten, while its content key still says where it stood; 2 when
that is a keyed digest, too. Each write is on the disk before the next one that relies on it, so that whoever is killed
in between begins again and comes to the same end.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tidemill.data.arrays import Column, Ragged, Rows
from tidemill.data.forgotten import digests
from tidemill.data.keys import Keys
from tidemill.data.parts import FORGOTTEN, Part, open_part
from tidemill.data.splits import DROPPED, UNKNOWN
from tidemill.data.storage import is_complete, open_array, read_manifest, replace_manifest, save_array
from tidemill.errors import StoreError
from tidemill.records import JSON
from tidemill.store.seam import sync_folder

_BLANK_TEXT = 0x20
_KEYS = ("content", "near")
_STAYS = ("source", "empty", FORGOTTEN)
OVERWRITTEN, DONE = 1, 2


def parts_on_disk(root: Path) -> Iterator[Part]:
    """Every complete part below *root*, whether a version needs it or not."""
    for kind in ("parts", "live"):
        folder = root / "data" / kind
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            if is_complete(path):
                yield open_part(root, f"data/{kind}/{path.name}")


def rows_of(part: Part, content: Keys, origins: Collection[str]) -> Rows:
    """The rows of some content in a part that was imported, or those of some predictions in a live one."""
    if not part.live:
        return np.flatnonzero(np.isin(part.array("content"), content)).astype(np.int64)
    ours = pc.is_in(part.origin.to_arrow(), pa.array(sorted(origins), pa.large_string()))
    return np.flatnonzero(np.asarray(ours, np.bool_)).astype(np.int64)


def rows_in(part: Part, state: int) -> Rows:
    """The rows of a part that are in a state."""
    if FORGOTTEN not in part.index:
        return np.empty(0, np.int64)
    return np.flatnonzero(part.array(FORGOTTEN) == state).astype(np.int64)


def overwrite(root: Path, part: Part, rows: Rows) -> Part:
    """Bring *rows* of a part into state 1: nothing of them is left but their content keys.

    Returns:
        The part as it is now.
    """
    folder = root / part.path
    manifest = read_manifest(folder)
    state = _states(folder, part, manifest)
    rows = rows[np.asarray(state[rows] == 0)]
    for name, kind in manifest["inputs"].items():
        _blank(folder / "inputs", kind, part.columns[name], rows)
    for name, kind in manifest["index"].items():
        if name not in (*_KEYS, *_STAYS) and not (part.live and name == "origin"):  # the id of a prediction stays
            _blank(folder / "index", kind, part.index[name], rows)
    _put(state, rows, OVERWRITTEN)
    return open_part(root, part.path)


def finish(root: Path, part: Part, secret: bytes) -> None:
    """Bring the rows of state 1 into state 2: their keys become digests."""
    folder, rows = root / part.path, rows_in(part, OVERWRITTEN)
    if not len(rows):
        return
    kinds = read_manifest(folder)["index"]
    for name in _KEYS:
        if name in kinds:
            keys = _writable(folder / "index" / f"{kinds[name]['file']}.npy")
            _put(keys, rows, digests(secret, keys[rows]))
    _put(_writable(folder / "index" / f"{kinds[FORGOTTEN]['file']}.npy"), rows, DONE)


def _states(folder: Path, part: Part, manifest: JSON) -> npt.NDArray[np.uint8]:
    """The states of a part's rows, to be written."""
    path = folder / "index" / f"{FORGOTTEN}.npy"
    if FORGOTTEN not in manifest["index"]:
        path.unlink(missing_ok=True)
        save_array(path, np.zeros(part.n, np.uint8))
        sync_folder(path.parent)
        manifest["index"][FORGOTTEN] = {"kind": "array", "file": FORGOTTEN}
        replace_manifest(folder, manifest)
    return _writable(path)


def _blank(folder: Path, kind: JSON, column: Column, rows: Rows) -> None:
    """Zeros over fixed values (of floating point: not a number), blanks over texts."""
    if not isinstance(column, Ragged):
        values = _writable(folder / f"{kind['file']}.npy")
        _put(values, rows, np.nan if values.dtype.kind == "f" else -1 if values.dtype.kind == "i" else 0)
        return
    starts, ends = column.offsets[rows], column.offsets[rows + 1]
    if (ends > starts).any():
        values = _writable(folder / f"{kind['file']}.values.npy")
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            values[start:end] = _BLANK_TEXT
        _flush(values)


def erase_in_version(folder: Path, parts: Sequence[Part], taken_back: Rows, secret: bytes) -> None:
    """Drop the rows of a version that are in state 1 in its parts, and name what they were by digests.

    Args:
        folder: the version's.
        parts: its parts, in order.
        taken_back: rows whose labels are taken back, while their inputs stay; they are dropped from this version too.
        secret: the project's.
    """
    starts = np.cumsum([0, *[part.n for part in parts]])
    local = [rows_in(part, OVERWRITTEN) for part in parts]
    gone = np.concatenate([rows + start for rows, start in zip(local, starts, strict=False)])
    old = np.concatenate([part.array("content")[rows] for part, rows in zip(parts, local, strict=True)])
    dropped = np.union1d(gone, taken_back)
    target = _writable(folder / "target.npy")
    _put(_writable(folder / "split.npy"), dropped, DROPPED)
    _put(target, dropped, np.nan if target.dtype.kind == "f" else -1)
    _put(_writable(folder / "weight.npy"), dropped, 0)
    content = _writable(folder / "content.npy")
    others = np.ones(len(content), bool)
    others[gone] = False
    alone = np.unique(old)
    alone = alone[~np.isin(alone, content[others])]
    _forget_assignments(folder, alone)
    keys = _writable(folder / "keys.npy")
    theirs = np.flatnonzero(np.isin(keys, alone))  # also of rows that were near copies
    _put(keys, theirs, digests(secret, keys[theirs]))
    for values in (_writable(folder / "samples.npy"), content):
        _put(values, gone, digests(secret, old))


def _forget_assignments(folder: Path, keys: Keys) -> None:
    """Take keys out of the sorted list of all that have a split, which stays as long: a neighbour stands twice."""
    known, codes = (_writable(folder / f"assigned-{name}.npy") for name in ("keys", "codes"))
    gone = np.isin(known, keys)
    if not gone.any():
        return
    stays = np.flatnonzero(~gone)
    places = np.flatnonzero(gone)
    if not len(stays):
        _put(codes, places, UNKNOWN)
        _put(known, places, 0)
        return
    near = stays[np.maximum(np.searchsorted(stays, places) - 1, 0)]
    _put(codes, places, codes[near])
    _put(known, places, known[near])


def without(actions: Sequence[JSON], names: Collection[str]) -> list[JSON]:
    """What cleaning did, without the examples that mention one of *names*.

    >>> without([{"what": "w", "count": 2, "examples": ["a, row 7", "a, row 8 = a, row 9"]}], ["a, row 9"])
    [{'what': 'w', 'count': 2, 'examples': ['a, row 7']}]
    """
    return [{**a, "examples": [e for e in a["examples"] if not any(name in e for name in names)]} for a in actions]


def _writable(path: Path) -> npt.NDArray[Any]:
    """A ``.npy`` file, mapped to be written in place.

    Raises:
        StoreError: it cannot be.
    """
    try:
        values: npt.NDArray[Any] = np.load(path, mmap_mode="r+", allow_pickle=False)
    except (OSError, ValueError) as error:
        if path.exists() and not len(empty := open_array(path)):
            return empty
        raise StoreError(
            f"an array of the data set cannot be overwritten ({error})",
            where=str(path),
            mend="Check the disk and that you may write there.",
        ) from error
    return values


def _put(array: npt.NDArray[Any], rows: npt.NDArray[Any], values: Any) -> None:
    if len(rows):
        array[rows] = values
        _flush(array)


def _flush(array: npt.NDArray[Any]) -> None:
    """Return when what was written survives a loss of power."""
    assert isinstance(array, np.memmap)
    try:
        array.flush()
    except OSError as error:
        raise StoreError(
            f"an array of the data set cannot be overwritten ({os.strerror(error.errno or 0)})",
            mend="Check the disk, then open the project: the erasure goes on.",
        ) from error
