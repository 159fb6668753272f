"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from tidemill.store.migrations.columns import boolean, integer, json, real, records, text

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make every table."""
    records(
        "datasets",
        text("path"),
        json("counts"),
        json("signature"),
        json("report"),
    )
    records(
        "runs",
        text("kind"),
        text("status"),
        text("cycle_id", null=True),
        text("dataset_id"),
        json("recipe"),
        json("params"),
        integer("seed"),
        json("parents"),
        json("metrics"),
        json("curve"),
        text("model_id", null=True),
        real("seconds", null=True),
        text("error", null=True),
        indexes=("cycle_id", "dataset_id"),
    )
    records(
        "models",
        text("run_id", null=True),
        text("dataset_id", null=True),
        text("task"),
        text("recipe"),
        text("path"),
        integer("size_bytes"),
        json("metrics"),
        indexes=("run_id",),
    )
    records(
        "reports",
        text("model_id"),
        text("dataset_id"),
        text("split"),
        json("content"),
        indexes=("dataset_id", "model_id"),
    )
    records(
        "decisions",
        text("cycle_id", null=True),
        text("challenger_id"),
        text("champion_id", null=True),
        text("outcome"),
        text("reason"),
        real("alpha"),
        integer("generation"),
        json("evidence"),
        indexes=("challenger_id", "cycle_id"),
    )
    records(
        "deployments",
        text("name"),
        text("model_id"),
        text("action"),
        text("reason"),
        text("decision_id", null=True),
        text("state_id", null=True),
        text("author", null=True),
        indexes=("name,seq",),
    )
    records(
        "cycles",
        text("status"),
        text("trigger"),
        integer("seed"),
        json("plan"),
        text("dataset_id", null=True),
        text("decision_id", null=True),
        json("summary"),
        real("finished", null=True),
        text("error", null=True),
        indexes=("status",),
    )
    records(
        "steps",
        text("cycle_id"),
        text("name"),
        text("status"),
        text("token"),
        json("output", null=True),
        real("finished", null=True),
        unique=("cycle_id,name",),
    )
    records(
        "predictions",
        text("deployment"),
        text("model_id"),
        text("state_id", null=True),
        text("key"),
        json("inputs"),
        json("answer"),
        boolean("audited"),
        real("audit_probability"),
        real("propensity", null=True),
        text("caller", null=True),
        indexes=("audited,seq", "created", "key", "model_id"),
    )
    records(
        "feedback",
        text("subject"),
        text("kind"),
        json("value", null=True),
        text("author"),
        boolean("asked"),
        text("key"),
        text("superseded_by", null=True),
        unique=("key",),
        indexes=("created", "subject,author", "superseded_by"),
    )
    records(
        "annotations",
        text("subject"),
        json("label", null=True),
        text("author"),
        text("purpose"),
        text("note", null=True),
        text("superseded_by", null=True),
        indexes=("subject",),
    )
    records(
        "queue",
        text("subject"),
        text("purpose"),
        real("rank"),
        text("reason"),
        json("inputs"),
        json("suggestion", null=True),
        boolean("done"),
        indexes=("done,rank", "subject"),
    )
    records(
        "live_keys",
        text("key"),
        text("split"),
        real("probability"),
        boolean("drawn"),
        unique=("key",),
        indexes=("split",),
    )
    records(
        "generations",
        integer("number"),
        real("alpha"),
        real("spent"),
        real("retired", null=True),
        unique=("number",),
    )
    op.create_table("journal_offsets", sa.Column("segment", sa.Text(), primary_key=True), integer("position"))
