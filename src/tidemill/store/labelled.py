"""What annotators did, counted by the database: one row an author, or a question, and not one an answer."""

from __future__ import annotations

import functools
from typing import Any

import sqlalchemy as sa

from tidemill.records import Annotation, Turn
from tidemill.store.store import Store
from tidemill.store.tables import mapping_of


def count_unanswered(store: Store) -> list[tuple[str, str, int]]:
    """How many questions each author has skipped, or was not sure of: author, state and number."""
    with store.database.reading() as connection:
        return [(row[0], row[1], int(row[2])) for row in connection.execute(_unanswered()) if row[0]]


@functools.cache
def _unanswered() -> sa.Select[Any]:
    turns = mapping_of(Turn).table.c
    # By an expression, since SQLite would walk its index on authors and look up each turn in the table.
    author: sa.ColumnElement[str] = sa.literal_column("coalesce(author, '')")
    counted = sa.select(author, turns.state, sa.func.count()).where(turns.state.in_(["skipped", "unsure"]))
    return counted.group_by(author, turns.state)


def count_labels(store: Store) -> list[tuple[str, str, int]]:
    """How many labels of each author are in force: author, purpose and number."""
    with store.database.reading() as connection:
        return [(row[0], row[1], int(row[2])) for row in connection.execute(_labels())]


@functools.cache
def _labels() -> sa.Select[Any]:
    said = mapping_of(Annotation).table.c
    counted = sa.select(said.author, said.purpose, sa.func.count()).where(*_in_force())
    return counted.group_by(said.author, said.purpose)


def shared_labels(store: Store) -> list[tuple[str, str, Any]]:
    """Labels in force of what several authors have labelled: subject, author and label, as they were given.

    Those that settle a disagreement are left out: who gives them has seen that there is one.
    """
    with store.database.reading() as connection:
        return [(row[0], row[1], row[2]) for row in connection.execute(_shared())]


@functools.cache
def _shared() -> sa.Select[Any]:
    said = mapping_of(Annotation).table.c
    fitting = (*_in_force(), said.purpose != "adjudicate")
    several = (
        sa.select(said.subject)
        .where(*fitting)
        .group_by(said.subject)
        .having(sa.func.min(said.author) != sa.func.max(said.author))
    )
    return (
        sa.select(said.subject, said.author, said.label).where(*fitting, said.subject.in_(several)).order_by(said.seq)
    )


def _in_force() -> tuple[sa.ColumnElement[bool], ...]:
    said = mapping_of(Annotation).table.c
    return said.superseded_by.is_(None), said.label.is_not(None), said.author != ""
