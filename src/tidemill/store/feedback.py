"""Feedback into the tables: idempotent by key, the newest statement of an author in force, one commit a group."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import time
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import orjson
import sqlalchemy as sa

from tidemill.errors import ConflictError
from tidemill.records import LABEL_KINDS, Feedback, Member, new_id
from tidemill.store import bulk
from tidemill.store.database import Database
from tidemill.store.tables import mapping_of

_FEEDBACK, _MEMBERS = mapping_of(Feedback), mapping_of(Member)
_TRIES = 4

_Place = tuple[str, str | None, str, str]


class FeedbackOutcome(NamedTuple):
    """What became of one piece of feedback.

    Attributes:
        feedback: the record in the store: this one, or the one that came first under the same key.
        status: ``accepted``; ``repeated`` (same key, same body: nothing was written); ``conflict`` (same key, other
            body: nothing was written).
        superseded: the id of the older statement that *feedback* took the place of.
    """

    feedback: Feedback
    status: Literal["accepted", "repeated", "conflict"]
    superseded: str | None = None


def add_feedback(database: Database, items: Sequence[Feedback]) -> list[FeedbackOutcome]:
    """Commit *items* in one transaction; one outcome each, in their order.

    Of several statements by one author on one subject and of one family (a label, a rating, …) the one with the latest
    ``created`` is in force; the others carry its id in ``superseded_by``, also when they arrive after it. Where that
    lies ahead, the clock has gone back since, and the one that is written later is in force. Of two tokens each speaks
    for authors of its own: with another one nobody can take back what an author said, nor keep a key from somebody else
    by using it first. The same body may come again with a renewed token.

    Raises:
        StoreError: nothing of the group was written.
    """
    # A key that a statement was given by itself is as new as its id is, unless the very record is handed in again.
    given = {f.key for f in items if f.key != f.id}
    for _ in range(_TRIES):
        # A conflict means that another process committed one of the keys between our look and our insert: look again.
        with contextlib.suppress(ConflictError):
            return _add(database, items, given)
        given = {f.key for f in items}
    return _add(database, items, given)


def _add(database: Database, items: Sequence[Feedback], keys: set[str]) -> list[FeedbackOutcome]:
    with database.transaction() as connection:
        known = {f.key: f for f in bulk.select(connection, _FEEDBACK, "key", keys)}
        if known:
            items = [_apart(connection, item, known) for item in items]
        stated = bulk.select(connection, _FEEDBACK, "subject", {f.subject for f in items if f.key not in known})
        in_force = {_place(f): f for f in stated if f.superseded_by is None}
        outdone = bulk.select(connection, _FEEDBACK, "superseded_by", {f.id for f in known.values()})
        replaced = {f.superseded_by: f.id for f in outdone}

        now = time.time()
        new: dict[str, Feedback] = {}
        outdated: dict[str, str] = {}
        outcomes: list[tuple[str, Literal["accepted", "repeated", "conflict"]]] = []
        for given in items:
            item = _apart(connection, given, known)  # again: one of this very group may have come first
            first = known.get(item.key)
            if first is not None:
                outcomes.append((item.key, "repeated" if _body(first) == _body(item) else "conflict"))
                continue
            place = _place(item)
            older = in_force.get(place)
            stored = item if item.superseded_by is None else dataclasses.replace(item, superseded_by=None)
            if older is not None and item.created < older.created <= now:
                stored = dataclasses.replace(item, superseded_by=older.id)
            else:
                in_force[place] = stored
                if older is not None:
                    replaced[item.id] = older.id
                    if older.id in new:
                        new[older.id] = known[older.key] = dataclasses.replace(older, superseded_by=item.id)
                    else:
                        outdated[older.id] = item.id
            new[item.id] = known[item.key] = stored
            outcomes.append((item.key, "accepted"))

        table = _FEEDBACK.table
        if new:
            bulk.insert(connection, _FEEDBACK, list(new.values()))
            _add_members(connection, list(new.values()))
        if outdated:
            connection.execute(
                table.update().where(table.c.id == sa.bindparam("old")).values(superseded_by=sa.bindparam("new")),
                [{"old": old, "new": by} for old, by in outdated.items()],
            )
    return [FeedbackOutcome(known[key], status, replaced.get(known[key].id)) for key, status in outcomes]


def _apart(connection: sa.Connection, item: Feedback, known: dict[str, Feedback]) -> Feedback:
    """*item*, under a key of its token's own where that of another token says something else under the same key.

    *known* gets what stands there already. Most keys are nobody else's, so all others are looked for at once before.
    """
    first = known.get(item.key)
    if first is None or first.via == item.via or _body(first) == _body(item):
        return item
    own = hashlib.sha256(orjson.dumps([item.via, item.key])).hexdigest()
    if own not in known:
        known |= {f.key: f for f in bulk.select(connection, _FEEDBACK, "key", {own})}
    return dataclasses.replace(item, key=own)


def _add_members(connection: sa.Connection, items: Sequence[Feedback]) -> None:
    """Note which predictions the pairs and episodes of *items* consist of, as far as that is new."""
    named = dict.fromkeys((item.subject, prediction) for item in items for prediction in item.predictions)
    if not named:
        return
    for member in bulk.select(connection, _MEMBERS, "subject", {subject for subject, _ in named}):
        named.pop((member.subject, member.prediction), None)
    made = [Member(id=new_id(Member.prefix), subject=subject, prediction=one) for subject, one in named]
    if made:
        bulk.insert(connection, _MEMBERS, made)


def _place(item: Feedback) -> _Place:
    return item.subject, item.via, item.author, "label" if item.kind in LABEL_KINDS else item.kind


def _body(item: Feedback) -> tuple[Any, ...]:
    value = orjson.dumps(item.value, option=orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY)
    return item.subject, item.kind, value, item.author, item.asked, sorted(item.predictions)
