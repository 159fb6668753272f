"""What revisions make tables of records from."""

from __future__ import annotations

from functools import partial
from typing import Any

import sqlalchemy as sa
from alembic import op

Column = sa.Column[Any]


def _column(kind: sa.types.TypeEngine[Any], name: str, *, null: bool = False) -> Column:
    return sa.Column(name, kind, nullable=null)


text = partial(_column, sa.Text())
real = partial(_column, sa.Double())
integer = partial(_column, sa.BigInteger())
boolean = partial(_column, sa.Boolean())
json = partial(_column, sa.Text())  # as text: see tidemill.store.mapping.JsonText


def records(name: str, *columns: Column, unique: tuple[str, ...] = (), indexes: tuple[str, ...] = ()) -> None:
    """A table of records; an index is written as its columns with commas between."""
    sequence = sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True)
    op.create_table(name, sequence, text("id"), real("created"), *columns)
    for index in ("id", *unique):
        op.create_index(f"uq_{name}_{index.replace(',', '_')}", name, index.split(","), unique=True)
    for index in indexes:
        op.create_index(f"ix_{name}_{index.replace(',', '_')}", name, index.split(","))
