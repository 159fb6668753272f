"""What models learned after they were made."""

from __future__ import annotations

from tidemill.store.migrations.columns import integer, json, records, text

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    records(
        "states",
        text("model_id"),
        text("parent", null=True),
        text("kind"),
        text("blob"),
        integer("size_bytes"),
        text("reason"),
        text("decision_id", null=True),
        json("facts"),
        indexes=("model_id",),
    )
