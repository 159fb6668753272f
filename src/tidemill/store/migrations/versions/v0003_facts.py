"""What the store says of itself."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from tidemill.store.migrations.columns import text

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.create_table("facts", sa.Column("name", sa.Text(), primary_key=True), text("value"))
