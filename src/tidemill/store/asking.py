"""The queues as annotators meet them: the next question for one of them, and how many wait.

What is asked first was decided before; here it is only looked up, so it takes a moment however much a project holds.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from tidemill.records import Annotation, QueueItem, Turn
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
    mapping: Mapping[QueueItem] = mapping_of(QueueItem)
    queue, turns, said = mapping.table.c, mapping_of(Turn).table.c, mapping_of(Annotation).table.c
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

    def statement(purpose: str) -> sa.Select[Any]:
        # In the order of the index on (done, purpose, rank), so that it ends at the first rows which fit.
        return (
            sa.select(*mapping.columns)
            .where(
                queue.done.is_(False),
                queue.purpose == purpose,
                queue.id.not_in(list(besides)),
                queue.need > queue.given + looking,
                ~mine,
                # a label of one's own that is doubted may be looked at again
                sa.or_(~spoken, queue.signal == "doubtful"),
            )
            .order_by(queue.rank, mapping.table.c.seq)
            .limit(limit)
        )

    with store.database.reading() as connection:
        found = {purpose: list(connection.execute(statement(purpose))) for purpose in purposes}
    settle = [mapping.record(row) for row in found.pop("settle", [])]
    others = [mapping.record(row) for rows in found.values() for row in rows]
    return [*settle, *sorted(others, key=lambda question: question.rank)][:limit]


def waiting(store: Store) -> dict[str, int]:
    """How many questions wait, by purpose."""
    queue = mapping_of(QueueItem).table.c
    statement = sa.select(queue.purpose, sa.func.count()).where(queue.done.is_(False)).group_by(queue.purpose)
    with store.database.reading() as connection:
        found: dict[str, Any] = {row[0]: row[1] for row in connection.execute(statement)}
    return {purpose: int(found.get(purpose, 0)) for purpose in ("audit", "settle", "useful")}


def lately(store: Store, author: str, most: int = 20) -> list[str]:
    """The purposes of the questions that *author* was given last, the newest first; empty for those that are gone."""
    turns, queue = mapping_of(Turn).table, mapping_of(QueueItem).table
    newest = (
        sa.select(turns.c.question, turns.c.seq)
        .where(turns.c.author == author)
        .order_by(turns.c.seq.desc())
        .limit(most)
        .subquery()
    )
    statement = (
        sa.select(queue.c.purpose)
        .select_from(newest.outerjoin(queue, queue.c.id == newest.c.question))
        .order_by(newest.c.seq.desc())
    )
    with store.database.reading() as connection:
        return [row[0] or "" for row in connection.execute(statement)]
