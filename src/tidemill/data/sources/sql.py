"""The rows of a database query: ``sql:URL#QUERY``, through SQLAlchemy.

The query runs once, in one transaction that only reads, and its rows are streamed into a temporary Arrow file. All
that follows (types, fingerprint, import) reads that file, so it sees one state of a database that others write to, and
a query that fails half-way has written nothing.
"""

from __future__ import annotations

import datetime
import decimal
import hashlib
import os
import re
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
import sqlalchemy.exc

from tidemill.data.sources._arrow import LABELS, ArrowColumns, pieces
from tidemill.data.sources._base import NO_SPLIT, Batch, Limits, Shapes, Source, Summary, numbered, rows_for
from tidemill.data.sources._summary import summarise
from tidemill.errors import ExtraMissingError, SourceError, StoreError

CHUNK = 2048
CONNECT_SECONDS = 10
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_BIND = re.compile(r"(?<![:\w\\]):(?=\w)")
_COMMENT = re.compile(r"\s+|--[^\n]*(\n|$)|/\*.*?\*/|\(", re.DOTALL)
_READS = re.compile(r"(?:select|with|values|table|from)\b", re.IGNORECASE)
_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_EXTRAS = {"postgresql": "postgres"}
_DEFAULT_DRIVERS = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql", "mariadb": "mariadb+pymysql"}


class SqlSource(Source):
    """A query's columns, typed by all of its values: numbers, truth values, times, texts, bytes (images) or lists.

    Args:
        spec: ``URL#QUERY``; a mere name after ``#`` is a table. ``${NAME}`` in the URL stands for a variable of the
            environment, so that a password need not stand in a file.
        limits: what it may cost.

    Raises:
        SourceError: it has another form, the database cannot be reached, or the query fails.
        ExtraMissingError: the driver is not installed.
    """

    def __init__(self, spec: str, limits: Limits) -> None:
        raw, found, query = spec.partition("#")
        query = query.strip().rstrip(";").rstrip()
        if not found or not query:
            mend = "Write sql:URL#QUERY, such as 'sql:sqlite:///shop.db#SELECT text, label FROM reviews'."
            raise SourceError("there is no query behind the database's URL.", where=f"sql:{_masked(raw)}", mend=mend)
        # The query is the user's own, to be run in the user's name; a table's name is letters, digits and dots.
        self.query = f"SELECT * FROM {query}" if _NAME.fullmatch(query) else query  # noqa: S608
        self._url = _url(raw)
        self.where = shown(self._url)
        super().__init__(f"sql:{self.where}", limits)
        if not _READS.match(_without_comments(self.query)):
            said = self.query.split(None, 1)[0]
            raise SourceError(f"the query begins with {said!r}.", where=self.where, mend="Give one that only reads.")
        self._rows: _Spool | None = None

    @property
    def spool(self) -> _Spool:
        """The rows; the query runs when they are asked for first."""
        if self._rows is None:
            self._rows = _Spool(self._url, self.query, self.where, self.limits)
            self.notes += [f"the query gave {self._rows.count:,} rows", *self._rows.columns.notes]
        return self._rows

    def fingerprint(self) -> str:
        """A hash of the query and of all its rows."""
        return hashlib.sha256(f"{self.where}\n{self.query}\n{self.spool.digest}".encode()).hexdigest()

    def summary(self) -> Summary:
        """One pass over the rows."""
        return summarise(self.name, self.batches(), self.notes)

    def batches(self, size: int = 8192, *, shapes: Shapes | None = None) -> Iterator[Batch]:
        """All rows in the order the database gave them."""
        spool = self.spool
        wanted = spool.columns.wanted(shapes)
        for shape in wanted.values():
            size = rows_for(size, int(np.prod(shape)))
        first = 1
        for table in spool.tables(size):
            origin = numbered(self.name, first, table.num_rows)
            yield spool.columns.batch(table, origin, NO_SPLIT, wanted)
            first += table.num_rows


