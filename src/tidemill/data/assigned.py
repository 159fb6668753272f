"""Which inputs already have a split, so that the audit cannot draw them."""

from __future__ import annotations

from collections.abc import Sequence

from tidemill.data.dataset import open_assignments
from tidemill.data.keys import key_array
from tidemill.data.splits import UNKNOWN
from tidemill.records import Dataset
from tidemill.store import Store, fold


def assigned_keys(store: Store, keys: Sequence[str]) -> set[str]:
    """Those of *keys* (16 hex digits each) that the newest dataset version has in some split."""
    newest = store.find(Dataset, newest_first=True, limit=1)
    if not newest or not keys:
        return set()
    codes = open_assignments(store.root, newest[0]).lookup(key_array(keys))
    return {key for key, code in zip(keys, codes.tolist(), strict=True) if code != UNKNOWN}


def fold_journal(store: Store) -> int:
    """Fold the journal into the tables, as :func:`tidemill.store.fold` does; what trains already is not audited."""
    return fold(store, assigned=lambda keys: assigned_keys(store, keys))
