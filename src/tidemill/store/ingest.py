"""The one ingester: journal records become rows, and keys seen for the first time get their split."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import sqlalchemy as sa

from tidemill.errors import StoreError
from tidemill.records import JSON, LiveKey, Prediction, new_id
from tidemill.store import bulk, payloads, seam, segments
from tidemill.store.secrets import audit_split
from tidemill.store.store import Store
from tidemill.store.tables import journal_offsets, mapping_of
from tidemill.store.writers import JOURNAL

#: A batch is sized to hold the write lock about this long, in seconds; half of what is promised.
_HOLD = 0.025
_REST = 0.005
_SMALLEST, _LARGEST, _BYTES = 16, 500, 1 << 20
#: After how many seconds another ingester has its turn, and the pause for it: who waits looks every hundredth of one.
_TURN, _PAUSE = 1.0, 0.05

Assigned = Callable[[Sequence[str]], set[str]]
#: A segment, and up to which byte it is folded in where it is still written to.
_Part = tuple[Path, int | None]


def _nothing_assigned(_keys: Sequence[str]) -> set[str]:
    return set()


def fold(store: Store, *, assigned: Assigned = _nothing_assigned) -> int:
    """Move what the journal holds into the tables; how many predictions became rows.

    Position and rows commit together, so that a kill at any moment neither loses nor doubles one. Segments whose
    writer has ended are removed when they are folded; one that was altered is kept under the ending ``.damaged``.

    A key without a :class:`~tidemill.records.LiveKey` gets one: an audited key that is in no dataset version yet
    belongs to one of the recent sets for good, any other one trains.

    What is far behind takes minutes: several ingesters then take turns, and each returns when what it found at first
    is folded, by whomever.

    Args:
        store: whose journal and tables.
        assigned: of the given split keys, those that dataset versions have assigned already.

    Raises:
        BusyError: others have had their turns for more than half a minute.
        StoreError: the disk is full, or a record was written by a newer Tidemill.
    """
    folder = store.root / JOURNAL
    if not folder.is_dir():
        return 0
    pace, total = _Pace(), 0
    waiting: list[_Part] = [(path, None) for path in reversed(_paths(store, segments.SUFFIX))]
    while True:
        with store.lock("ingest", wait=30):
            pace.begin_turn()
            try:
                total += _fold_parts(store, waiting, assigned, pace)
            except OSError as error:
                raise StoreError(
                    f"the journal cannot be read or tidied ({error.strerror})",
                    where=str(folder),
                    mend="Check the disk and that you may write there.",
                ) from error
            if not waiting:
                _forget_removed(store, folder)
                return total
        time.sleep(_PAUSE)


def _fold_parts(store: Store, waiting: list[_Part], assigned: Assigned, pace: _Pace) -> int:
    """How many records became rows before the turn was over; what is left to fold stays in *waiting*, its next last."""
    total = 0
    while waiting:
        path, until = waiting.pop()
        folded, left = _fold_segment(store, path, assigned, pace, until)
        total += folded
        if left is not None:
            waiting.append((path, left))
        if pace.is_over():
            break
    return total


def damaged(store: Store) -> list[Path]:
    """The segments that :func:`fold` found altered; what could be read of them is in the tables."""
    return _paths(store, segments.DAMAGED)


def _paths(store: Store, suffix: str) -> list[Path]:
    return sorted((store.root / JOURNAL).glob(f"*{suffix}"))


class _Pace:
    """How many records a batch may have, learned from how long the last one held the write lock; and whose turn it is.

    A turn has room for one batch at least.
    """

    def __init__(self) -> None:
        self.records = 200
        self._rest = self._until = 0.0

    def begin_turn(self) -> None:
        self._until = time.monotonic() + _TURN

    def is_over(self) -> bool:
        """Whether another ingester should have its turn."""
        return time.monotonic() > self._until

    def learn(self, seconds: float, records: int) -> None:
        fitting = int(records * _HOLD / max(seconds, 1e-6))
        self.records = max(_SMALLEST, min(fitting, 2 * self.records, _LARGEST))
        self._rest = min(seconds, _REST)

    def rest(self) -> None:
        """Leave the lock alone for a moment: who waits for it in another process looks now and then only."""
        time.sleep(self._rest)


def _fold_segment(
    store: Store, path: Path, assigned: Assigned, pace: _Pace, until: int | None
) -> tuple[int, int | None]:
    """How many records became rows before the turn was over, and up to which byte more of them wait, if any do.

    Of a segment that is still written to, only what lies before the byte *until* is read: it could grow for ever.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # another ingester, whose turn it was, has folded all of it
        return 0, None
    try:
        # Asked before reading: after the answer "no writer" nothing more can come.
        closed = not segments.has_writer(descriptor)
        length = os.fstat(descriptor).st_size
        if until is not None and not closed:
            length = min(length, until)
        folded, whole, ended = 0, True, True
        if length > len(segments.HEADER):
            with mmap.mmap(descriptor, length, access=mmap.ACCESS_READ) as data:
                folded, whole, ended = _fold_data(store, path, data, assigned, pace, closed=closed)
        if not ended:
            return folded, length
        if closed:
            if whole:
                path.unlink()
            else:
                path.rename(path.with_suffix(segments.DAMAGED))
            seam.sync_folder(path.parent)
        return folded, None
    finally:
        os.close(descriptor)


