"""``tidemill backup``: everything a project holds in one file, consistent while it is served and used.

The tables are one snapshot, written in a form that either database takes. The journal is copied as it was when the
snapshot was taken, so that each prediction is in one of them. What models and dataset versions lie in was complete
before the rows that name it, and while it is copied ``tidemill gc`` removes nothing.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa

from tidemill.config import CONFIG_NAME
from tidemill.data.assigned import fold_journal
from tidemill.errors import BusyError, InputError
from tidemill.loop import OnEvent, unheard
from tidemill.project.archive import HEADER, VERSION, ArchiveWriter, read_manifest
from tidemill.project.forgetting import note_backup
from tidemill.project.opened import STATE, OpenProject
from tidemill.records import JSON
from tidemill.store import migrations, portable
from tidemill.store.writers import JOURNAL

SUFFIX = ".tar.zst"
LOCK = "backup"
"""Held by whoever copies what is durable, and by whoever removes some of it."""

_LEFT_OUT = {"console", "features", "locks", "metrics", "studies", "work", JOURNAL}
"""Folders of the state that a cycle fills anew, that say who is at work, or that are copied in a way of their own."""
_LOOSE = {"secret", "config.schema.json", ".gitignore"}
_PART = 16 << 20  # bytes of rows in memory at once


def backup(project: OpenProject, target: Path, *, on_event: OnEvent = unheard) -> JSON:
    """Write everything that *project* holds to one file.

    Args:
        project: what is kept; it may be served, and a cycle may run.
        target: the file, which must not be there yet; in a folder it is named after the project and the time.
        on_event: told how far it is.

    Returns:
        ``{"path", "bytes", "files", "rows": {table: n}, "seconds"}``.

    Raises:
        ConflictError: *target* is there already.
        BusyError: another backup is being made, or ``tidemill gc`` runs.
        StoreError: the disk is full, or the database is away.
    """
    started, started_at = time.monotonic(), time.time()
    store = project.store
    path = _place(project, target)
    with contextlib.ExitStack() as stack:
        stack.enter_context(store.lock(LOCK))
        archive = stack.enter_context(ArchiveWriter(path))
        archive.add(HEADER, orjson.dumps(_header(project)))
        for name in project_files(project):
            archive.add(f"project/{name}", (project.dir / name).read_bytes())
        rows, segments = _tables(project, archive, stack, on_event)
        for name, file, size in segments:
            archive.add_file(f"state/{JOURNAL}/{name}", file, size)
        _files(store.root, archive, on_event)
        note_backup(store.root, path, started_at)
        size = archive.finish(rows=rows)
        count = len(archive.members)
    return {"path": str(path), "bytes": size, "files": count, "rows": rows, "seconds": time.monotonic() - started}


def verify(path: Path) -> JSON:
    """Check every byte of an archive, and change nothing.

    Returns:
        ``{"path", "project", "created", "revision", "files", "rows": {table: n}}``.

    Raises:
        InputError: it is no backup, or one of a newer Tidemill.
        StoreError: it is torn or was altered.
    """
    from tidemill.project.archive import read_header

    header, manifest = read_header(path), read_manifest(path)
    told = {key: header.get(key) for key in ("project", "created", "revision")}
    return {"path": str(path), **told, "files": len(manifest["members"]), "rows": manifest.get("rows", {})}


def project_files(project: OpenProject) -> list[str]:
    """The project's own files beside its state: ``tidemill.yaml``, and the Python files there that it names."""
    named = [CONFIG_NAME, *project.config.recipes.files, *project.config.tasks]
    files = [Path(name) for name in dict.fromkeys(named)]
    return [f.as_posix() for f in files if not f.is_absolute() and ".." not in f.parts and (project.dir / f).is_file()]


def _place(project: OpenProject, target: Path) -> Path:
    path = target.absolute()
    if path.is_dir():
        path /= f"{project.dir.name}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}{SUFFIX}"
    if path.resolve().is_relative_to(project.dir / STATE):
        raise InputError(
            f"a backup within {STATE} would be lost with it", where=str(target), mend="Name a place outside."
        )
    return path


