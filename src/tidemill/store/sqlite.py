"""Everything that is particular to SQLite; the rest of the store speaks portable SQL.

WAL with ``synchronous=FULL``: a commit has been fsynced when it returns. A transaction that will write takes the write
lock at its start, so that it cannot fail half-way because another one wrote first.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tidemill.errors import BusyError, StoreError, TidemillError

#: How long a writer waits for another process's transaction, in seconds.
BUSY_SECONDS = 20.0

_MOMENT = 100  # milliseconds
_PATIENT = f"PRAGMA busy_timeout={int(BUSY_SECONDS * 1000)}"
_SETTINGS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA fullfsync=ON",  # macOS: fsync alone does not reach the platter there
    _PATIENT,
    "PRAGMA journal_size_limit=67108864",
    "PRAGMA temp_store=MEMORY",
)


def resolved(url: sa.URL, folder: Path) -> sa.URL:
    """*url* with a whole path; a relative one is one below *folder*.

    Raises:
        ValueError: it names no file: each connection would have a database of its own in memory.
    """
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        raise ValueError("it names no file")
    return url.set(database=str(folder / url.database))


def engine(url: sa.URL) -> sa.Engine:
    """An engine whose connections have the settings above, and explicit transactions."""
    made = sa.create_engine(url)

    @sa.event.listens_for(made, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        # The driver must not begin transactions of its own: _begin below does.
        connection.isolation_level = None
        cursor = connection.cursor()
        try:
            for setting in _SETTINGS:
                cursor.execute(setting)
        finally:
            cursor.close()

    @sa.event.listens_for(made, "begin")
    def _begin(connection: sa.Connection) -> None:
        options = connection.get_execution_options()
        if options.get("writes"):
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        elif options.get("snapshot"):
            connection.exec_driver_sql("BEGIN")
            connection.exec_driver_sql("SELECT 1 FROM sqlite_master LIMIT 1")  # the first read fixes what is seen

    return made


def scrub(connection: sa.Connection, where: str) -> None:
    """Write the file anew, and empty the WAL; see :meth:`tidemill.store.database.Database.scrub`.

    Raises:
        BusyError: another program has been reading all the while, so the WAL cannot be emptied.
    """
    run = connection.exec_driver_sql
    run("PRAGMA temp_store=FILE")  # the copy may be larger than the memory
    try:
        run("VACUUM")
    finally:
        run("PRAGMA temp_store=MEMORY")
    until = time.monotonic() + BUSY_SECONDS
    run(f"PRAGMA busy_timeout={_MOMENT}")  # while it waits for readers, nobody may write
    try:
        while run("PRAGMA wal_checkpoint(TRUNCATE)").scalar_one():
            if time.monotonic() >= until:
                raise BusyError(
                    f"another program has been reading the database for more than {BUSY_SECONDS:.0f} s",
                    where=where,
                    mend="End it, and try again.",
                )
    finally:
        run(_PATIENT)


def explain(error: sqlite3.Error, where: str) -> TidemillError:
    """The error of ours for one of SQLite's."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return BusyError(
            f"another process has held the database for more than {BUSY_SECONDS:.0f} s",
            where=where,
            mend="Wait until it has finished, or end it, and try again.",
        )
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return StoreError(
            f"the database is damaged ({error})",
            where=where,
            mend="Restore it from a backup; the file itself was left as it is.",
        )
    if code == sqlite3.SQLITE_FULL:
        return StoreError(
            "the disk is full, so nothing was written", where=where, mend="Free some space and try again."
        )
    if code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}:
        return StoreError(
            f"the database cannot be opened for writing ({error})",
            where=where,
            mend="Check that the file and its folder exist and that you may write to them.",
        )
    if code == sqlite3.SQLITE_IOERR:
        return StoreError(
            f"the disk failed ({error})", where=where, mend="Check free space and the disk's health, then start again."
        )
    return StoreError(f"the database refused: {error}", where=where, mend="Run `tidemill doctor`.")


def is_failed_sync(error: BaseException | None) -> bool:
    """Whether an fsync failed: what was written before it may be lost, and no later fsync can tell."""
    return getattr(error, "sqlite_errorcode", 0) in {sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC}
