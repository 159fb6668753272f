"""Connections and transactions: reentrant by thread, each failure told in our own errors."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa
import sqlalchemy.exc

from tidemill.errors import BusyError, ConfigError, ConflictError, ExtraMissingError, InputError, StoreError
from tidemill.store import postgresql, sqlite

_MEND = "Write it like postgresql://user@host/name or sqlite:////data/store.db, or leave it out."
#: Between two tries to reach a server that is away, in seconds.
_POLL = 0.2


class Database:
    """One database, shared by the threads of this process.

    Args:
        url: the URL of a SQLite file or of a PostgreSQL database; ``None`` means the SQLite file *path*.
        path: where the SQLite file lies; another one that *url* names without a leading ``/`` is looked for beside
            the folder of this one.

    Attributes:
        url: as it was given.
        is_sqlite: whether it is SQLite; otherwise it is PostgreSQL.
        where: its file or address, for messages.

    Raises:
        ConfigError: *url* is none.
        ExtraMissingError: the driver that it names is not installed.
    """

    def __init__(self, url: str | None, path: Path) -> None:
        self.url = url
        try:
            target = sa.URL.create("sqlite", database=str(path)) if url is None else sa.make_url(url)
            self.is_sqlite = target.drivername.partition("+")[0] == "sqlite"
            if self.is_sqlite:
                target = sqlite.resolved(target, path.parent.parent)
            self._engine = sqlite.engine(target) if self.is_sqlite else postgresql.engine(target)
        except ImportError as error:
            raise ExtraMissingError(
                f"the database driver {error.name!r} is not installed",
                mend="Install it with `pip install 'tidemill[postgres]'`.",
            ) from error
        except (sqlalchemy.exc.ArgumentError, ValueError) as error:
            raise ConfigError(f"the store's URL cannot be used ({error})", mend=_MEND) from error
        self.where = target.database or "" if self.is_sqlite else target.render_as_string(hide_password=True)
        self._writer = self._engine.execution_options(writes=True)
        # Statement by statement, as SQLite reads too: no transaction has to be begun and ended around a look.
        self._reader = self._engine if self.is_sqlite else self._engine.execution_options(isolation_level="AUTOCOMMIT")
        self._local = threading.local()
        # The wait for a lock in the database polls or costs a connection; threads of one process take turns here.
        self._turn = threading.RLock()
        self._failed = ""
        self._patience = 0.0

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection to select with; inside :meth:`transaction` its own, so that it sees what was written."""
        current: sa.Connection | None = getattr(self._local, "connection", None)
        with self._explained():
            if current is not None:
                yield current
                return
            with self._connect(self._reader) as connection:
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
        self._take_turn()
        try:
            if self._failed:
                raise StoreError(self._failed, where=self.where, mend="Check the disk, then start again.")
            with self._explained(), self._connect(self._writer) as connection, connection.begin():
                self._local.connection = connection
                try:
                    yield connection
                finally:
                    self._local.connection = None
        finally:
            self._turn.release()

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[sa.Connection]:
        """A connection that sees the tables as they are now, whatever is committed meanwhile; nobody waits for it.

        While it is open SQLite's WAL file grows and PostgreSQL keeps dead rows: read, and let go.
        """
        engine = self._engine.execution_options(snapshot=True)
        with self._explained(), self._connect(engine) as connection, connection.begin():
            yield connection

    @contextlib.contextmanager
    def patient(self, seconds: float) -> Iterator[None]:
        """While inside, a server that is away is waited for so long before anybody is told: for long work.

        Only before something is asked of it. Whoever loses the connection in the middle is told at once.
        """
        before, self._patience = self._patience, seconds
        try:
            yield
        finally:
            self._patience = before

    def require_suitable(self) -> None:
        """Refuse a server on which a store would not hold what it promises.

        Raises:
            ConfigError: it is too old, or cannot hold every text.
        """
        if not self.is_sqlite:
            with self.reading() as connection:
                postgresql.require_suitable(connection, self.where)

    def examine(self) -> tuple[str, list[str]]:
        """The database's name with its version, and what about it endangers what is acknowledged."""
        if self.is_sqlite:
            return f"SQLite {sqlite3.sqlite_version}", []
        with self.reading() as connection:
            return postgresql.examine(connection)

    def remote_size(self, tables: list[str]) -> int:
        """Bytes that *tables* take on the server; 0 for SQLite, whose file can be looked at."""
        if self.is_sqlite:
            return 0
        with self.reading() as connection:
            return postgresql.size(connection, tables)

    def scrub(self, tables: list[str]) -> list[str]:
        """Write *tables* anew, so that no page keeps what was deleted or replaced. Whoever writes waits meanwhile.

        SQLite writes its whole file anew.

        Returns:
            What of that the server did not allow, in words.

        Raises:
            BusyError: another process keeps it from being done.
            StoreError: there is no room for a second copy on the disk, or it failed.
        """
        self._take_turn()
        try:
            with self._explained(), self._connect(self._reader) as connection:
                if self.is_sqlite:
                    sqlite.scrub(connection, self.where)
                    return []
                return postgresql.scrub(connection, tables, self.where)
        finally:
            self._turn.release()

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def _take_turn(self) -> None:
        if not self._turn.acquire(timeout=sqlite.BUSY_SECONDS + self._patience):
            raise BusyError("another thread has held a transaction for too long", where=self.where)

    def _connect(self, engine: sa.Engine) -> sa.Connection:
        until = time.monotonic() + self._patience
        while True:
            try:
                return engine.connect()
            except sqlalchemy.exc.OperationalError:
                if self.is_sqlite or time.monotonic() >= until:
                    raise
            time.sleep(_POLL)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlalchemy.exc.IntegrityError as error:
            said = postgresql.told(error)
            raise ConflictError(f"a record like this exists already ({said})", where=self.where) from error
        except sqlalchemy.exc.DBAPIError as error:
            if not isinstance(error.orig, sqlite3.Error):
                raise postgresql.explain(error, self.where) from error
            if sqlite.is_failed_sync(error.orig):
                self._failed = f"fsync failed, so nothing more is acknowledged ({error.orig})"
            raise sqlite.explain(error.orig, self.where) from error
        except (sqlalchemy.exc.StatementError, UnicodeEncodeError, OverflowError) as error:
            raise InputError(f"a record holds a value that cannot be stored ({error})") from error
        except sqlalchemy.exc.TimeoutError as error:
            raise BusyError("too many threads use the database at once", where=self.where) from error
