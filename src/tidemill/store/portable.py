"""Tables as plain rows that either database gives and takes: what backups hold, and how a project changes databases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from tidemill.errors import InputError
from tidemill.store import postgresql
from tidemill.store.mapping import JsonText
from tidemill.store.tables import metadata

#: Rows that are fetched at a time.
_AT_ONCE = 500

Row = tuple[Any, ...]


def tables() -> tuple[sa.Table, ...]:
    """Every table of the store, in a fixed order."""
    return tuple(metadata.tables[name] for name in sorted(metadata.tables))


def dump(connection: sa.Connection, table: sa.Table) -> Iterator[list[Row]]:
    """The rows of *table* in the order of writing, a few hundred at a time; JSON as its text."""
    columns = [sa.type_coerce(c, sa.Text) if isinstance(c.type, JsonText) else c for c in table.columns]
    statement = sa.select(*columns).order_by(*table.primary_key)
    with connection.execution_options(yield_per=_AT_ONCE).execute(statement) as result:
        yield from ([tuple(row) for row in part] for part in result.partitions(_AT_ONCE))


def load(connection: sa.Connection, name: str, columns: Sequence[str], rows: Sequence[Row]) -> int:
    """Write *rows* into the table *name*, numbers of rows included.

    PostgreSQL has no place for the character NUL, which older stores in SQLite may hold in a text: it becomes U+FFFD.

    Returns:
        How many texts were changed so.

    Raises:
        InputError: the database has no such table, or one of other columns.
    """
    inspector = sa.inspect(connection)
    known = {c["name"] for c in inspector.get_columns(name)} if inspector.has_table(name) else set()
    if name == "alembic_version" or known != set(columns) or len(columns) != len(known):
        raise InputError(
            f"it holds a table {name!r} that stores of its revision do not have", mend="Use an archive as it was made."
        )
    if connection.dialect.name == "postgresql":
        plain, repaired = _without_nul(rows)
        postgresql.copy(connection, name, columns, plain)
        return repaired
    quote = connection.dialect.identifier_preparer.quote
    into = f"{quote(name)} ({', '.join(map(quote, columns))})"
    marks = ", ".join("?" for _ in columns)
    if rows:
        connection.exec_driver_sql(f"INSERT INTO {into} VALUES ({marks})", [tuple(row) for row in rows])  # noqa: S608 - quoted
    return 0


def go_on_numbering(connection: sa.Connection, name: str) -> None:
    """After :meth:`load`: the next row gets the next number. SQLite looks by itself."""
    if connection.dialect.name != "postgresql" or "seq" not in metadata.tables[name].columns:
        return
    quoted = connection.dialect.identifier_preparer.quote(name)
    connection.exec_driver_sql(
        f"SELECT setval(pg_get_serial_sequence('{quoted}', 'seq'), max(seq)) FROM {quoted} HAVING max(seq) > 0"  # noqa: S608
    )


def _without_nul(rows: Sequence[Row]) -> tuple[list[Row], int]:
    repaired = 0

    def plain(value: Any) -> Any:
        nonlocal repaired
        if not isinstance(value, str) or "\0" not in value:
            return value
        repaired += 1
        return value.replace("\0", "\ufffd")

    return [tuple(map(plain, row)) for row in rows], repaired
