"""What neighbours are told."""

from __future__ import annotations

from tidemill.store.migrations.columns import integer, real, records, text

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    records(
        "deliveries",
        text("neighbour"),
        text("subject"),
        text("status"),
        text("remote", null=True),
        integer("attempts"),
        text("fault", null=True),
        real("finished", null=True),
        unique=("neighbour,subject",),
        indexes=("neighbour,status",),
    )
