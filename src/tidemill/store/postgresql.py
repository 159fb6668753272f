"""Everything that is particular to PostgreSQL; the rest of the store speaks portable SQL.

A transaction that will write takes an advisory lock at its start, one for each schema, so that there is one writer at
a time, as there is with SQLite: what a transaction reads stays true until it commits, and rows become visible in the
order of their numbers. Who only reads waits for nobody. ``synchronous_commit`` is never off: a commit has been fsynced
by the server when it returns.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
import sqlalchemy.exc

from tidemill.errors import BusyError, ConfigError, InputError, StoreError, TidemillError
from tidemill.store.driver import driver

#: How long a writer waits for another transaction, in seconds.
BUSY_SECONDS = 20.0
DRIVERS = ("postgresql", "postgres", "postgresql+psycopg")
OLDEST = 130000

_TURN = 0x7469_6465  # "tide": the first half of the lock's key, so that other programs' locks are others
#: Beside these, what the URL says stays: ``?connect_timeout=2``, ``?options=-csearch_path%3Dtides``, TLS.
_CONNECTION = {
    "application_name": "tidemill",
    "client_encoding": "utf8",
    "connect_timeout": "5",
    # A server that vanished without a word (power, network) is given up after some 25 seconds.
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "25000",
}
#: The second ends the transactions of a client that stopped or vanished, which would keep all others waiting.
_SESSION = f"""
SET lock_timeout = {int(BUSY_SECONDS * 1000)};
SET idle_in_transaction_session_timeout = 60000;
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'
"""


def engine(url: sa.URL) -> sa.Engine:
    """An engine whose connections have the settings above; one that broke is replaced when it is next asked for.

    Raises:
        ValueError: *url* names another database, or another driver.
    """
    if url.drivername not in DRIVERS:
        raise ValueError(f"it names {url.drivername}, and a store is kept by sqlite or postgresql")
    given = {name: value for name, value in _CONNECTION.items() if name not in url.query}
    made = sa.create_engine(
        url.set(drivername="postgresql+psycopg"),
        connect_args=given,
        pool_pre_ping=True,
        use_native_hstore=False,  # a question to the server at every start, about a type that no table has
    )

    @sa.event.listens_for(made, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        connection.autocommit = True
        connection.execute(_SESSION)
        connection.autocommit = False

    @sa.event.listens_for(made, "begin")
    def _begin(connection: sa.Connection) -> None:
        options = connection.get_execution_options()
        if options.get("writes"):
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_TURN}, hashtext(current_schema()))")
        elif options.get("snapshot"):
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
            connection.exec_driver_sql("SELECT 1")  # the first query fixes what is seen

    return made


def explain(error: sqlalchemy.exc.DBAPIError, where: str) -> TidemillError:
    """The error of ours for one of PostgreSQL's."""
    state, said = getattr(error.orig, "sqlstate", None) or "", told(error)
    if error.connection_invalidated or state.startswith(("08", "57P")):
        return StoreError(
            f"the connection to the database was lost ({said})",
            where=where,
            mend="Try again in a moment: what was being written is there whole or not at all, and feedback that is "
            "repeated with its key is kept once.",
        )
    if not state and isinstance(error, sqlalchemy.exc.OperationalError):
        return StoreError(
            f"the database cannot be reached ({said})",
            where=where,
            mend="Check that the server runs and that the address, name and password are right, then try again.",
        )
    if state == "55P03":
        return BusyError(
            f"another process has held the database for more than {BUSY_SECONDS:.0f} s",
            where=where,
            mend="Wait until it has finished, or see in pg_stat_activity what it is, and try again.",
        )
    if state in {"40P01", "40001", "57014", "53300"}:
        return BusyError(
            f"the database is busy ({said})",
            where=where,
            mend="Try again in a moment; if it stays so, see which program holds it in pg_stat_activity.",
        )
    if state == "53100":
        return StoreError(
            "the disk of the database is full, so nothing was written",
            where=where,
            mend="Free some space there and try again.",
        )
    if state in {"XX001", "XX002", "58030", "58P01"}:
        return StoreError(
            f"the database is damaged, or its disk failed ({said})",
            where=where,
            mend="Look at the server's log and disk; restore it from a backup if need be.",
        )
    if state in {"25006", "42501", "3F000"}:
        return StoreError(
            f"the database cannot be written ({said})",
            where=where,
            mend="Name a server that is no standby, and a schema in which the user may make tables.",
        )
    if state.startswith("22") or isinstance(error, sqlalchemy.exc.DataError):
        return InputError(f"a record holds a value that cannot be stored ({said})")
    return StoreError(f"the database refused: {said}", where=where, mend="Run `tidemill doctor`.")


