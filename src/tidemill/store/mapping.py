"""Between frozen records and table rows: one uniform mapping, derived from a record's annotations.

A scalar field (``str``, ``int``, ``float``, ``bool``, a ``Literal`` of strings; each perhaps ``None``) is a plain
column that can be searched; every other field is a JSON column. ``seq``, which no record has, numbers the rows of a
table in the order in which they were written: "the newest" never depends on a clock.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import orjson
import sqlalchemy as sa

from tidemill.records import Record

R = TypeVar("R", bound=Record)

_NUL = "a text with the character NUL"


def _json(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY).decode()


class PlainText(sa.types.TypeDecorator[str]):
    """Text without the character NUL: PostgreSQL cannot hold it, so it is refused before it reaches either database."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        """The text as it is."""
        if isinstance(value, str) and "\0" in value:
            raise ValueError(_NUL)
        return value


class JsonText(sa.types.TypeDecorator[Any]):
    """JSON in a text column; ``None`` is SQL's NULL.

    Not ``sa.JSON``: under that type SQLite turns the text ``1.0`` into the number 1, and long integers into floats.
    NumPy scalars and arrays become plain numbers and lists. JSON has no NaN and no infinity: both become ``null``.
    """

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str | None:
        """To the column's text."""
        return None if value is None else _json(value)

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> Any:
        """Back from it."""
        return None if value is None else orjson.loads(value)


_SCALARS: dict[Any, type[sa.types.TypeEngine[Any]]] = {
    str: PlainText,
    int: sa.BigInteger,
    float: sa.Double,
    bool: sa.Boolean,
}


@dataclasses.dataclass(frozen=True)
class Mapping(Generic[R]):
    """How one kind of record lies in its table.

    Attributes:
        kind: the record type.
        table: its table; ``seq`` first, then one column a field.
        searchable: the fields that are plain columns.
        tuples: the JSON fields that are tuples in the record.
    """

    kind: type[R]
    table: sa.Table
    searchable: frozenset[str]
    tuples: frozenset[str]

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """The record's fields, in order."""
        return tuple(field.name for field in dataclasses.fields(self.kind))

    @functools.cached_property
    def columns(self) -> tuple[sa.Column[Any], ...]:
        """The columns of :attr:`names`: every one but ``seq``."""
        return tuple(self.table.c[name] for name in self.names)

    @functools.cached_property
    def _texts(self) -> tuple[int, ...]:
        return tuple(i for i, column in enumerate(self.columns) if isinstance(column.type, PlainText))

    @functools.cached_property
    def _jsons(self) -> tuple[int, ...]:
        return tuple(i for i, column in enumerate(self.columns) if isinstance(column.type, JsonText))

    @functools.cached_property
    def _booleans(self) -> tuple[int, ...]:
        return tuple(i for i, column in enumerate(self.columns) if isinstance(column.type, sa.Boolean))

    @functools.cached_property
    def _fields(self) -> Callable[[Any], tuple[Any, ...]]:
        return operator.attrgetter(*self.names)

    def insertion(self, rows: int) -> str:
        """The statement by which SQLite's driver takes the :meth:`values` of so many records."""
        row = f"({', '.join('?' * len(self.names))})"
        return f"INSERT INTO {self.table.name} ({', '.join(self.names)}) VALUES {', '.join([row] * rows)}"  # noqa: S608 - our own names

    def values(self, records: Sequence[R]) -> list[tuple[Any, ...]]:
        """What a driver stores of *records*, in the order of :attr:`names`: the same as :meth:`row`, but much faster.

        Raises:
            ValueError: a text holds the character NUL.
            TypeError: one holds what JSON cannot.
        """
        columns: list[Any] = list(zip(*map(self._fields, records), strict=True))
        for i in self._texts:
            if "\0" in "".join(filter(None, columns[i])):
                raise ValueError(_NUL)
        for i in self._jsons:
            columns[i] = [None if value is None else _json(value) for value in columns[i]]
        return list(zip(*columns, strict=True))

    def row(self, record: R) -> dict[str, Any]:
        """The column values of *record*."""
        return {name: getattr(record, name) for name in self.names}

    def refused(self, record: R) -> str | None:
        """The first text field of *record* that holds the character NUL, which no database here takes."""
        texts = ((name, getattr(record, name)) for name in self.names if name in self.searchable)
        return next((name for name, value in texts if isinstance(value, str) and "\0" in value), None)

    def stored(self, row: Sequence[Any]) -> R:
        """The record of a row of :attr:`columns` as SQLite's driver gives it, which knows neither JSON nor booleans."""
        values = list(row)
        for i in self._jsons:
            if values[i] is not None:
                values[i] = orjson.loads(values[i])
        for i in self._booleans:
            values[i] = None if values[i] is None else bool(values[i])
        return self.record(values)

    def record(self, row: Sequence[Any]) -> R:
        """The record of a row of :attr:`columns`."""
        values = dict(zip(self.names, row, strict=True))
        for name in self.tuples:
            if values[name] is not None:
                values[name] = tuple(values[name])
        return self.kind(**values)


def map_record(
    kind: type[R],
    metadata: sa.MetaData,
    name: str,
    *,
    unique: Sequence[tuple[str, ...]] = (),
    indexes: Sequence[tuple[str, ...]] = (),
) -> Mapping[R]:
    """Derive the table *name* for *kind*, with its unique and its plain indexes, and add it to *metadata*."""
    hints = typing.get_type_hints(kind)
    columns: list[sa.Column[Any]] = [
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True)
    ]
    searchable, tuples = set(), set()
    for field in dataclasses.fields(kind):
        scalar, nullable, is_tuple = _shape(hints[field.name])
        if scalar is None:
            columns.append(sa.Column(field.name, JsonText, nullable=nullable))
        else:
            columns.append(sa.Column(field.name, _SCALARS[scalar], nullable=nullable))
            searchable.add(field.name)
        if is_tuple:
            tuples.add(field.name)
    table = sa.Table(name, metadata, *columns)
    for group in (("id",), *unique):
        sa.Index(f"uq_{name}_{'_'.join(group)}", *(table.c[c] for c in group), unique=True)
    for group in indexes:
        sa.Index(f"ix_{name}_{'_'.join(group)}", *(table.c[c] for c in group))
    return Mapping(kind, table, frozenset(searchable), frozenset(tuples))


def _shape(hint: Any) -> tuple[Any, bool, bool]:
    """Scalar type or ``None`` for JSON, whether it may be ``None``, whether it is a tuple."""
    if hint is Any:
        return None, True, False
    parts = set(typing.get_args(hint)) if typing.get_origin(hint) in {types.UnionType, typing.Union} else {hint}
    nullable = types.NoneType in parts
    parts.discard(types.NoneType)
    only = parts.pop()
    if typing.get_origin(only) is typing.Literal:
        only = str
    return (only if only in _SCALARS else None), nullable, typing.get_origin(only) is tuple
