"""What is durable: records in tables, predictions in a journal, blobs, locks and the project's secret."""

from tidemill.store.feedback import FeedbackOutcome
from tidemill.store.ingest import damaged, fold
from tidemill.store.journal import Journal
from tidemill.store.opening import create_store, open_store
from tidemill.store.rollouts import running_rollout, standing
from tidemill.store.secrets import (
    audit_draw,
    audit_split,
    canary_draw,
    check_prediction_id,
    make_secret,
    new_prediction_id,
)
from tidemill.store.states import POLICY, current_state, last_state, prune_states
from tidemill.store.store import Store
from tidemill.store.unfolded import unfolded
from tidemill.store.writers import FeedbackWriter, JournalWriter

__all__ = [
    "POLICY",
    "FeedbackOutcome",
    "FeedbackWriter",
    "Journal",
    "JournalWriter",
    "Store",
    "audit_draw",
    "audit_split",
    "canary_draw",
    "check_prediction_id",
    "create_store",
    "current_state",
    "damaged",
    "fold",
    "last_state",
    "make_secret",
    "new_prediction_id",
    "open_store",
    "prune_states",
    "running_rollout",
    "standing",
    "unfolded",
]
