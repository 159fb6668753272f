"""What is said of pairs and episodes, and by which token it came."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

from tidemill.records import new_id
from tidemill.store.migrations.columns import records, text

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_feedback = sa.table(
    "feedback", *(sa.column(name) for name in ("id", "created", "subject", "kind", "value", "predictions"))
)
_members = sa.table("members", *(sa.column(name) for name in ("id", "created", "subject", "prediction")))


def upgrade() -> None:
    """Add the columns and the table; what prefers one prediction to another speaks of the pair from now on."""
    op.add_column("feedback", sa.Column("predictions", sa.Text(), nullable=False, server_default="[]"))
    op.add_column("feedback", text("via", null=True))
    records("members", text("subject"), text("prediction"), unique=("subject,prediction",), indexes=("prediction",))
    connection = op.get_bind()
    known: set[tuple[str, str]] = set()
    preferences = sa.select(_feedback).where(_feedback.c.kind == "preference").order_by(_feedback.c.created)
    for row in connection.execute(preferences).mappings().all():
        pair = [row["subject"], json.loads(row["value"])["over"]]
        subject = f"pair:{min(pair)}:{max(pair)}"
        values = {"subject": subject, "predictions": json.dumps(pair)}
        connection.execute(_feedback.update().where(_feedback.c.id == row["id"]).values(values))
        for prediction in {(subject, one) for one in pair} - known:
            known.add(prediction)
            made = {"id": new_id("member"), "created": row["created"]}
            connection.execute(_members.insert().values(**made, subject=prediction[0], prediction=prediction[1]))