class _Spool:
    """A query's rows in a temporary file: Arrow streams one after another, each with the types of its own rows."""

    def __init__(self, url: sa.URL, query: str, where: str, limits: Limits) -> None:
        handle, name = tempfile.mkstemp(prefix="tidemill-sql-", suffix=".arrow")
        self._path = Path(name)
        self._cleanup = weakref.finalize(self, self._path.unlink, missing_ok=True)
        self.count = 0
        self._chunks = 0
        self._kinds: list[set[str]] = []
        self._names: list[str] = []
        digest = hashlib.sha256()
        try:
            with os.fdopen(handle, "wb") as file:
                for names, rows in _run(url, query, where):
                    self._names = names
                    self._kinds = self._kinds or [set() for _ in names]
                    table = self._table(rows)
                    digest.update(table.schema.serialize())
                    digest.update(table.serialize())
                    with pa.ipc.new_stream(file, table.schema) as writer:
                        writer.write_batch(table)
                    self._chunks += 1
                    self.count += len(rows)
        except OSError as error:
            message = f"the query's rows cannot be kept in {self._path.parent} ({error.strerror or error})."
            raise StoreError(message, mend="Free some space, or set TMPDIR to a folder that has some.") from error
        if not self.count:
            raise SourceError("the query gave no rows.", where=where, mend="Give one that gives at least one.")
        self.digest = digest.hexdigest()
        self.types = [_common_type(kinds) for kinds in self._kinds]
        schema = pa.schema([pa.field(n, t) for n, t in zip(self._names, self.types, strict=True)])
        self.columns = ArrowColumns(schema, limits, where)
        if self.columns.image_columns:
            self.columns.probe(self.tables(64))

    def _table(self, rows: Sequence[Sequence[Any]]) -> pa.RecordBatch:
        arrays = []
        for kinds, values in zip(self._kinds, zip(*rows, strict=True), strict=True):
            found = {_kind(v) for v in values if v is not None}
            kinds.update(found)
            arrays.append(_array(values, _common_type(found)))
        return pa.RecordBatch.from_arrays(arrays, [str(i) for i in range(len(arrays))])

    def tables(self, size: int) -> Iterator[pa.RecordBatch]:
        """The rows, with one type a column throughout."""
        with pa.memory_map(str(self._path)) as file:
            for _ in range(self._chunks):
                reader = pa.ipc.open_stream(file)
                for chunk in reader:
                    arrays = [_widened(c, t) for c, t in zip(chunk.columns, self.types, strict=True)]
                    table = pa.RecordBatch.from_arrays(arrays, [str(i) for i in range(len(arrays))])
                    yield from pieces(table, size)


def _run(url: sa.URL, query: str, where: str) -> Iterator[tuple[list[str], list[tuple[Any, ...]]]]:
    """The columns' names with each chunk of rows."""
    engine = _engine(url, where)
    done = 0
    try:
        with engine.connect() as connection:
            _read_only(connection)
            options = {"stream_results": True, "max_row_buffer": CHUNK}
            text = sa.text(_BIND.sub(r"\\:", query))
            result = connection.execution_options(**options).execute(text)
            if not result.returns_rows:
                raise SourceError("the query gives no rows.", where=where, mend="Give one that reads.")
            names = [str(n) for n in result.keys()]  # noqa: SIM118 - a result is no mapping
            for chunk in result.partitions(CHUNK):
                rows = [tuple(row) for row in chunk]
                done += len(rows)
                yield names, rows
            connection.rollback()
    except (sqlalchemy.exc.SQLAlchemyError, OverflowError, ValueError, UnicodeError) as error:
        said = _scrubbed(error, url)
        after = f" after {done:,} rows" if done else ""
        if isinstance(error, sqlalchemy.exc.DBAPIError) and error.connection_invalidated and not done:
            message = f"the database cannot be reached: {said}"
        else:
            message = f"the query failed{after}: {said}"
        raise SourceError(message, where=where, mend="Mend the query or the URL; nothing was written.") from error
    finally:
        engine.dispose()


def _engine(url: sa.URL, where: str) -> sa.Engine:
    backend = url.get_backend_name()
    plain = backend == "sqlite" and not str(url.database).startswith("file:")
    if plain and not Path(str(url.database)).is_file():  # SQLite would make an empty one
        raise SourceError("there is no such database file.", where=where, mend="Check the path.")
    try:
        # A connection of its own that no pool keeps: the file may be replaced before it is read again.
        waits = {"connect_timeout": CONNECT_SECONDS} if backend in ("postgresql", "mysql", "mariadb") else {}
        return sa.create_engine(url, poolclass=sa.pool.NullPool, connect_args=waits)
    except sqlalchemy.exc.NoSuchModuleError as error:
        message = f"SQLAlchemy knows no database {url.drivername!r}."
        mend = "Write it like sqlite:///FILE or postgresql://HOST/NAME."
        raise SourceError(message, where=where, mend=mend) from error
    except ImportError as error:
        extra = _EXTRAS.get(backend)
        package = f"'tidemill[{extra}]'" if extra else error.name
        message = f"the database driver {error.name!r} is not installed."
        raise ExtraMissingError(message, where=where, mend=f"pip install {package}") from error
    except (sqlalchemy.exc.ArgumentError, TypeError, ValueError) as error:
        message = f"the database's URL cannot be used ({_scrubbed(error, url)})."
        raise SourceError(message, where=where, mend="Write it like sqlite:///FILE.") from error


