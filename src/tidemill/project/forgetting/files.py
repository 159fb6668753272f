"""Erasing in files: arrays are overwritten, what is made of them is removed, and what quotes them is written anew."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from tidemill.data.dataset import DatasetArrays
from tidemill.data.erasing import (
    OVERWRITTEN,
    erase_in_version,
    finish,
    overwrite,
    parts_on_disk,
    rows_in,
    rows_of,
    without,
)
from tidemill.data.parts import Part
from tidemill.data.storage import is_complete, read_manifest, replace_manifest
from tidemill.errors import StoreError
from tidemill.project.forgetting import aged
from tidemill.project.forgetting.rows import Aim, Touched
from tidemill.store import Store

_DERIVED = ("profile.json", "label-errors.json", "label-doubts.json")
"""What is kept beside a version once it was asked for; it is made anew when it is asked for again."""
_LOOSE = ("report-*.html", "data-*.html", "crash-*.txt")
_LOGS = "*.log*"


def erase_in_arrays(store: Store, aim: Aim, found: Sequence[Touched]) -> int:
    """Overwrite the rows in every part, and drop them from every version; how many payloads there were."""
    root = store.root
    names = {name for one in found for name in one.names()} | aim.origins
    for folder in _manifests(root):
        _unquote(folder, names)
    count = 0
    parts: list[Part] = []
    for part in parts_on_disk(root):
        rows = rows_of(part, aim.content, aim.origins)
        fresh = overwrite(root, part, rows) if len(rows) else part
        count += len(rows)
        if len(rows_in(fresh, OVERWRITTEN)):
            parts.append(fresh)
    for one in found:
        arrays = DatasetArrays(root, one.record.path)
        erase_in_version(root / one.record.path, arrays.parts, one.taken_back, store.secret)
    for part in parts:
        finish(root, part, store.secret)
    return count


def _manifests(root: Path) -> Iterator[Path]:
    """The folders of data that say what was done to their rows."""
    for kind in ("parts", "live", "versions"):
        folder = root / "data" / kind
        yield from (path for path in sorted(folder.iterdir()) if is_complete(path)) if folder.is_dir() else ()


def _unquote(folder: Path, names: Collection[str]) -> None:
    """Take examples that mention a row out of a folder's manifest."""
    manifest = read_manifest(folder)
    told = manifest if "actions" in manifest else manifest["report"]
    left = without(told.get("actions", []), names)
    if left != told.get("actions", []):
        told["actions"] = left
        replace_manifest(folder, manifest)


def remove_derived(store: Store, found: Collection[Touched], *, sources: bool) -> list[Path]:
    """Remove what was made of the rows and is made anew when it is needed, and what killed work has left.

    Args:
        found: the versions that the rows are of.
        sources: rows of sources are erased, so what is kept of these goes, too.

    Returns:
        What was removed.
    """
    root, data = store.root, store.root / "data"
    versions = {one.record.id: root / one.record.path for one in found}
    doomed = [root / "features" / name for name in versions]
    doomed += [folder / name for folder in versions.values() for name in _DERIVED]
    doomed += [path for folder in versions.values() for name in _DERIVED for path in folder.glob(f".{name}.*")]
    doomed += [root / "console", root / "progress.json"]
    doomed += [root / "work", *aged.sweep(root), *data.glob(".work-*"), *data.glob("*/.*")]
    doomed += [path for pattern in _LOOSE for path in root.glob(pattern)]
    if sources:
        doomed.append(data / "summaries")
    removed = [path for path in doomed if path.exists()]
    try:
        for path in removed:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        for log in root.glob(_LOGS):
            log.open("wb").close()  # emptied, not removed: somebody may be writing it
    except OSError as error:
        raise StoreError(
            f"what was made of the data cannot be removed ({error.strerror})",
            where=str(error.filename or root),
            mend="Check that you may write there, then erase again: it goes on.",
        ) from error
    return removed
