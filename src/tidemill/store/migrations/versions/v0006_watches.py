"""What triggers last found."""

from __future__ import annotations

from tidemill.store.migrations.columns import json, real, records, text

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    records(
        "watches",
        text("trigger"),
        real("looked"),
        text("waiting"),
        text("fault", null=True),
        json("found"),
        json("memory"),
        real("fired", null=True),
        text("reason", null=True),
        unique=("trigger",),
    )
