"""The store: every record of a project, behind a dozen verbs."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import sqlalchemy as sa

from tidemill.errors import InputError, NotFoundError
from tidemill.records import JSON, Decision, Deployment, Feedback, Prediction, Record, Step, new_id
from tidemill.store import bulk, secrets
from tidemill.store.blobs import Blobs
from tidemill.store.database import Database
from tidemill.store.feedback import FeedbackOutcome, add_feedback
from tidemill.store.locks import held, holder
from tidemill.store.mapping import Mapping, PlainText
from tidemill.store.tables import kind_of, mapping_of, metadata

R = TypeVar("R", bound=Record)

#: How many values one ``IN (…)`` may list: databases limit the number of parameters of a statement.
_CHUNK = 500


class Store:
    """An opened store, from :func:`~tidemill.store.create_store` or ``open_store``; threads may share it.

    Attributes:
        root: the project's ``.tidemill`` folder.
        database: connections and transactions.
        secret: 32 bytes that key the checks and draws of :mod:`tidemill.store.secrets`.
        blobs: files by their SHA-256.
    """

    def __init__(self, root: Path, database: Database) -> None:
        self.root = root
        self.database = database
        self.secret = secrets.read_secret(root)
        self.blobs = Blobs(root / "blobs")

    def close(self) -> None:
        """Close every connection to the database."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Make everything inside one transaction of this thread; nested ones are part of the outer one.

        It holds the write lock: do slow work before it.
        """
        with self.database.transaction():
            yield

    def insert(self, *records: Record) -> None:
        """Insert *records* in one transaction; more than a thousand at once keep other writers waiting.

        Raises:
            ConflictError: a record with the same id (or another unique field) exists; nothing was inserted.
        """
        groups: dict[type[Record], list[Record]] = {}
        for record in records:
            groups.setdefault(type(record), []).append(record)
        with self.database.transaction() as connection:
            for kind, group in groups.items():
                mapping: Mapping[Any] = mapping_of(kind)
                bulk.insert(connection, mapping, group)

    def update(self, record: Record) -> None:
        """Replace the record that has the same id.

        Raises:
            NotFoundError: there is none.
        """
        mapping: Mapping[Any] = mapping_of(type(record))
        statement = mapping.table.update().where(mapping.table.c.id == record.id)
        with self.database.transaction() as connection:
            if connection.execute(statement, mapping.row(record)).rowcount == 0:
                raise self._missing(type(record), record.id)

    def get(self, kind: type[R], identifier: str) -> R:
        """The record of *kind* with this id.

        Raises:
            NotFoundError: there is none; the message says so when the id is one of another kind.
        """
        mapping = mapping_of(kind)
        statement = sa.select(*mapping.columns).where(mapping.table.c.id == identifier)
        with self.database.reading() as connection:
            row = connection.execute(statement).first()
        if row is None:
            raise self._missing(kind, identifier)
        return mapping.record(row)

    def exists(self, kind: type[Record], identifier: str) -> bool:
        """Whether a record of *kind* has this id."""
        table = mapping_of(kind).table
        with self.database.reading() as connection:
            return connection.execute(sa.select(table.c.seq).where(table.c.id == identifier)).first() is not None

    def find(
        self,
        kind: type[R],
        /,
        *,
        limit: int | None = None,
        newest_first: bool = False,
        order_by: str | None = None,
        created_after: float | None = None,
        created_before: float | None = None,
        **equals: Any,
    ) -> list[R]:
        """The records of *kind* whose fields equal the given values, in the order in which they were written.

        Args:
            kind: the record type.
            limit: at most so many.
            newest_first: the last written first (with *order_by*: the largest first).
            order_by: a field to sort by instead; equal ones in the order of writing.
            created_after: only those created later (UTC seconds).
            created_before: only those created earlier.
            equals: a list, tuple or set means "one of these"; ``None`` means "not set".

        Raises:
            InputError: a field does not exist or cannot be searched (it holds JSON).
        """
        mapping = mapping_of(kind)
        wide, conditions = self._conditions(mapping, equals, created_after, created_before)
        order = [self._column(mapping, order_by)] if order_by else []
        order.append(mapping.table.c.seq)
        statement = sa.select(mapping.table).where(*conditions).limit(limit)
        statement = statement.order_by(*(self._ordered(c, newest_first) for c in order))
        rows: list[Sequence[Any]] = []
        with self.database.reading() as connection:
            for part in wide:
                rows.extend(connection.execute(statement.where(*part)))
        if len(wide) > 1:
            places = [list(mapping.table.c).index(c) for c in order]
            rows.sort(key=lambda row: tuple((row[p] is not None, row[p]) for p in places), reverse=newest_first)
        return [mapping.record(row[1:]) for row in rows[:limit]]

    def ids(
        self,
        kind: type[Record],
        /,
        *,
        created_after: float | None = None,
        created_before: float | None = None,
        **equals: Any,
    ) -> list[str]:
        """The ids of the records that :meth:`find` would give, without reading the rest of them."""
        mapping: Mapping[Any] = mapping_of(kind)
        wide, conditions = self._conditions(mapping, equals, created_after, created_before)
        statement = sa.select(mapping.table.c.seq, mapping.table.c.id).where(*conditions)
        with self.database.reading() as connection:
            found = [(row[0], row[1]) for part in wide for row in connection.execute(statement.where(*part))]
        return [identifier for _, identifier in sorted(found)]

    def count(
        self,
        kind: type[Record],
        /,
        *,
        created_after: float | None = None,
        created_before: float | None = None,
        **equals: Any,
    ) -> int:
        """How many records :meth:`find` would give."""
        mapping: Mapping[Any] = mapping_of(kind)
        wide, conditions = self._conditions(mapping, equals, created_after, created_before)
        statement = sa.select(sa.func.count()).select_from(mapping.table).where(*conditions)
        with self.database.reading() as connection:
            return sum(connection.execute(statement.where(*part)).scalar_one() for part in wide)

    def newest(self, kind: type[Record]) -> int:
        """The number of the last record of *kind* that was written; 0 before there is one. See :meth:`since`."""
        table = mapping_of(kind).table
        with self.database.reading() as connection:
            return int(connection.execute(sa.select(sa.func.max(table.c.seq))).scalar_one() or 0)

    def since(self, kind: type[R], number: int, *, limit: int) -> tuple[list[R], int]:
        """Records of *kind* written after the one of that number, in order, and the number of the last of them."""
        mapping = mapping_of(kind)
        statement = sa.select(mapping.table).where(mapping.table.c.seq > number).order_by(mapping.table.c.seq)
        with self.database.reading() as connection:
            rows = connection.execute(statement.limit(limit)).fetchall()
        return [mapping.record(row[1:]) for row in rows], int(rows[-1][0]) if rows else number

    def answers(self, model_id: str, *, limit: int, created_before: float | None = None) -> list[JSON]:
        """The newest answers that a model gave, without reading what they were given to."""
        table = mapping_of(Prediction).table
        statement = sa.select(table.c.answer).where(table.c.model_id == model_id)
        if created_before is not None:
            statement = statement.where(table.c.created < created_before)
        with self.database.reading() as connection:
            return list(connection.execute(statement.order_by(table.c.seq.desc()).limit(limit)).scalars())

    def delete(self, kind: type[Record], identifiers: Collection[str]) -> int:
        """Delete the records of *kind* with these ids; how many there were."""
        table = mapping_of(kind).table
        listed = list(identifiers)
        with self.database.transaction() as connection:
            return sum(
                connection.execute(table.delete().where(table.c.id.in_(listed[i : i + _CHUNK]))).rowcount
                for i in range(0, len(listed), _CHUNK)
            )

    def deploy(self, deployment: Deployment, decision: Decision | None = None) -> None:
        """Put a model into force: the deployment, and the decision behind it, in one transaction."""
        self.insert(*([] if decision is None else [decision]), deployment)

    def champion(self, name: str = "default") -> Deployment | None:
        """The deployment in force under *name*: the last one written, whatever the clock said."""
        newest = self.find(Deployment, name=name, newest_first=True, limit=1)
        return newest[0] if newest else None

    def revision(self, name: str = "default") -> int:
        """A number that grows with each deployment under *name* (0 before the first); cheap to ask often."""
        table = mapping_of(Deployment).table
        with self.database.reading() as connection:
            newest = connection.execute(sa.select(sa.func.max(table.c.seq)).where(table.c.name == name)).scalar_one()
        return int(newest or 0)

    def begin_step(self, cycle_id: str, name: str, token: str) -> Step:
        """The step *name* of a cycle: the one that exists (done, or started with **its** token), else a new one."""
        with self.transaction():
            existing = self.find(Step, cycle_id=cycle_id, name=name, limit=1)
            if existing:
                return existing[0]
            step = Step(id=new_id(Step.prefix), cycle_id=cycle_id, name=name, status="started", token=token)
            self.insert(step)
            return step

    def finish_step(self, step: Step, output: JSON) -> Step:
        """Mark *step* as done, with what it gave."""
        done = dataclasses.replace(step, status="done", output=output, finished=time.time())
        self.update(done)
        return done

    def add_feedback(self, items: Sequence[Feedback]) -> list[FeedbackOutcome]:
        """Commit a group of feedback at once; see :func:`tidemill.store.feedback.add_feedback`."""
        return add_feedback(self.database, items)

    def lock(self, name: str, *, wait: float = 0.0) -> contextlib.AbstractContextManager[None]:
        """Hold the project-wide lock *name*; a holder that died does not block.

        Args:
            name: what it protects, for example ``cycle``.
            wait: how many seconds to wait for another holder.

        Raises:
            BusyError: a living process holds it; the message names its pid.
        """
        return held(self.root / "locks", name, wait=wait)

    def holder(self, name: str, *, sure: bool = False) -> int | None:
        """The pid of the living process that holds the lock *name*; see :func:`tidemill.store.locks.holder`."""
        return holder(self.root / "locks", name, sure=sure)

    def usage(self) -> dict[str, int]:
        """Bytes by folder of the store; ``database`` counts the tables, ``other`` the remaining loose files."""
        sizes = {"database": self.database.remote_size([*metadata.tables]), "other": 0}
        for entry in sorted(self.root.iterdir()):
            if entry.is_dir():
                sizes[entry.name] = sum(_size(path) for path in entry.rglob("*"))
            else:
                sizes["database" if entry.name.startswith("store.db") else "other"] += _size(entry)
        return sizes

    def _column(self, mapping: Mapping[Any], name: str) -> sa.Column[Any]:
        if name in mapping.searchable:
            return mapping.table.c[name]
        known = sorted(mapping.searchable)
        near = difflib.get_close_matches(name, known, n=1)
        raise InputError(
            f"{mapping.kind.__name__} records cannot be searched by {name!r}",
            mend=f"Did you mean {near[0]!r}?" if near else f"Use one of {', '.join(known)}.",
        )

    def _ordered(self, column: sa.Column[Any], last_first: bool) -> sa.ColumnElement[Any]:
        """One order under both databases: of texts by their characters' numbers, and what is not set comes first."""
        value: sa.ColumnElement[Any] = column
        if isinstance(column.type, PlainText) and not self.database.is_sqlite:
            value = sa.collate(column, "C")
        value = value.desc() if last_first else value.asc()
        if not column.nullable:
            return value
        return value.nulls_last() if last_first else value.nulls_first()

    def _conditions(
        self, mapping: Mapping[Any], equals: dict[str, Any], after: float | None, before: float | None
    ) -> tuple[list[list[sa.ColumnElement[bool]]], list[sa.ColumnElement[bool]]]:
        """Conditions for one statement each (the first long list is cut into chunks), and those common to all."""
        wide: list[list[sa.ColumnElement[bool]]] = [[]]
        common: list[sa.ColumnElement[bool]] = []
        if after is not None:
            common.append(mapping.table.c.created > after)
        if before is not None:
            common.append(mapping.table.c.created < before)
        for name, value in equals.items():
            column = self._column(mapping, name)
            if not isinstance(value, list | tuple | set | frozenset):
                common.append(column.is_(None) if value is None else column == value)
                continue
            values = list(dict.fromkeys(value))
            if len(values) <= _CHUNK or len(wide) > 1:
                common.append(column.in_(values))
            else:
                wide = [[column.in_(values[i : i + _CHUNK])] for i in range(0, len(values), _CHUNK)]
        return wide, common

    def _missing(self, kind: type[Record], identifier: str) -> NotFoundError:
        other = kind_of(identifier)
        if other is not None and other is not kind and self.exists(other, identifier):
            mend = f"That is the id of a {other.__name__.lower()}; give the id of a {kind.__name__.lower()}."
        else:
            with self.database.reading() as connection:
                table = mapping_of(kind).table
                recent = (
                    connection.execute(sa.select(table.c.id).order_by(table.c.seq.desc()).limit(500)).scalars().all()
                )
            near = difflib.get_close_matches(identifier, recent, n=1, cutoff=0.8)
            mend = f"Did you mean {near[0]}?" if near else f"Ids of this kind begin with `{kind.prefix}_`."
        return NotFoundError(f"there is no {kind.__name__.lower()} with the id {identifier!r}", mend=mend)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except FileNotFoundError:  # folded or collected while we looked
        return 0
