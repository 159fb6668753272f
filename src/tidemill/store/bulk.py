"""Many records at once, in the way that each database is fastest at."""

from __future__ import annotations

import functools
import itertools
import operator
import sqlite3
from collections.abc import Collection, Sequence
from typing import Any, TypeVar

import orjson
import sqlalchemy as sa

from tidemill.errors import InputError
from tidemill.records import Record
from tidemill.store import postgresql
from tidemill.store.mapping import Mapping

R = TypeVar("R", bound=Record)

#: From so many rows on PostgreSQL's COPY is faster than statements, and several times kinder to the server.
_MANY = 8
#: Rows of one statement in SQLite: within a statement other threads work on, and each row costs a third.
_ROWS = (50, 16)
_first = operator.itemgetter(0)


def insert(connection: sa.Connection, mapping: Mapping[Any], records: Sequence[Record]) -> None:
    """Insert *records*, all of the kind of *mapping*, within the transaction of *connection*.

    SQLAlchemy would spend several times as long on each row as the database does, so rows go to the driver as they are;
    so do errors, of which :class:`~tidemill.store.database.Database` makes ours.

    Raises:
        InputError: one of them holds what a column cannot.
    """
    copies = connection.dialect.name == "postgresql"
    if copies and len(records) < _MANY:
        connection.execute(mapping.table.insert(), [mapping.row(record) for record in records])
        return
    try:
        rows = mapping.values(records)
    except (TypeError, ValueError) as error:
        raise InputError(f"a record holds a value that cannot be stored ({error})") from error
    if copies:
        postgresql.copy(connection, mapping.table.name, mapping.names, rows)
        return
    driver = _driver(connection)
    start = 0
    for many in _ROWS:
        while len(rows) - start >= many:
            driver.execute(mapping.insertion(many), tuple(itertools.chain.from_iterable(rows[start : start + many])))
            start += many
    driver.executemany(mapping.insertion(1), rows[start:])


def select(connection: sa.Connection, mapping: Mapping[R], column: str, values: Collection[str]) -> list[R]:
    """The records whose *column* is one of many *values*, in the order in which they were written."""
    if not values:
        return []
    if connection.dialect.name == "postgresql":
        found = connection.execute(_selection(mapping, column), {"listed": list(values)}).all()
        return [mapping.record(row[1:]) for row in sorted(found, key=_first)]
    chosen = f"{_selected(mapping, column)} IN (SELECT value FROM json_each(?))"
    rows = _driver(connection).execute(chosen, (orjson.dumps(list(values)).decode(),)).fetchall()
    return [mapping.stored(row[1:]) for row in sorted(rows, key=_first)]


def _driver(connection: sa.Connection) -> sqlite3.Connection:
    driver: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment] - SQLAlchemy knows only that it is some driver's
    return driver


@functools.cache
def _selection(mapping: Mapping[Any], column: str) -> sa.TextualSelect:
    text = sa.text(f"{_selected(mapping, column)} = ANY(:listed)")
    return text.columns(mapping.table.c.seq, *mapping.columns)


@functools.cache
def _selected(mapping: Mapping[Any], column: str) -> str:
    return f"SELECT seq, {', '.join(mapping.names)} FROM {mapping.table.name} WHERE {column}"  # noqa: S608 - our own names
