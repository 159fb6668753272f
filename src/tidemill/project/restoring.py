"""``tidemill restore``: a project from a backup, in a folder and a database that hold none.

Everything is unpacked and checked beside its place first; the rows are one transaction; and ``tidemill.yaml``, which
makes a folder a project, comes last. So a restore that is refused, fails or is killed leaves no half of a project.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import glob
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tidemill.config import CONFIG_NAME, Config, load_config, read_environment
from tidemill.config.model import is_id
from tidemill.config.writing import scalar
from tidemill.errors import ConfigError, ConflictError, InputError, StoreError
from tidemill.loop import OnEvent, unheard
from tidemill.project.archive import Member, members, read_header
from tidemill.project.opened import STATE
from tidemill.records import JSON, Cycle, Run
from tidemill.store import Store, migrations, open_store, portable
from tidemill.store.database import Database
from tidemill.store.seam import sync, sync_folder

_DRAFT = f"{STATE}-restoring-"
_LARGEST_FILE = 16 << 20
_LARGEST_PART = 1 << 30
_FOREIGN = "Use an archive as `tidemill backup` wrote it."


def restore(
    archive: Path, folder: Path | None = None, *, store: str | None = None, on_event: OnEvent = unheard
) -> JSON:
    """Make a project of what a backup holds.

    Args:
        archive: as :func:`tidemill.project.backup.backup` wrote it.
        folder: made when it is missing; must not hold a project. Unless given, one here that is named as the project
            was.
        store: the URL of an empty database for the tables, or ``sqlite`` for a file in the folder; unless given, what
            the environment or the project's ``tidemill.yaml`` says.
        on_event: told how far it is.

    Returns:
        ``{"folder", "store", "rows": {table: n}, "files", "champion", "notes", "seconds"}``.

    Raises:
        ConflictError: the folder or the database holds a project already; neither was changed.
        InputError: *archive* is no backup, one of a newer Tidemill, or holds what no backup holds.
        StoreError: it is torn or altered, the disk is full, or the database is away.
    """
    started = time.monotonic()
    header = read_header(archive)
    revision = str(header.get("revision"))
    if not re.fullmatch(r"\d{4}", revision) or revision > migrations.HEAD:
        raise InputError(
            f"this backup was made by a newer Tidemill ({header.get('tidemill')}, tables of revision {revision})",
            where=str(archive),
            mend="Update Tidemill, then restore it.",
        )
    place = _place(header, folder)
    try:
        with _draft(place) as draft:
            own, files = _unpack(archive, draft, place, on_event)
            url = _settle_store(own, draft, store)
            rows, notes = _fill(archive, draft, url, revision, on_event)
            with open_store(draft, url) as opened:
                notes += _end_what_was_under_way(opened)
                champion = opened.champion()
                where = opened.database.where if url else f"SQLite in {STATE}"
            _put_in_place(draft, place, own)
    except OSError as error:
        raise StoreError(
            f"the project cannot be written ({error.strerror or error})",
            where=str(error.filename or place),
            mend="Name a folder that you may write to, on a disk with space.",
        ) from error
    return {
        "folder": str(place),
        "store": where,
        "rows": rows,
        "files": files,
        "champion": champion.model_id if champion else None,
        "notes": notes + _not_here(place),
        "seconds": time.monotonic() - started,
    }


def _place(header: Mapping[str, object], folder: Path | None) -> Path:
    name = str(header.get("project"))
    if folder is None and (name in {"", ".", ".."} or Path(name).name != name):
        raise InputError(f"the project's name {name[:200]!r} is no folder's", mend="Name a folder.")
    place = (folder or Path(name)).absolute()
    if place.exists() and not place.is_dir():
        raise ConflictError("this is no folder", where=str(place), mend="Name another one.")
    if (place / STATE).exists():
        raise ConflictError(
            f"the folder holds a project's state already ({STATE})",
            where=str(place),
            mend="Name another folder, or move that aside.",
        )
    return place


@contextlib.contextmanager
def _draft(place: Path) -> Iterator[Path]:
    """A folder in *place* to fill, gone at the end unless it was renamed; those of killed restores are swept first."""
    fresh = not place.exists()
    place.mkdir(parents=True, exist_ok=True)
    for left in place.glob(f"{_DRAFT}*"):
        with contextlib.suppress(BlockingIOError), _held(left):
            shutil.rmtree(left)
    draft = place / f"{_DRAFT}{os.getpid()}-{os.urandom(4).hex()}"
    draft.mkdir()
    try:
        with _held(draft):
            yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        if fresh:
            with contextlib.suppress(OSError):  # unless something is in it now
                place.rmdir()


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _unpack(archive: Path, draft: Path, place: Path, on_event: OnEvent) -> tuple[dict[str, bytes], int]:
    """Check the whole archive and write its state; the project's own files by name, and how many files there are."""
    own: dict[str, bytes] = {}
    count, done = 0, 0
    for member in members(archive):
        room, _, name = member.name.partition("/")
        count += 1
        if room == "project":
            own[name] = member.read(_LARGEST_FILE)
            there = place / name
            if there.exists() and not (there.is_file() and there.read_bytes() == own[name]):
                raise ConflictError(
                    "a file of another content is there already",
                    where=str(there),
                    mend="Name another folder, or move that file aside.",
                )
        elif room == "state":
            if name.partition("/")[0] == "locks" or name.startswith("store.db"):
                raise InputError(f"it holds {name[:200]!r}", where=str(archive), mend=_FOREIGN)
            _write(draft / name, member)
            done += member.size
            on_event({"stage": "restore", "what": "files: MB", "done": done >> 20})
    if CONFIG_NAME not in own or not (draft / "secret").is_file():
        raise InputError(f"it lacks {CONFIG_NAME} or the secret", where=str(archive), mend=_FOREIGN)
    for folder in (draft, *(path for path in draft.rglob("*") if path.is_dir())):
        sync_folder(folder)
    return own, count


