"""Erasing in the tables: what quotes rows, then the rows themselves."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Collection

import numpy as np

from tidemill.data.dataset import DatasetArrays
from tidemill.data.erasing import without
from tidemill.data.forgotten import SAMPLE, digest_of
from tidemill.data.splits import DROPPED, SPLITS
from tidemill.data.targets import is_labelled
from tidemill.project.forgetting.naming import Named
from tidemill.project.forgetting.rows import Touched
from tidemill.project.forgetting.slices import own_slices
from tidemill.records import (
    EPISODE,
    JSON,
    PAIR,
    Annotation,
    Cycle,
    Dataset,
    Erasure,
    Feedback,
    LiveKey,
    Member,
    Prediction,
    QueueItem,
    Report,
    Turn,
)
from tidemill.store import Store
from tidemill.store.erasing import blank, digest, keys_of, rename_subject, unname, with_keys

_WHY = "samples that it learned from were erased"


def end_interrupted_cycles(store: Store) -> int:
    """Cycles that would be gone on with begin anew: what they did so far may rest on what is erased."""
    begun = store.find(Cycle, status=["running", "stopped"])
    for cycle in begun:
        store.update(dataclasses.replace(cycle, status="failed", error=_WHY, finished=time.time()))
    return len(begun)


def drop_questions(store: Store, named: Named, found: Collection[Touched]) -> int:
    """Take off the queue what is asked about the erased, and where people are said to disagree; how many there were.

    The next cycle asks anew where there is still something to ask.
    """
    subjects = {*named.predictions, *named.samples, *(name for one in found for name in one.names())}
    disputed = {f.subject for f in store.find(Feedback, id=named.feedback)}
    disputed |= {a.subject for a in store.find(Annotation, id=named.annotations)}
    doomed = {*store.ids(QueueItem, subject=subjects), *store.ids(QueueItem, subject=disputed, purpose="settle")}
    return store.delete(QueueItem, doomed)


def drop_quotations(store: Store, named: Named, found: Collection[Touched]) -> int:
    """Take rows out of reports, and out of what preparation told; how many reports quoted some.

    Reports show mistakes, and name slices by values, which may be one person's alone.
    """
    slices = {one.record.id: own_slices(one.arrays, one.gone) for one in found}
    names = {*named.predictions, *named.samples, *(name for one in found for name in one.names())}
    changed = 0
    for identifier in store.ids(Report):
        report = store.get(Report, identifier)
        own, shown = slices.get(report.dataset_id, set()), report.content
        left = {
            **shown,
            "mistakes": [m for m in _list(shown, "mistakes") if names.isdisjoint((m["sample"], m["origin"]))],
        }
        left["slices"] = [s for s in _list(shown, "slices") if s["slice"] not in own]
        if any(len(left[name]) < len(_list(shown, name)) for name in ("mistakes", "slices")):
            store.update(dataclasses.replace(report, content=left))
            changed += 1
    for record in store.find(Dataset):
        told = {**record.report, "actions": without(record.report.get("actions", []), names)}
        if told["actions"] != record.report.get("actions", []):
            store.update(dataclasses.replace(record, report=told))
    return changed


def _list(content: JSON, name: str) -> list[JSON]:
    """A list of a report; one that was made by hand, or long ago, may have none."""
    return content.get(name) or []


def recount(store: Store, one: Touched) -> None:
    """Say in a version's record what is left of it, and that rows were erased from it."""
    record = store.get(Dataset, one.record.id)
    report = {**record.report, "erased": True}
    store.update(dataclasses.replace(record, counts=_counts(one.arrays), report=report))


def _counts(arrays: DatasetArrays) -> JSON:
    labelled, split = is_labelled(arrays.target), arrays.split
    counts: JSON = {name: int((labelled & (split == code)).sum()) for code, name in enumerate(SPLITS)}
    kept = np.asarray(split != DROPPED)
    return {**counts, "unlabelled": int((kept & ~labelled).sum()), "dropped": int((~kept).sum())}


def blank_rows(store: Store, named: Named, by: str) -> int:
    """Make tombstones of the rows, and forget the split keys that nobody else has; how many keys these were."""
    mine = keys_of(store, named.predictions)
    theirs = {key for identifier, key in with_keys(store, set(mine.values())).items() if identifier not in mine}
    lonely = store.ids(LiveKey, key=set(mine.values()) - theirs)
    store.delete(LiveKey, lonely)
    # What was said of them since they were named goes, too.
    named.add(Feedback, store.ids(Feedback, subject=named.predictions))
    named.add(Annotation, store.ids(Annotation, subject=named.predictions))
    episodes = {f.subject for f in store.find(Feedback, id=named.feedback) if f.subject.startswith(EPISODE)}
    blank(store, Feedback, named.feedback, by)
    blank(store, Annotation, named.annotations, by)
    blank(store, Prediction, named.predictions, by)
    store.delete(QueueItem, store.ids(QueueItem, subject=named.predictions))  # a roll-out may just have asked of one
    pairs = {m.subject for m in store.find(Member, prediction=named.predictions) if m.subject.startswith(PAIR)}
    store.delete(Member, store.ids(Member, subject=pairs))
    for episode in episodes:
        if all(f.erased for f in store.find(Feedback, subject=episode)):  # its name is of nobody else
            rename_subject(store, (Feedback, Member), episode, EPISODE + digest(store.secret, episode))
    store.delete(Turn, {*named.turns, *store.ids(Turn, subject=named.predictions | named.samples)})
    for kind, signed in named.signed.items():
        unname(store, kind, signed)
    return len(lonely)


def seal(store: Store, erasure: Erasure) -> Erasure:
    """Put digests in the place of sample ids, which are made of their content: here, and where labels speak of them."""
    for sample in erasure.subjects:
        if sample.startswith(SAMPLE):
            rename_subject(store, (Annotation,), sample, digest_of(store.secret, sample))
    sealed = tuple(
        digest_of(store.secret, subject) if subject.startswith(SAMPLE) else subject for subject in erasure.subjects
    )
    sealed_erasure = dataclasses.replace(erasure, subjects=sealed)
    store.update(sealed_erasure)
    return sealed_erasure