def _read_only(connection: sa.Connection) -> None:
    """Ask the database to refuse writing; where it does not know how, the rollback at the end undoes it."""
    statement = {
        "sqlite": "PRAGMA query_only = ON",
        "postgresql": "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
        "oracle": "SET TRANSACTION READ ONLY",
    }.get(connection.dialect.name)
    if statement:
        connection.execute(sa.text(statement))


def _url(raw: str) -> sa.URL:
    def value(match: re.Match[str]) -> str:
        found = os.environ.get(match[1])
        if not found:
            message = f"the environment variable {match[1]} is not set."
            raise SourceError(message, where=f"sql:{_masked(raw)}", mend=f"Set {match[1]} to the database's URL.")
        return found

    try:
        url = sa.make_url(_VARIABLE.sub(value, raw.strip()))
    except (sqlalchemy.exc.ArgumentError, ValueError) as error:
        mend = "Write it like sqlite:///FILE or postgresql://USER@HOST/NAME."
        raise SourceError("this is no database URL.", where=f"sql:{_masked(raw)}", mend=mend) from error
    return url.set(drivername=_DEFAULT_DRIVERS.get(url.drivername, url.drivername))


def shown(url: sa.URL) -> str:
    """A URL for people: without password and options, which may hold secrets too.

    >>> shown(sa.make_url("postgresql://ann:secret@db.example/shop?sslpassword=more"))
    'postgresql://ann:***@db.example/shop'
    """
    return url.set(query={}).render_as_string(hide_password=True)


def _masked(raw: str) -> str:
    """What may be shown of a text that is no URL: nothing before its last ``@``, and no options."""
    scheme, _, rest = raw.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}" if rest else raw.rpartition("@")[2]


def _scrubbed(error: BaseException, url: sa.URL) -> str:
    """The database's own words, on one line, without the URL's secrets."""
    text = str(getattr(error, "orig", None) or error).strip()
    text = " ".join((text.splitlines() or [type(error).__name__])[:3])[:500]
    options = [v for value in url.query.values() for v in ([value] if isinstance(value, str) else value)]
    for secret in [str(url.password or ""), *options]:
        if len(secret) > 2:
            text = text.replace(secret, "***")
    return text


def _without_comments(query: str) -> str:
    at = 0
    while match := _COMMENT.match(query, at):
        at = match.end()
    return query[at:]


def _kind(value: Any) -> str:
    kind = next((kind for kind, types in _KINDS if isinstance(value, types)), "other")
    return "other" if kind == "int" and not -(2**63) <= value < 2**63 else kind  # too large a number stays a text


_KINDS: tuple[tuple[str, tuple[type, ...]], ...] = (
    ("bool", (bool,)),
    ("int", (int,)),
    ("float", (float, decimal.Decimal)),
    ("time", (datetime.datetime,)),
    ("date", (datetime.date,)),
    ("bytes", (bytes, bytearray, memoryview)),
    ("list", (list, tuple)),
    ("nested", (dict,)),
)
_TIME = pa.timestamp("us")
_NESTED = pa.struct([pa.field("text", pa.large_string())])


def _common_type(kinds: set[str]) -> pa.DataType:
    """The type that holds all kinds of values without loss; text where there is no other."""
    for fits, kind in (
        (set(), pa.null()),
        ({"bool"}, pa.bool_()),
        ({"bool", "int"}, pa.int64()),
        ({"bool", "int", "float"}, pa.float64()),
        ({"date", "time"}, _TIME),
        ({"bytes"}, pa.large_binary()),
        ({"list"}, LABELS),
        ({"nested"}, _NESTED),
    ):
        if kinds <= fits:
            return kind
    return pa.large_string()


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    converters: dict[Any, Callable[[Any], Any]] = {
        pa.large_string(): _text,
        pa.float64(): float,
        pa.int64(): int,
        pa.large_binary(): bytes,
        LABELS: lambda v: [_text(one) for one in v if one is not None],
        _TIME: _moment,
        _NESTED: lambda v: {"text": str(v)},
    }
    convert = converters.get(kind)
    return pa.array([None if v is None else convert(v) for v in values] if convert else values, kind)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("utf-8", "replace")
    return value.isoformat() if isinstance(value, datetime.date | datetime.time) else str(value)


def _moment(value: datetime.date) -> datetime.datetime:
    """UTC without a zone; a day is its midnight."""
    if not isinstance(value, datetime.datetime):
        return datetime.datetime(value.year, value.month, value.day)  # noqa: DTZ001 - days have no zone
    return value if value.tzinfo is None else value.astimezone(datetime.UTC).replace(tzinfo=None)


def _widened(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """A chunk's column in the type that all chunks have in common."""
    if column.type == kind:
        return column
    if pa.types.is_null(column.type):
        return pa.nulls(len(column), kind)
    return _array(column.to_pylist(), kind)
