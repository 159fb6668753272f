"""What is durable: records in tables, predictions in a journal, blobs, locks and the project's secret."""

from tidemill.store.feedback import FeedbackOutcome
from tidemill.store.secrets import audit_draw, audit_split, check_prediction_id, new_prediction_id
from tidemill.store.store import Store, create_store, open_store

__all__ = [
    "FeedbackOutcome",
    "Store",
    "audit_draw",
    "audit_split",
    "check_prediction_id",
    "create_store",
    "new_prediction_id",
    "open_store",
]
