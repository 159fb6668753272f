"""The queues as annotators meet them: the next question for one of them, and how many wait.

What is asked first was decided before; here it is only looked up, so it takes a moment however much a project holds.
"""

from __future__ import annotations

import functools
from collections.abc import Collection
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from tidemill.records import Annotation, QueueItem, Turn, new_id
from tidemill.store.mapping import Mapping
from tidemill.store.store import Store
from tidemill.store.tables import mapping_of


def next_questions(
    store: Store,
    author: str,
    purposes: Collection[str],
    now: float,
    *,
    limit: int = 1,
    besides: Collection[str] = (),
) -> list[QueueItem]:
    """The questions to ask *author* next: contradictions first, then by rank.

    Left out are those that *author* has answered, skipped or was not sure of, and those that as many others look at or
    have answered as are to answer it.

    Args:
        store: the project's store.
        author: who is asked.
        purposes: of which queues.
        now: UTC seconds.
        limit: at most so many.
        besides: ids of questions that are not wanted.
    """
    mapping, statement = mapping_of(QueueItem), _next()
    given = {"author": author, "now": now, "most": limit, "besides": list(besides)}
    with store.database.reading() as connection:
        found = {one: connection.execute(statement, {**given, "of": one}).all() for one in purposes}
    settle = [mapping.record(row) for row in found.pop("settle", [])]
    others = [mapping.record(row) for rows in found.values() for row in rows]
    return [*settle, *sorted(others, key=lambda question: question.rank)][:limit]


@functools.cache
def _next() -> sa.Select[Any]:
    """The next questions of one purpose; put together once, which takes longer than to run it."""
    mapping: Mapping[QueueItem] = mapping_of(QueueItem)
    queue, turns, said = mapping.table.c, mapping_of(Turn).table.c, mapping_of(Annotation).table.c
    author, now = sa.bindparam("author", type_=sa.Text), sa.bindparam("now", type_=sa.Double)
    mine = sa.exists().where(
        turns.question == queue.id, turns.author == author, turns.state != "open",
        sa.or_(turns.state != "skipped", turns.until > now),
    )  # fmt: skip
    spoken = sa.exists().where(
        said.subject == queue.subject, said.author == author, said.superseded_by.is_(None), said.label.is_not(None)
    )
    looking = (
        sa.select(sa.func.count())
        .where(turns.question == queue.id, turns.state == "open", turns.until > now, turns.author != author)
        .scalar_subquery()
    )
    # In the order of the index on (done, purpose, rank), so that it ends at the first rows which fit.
    return (
        sa.select(*mapping.columns)
        .where(
            queue.done.is_(False),
            queue.purpose == sa.bindparam("of"),
            queue.id.not_in(sa.bindparam("besides", expanding=True)),
            queue.need > queue.given + looking,
            ~mine,
            # a label of one's own that is doubted may be looked at again
            sa.or_(~spoken, queue.signal == "doubtful"),
        )
        .order_by(queue.rank, queue.seq)
        .limit(sa.bindparam("most"))
    )


def keep(
    store: Store,
    question: QueueItem,
    author: str,
    until: float,
    *,
    state: Literal["open", "answered", "skipped", "unsure"] = "open",
    note: str | None = None,
    answer: str | None = None,
) -> None:
    """Keep what *author* does with a question: one turn each, and what they noted before stays unless they note more.

    While it is open, the question is kept from everybody else *until* then.
    """
    mapping = mapping_of(Turn)
    turn = Turn(
        id=new_id(Turn.prefix),
        question=question.id,
        subject=question.subject,
        author=author,
        state=state,
        until=until,
        note=note,
        answer=answer,
    )
    with store.database.transaction() as connection:
        connection.execute(_keeping(store.database.is_sqlite), mapping.row(turn))


@functools.cache
def _keeping(by_sqlite: bool) -> sa.Executable:
    table = mapping_of(Turn).table
    statement: Any = (sqlite if by_sqlite else postgresql).insert(table)
    again: dict[str, Any] = {name: statement.excluded[name] for name in ("state", "until", "answer")}
    again["note"] = sa.func.coalesce(statement.excluded.note, table.c.note)
    found: sa.Executable = statement.on_conflict_do_update(index_elements=["question", "author"], set_=again)
    return found


def waiting(store: Store) -> dict[str, int]:
    """How many questions wait, by purpose."""
    with store.database.reading() as connection:
        found: dict[str, Any] = {row[0]: row[1] for row in connection.execute(_waiting())}
    return {purpose: int(found.get(purpose, 0)) for purpose in ("audit", "settle", "useful")}


@functools.cache
def _waiting() -> sa.Select[Any]:
    queue = mapping_of(QueueItem).table.c
    return sa.select(queue.purpose, sa.func.count()).where(queue.done.is_(False)).group_by(queue.purpose)


def lately(store: Store, author: str, most: int = 20) -> list[str]:
    """The purposes of the questions that *author* was given last, the newest first; empty for those that are gone."""
    with store.database.reading() as connection:
        return [row[0] or "" for row in connection.execute(_lately(), {"author": author, "most": most})]


@functools.cache
def _lately() -> sa.Select[Any]:
    turns, queue = mapping_of(Turn).table, mapping_of(QueueItem).table
    newest = (
        sa.select(turns.c.question, turns.c.seq)
        .where(turns.c.author == sa.bindparam("author"))
        .order_by(turns.c.seq.desc())
        .limit(sa.bindparam("most"))
        .subquery()
    )
    return (
        sa.select(queue.c.purpose)
        .select_from(newest.outerjoin(queue, queue.c.id == newest.c.question))
        .order_by(newest.c.seq.desc())
    )