def _write(path: Path, member: Member) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = 0o600 if path.name == "secret" else 0o666
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
        file.writelines(member.chunks())
        file.flush()
        sync(file.fileno())


def _settle_store(own: dict[str, bytes], draft: Path, store: str | None) -> str | None:
    """Where the tables go; written into *own*'s ``tidemill.yaml`` when *store* says so.

    Raises:
        ConfigError: *store* is no URL, or the environment names another database.
    """
    named = read_environment().store
    if store is None:
        return named or _read(own, draft).store
    url = None if store == "sqlite" else store
    if named not in {None, url}:
        raise ConfigError(
            "it names another database than --store", where="TIDEMILL_STORE", mend="Unset it, or leave --store out."
        )
    config = own[CONFIG_NAME]
    own[CONFIG_NAME] = with_store(config.decode("utf-8-sig"), url).encode()
    if _read(own, draft).store != url:
        own[CONFIG_NAME] = config
        raise ConfigError(
            f"`store:` in {CONFIG_NAME} is not on a line of its own, so it cannot be changed there",
            mend="Restore without --store, with TIDEMILL_STORE set to the URL, and change that file by hand.",
        )
    return url


def with_store(text: str, url: str | None) -> str:
    """The text of a ``tidemill.yaml`` with another ``store:``, all else as it was.

    >>> with_store("# store: null    # database URL", "postgresql://db/tides").strip()
    'store: postgresql://db/tides'
    """
    line = f"store: {scalar(url)}"
    for pattern in (r"(?m)^store:.*$", r"(?m)^# store:.*$"):
        changed, times = re.subn(pattern, lambda _: line, text, count=1)
        if times:
            return changed
    return f"{text.rstrip()}\n{line}\n"


def _read(own: Mapping[str, bytes], draft: Path) -> Config:
    """The configuration as its file alone says it."""
    path = draft / CONFIG_NAME
    path.write_bytes(own[CONFIG_NAME])
    try:
        return load_config(path, environ={})
    finally:
        path.unlink()


def _fill(
    archive: Path, draft: Path, url: str | None, revision: str, on_event: OnEvent
) -> tuple[dict[str, int], list[str]]:
    """Make the tables as they were and load them, all in one transaction; rows by table, and notes."""
    rows: dict[str, int] = {}
    repaired = 0
    with contextlib.closing(Database(url, draft / "store.db")) as database:
        if migrations.revision(database) is not None:
            raise ConflictError(
                "the database holds a store already",
                where=database.where,
                mend="Name an empty one with --store URL, or --store sqlite for a file in the folder.",
            )
        database.require_suitable()
        with database.transaction() as connection:
            migrations.upgrade(database, revision)
            for member in members(archive):
                room, _, name = member.name.partition("/")
                if room == "state":  # tables come before it
                    break
                if room == "tables":
                    table = name.partition("/")[0]
                    part = _table(member, archive)
                    values = zip(*(column.to_pylist() for column in part.columns), strict=True)
                    repaired += portable.load(connection, table, part.column_names, list(values))
                    rows[table] = rows.get(table, 0) + part.num_rows
                    on_event({"stage": "restore", "what": f"{table}: rows", "done": rows[table]})
            for table in rows:
                portable.go_on_numbering(connection, table)
    note = f"{repaired} texts held the character NUL, for which PostgreSQL has no place: it was replaced"
    return rows, [note] if repaired else []


def _table(member: Member, archive: Path) -> pa.Table:
    try:
        return pq.read_table(pa.BufferReader(member.read(_LARGEST_PART)))
    except pa.ArrowException as error:
        raise InputError(f"{member.name} is no table ({error})", where=str(archive), mend=_FOREIGN) from error


def _end_what_was_under_way(store: Store) -> list[str]:
    """A backup leaves out what a cycle goes on from, so one that was under way has to begin anew."""
    why = "it was under way when the backup was made"
    cycles = store.find(Cycle, status=["running", "stopped"])
    with store.transaction():
        for cycle in cycles:
            store.update(dataclasses.replace(cycle, status="failed", error=why, finished=time.time()))
        for run in store.find(Run, status="running"):
            store.update(dataclasses.replace(run, status="interrupted", error=why))
    return [f"{cycle.id} was under way when the backup was made; the next cycle begins anew" for cycle in cycles]


def _put_in_place(draft: Path, place: Path, own: Mapping[str, bytes]) -> None:
    if (place / STATE).exists():
        raise ConflictError("another project was made here meanwhile", where=str(place), mend="Name another folder.")
    draft.rename(place / STATE)
    for name in sorted(own, key=lambda name: name == CONFIG_NAME):  # it is the last
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(own[name])
        with path.open("rb") as file:
            sync(file.fileno())
    sync_folder(place)


def _not_here(place: Path) -> list[str]:
    """Sources that lie elsewhere than `data:` says from here."""
    sources = load_config(place / CONFIG_NAME).sources(place)
    paths = [source for source in sources if not is_id(source) and "://" not in source]
    gone = [path for path in paths if not glob.glob(path)]  # noqa: PTH207 - a whole path, perhaps with a pattern
    return [f"the source {source} is not there: the next cycle needs it, or another path in `data:`" for source in gone]
