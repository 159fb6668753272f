"""The frozen records that flow between the rooms.

Every record has one sortable id with its kind in front (``run_01k…``), made by :func:`new_id`. Records are
plain data: they serialise to JSON and back by :func:`to_json` and :func:`from_json`, and know nothing of
where they are stored. Times are UTC seconds since the epoch (``float``).
"""

from __future__ import annotations

from tidemill.records.base import JSON, Record, from_json, to_json
from tidemill.records.ids import id_time, new_id
from tidemill.records.learning import Cycle, Dataset, Decision, Deployment, Model, Recipe, Report, Run, Step
from tidemill.records.live import (
    EPISODE,
    LABEL_KINDS,
    PAIR,
    Annotation,
    Feedback,
    FeedbackKind,
    LiveKey,
    Member,
    Prediction,
    QueueItem,
    Turn,
    episode_of,
    pair_of,
)
from tidemill.records.running import Delivery, Erasure, Generation, Rollout, Scope, StateSnapshot, Token, Watch

__all__ = [
    "EPISODE",
    "JSON",
    "LABEL_KINDS",
    "PAIR",
    "Annotation",
    "Cycle",
    "Dataset",
    "Decision",
    "Delivery",
    "Deployment",
    "Erasure",
    "Feedback",
    "FeedbackKind",
    "Generation",
    "LiveKey",
    "Member",
    "Model",
    "Prediction",
    "QueueItem",
    "Recipe",
    "Record",
    "Report",
    "Rollout",
    "Run",
    "Scope",
    "StateSnapshot",
    "Step",
    "Token",
    "Turn",
    "Watch",
    "episode_of",
    "from_json",
    "id_time",
    "new_id",
    "pair_of",
    "to_json",
]
