"""``tidemill forget``: a person's inputs and words, erased everywhere they went.

Ids stay, and say that something was there and when it went. What cannot be erased is named: models that learned from
it, backups, and the sources, which are the user's own.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence

from tidemill.data.assigned import fold_journal
from tidemill.data.forgotten import SAMPLE, digest_of
from tidemill.errors import BusyError, InputError
from tidemill.project.forgetting.backups import backups, note_backup
from tidemill.project.forgetting.learned import shown, snapshots_that_saw
from tidemill.project.forgetting.naming import (
    Named,
    elsewhere,
    name_samples,
    name_what_was_said,
    named_by_author,
    named_by_ids,
)
from tidemill.project.forgetting.rows import models_that_saw, touched
from tidemill.project.forgetting.work import aim_of, carry_out
from tidemill.records import JSON, Erasure, Model, Token, new_id
from tidemill.store import Store
from tidemill.store.erasing import digest

SHOWN = 100
"""Origins of rows, and ids of what else has the same content, that are told."""

__all__ = ["forget", "note_backup", "resume", "tombstone", "unfinished"]


def forget(
    store: Store,
    *,
    author: str | None = None,
    identifiers: Sequence[str] = (),
    same_content: bool = False,
    dry_run: bool = False,
) -> JSON:
    """Erase what a person gave, or what has some ids; see docs/forgetting.md for what that comprises.

    Args:
        store: the project's.
        author: everything that this author said, and the predictions that this caller asked for.
        identifiers: predictions, samples, pieces of feedback, labels; one of *author* and *identifiers* is given.
        same_content: also whatever else has the same inputs as what is named.
        dry_run: only say what would go.

    Returns:
        ``{"erasure", "dry_run", "counts", "already", "models": [{"id", "recipe", "champion"}], "states": [{"id",
        "model", "classes", "champion"}], "also_there": {"predictions", "samples"}, "sources", "backups", "notes",
        "finished"}``. ``erasure`` is the id of the tombstone, ``None`` where there was nothing to erase. ``states`` are
        snapshots of classes that were learned from it, which go too; ``champion`` marks the one that was in force.

    Raises:
        InputError: neither or both are given, or an id is of something that holds nothing of a person.
        NotFoundError: nothing has one of the ids; nothing was erased.
        BusyError: a cycle is running, or a backup is being made.
        StoreError: the disk is full or failed; erase again, and it goes on.
    """
    if (author is None) == (not identifiers):
        raise InputError(
            "it is not said whom or what to forget",
            where="forget",
            mend="Give either an author's name or ids: --author NAME, or --id ID.",
        )
    with _alone(store):
        if not dry_run:
            _go_on(store)
        fold_journal(store)
        named = named_by_author(store, author) if author is not None else named_by_ids(store, identifiers)
        also = elsewhere(store, named)
        if same_content:
            named.predictions |= also.predictions
            name_samples(store, named, also.samples)
            also = elsewhere(store, named)
        name_what_was_said(store, named)
        aim = aim_of(store, named)
        found = touched(store, aim)
        models, unknown = models_that_saw(store, found, aim)
        learned = snapshots_that_saw(store, named)
        states = shown(store, learned)
        notes = _notes(store, author, unknown if models else 0)
        sources = sorted({one.arrays.origin(row) for one in found for row in one.gone.tolist()} - named.predictions)
        erasure = Erasure(
            id=new_id(Erasure.prefix),
            what="id" if author is None else "author",
            digest=digest(
                store.secret, f"author {author}" if author is not None else f"id {' '.join(sorted(identifiers))}"
            ),
            subjects=named.subjects,
            counts=_counts(named, len(sources)),
            models=(*models, *(snapshot.id for snapshot in learned)),
        )
        if named.subjects and not dry_run:
            store.insert(erasure)
            erasure, left = carry_out(store, erasure)
            notes += left
    champion = store.champion()
    kept = {model.id: model for model in store.find(Model, id=models)}
    return {
        "erasure": erasure.id if erasure.finished else None,
        "dry_run": dry_run,
        "counts": {what: number for what, number in erasure.counts.items() if number},
        "already": sorted(named.already),
        "models": [
            {"id": m, "recipe": kept[m].recipe, "champion": champion is not None and champion.model_id == m}
            for m in models
        ],
        "states": states,
        "also_there": {"predictions": sorted(also.predictions)[:SHOWN], "samples": sorted(also.samples)[:SHOWN]},
        "sources": sources[:SHOWN],
        "backups": backups(store.root, erasure.finished or time.time()),
        "notes": notes,
        "finished": erasure.finished,
    }


def resume(store: Store) -> None:
    """Go on with erasures that were interrupted, unless another process is at it, or a cycle runs.

    Raises:
        StoreError: the disk is full or failed.
    """
    with contextlib.suppress(BusyError), _alone(store):
        _go_on(store)


def unfinished(store: Store) -> list[Erasure]:
    """The erasures that are under way, or were interrupted."""
    return store.find(Erasure, finished=None)


def tombstone(store: Store, identifier: str) -> JSON | None:
    """What is left of something that was erased; ``None`` for everything else.

    Returns:
        ``{"id", "erased", "erasure"}``: when it was erased (UTC seconds, ``None`` while that is under way) and the id
        of the erasure.
    """
    sought = {identifier}
    if identifier.startswith(SAMPLE):
        with contextlib.suppress(InputError):
            sought.add(digest_of(store.secret, identifier))
    for erasure in store.find(Erasure, newest_first=True):
        if not sought.isdisjoint(erasure.subjects):
            return {"id": identifier, "erased": erasure.finished, "erasure": erasure.id}
    return None


def _go_on(store: Store) -> None:
    for erasure in unfinished(store):
        carry_out(store, erasure)


@contextlib.contextmanager
def _alone(store: Store) -> Iterator[None]:
    """While inside no cycle runs, no backup is made, and nothing is cleaned up."""
    try:
        with store.lock("cycle"), store.lock("backup"):
            yield
    except BusyError as error:
        for lock, busy in (("'backup'", "a backup is being made"), ("'cycle'", "a cycle is running")):
            if lock in error.what:
                raise BusyError(
                    f"{busy}, and would keep what is erased", where=error.where, mend="Erase when it is done."
                ) from error
        raise


def _counts(named: Named, sources: int) -> dict[str, int]:
    return {
        "predictions": len(named.predictions),
        "feedback": len(named.feedback),
        "labels": len(named.annotations),
        "samples": sources,
        "signatures": sum(map(len, named.signed.values())),
    }


def _notes(store: Store, author: str | None, unknown: int) -> list[str]:
    said = f"the files of {unknown} older dataset versions are gone: models of these are named on suspicion"
    tokens = [] if author is None else store.find(Token, name=author, revoked=None)
    return [
        *([said] if unknown else []),
        *(f"a token has this name, too: `tidemill token revoke {t.id}` takes it back" for t in tokens),
    ]
