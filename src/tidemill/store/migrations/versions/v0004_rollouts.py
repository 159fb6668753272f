"""What the other model of a roll-out answered, and what a roll-out ended in."""

from __future__ import annotations

from alembic import op

from tidemill.store.migrations.columns import json, text

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    op.add_column("predictions", json("shadow", null=True))
    op.add_column("rollouts", text("deployment_id", null=True))
    op.add_column("rollouts", text("author", null=True))
