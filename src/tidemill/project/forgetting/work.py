"""The work of an erasure, in an order in which each step finds what it needs however often it is begun.

First everything that quotes rows by their names, then the rows in the arrays, then what is made of these, then the
tables. The record of the erasure names what is to go until all of it has gone. At last the database's files and the
journal are rid of what nothing refers to any more.
"""

from __future__ import annotations

import dataclasses
import time

from tidemill.data.assigned import fold_journal
from tidemill.project.forgetting import aged, files, tables
from tidemill.project.forgetting.learned import erase_snapshots, snapshots_that_saw
from tidemill.project.forgetting.naming import Named
from tidemill.project.forgetting.rows import Aim, models_that_saw, touched
from tidemill.records import Erasure
from tidemill.store import Store
from tidemill.store.erasing import scrub_journal, scrub_tables


def aim_of(store: Store, named: Named) -> Aim:
    """The rows that what is named lies in."""
    return Aim(store, named.content, named.predictions, named.feedback, named.annotations)


def carry_out(store: Store, erasure: Erasure) -> tuple[Erasure, list[str]]:
    """Erase what the record names, or go on with it.

    Returns:
        The finished record, and what could not be done, in words.

    Raises:
        BusyError: another program reads the database all the while.
        StoreError: the disk failed, or has no room.
    """
    fold_journal(store)  # what is named may stand in it a second time
    named = Named.of(erasure.subjects)
    aim = aim_of(store, named)
    found = touched(store, aim)
    counts: dict[str, int] = dict(erasure.counts)
    # A cycle may have run since it was interrupted, if somebody else kept it from being gone on with.
    learned = snapshots_that_saw(store, named)
    saw = [*models_that_saw(store, found, aim)[0], *(snapshot.id for snapshot in learned)]
    models = tuple(dict.fromkeys([*erasure.models, *saw]))
    erasure = dataclasses.replace(erasure, models=models)
    store.update(erasure)

    def count(what: str, number: int) -> None:
        counts[what] = max(counts.get(what, 0), number)  # begun again, a step finds less to do

    count("snapshots", erase_snapshots(store, named, learned))
    count("cycles", tables.end_interrupted_cycles(store))
    count("questions", tables.drop_questions(store, named, found))
    count("reports", tables.drop_quotations(store, named, found))
    count("rows", files.erase_in_arrays(store, aim, found))
    count("versions", len(found))
    for one in found:
        tables.recount(store, one)
    count("files", len(files.remove_derived(store, found, sources=bool(named.samples))))
    aged.blank(store.root, named.predictions)
    count("keys", tables.blank_rows(store, named, erasure.id))
    erasure = tables.seal(store, dataclasses.replace(erasure, counts=counts))
    notes = [
        f"{path.name} is damaged, and what cannot be read of it may be of the erased: look at it, and remove it"
        for path in scrub_journal(store)
    ]
    notes += scrub_tables(store)
    files.remove_derived(store, found, sources=False)  # somebody may have looked at the data meanwhile
    done = dataclasses.replace(erasure, finished=time.time())
    store.update(done)
    return done, notes
