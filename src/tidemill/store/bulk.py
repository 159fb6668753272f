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
from tidemill.store.driver import driver
from tidemill.store.mapping import Mapping

R = TypeVar("R", bound=Record)

#: From so many rows on PostgreSQL's COPY is faster than statements, and several times kinder to the server.
_MANY = 8
#: Rows of one statement in SQLite: within a statement other threads work on, and each row costs a third.
_ROWS = (250, 50, 16, 4)
_LISTED = "IN (SELECT value FROM json_each(?))"
_first = operator.itemgetter(0)


def insert(connection: sa.Connection, mapping: Mapping[Any], records: Sequence[Record]) -> None:
    """Insert *records*, all of the kind of *mapping*, within the transaction of *connection*.

    SQLAlchemy would spend several times as long on each row as the database does, so rows go to the driver as they are.

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
    start = 0
    with driver(connection) as own:
        most = own.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER) // len(mapping.names)  # 999 before SQLite 3.32
        for many in _ROWS:
            while len(rows) - start >= many <= most:
                own.execute(mapping.insertion(many), tuple(itertools.chain.from_iterable(rows[start : start + many])))
                start += many
        own.executemany(mapping.insertion(1), rows[start:])


def select(connection: sa.Connection, mapping: Mapping[R], column: str, values: Collection[str]) -> list[R]:
    """The records whose *column* is one of many *values*, in the order in which they were written."""
    if not values:
        return []
    if connection.dialect.name == "postgresql":
        found = connection.execute(_selection(mapping, column), {"listed": list(values)}).all()
        return [mapping.record(row[1:]) for row in sorted(found, key=_first)]
    chosen = _selected(mapping, f"{column} {_LISTED}")
    with driver(connection) as own:
        rows = own.execute(chosen, (orjson.dumps(list(values)).decode(),)).fetchall()
    return [mapping.stored(row[1:]) for row in sorted(rows, key=_first)]


@functools.cache
def _selection(mapping: Mapping[Any], column: str) -> sa.TextualSelect:
    text = sa.text(_selected(mapping, f"{column} = ANY(:listed)"))
    return text.columns(mapping.table.c.seq, *mapping.columns)


@functools.cache
def _selected(mapping: Mapping[Any], where: str) -> str:
    return f"SELECT seq, {', '.join(mapping.names)} FROM {mapping.table.name} WHERE {where}"  # noqa: S608 - our own names
