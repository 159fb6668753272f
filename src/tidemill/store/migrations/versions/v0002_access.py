"""Tokens, roll-outs, and what was erased."""

from __future__ import annotations

from tidemill.store.migrations.columns import json, real, records, text

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables."""
    records(
        "tokens",
        text("name"),
        json("scopes"),
        text("digest"),
        real("expires", null=True),
        real("revoked", null=True),
        unique=("digest",),
    )
    records(
        "rollouts",
        text("name"),
        text("champion_id"),
        text("challenger_id"),
        text("phase"),
        real("share"),
        text("status"),
        text("reason"),
        text("decision_id", null=True),
        json("evidence"),
        real("finished", null=True),
        indexes=("name,seq", "status"),
    )
    records(
        "erasures",
        text("what"),
        text("digest"),
        json("subjects"),
        json("counts"),
        json("models"),
        real("finished", null=True),
        indexes=("digest",),
    )