def told(error: sqlalchemy.exc.DBAPIError) -> str:
    """What the server said, on one line."""
    diagnosis = getattr(error.orig, "diag", None)
    parts = [getattr(diagnosis, "message_primary", None), getattr(diagnosis, "message_detail", None)]
    text = ": ".join(part for part in parts if part) or str(error.orig)
    return " ".join(text.splitlines()[0].split()) if text else type(error.orig).__name__


def require_suitable(connection: sa.Connection, where: str) -> None:
    """Refuse a database in which a store would not hold what it promises, before anything is made there.

    Raises:
        ConfigError: it is too old, or cannot hold every text.
    """
    version = int(connection.exec_driver_sql("SHOW server_version_num").scalar_one())
    if version < OLDEST:
        raise ConfigError(
            f"the server is PostgreSQL {version // 10000}", where=where, mend="Use PostgreSQL 13 or newer."
        )
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
    if encoding != "UTF8":
        raise ConfigError(
            f"the database holds texts as {encoding}, which cannot hold all of them",
            where=where,
            mend="Make one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0.",
        )


def examine(connection: sa.Connection) -> tuple[str, list[str]]:
    """The server's name with its version, and what about it endangers what is acknowledged."""
    faults = [
        f"{name} is off: a loss of power can lose what was acknowledged"
        for name in ("fsync", "full_page_writes")
        if connection.exec_driver_sql(f"SHOW {name}").scalar_one() == "off"
    ]
    return f"PostgreSQL {connection.exec_driver_sql('SHOW server_version').scalar_one()}", faults


def size(connection: sa.Connection, tables: list[str]) -> int:
    """Bytes that *tables* take with their indexes."""
    statement = sa.text(
        "SELECT coalesce(sum(pg_total_relation_size(to_regclass(name))), 0) FROM unnest(:names) AS name"
    )
    bound = statement.bindparams(sa.bindparam("names", tables, type_=sa.ARRAY(sa.Text)))
    return int(connection.execute(bound).scalar_one())


def scrub(connection: sa.Connection, tables: Iterable[str], where: str) -> list[str]:
    """Write *tables* anew, and what the server noted of their values: see :meth:`.Database.scrub`.

    For planning the server keeps the most frequent values of every column. Its WAL goes in its own time.

    Raises:
        BusyError: another program still sees what was there before, so the server would copy it.
    """
    run, quote = connection.exec_driver_sql, connection.dialect.identifier_preparer.quote
    own: Any = connection.connection.driver_connection
    said: list[str] = []

    def hear(notice: Any) -> None:
        if notice.severity_nonlocalized == "WARNING":
            said.append(f"the server did not allow it: {notice.message_primary}")

    _outwait_readers(connection, where)
    own.add_notice_handler(hear)
    try:
        for table in tables:
            _forget_statistics(connection, quote(table))
            run(f"VACUUM (FULL, ANALYZE) {quote(table)}")
        _outwait_readers(connection, where)
        run("VACUUM (FULL) pg_catalog.pg_statistic")
    finally:
        own.remove_notice_handler(hear)
    return said


def _forget_statistics(connection: sa.Connection, table: str) -> None:
    """Of an empty table the server keeps what it noted last, however often it is analysed, unless a column changes."""
    run = connection.exec_driver_sql
    if run(f"SELECT EXISTS (SELECT FROM {table})").scalar_one():  # noqa: S608 - quoted
        return
    texts = run(
        "SELECT quote_ident(attname) FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 "
        "AND NOT attisdropped AND atttypid = 'text'::regtype",
        (table,),
    ).scalars()
    if changes := ", ".join(f"ALTER COLUMN {column} TYPE text" for column in texts):
        run(f"ALTER TABLE {table} {changes}")


def _outwait_readers(connection: sa.Connection, where: str) -> None:
    """Wait until nobody in this database sees it as it was before now."""
    now = connection.exec_driver_sql("SELECT pg_current_xact_id()::xid::text").scalar_one()
    older = sa.text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
        "AND age(backend_xmin) >= age(CAST(CAST(:now AS text) AS xid))"
    ).bindparams(now=now)
    until = time.monotonic() + BUSY_SECONDS
    while connection.execute(older).scalar_one():
        if time.monotonic() >= until:
            raise BusyError(
                f"another program has been reading the database for more than {BUSY_SECONDS:.0f} s",
                where=where,
                mend="See in pg_stat_activity what it is, end it, and try again.",
            )
        time.sleep(0.1)


def copy(connection: sa.Connection, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Insert rows of plain values by COPY, within the transaction of *connection*; fails as an INSERT would."""
    quote = connection.dialect.identifier_preparer.quote
    statement = f"COPY {quote(table)} ({', '.join(map(quote, columns))}) FROM STDIN"
    with driver(connection) as own, own.cursor() as cursor, cursor.copy(statement) as sink:
        for row in rows:
            sink.write_row(row)
