"""The tables, one a kind of record. A kind added here needs a migration beside it (``migrations/versions/``)."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import sqlalchemy as sa

from tidemill import records
from tidemill.records import Record
from tidemill.store.mapping import Mapping, map_record

R = TypeVar("R", bound=Record)

metadata = sa.MetaData()

_MAPPINGS: dict[type[Record], Mapping[Any]] = {
    mapping.kind: mapping
    for mapping in (
        map_record(records.Dataset, metadata, "datasets"),
        map_record(records.Run, metadata, "runs", indexes=[("cycle_id",), ("dataset_id",)]),
        map_record(records.Model, metadata, "models", indexes=[("run_id",)]),
        map_record(records.Report, metadata, "reports", indexes=[("model_id",), ("dataset_id",)]),
        map_record(records.Decision, metadata, "decisions", indexes=[("cycle_id",), ("challenger_id",)]),
        map_record(records.Deployment, metadata, "deployments", indexes=[("name", "seq")]),
        map_record(records.Cycle, metadata, "cycles", indexes=[("status",)]),
        map_record(records.Step, metadata, "steps", unique=[("cycle_id", "name")]),
        map_record(
            records.Prediction,
            metadata,
            "predictions",
            indexes=[("key",), ("model_id",), ("created",), ("audited", "seq")],
        ),
        map_record(
            records.Feedback,
            metadata,
            "feedback",
            unique=[("key",)],
            indexes=[("subject", "author"), ("superseded_by",), ("created",)],
        ),
        map_record(records.Member, metadata, "members", unique=[("subject", "prediction")], indexes=[("prediction",)]),
        map_record(records.Annotation, metadata, "annotations", indexes=[("subject",)]),
        map_record(
            records.QueueItem,
            metadata,
            "queue",
            indexes=[("done", "rank"), ("done", "purpose", "rank"), ("subject",)],
        ),
        map_record(
            records.Turn, metadata, "turns", unique=[("question", "author")], indexes=[("author",), ("subject",)]
        ),
        map_record(records.LiveKey, metadata, "live_keys", unique=[("key",)], indexes=[("split",)]),
        map_record(records.Generation, metadata, "generations", unique=[("number",)]),
        map_record(records.Token, metadata, "tokens", unique=[("digest",)]),
        map_record(records.Rollout, metadata, "rollouts", indexes=[("name", "seq"), ("status",)]),
        map_record(records.Erasure, metadata, "erasures", indexes=[("digest",)]),
        map_record(records.Watch, metadata, "watches", unique=[("trigger",)]),
        map_record(
            records.Delivery,
            metadata,
            "deliveries",
            unique=[("neighbour", "subject")],
            indexes=[("neighbour", "status")],
        ),
        map_record(records.StateSnapshot, metadata, "states", indexes=[("model_id",)]),
    )
}

#: How far each journal segment has been folded in: committed together with the rows it became.
journal_offsets = sa.Table(
    "journal_offsets",
    metadata,
    sa.Column("segment", sa.Text, primary_key=True),
    sa.Column("position", sa.BigInteger, nullable=False),
)

#: What the store says of itself, by name. ``project``: the fingerprint of the secret of the project that it belongs to.
facts = sa.Table(
    "facts",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)


def mapping_of(kind: type[R]) -> Mapping[R]:
    """How records of *kind* are stored.

    Raises:
        KeyError: *kind* is not a kind of record that the store keeps.
    """
    return cast("Mapping[R]", _MAPPINGS[kind])


def kind_of(identifier: str) -> type[Record] | None:
    """The kind whose prefix *identifier* carries.

    >>> kind_of("run_01k").__name__
    'Run'
    """
    prefix = identifier.partition("_")[0]
    return next((kind for kind in _MAPPINGS if kind.prefix == prefix), None)


def kinds() -> tuple[type[Record], ...]:
    """Every kind of record that the store keeps."""
    return tuple(_MAPPINGS)
