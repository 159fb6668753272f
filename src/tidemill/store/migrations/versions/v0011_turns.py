"""How many people answer a question, why it is asked, and what each of them did with it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from tidemill.store.migrations.columns import real, records, text

revision = "0011"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns and the table."""
    op.add_column("queue", sa.Column("need", sa.BigInteger(), nullable=False, server_default="1"))
    op.add_column("queue", sa.Column("given", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("queue", sa.Column("signal", sa.Text(), nullable=False, server_default=""))
    op.add_column("queue", text("ask", null=True))
    op.create_index("ix_queue_done_purpose_rank", "queue", ["done", "purpose", "rank"])
    records(
        "turns",
        text("question"),
        text("subject"),
        text("author", null=True),
        text("state"),
        real("until"),
        text("note", null=True),
        text("answer", null=True),
        unique=("question,author",),
        indexes=("author", "subject"),
    )