def _header(project: OpenProject) -> JSON:
    return {
        "format": "tidemill-backup",
        "version": VERSION,
        "tidemill": version("tidemill"),
        "created": time.time(),
        "project": project.dir.name,
        "task": project.config.task,
        "revision": migrations.HEAD,
    }


def _tables(
    project: OpenProject, archive: ArchiveWriter, stack: contextlib.ExitStack, on_event: OnEvent
) -> tuple[dict[str, int], list[tuple[str, IO[bytes], int]]]:
    """Write every table; rows by table, and the journal's segments as they were then, opened."""
    store = project.store
    with contextlib.suppress(BusyError):  # then another process folds, and the journal is copied as it is
        fold_journal(store)
    rows: dict[str, int] = {}
    with contextlib.ExitStack() as reading:
        with store.lock("ingest", wait=30):  # nothing moves from the journal to the tables between the two
            connection = reading.enter_context(store.database.snapshot())
            segments = _segments(store.root / JOURNAL, stack)
        for table in portable.tables():
            name = str(table.name)
            rows[name] = 0
            for number, (count, content) in enumerate(_parts(connection, table)):
                archive.add(f"tables/{name}/{number:06d}.parquet", content)
                rows[name] += count
                on_event({"stage": "backup", "what": f"{name}: rows", "done": rows[name]})
    return rows, segments


def _segments(folder: Path, stack: contextlib.ExitStack) -> list[tuple[str, IO[bytes], int]]:
    """Name, open file and length now: it is read later, when it may have grown, or been folded and removed."""
    found: list[tuple[str, IO[bytes], int]] = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        file = stack.enter_context(path.open("rb"))
        found.append((path.name, file, file.seek(0, 2)))
        file.seek(0)
    return found


def _parts(connection: sa.Connection, table: sa.Table) -> Iterator[tuple[int, bytes]]:
    """A table as Parquet files of some megabytes each, with how many rows each has."""
    rows: list[portable.Row] = []
    size = 0
    for portion in portable.dump(connection, table):
        rows += portion
        size += sum(len(v) if isinstance(v, str) else 8 for row in portion for v in row)
        if size >= _PART:
            yield len(rows), _parquet(table, rows)
            rows, size = [], 0
    if rows:
        yield len(rows), _parquet(table, rows)


def _parquet(table: sa.Table, rows: Sequence[portable.Row]) -> bytes:
    schema = pa.schema([(column.name, _arrow(column)) for column in table.columns])
    columns = [pa.array(values, field.type) for field, values in zip(schema, zip(*rows, strict=True), strict=True)]
    sink = pa.BufferOutputStream()
    # The archive packs it: packed twice, it would be no smaller.
    pq.write_table(pa.Table.from_arrays(columns, schema=schema), sink, compression="none")
    return bytes(sink.getvalue())


def _arrow(column: sa.Column[Any]) -> pa.DataType:
    for kind, arrow in ((sa.Boolean, pa.bool_()), (sa.Float, pa.float64()), (sa.Integer, pa.int64())):
        if isinstance(column.type, kind):
            return arrow
    return pa.string()


def _files(root: Path, archive: ArchiveWriter, on_event: OnEvent) -> None:
    files = list(_state(root))
    total, done = sum(path.stat().st_size for path in files) >> 20, 0
    for path in files:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            archive.add_file(f"state/{path.relative_to(root).as_posix()}", file, size)
        done += size
        on_event({"stage": "backup", "what": "files: MB", "done": done >> 20, "total": total})


def _state(root: Path) -> Iterator[Path]:
    """What is durable of the state, but for tables and journal; drafts, whose names begin with a dot, are left out."""
    for entry in sorted(root.iterdir()):
        if entry.name in _LOOSE:
            yield entry
        elif entry.is_dir() and not entry.is_symlink() and entry.name not in _LEFT_OUT and entry.name[0] != ".":
            for path in sorted(entry.rglob("*")):
                within = path.relative_to(root).parts
                if path.is_file() and not path.is_symlink() and not any(part[0] == "." for part in within):
                    yield path
