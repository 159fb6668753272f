"""What a roll-out asks of the tables, often and cheaply: by the order of writing, never by a clock."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa

from tidemill.records import LiveKey, Prediction, Rollout
from tidemill.store.store import Store
from tidemill.store.tables import mapping_of

_MAPPING = mapping_of(Prediction)
_PREDICTIONS = _MAPPING.table
_KEYS = mapping_of(LiveKey).table
_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Traffic:
    """What came after a row of the predictions.

    Attributes:
        seq: the newest row, to go on from.
        answered: predictions that both models answered, or whose caller the challenger answered.
        challenger: those that the challenger gave to its callers.
    """

    seq: int
    answered: int
    challenger: int


def running_rollout(store: Store, name: str = "default") -> Rollout | None:
    """The roll-out that is under way for the deployment *name*; there is never more than one."""
    found = store.find(Rollout, name=name, status="running", limit=1)
    return found[0] if found else None


def standing(store: Store, name: str = "default") -> str:
    """What serves under *name* and what is on its way to: a text that no other state of both has.

    The number of the last deployment would not do: a roll-out that is stopped leaves none.
    """
    rollout = running_rollout(store, name)
    return f"{store.revision(name)} {'none' if rollout is None else rollout.id}"


def newest_row(store: Store) -> int:
    """The number of the newest prediction's row; 0 when there is none."""
    with store.database.reading() as connection:
        return int(connection.execute(sa.select(sa.func.max(_PREDICTIONS.c.seq))).scalar_one() or 0)


def traffic_since(store: Store, rollout: str, seq: int) -> Traffic:
    """How much both models of *rollout* answered after the row *seq*."""
    table = _PREDICTIONS
    given = table.c.deployment == rollout
    statement = sa.select(
        sa.func.max(table.c.seq),
        sa.func.count().filter(sa.or_(table.c.shadow.is_not(None), given)),
        sa.func.count().filter(given),
    ).where(table.c.seq > seq)
    with store.database.reading() as connection:
        newest, answered, challenger = connection.execute(statement).one()
    return Traffic(int(newest or seq), int(answered), int(challenger))


def audited_since(
    store: Store, seq: int, *, among: Collection[str] | None = None, limit: int | None = None
) -> list[tuple[int, Prediction]]:
    """Predictions after the row *seq* that the audit drew and both models of a roll-out answered, each with its row.

    Args:
        among: only those with one of these ids.
        limit: only the first so many.
    """
    statement = sa.select(_PREDICTIONS).where(*_audited(seq)).order_by(_PREDICTIONS.c.seq).limit(limit)
    parts = [statement]
    if among is not None:
        ids = list(among)
        parts = [statement.where(_PREDICTIONS.c.id.in_(ids[i : i + _CHUNK])) for i in range(0, len(ids), _CHUNK)]
    with store.database.reading() as connection:
        rows = [row for part in parts for row in connection.execute(part)]
    return [(int(row[0]), _MAPPING.record(row[1:])) for row in rows[:limit]]


def both_since(store: Store, seq: int, *, limit: int) -> list[tuple[int, Prediction]]:
    """The first *limit* predictions after the row *seq* that both models of a roll-out answered, each with its row."""
    table = _PREDICTIONS
    statement = sa.select(table).where(table.c.seq > seq, table.c.shadow.is_not(None)).order_by(table.c.seq)
    with store.database.reading() as connection:
        rows = connection.execute(statement.limit(limit)).all()
    return [(int(row[0]), _MAPPING.record(row[1:])) for row in rows]


def asked_since(store: Store, seq: int) -> int:
    """How many keys those predictions have that do not train already."""
    statement = (
        sa.select(sa.func.count(_PREDICTIONS.c.key.distinct()))
        .join_from(_PREDICTIONS, _KEYS, _KEYS.c.key == _PREDICTIONS.c.key)
        .where(*_audited(seq), _KEYS.c.split != "train")
    )
    with store.database.reading() as connection:
        return int(connection.execute(statement).scalar_one())


def _audited(seq: int) -> tuple[sa.ColumnElement[bool], ...]:
    table = _PREDICTIONS
    return table.c.audited.is_(True), table.c.seq > seq, table.c.shadow.is_not(None)