def _fold_data(
    store: Store, path: Path, data: mmap.mmap, assigned: Assigned, pace: _Pace, *, closed: bool
) -> tuple[int, bool, bool]:
    """How many records became rows, whether the segment is whole but for a torn tail, and whether this was its end.

    A segment that is not whole is folded in one turn, since nobody else would know of it.
    """
    position = position_of(store, path.name)
    found: Iterator[segments.Entry] = segments.entries(data, position, closed=closed)
    folded, whole = 0, True
    while batch := _batch(found, pace.records):
        pace.rest()
        for entry in batch:
            whole = whole and entry.start == position
            position = entry.end
        folded += _fold_batch(store, path, batch, assigned, pace)
        if whole and pace.is_over():
            return folded, whole, False
    return folded, whole and segments.is_torn(data[position:] if closed else b""), True


def _batch(found: Iterator[segments.Entry], records: int) -> list[segments.Entry]:
    batch: list[segments.Entry] = []
    for entry in found:
        batch.append(entry)
        if len(batch) >= records or entry.end - batch[0].start >= _BYTES:
            break
    return batch


def _fold_batch(store: Store, path: Path, batch: list[segments.Entry], assigned: Assigned, pace: _Pace) -> int:
    predictions, shadows = _read(path, batch)
    # All reading comes before the transaction: there is one ingester, so what it finds stays true.
    with store.database.reading() as connection:
        present = {p.id for p in bulk.select(connection, mapping_of(Prediction), "id", predictions)}
    fresh = [p for p in predictions.values() if p.id not in present]
    keys = _first_seen(store, fresh, assigned)
    table = journal_offsets
    moved = table.update().where(table.c.segment == path.name).values(position=batch[-1].end)
    with store.database.transaction() as connection:
        started = time.monotonic()
        store.insert(*fresh, *keys)
        _add_shadows(connection, shadows)
        if connection.execute(moved).rowcount == 0:
            connection.execute(table.insert().values(segment=path.name, position=batch[-1].end))
    pace.learn(time.monotonic() - started, len(batch))
    return len(fresh)


def _first_seen(store: Store, predictions: Sequence[Prediction], assigned: Assigned) -> list[LiveKey]:
    first = {p.key: p for p in reversed(predictions)}
    with store.database.reading() as connection:
        for known in bulk.select(connection, mapping_of(LiveKey), "key", first):
            del first[known.key]
    trained = assigned(list(first)) if first else set()
    return [
        LiveKey(
            id=new_id(LiveKey.prefix),
            key=key,
            split=audit_split(store.secret, key) if p.audited and key not in trained else "train",
            probability=p.audit_probability,
            drawn=p.audited,
        )
        for key, p in first.items()
    ]


def _read(path: Path, batch: Sequence[segments.Entry]) -> tuple[dict[str, Prediction], dict[str, JSON]]:
    """The predictions of a batch by id, and the shadow answers to predictions of earlier batches."""
    predictions: dict[str, Prediction] = {}
    shadows: dict[str, JSON] = {}
    for entry in batch:
        found = _record(path, entry)
        if isinstance(found, Prediction):
            predictions.setdefault(found.id, found)  # a request that is sent again has the same ids
        elif found["id"] in predictions:  # as nearly all are: the other model answers within milliseconds
            predictions[found["id"]] = replace(predictions[found["id"]], shadow=found["shadow"])
        else:
            shadows[found["id"]] = found["shadow"]
    return predictions, shadows


def _add_shadows(connection: sa.Connection, shadows: dict[str, JSON]) -> None:
    """A prediction that is gone by now, since it was erased or archived, gets none."""
    if shadows:
        table = mapping_of(Prediction).table
        statement = table.update().where(table.c.id == sa.bindparam("answered"), table.c.key != "")
        rows = [{"answered": identifier, "other": shadow} for identifier, shadow in shadows.items()]
        connection.execute(statement.values(shadow=sa.bindparam("other")), rows)


def _record(path: Path, entry: segments.Entry) -> Prediction | JSON:
    """A prediction, or ``{"id", "shadow"}``: what the other model of a roll-out would have answered."""
    try:
        return payloads.read(entry.payload)
    except (AttributeError, TypeError, ValueError) as error:
        raise StoreError(
            f"the record at byte {entry.start} is no prediction that this version knows ({error})",
            where=str(path),
            mend="Update Tidemill, or move the file aside.",
        ) from error


def position_of(store: Store, segment: str) -> int:
    """How far a segment has been folded in: everything before this byte is in the tables."""
    statement = sa.select(journal_offsets.c.position).where(journal_offsets.c.segment == segment)
    with store.database.reading() as connection:
        found = connection.execute(statement).scalar()
    return len(segments.HEADER) if found is None else int(found)


def _forget_removed(store: Store, folder: Path) -> None:
    """Positions go after their segments: the other way round, a segment could be folded a second time."""
    with store.database.reading() as connection:
        known = connection.execute(sa.select(journal_offsets.c.segment)).scalars().all()
    gone = [name for name in known if not (folder / name).exists()]
    if gone:
        with store.database.transaction() as connection:
            connection.execute(journal_offsets.delete().where(journal_offsets.c.segment.in_(gone[:500])))
