"""Predictions that have aged into Parquet files, below ``.tidemill/archive``."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tidemill.errors import StoreError
from tidemill.records import Prediction
from tidemill.store.erasing import KEPT
from tidemill.store.seam import sync, sync_folder

_BLANK = {"inputs": "{}", "answer": "{}", "key": ""}


def files(root: Path) -> list[Path]:
    """All of them."""
    return sorted((root / "archive").glob("*.parquet"))


def find(
    root: Path, *, caller: str | None = None, identifiers: Collection[str] = (), keys: Collection[str] = ()
) -> dict[str, str]:
    """The ids of aged predictions by their caller, ids or keys, each with its key."""
    if caller is None and not identifiers and not keys:
        return {}
    found: dict[str, str] = {}
    for path in files(root):
        table = _read(path, ["id", "caller", "key"])
        wanted = _is_in(table["id"], identifiers)
        wanted = pc.or_(wanted, pc.and_(_is_in(table["key"], keys), pc.not_equal(table["key"], "")))
        if caller is not None:
            wanted = pc.or_(wanted, _is_in(table["caller"].cast(pa.string()), [caller]))
        rows = table.filter(wanted)
        found.update(zip(rows["id"].to_pylist(), rows["key"].to_pylist(), strict=True))
    return found


def blank(root: Path, identifiers: Collection[str]) -> int:
    """Make tombstones of the aged predictions with these ids: their files are written anew; how many there were."""
    return sum(_blank(path, identifiers) for path in files(root)) if identifiers else 0


def _blank(path: Path, identifiers: Collection[str]) -> int:
    gone = _is_in(_read(path, ["id"])["id"], identifiers).to_pylist()
    if not any(gone):
        return 0
    table = _read(path, None)
    columns = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        values: list[Any] = column.to_pylist()
        if name not in KEPT[Prediction]:
            values = [_BLANK.get(name) if out else value for value, out in zip(values, gone, strict=True)]
        columns.append(pa.array(values, column.type))
    draft = path.with_suffix(".part")
    pq.write_table(pa.Table.from_arrays(columns, schema=table.schema), draft, compression="zstd")
    with draft.open("rb") as file:
        sync(file.fileno())
    draft.replace(path)
    sync_folder(path.parent)
    return sum(gone)


def sweep(root: Path) -> Iterator[Path]:
    """Files that were begun by somebody who was killed."""
    return (root / "archive").glob("*.part")


def _is_in(column: pa.ChunkedArray, values: Collection[str]) -> pa.ChunkedArray:
    return pc.is_in(column, pa.array(sorted(values), column.type))


def _read(path: Path, columns: list[str] | None) -> pa.Table:
    try:
        return pq.read_table(path, columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise StoreError(
            f"the archive of old predictions cannot be read ({error})",
            where=str(path),
            mend="Restore it from a backup, or move it aside.",
        ) from error
