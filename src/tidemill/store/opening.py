"""Making a store, and opening one with its tables brought up to date."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from tidemill.errors import ConflictError, NotFoundError, StoreError
from tidemill.store import migrations, secrets
from tidemill.store.database import Database
from tidemill.store.locks import held
from tidemill.store.store import Store
from tidemill.store.tables import facts

#: How long to wait for another process that brings the tables up to date, in seconds.
_MIGRATION = 60.0


def create_store(root: Path, url: str | None = None) -> Store:
    """Make a store in the folder *root* (or finish one that was begun) and open it.

    Args:
        root: the project's ``.tidemill`` folder; made when it is missing.
        url: the URL of an empty database; ``None`` means SQLite in ``root/store.db``.

    Raises:
        ConfigError: *url* cannot be used, or its database could not hold every text.
        ConflictError: *root* holds a complete store already.
        StoreError: the disk is full, the folder cannot be written, or the database file is damaged.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        secrets.make_secret(root)
    except OSError as error:
        raise StoreError(
            f"the store cannot be made ({error.strerror})",
            where=str(root),
            mend="Check free space and that you may write there.",
        ) from error
    database = Database(url, root / "store.db")
    with _closed_on_error(database):
        with held(root / "locks", "migrate", wait=_MIGRATION):
            if migrations.revision(database) is not None:
                raise ConflictError(
                    "a store exists here already", where=str(root), mend="Open it, or choose another folder."
                )
            database.require_suitable()
            with database.transaction():
                migrations.upgrade(database)
                _claim(database, root)
        return Store(root, database)


def open_store(root: Path, url: str | None = None) -> Store:
    """Open the store in *root*, and bring its tables up to date.

    Raises:
        NotFoundError: there is none.
        StoreError: it is incomplete, damaged, away, written by a newer Tidemill, or another project's.
    """
    if not root.is_dir() or (url is None and not (root / "store.db").is_file()):
        raise NotFoundError("there is no store here", where=str(root), mend="Run `tidemill init` first.")
    database = Database(url, root / "store.db")
    with _closed_on_error(database):
        found = migrations.revision(database)
        if found is None:
            raise StoreError(
                "the store is empty: making it was interrupted",
                where=str(root) if url is None else database.where,
                mend="Run `tidemill init`; to move a project there, restore a backup with `tidemill restore --store`.",
            )
        if found != migrations.HEAD:
            with held(root / "locks", "migrate", wait=_MIGRATION):
                migrations.upgrade(database)
        _claim(database, root)
        return Store(root, database)


def _claim(database: Database, root: Path) -> None:
    """Note whose the database is, or refuse one that is another project's: two would mix their rows."""
    mine = secrets.fingerprint(secrets.read_secret(root))
    wanted = sa.select(facts.c.value).where(facts.c.name == "project")
    with database.reading() as connection:
        found = connection.execute(wanted).scalar()
    if found is None:
        with database.transaction() as connection:
            found = connection.execute(wanted).scalar()
            if found is None:
                connection.execute(facts.insert().values(name="project", value=mine))
                return
    if found != mine:
        raise StoreError(
            "the database belongs to another project, whose secret is not the one in this folder",
            where=database.where,
            mend="Name a database or a schema of its own in `store:`, or restore the project from a backup.",
        )


@contextlib.contextmanager
def _closed_on_error(database: Database) -> Iterator[None]:
    try:
        yield
    except BaseException:
        database.close()
        raise
