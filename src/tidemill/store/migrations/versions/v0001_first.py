"""The first tables."""

from __future__ import annotations

from functools import partial
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

Column = sa.Column[Any]


def _column(kind: sa.types.TypeEngine[Any], name: str, *, null: bool = False) -> Column:
    return sa.Column(name, kind, nullable=null)


_text = partial(_column, sa.Text())
_real = partial(_column, sa.Double())
_integer = partial(_column, sa.BigInteger())
_boolean = partial(_column, sa.Boolean())
_json = partial(_column, sa.Text())  # as text: see tidemill.store.mapping.JsonText


def _records(name: str, *columns: Column, unique: tuple[str, ...] = (), indexes: tuple[str, ...] = ()) -> None:
    """A table of records; an index is written as its columns with commas between."""
    sequence = sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True)
    op.create_table(name, sequence, _text("id"), _real("created"), *columns)
    for index in ("id", *unique):
        op.create_index(f"uq_{name}_{index.replace(',', '_')}", name, index.split(","), unique=True)
    for index in indexes:
        op.create_index(f"ix_{name}_{index.replace(',', '_')}", name, index.split(","))


def upgrade() -> None:
    """Make every table."""
    _records(
        "datasets",
        _text("path"),
        _json("counts"),
        _json("signature"),
        _json("report"),
    )
    _records(
        "runs",
        _text("kind"),
        _text("status"),
        _text("cycle_id", null=True),
        _text("dataset_id"),
        _json("recipe"),
        _json("params"),
        _integer("seed"),
        _json("parents"),
        _json("metrics"),
        _json("curve"),
        _text("model_id", null=True),
        _real("seconds", null=True),
        _text("error", null=True),
        indexes=("cycle_id", "dataset_id"),
    )
    _records(
        "models",
        _text("run_id", null=True),
        _text("dataset_id", null=True),
        _text("task"),
        _text("recipe"),
        _text("path"),
        _integer("size_bytes"),
        _json("metrics"),
        indexes=("run_id",),
    )
    _records(
        "reports",
        _text("model_id"),
        _text("dataset_id"),
        _text("split"),
        _json("content"),
        indexes=("dataset_id", "model_id"),
    )
    _records(
        "decisions",
        _text("cycle_id", null=True),
        _text("challenger_id"),
        _text("champion_id", null=True),
        _text("outcome"),
        _text("reason"),
        _real("alpha"),
        _integer("generation"),
        _json("evidence"),
        indexes=("challenger_id", "cycle_id"),
    )
    _records(
        "deployments",
        _text("name"),
        _text("model_id"),
        _text("action"),
        _text("reason"),
        _text("decision_id", null=True),
        _text("state_id", null=True),
        _text("author", null=True),
        indexes=("name,seq",),
    )
    _records(
        "cycles",
        _text("status"),
        _text("trigger"),
        _integer("seed"),
        _json("plan"),
        _text("dataset_id", null=True),
        _text("decision_id", null=True),
        _json("summary"),
        _real("finished", null=True),
        _text("error", null=True),
        indexes=("status",),
    )
    _records(
        "steps",
        _text("cycle_id"),
        _text("name"),
        _text("status"),
        _text("token"),
        _json("output", null=True),
        _real("finished", null=True),
        unique=("cycle_id,name",),
    )
    _records(
        "predictions",
        _text("deployment"),
        _text("model_id"),
        _text("state_id", null=True),
        _text("key"),
        _json("inputs"),
        _json("answer"),
        _boolean("audited"),
        _real("audit_probability"),
        _real("propensity", null=True),
        _text("caller", null=True),
        indexes=("audited,seq", "created", "key", "model_id"),
    )
    _records(
        "feedback",
        _text("subject"),
        _text("kind"),
        _json("value", null=True),
        _text("author"),
        _boolean("asked"),
        _text("key"),
        _text("superseded_by", null=True),
        unique=("key",),
        indexes=("created", "subject,author", "superseded_by"),
    )
    _records(
        "annotations",
        _text("subject"),
        _json("label", null=True),
        _text("author"),
        _text("purpose"),
        _text("note", null=True),
        _text("superseded_by", null=True),
        indexes=("subject",),
    )
    _records(
        "queue",
        _text("subject"),
        _text("purpose"),
        _real("rank"),
        _text("reason"),
        _json("inputs"),
        _json("suggestion", null=True),
        _boolean("done"),
        indexes=("done,rank", "subject"),
    )
    _records(
        "live_keys",
        _text("key"),
        _text("split"),
        _real("probability"),
        _boolean("drawn"),
        unique=("key",),
        indexes=("split",),
    )
    _records(
        "generations",
        _integer("number"),
        _real("alpha"),
        _real("spent"),
        _real("retired", null=True),
        unique=("number",),
    )
    op.create_table("journal_offsets", sa.Column("segment", sa.Text(), primary_key=True), _integer("position"))
