"""What pages ask of large tables: the next rows by their number, and how many there are between two.

Every statement here walks an index from one end and stops, so that it takes as long with a million rows as with ten.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import sqlalchemy as sa

from tidemill.records import Record
from tidemill.store.store import Store
from tidemill.store.tables import mapping_of

R = TypeVar("R", bound=Record)


def page(
    store: Store, kind: type[R], /, *, limit: int, before: int | None = None, after: int | None = None, **equals: Any
) -> list[tuple[int, R]]:
    """Some records of *kind* with their numbers, the newest first.

    Args:
        store: the store.
        kind: the record type.
        limit: at most so many.
        before: only those with a lower number, the next ones downwards; the newest unless given.
        after: only those with a higher number, the next ones upwards.
        equals: fields that are columns, and what they must be; a list or tuple means "one of these".
    """
    mapping = mapping_of(kind)
    seq = mapping.table.c.seq
    statement = sa.select(mapping.table)
    for name, value in equals.items():
        column = mapping.table.c[name]
        several = isinstance(value, list | tuple)
        statement = statement.where(
            column.in_(value) if several else column.is_(None) if value is None else column == value
        )
    if after is not None:
        statement = statement.where(seq > after).order_by(seq)
    else:
        statement = statement.order_by(seq.desc())
        if before is not None:
            statement = statement.where(seq < before)
    with store.database.reading() as connection:
        rows: Sequence[Sequence[Any]] = connection.execute(statement.limit(limit)).all()
    found = [(int(row[0]), mapping.record(row[1:])) for row in rows]
    return found[::-1] if after is not None else found


def last_number(store: Store, kind: type[Record]) -> int:
    """The number of the newest record of *kind*; 0 when there is none."""
    table = mapping_of(kind).table
    with store.database.reading() as connection:
        return int(connection.execute(sa.select(sa.func.max(table.c.seq))).scalar_one() or 0)


def count_after(store: Store, kind: type[Record], number: int) -> int:
    """How many records of *kind* have a higher number."""
    table = mapping_of(kind).table
    statement = sa.select(sa.func.count()).select_from(table).where(table.c.seq > number)
    with store.database.reading() as connection:
        return int(connection.execute(statement).scalar_one())


def count_between(store: Store, kind: type[Record], start: float, end: float) -> int:
    """How many records of *kind*, whose table has an index of times, were created from *start* on and before *end*."""
    table = mapping_of(kind).table
    statement = sa.select(sa.func.count()).select_from(table)
    statement = statement.where(table.c.created >= start, table.c.created < end)
    with store.database.reading() as connection:
        return int(connection.execute(statement).scalar_one())
