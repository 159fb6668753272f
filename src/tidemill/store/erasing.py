"""Erasing in tables and journal: contents are blanked and ids stay, and then no page and no file keeps the old ones.

Erased rows are known by what nothing else has: a prediction has no key, a statement no author, and the statement's
``superseded_by`` names the erasure, so that whoever reads what is in force passes it over.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tidemill.errors import NotFoundError, StoreError
from tidemill.records import Annotation, Erasure, Feedback, Prediction, Record
from tidemill.store import seam, segments
from tidemill.store.ingest import damaged, position_of
from tidemill.store.mapping import Mapping
from tidemill.store.store import Store
from tidemill.store.tables import kinds, mapping_of, metadata
from tidemill.store.writers import JOURNAL

KEPT: dict[type[Record], frozenset[str]] = {
    Prediction: frozenset(
        {"id", "created", "deployment", "model_id", "state_id", "audited", "audit_probability", "propensity"}
    ),
    Feedback: frozenset({"id", "created", "subject", "kind", "asked", "key", "superseded_by"}),
    Annotation: frozenset({"id", "created", "subject", "purpose", "superseded_by"}),
}
"""The fields of a tombstone that say what it was; the others are blanked, also those that are yet to come."""
_BLANK: dict[str, Any] = {"key": "", "inputs": {}, "answer": {}, "author": ""}
"""What stands in a blanked field that cannot be ``None``."""
_CHUNK = 500
_ZEROS = bytes(1 << 20)


def digest(secret: bytes, text: str) -> str:
    """What says whom or what an erasure was about, to those alone who have the secret and the name: 32 hex digits."""
    return hashlib.blake2b(f"gone:{text}".encode(), key=secret, digest_size=16).hexdigest()


def erased_ids(store: Store) -> set[str]:
    """The ids of everything that was erased, or is being erased; of samples the keyed digests."""
    return {subject for erasure in store.find(Erasure) for subject in erasure.subjects}


def refuse_erased(gone: Collection[str], identifier: str, where: str | None = None) -> None:
    """Refuse an id of :func:`erased_ids`: nothing more is kept about it.

    Raises:
        NotFoundError: it is one.
    """
    if identifier in gone:
        raise NotFoundError(
            f"{identifier} was erased, and nothing more is kept about it", where=where, mend="Leave it out."
        )


def last_erasure(store: Store) -> tuple[object, ...]:
    """What changes when anything is erased: a file that is mapped shows what it held also after it was replaced."""
    newest = store.find(Erasure, newest_first=True, limit=1)
    return (newest[0].id, newest[0].finished) if newest else ()


def blank(store: Store, kind: type[Record], identifiers: Collection[str], by: str) -> int:
    """Make tombstones of the records of *kind* with these ids; how many there were.

    Args:
        by: the erasure's id.
    """
    mapping: Mapping[Any] = mapping_of(kind)
    table = mapping.table
    values: dict[str, Any] = {name: _BLANK.get(name) for name in mapping.names if name not in KEPT[kind]}
    values |= {name: [] for name in mapping.tuples & values.keys()}
    values = {name: None if table.c[name].nullable else value for name, value in values.items()}
    if kind is not Prediction:
        values["superseded_by"] = by
    if kind is Feedback:
        values["key"] = table.c.id  # a caller's own key may say who it was
    return sum(_update(store, table, part, values) for part in _parts(identifiers))


def signed_by(store: Store, name: str) -> dict[type[Record], list[str]]:
    """The ids of every record whose author is *name*, by kind."""
    found = {kind: store.ids(kind, author=name) for kind in kinds() if "author" in mapping_of(kind).searchable}
    return {kind: identifiers for kind, identifiers in found.items() if identifiers}


def unname(store: Store, kind: type[Record], identifiers: Collection[str]) -> int:
    """Take the author's name from records of *kind* that otherwise stay as they are; how many there were."""
    table = mapping_of(kind).table
    return sum(_update(store, table, part, {"author": None}) for part in _parts(identifiers))


def rename_subject(store: Store, affected: Collection[type[Record]], before: str, after: str) -> None:
    """Give the records on *before* another subject, of which nothing can be read."""
    with store.database.transaction() as connection:
        for kind in affected:
            table = mapping_of(kind).table
            connection.execute(table.update().where(table.c.subject == before).values(subject=after))


def keys_of(store: Store, identifiers: Collection[str]) -> dict[str, str]:
    """The split keys of predictions by their ids; those that were erased have none."""
    return _keys(store, "id", identifiers)


def with_keys(store: Store, keys: Collection[str]) -> dict[str, str]:
    """The ids of all predictions that have one of *keys*, each with its key."""
    return _keys(store, "key", keys)


def _keys(store: Store, column: str, values: Collection[str]) -> dict[str, str]:
    table = mapping_of(Prediction).table
    statement = sa.select(table.c.id, table.c.key).where(table.c.key != "")
    found: dict[str, str] = {}
    with store.database.reading() as connection:
        for part in _parts(values):
            found.update((row[0], row[1]) for row in connection.execute(statement.where(table.c[column].in_(part))))
    return found


def _update(store: Store, table: sa.Table, identifiers: Collection[str], values: dict[str, Any]) -> int:
    with store.database.transaction() as connection:
        return connection.execute(table.update().where(table.c.id.in_(identifiers)).values(**values)).rowcount


def _parts(values: Collection[str]) -> Iterator[list[str]]:
    listed = sorted(values)
    return (listed[i : i + _CHUNK] for i in range(0, len(listed), _CHUNK))


def scrub_tables(store: Store) -> list[str]:
    """Write the tables anew, so that the database's files keep nothing of what was blanked; see ``Database.scrub``."""
    return store.database.scrub([*metadata.tables])


def scrub_journal(store: Store) -> list[Path]:
    """Overwrite in the journal's files what the tables have by now, also in those that are still being written.

    What has been folded is never read again. Of segments that were found damaged, what could be read is overwritten.

    Returns:
        The damaged segments that hold more than that, which nobody can read.

    Raises:
        BusyError: an ingester has been at work for more than half a minute.
        StoreError: the disk failed.
    """
    folder = store.root / JOURNAL
    if not folder.is_dir():
        return []
    try:
        with store.lock("ingest", wait=30):
            for path in sorted(folder.glob(f"*{segments.SUFFIX}")):
                _overwrite(path, [(len(segments.HEADER), position_of(store, path.name))])
            return [path for path in damaged(store) if _scrub_damaged(path)]
    except OSError as error:
        raise StoreError(
            f"the journal cannot be overwritten ({error.strerror})",
            where=str(folder),
            mend="Check the disk and that you may write there.",
        ) from error


def _scrub_damaged(path: Path) -> bool:
    """Whether something is left that is no whole record."""
    if path.stat().st_size <= len(segments.HEADER):
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        whole = [(e.start, e.end) for e in segments.entries(data, len(segments.HEADER), closed=True)]
    _overwrite(path, whole)
    return bool(path.read_bytes()[len(segments.HEADER) :].strip(b"\0"))


def _overwrite(path: Path, spans: list[tuple[int, int]]) -> None:
    """Zeros over parts of a file, each from its first byte up to its last but one, and on the disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        for start, end in spans:
            place = start
            while place < end:
                place += os.pwrite(descriptor, _ZEROS[: end - place], place)
        seam.sync(descriptor)
    finally:
        os.close(descriptor)
