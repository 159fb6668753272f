"""How much of the journal is not in the tables yet."""

from __future__ import annotations

import contextlib
import os
import re
from typing import NamedTuple

import sqlalchemy as sa

from tidemill.store import segments
from tidemill.store.store import Store
from tidemill.store.tables import journal_offsets
from tidemill.store.writers import JOURNAL

_BEGINNING = 4096
_CREATED = re.compile(rb'"created":([0-9.e+]+)')


class Unfolded(NamedTuple):
    """What the journal holds beyond the tables.

    Attributes:
        bytes: how much.
        oldest: UTC seconds of the oldest prediction in it; ``None`` where there is none.
    """

    bytes: int
    oldest: float | None


def unfolded(store: Store) -> Unfolded:
    """Look at the journal's segments, and at how far each has been folded in.

    Raises:
        StoreError: the database is away.
    """
    with store.database.reading() as connection:
        rows = connection.execute(sa.select(journal_offsets.c.segment, journal_offsets.c.position))
        positions = {segment: int(position) for segment, position in rows}
    total, oldest = 0, []
    for path in (store.root / JOURNAL).glob(f"*{segments.SUFFIX}"):
        with contextlib.suppress(FileNotFoundError):  # folded and removed meanwhile
            position = positions.get(path.name, len(segments.HEADER))
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                left = os.fstat(descriptor).st_size - position
                if left > 0:
                    total += left
                    created = _CREATED.search(os.pread(descriptor, _BEGINNING, position))
                    oldest += [] if created is None else [float(created[1])]
            finally:
                os.close(descriptor)
    return Unfolded(total, min(oldest, default=None))
