"""Connections and transactions: reentrant by thread, each failure told in our own errors."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa
import sqlalchemy.exc

from tidemill.errors import BusyError, ConfigError, ConflictError, ExtraMissingError, InputError, StoreError
from tidemill.store import sqlite


class Database:
    """One database, shared by the threads of this process.

    Args:
        url: an SQLAlchemy URL; ``None`` means the SQLite file *path*.
        path: where the SQLite file lies.

    Raises:
        ConfigError: *url* is none.
        ExtraMissingError: the driver that it names is not installed.
    """

    def __init__(self, url: str | None, path: Path) -> None:
        self.is_sqlite = url is None or url.startswith("sqlite")
        try:
            target = sa.URL.create("sqlite", database=str(path)) if url is None else sa.make_url(url)
            self._engine = sa.create_engine(target)
        except ImportError as error:
            raise ExtraMissingError(
                f"the database driver {error.name!r} is not installed", mend="Install it with pip."
            ) from error
        except sqlalchemy.exc.ArgumentError as error:
            raise ConfigError(
                f"the store's URL cannot be used ({error})",
                mend="Write it like sqlite:////data/store.db or postgresql+psycopg://user@host/name, or leave it out.",
            ) from error
        self.where = target.database or "" if self.is_sqlite else target.render_as_string(hide_password=True)
        if self.is_sqlite:
            sqlite.prepare(self._engine)
        self._writer = self._engine.execution_options(writes=True)
        self._local = threading.local()
        # SQLite's own wait for the write lock polls; threads of one process take turns here instead.
        self._turn = threading.RLock()
        self._failed = ""

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection to select with; inside :meth:`transaction` its own, so that it sees what was written."""
        current: sa.Connection | None = getattr(self._local, "connection", None)
        with self._explained():
            if current is not None:
                yield current
                return
            with self._engine.connect() as connection:
                yield connection

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """A connection whose work is committed at the end, or not at all; nested ones become savepoints.

        Raises:
            BusyError: another process keeps the write lock.
            StoreError: the disk is full or failed; after a failed fsync every further transaction is refused.
        """
        current: sa.Connection | None = getattr(self._local, "connection", None)
        if current is not None:
            with self._explained(), current.begin_nested():
                yield current
            return
        if not self._turn.acquire(timeout=sqlite.BUSY_SECONDS):
            raise BusyError("another thread has held a transaction for too long", where=self.where)
        try:
            if self._failed:
                raise StoreError(self._failed, where=self.where, mend="Check the disk, then start again.")
            with self._explained(), self._writer.begin() as connection:
                self._local.connection = connection
                try:
                    yield connection
                finally:
                    self._local.connection = None
        finally:
            self._turn.release()

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlalchemy.exc.IntegrityError as error:
            raise ConflictError(f"a record like this exists already ({error.orig})", where=self.where) from error
        except sqlalchemy.exc.DBAPIError as error:
            if isinstance(error.orig, sqlite3.Error):
                told = sqlite.explain(error.orig, self.where)
                if sqlite.is_failed_sync(error.orig):
                    self._failed = f"fsync failed, so nothing more is acknowledged ({error.orig})"
                raise told from error
            raise StoreError(
                f"the database refused: {error.orig}", where=self.where, mend="Run `tidemill doctor`."
            ) from (error)
        except (sqlalchemy.exc.StatementError, UnicodeEncodeError) as error:
            raise InputError(f"a record holds a value that cannot be stored ({error})") from error
        except sqlalchemy.exc.TimeoutError as error:
            raise BusyError("too many threads use the database at once", where=self.where) from error
