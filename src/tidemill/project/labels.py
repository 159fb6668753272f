"""Labels as people type them, and their answers to the questions of the queues; feedback, as it is taken out.

A label is stated as its kind has it: one of the labels, a list of labels (perhaps none), or a number.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from tidemill.data.assigned import fold_journal
from tidemill.data.dataset import DatasetArrays, open_dataset
from tidemill.errors import InputError, NotFoundError, StoreError
from tidemill.project.opened import OpenProject
from tidemill.project.statements import Placed, split_labels, write_csv
from tidemill.records import JSON, PAIR, Feedback, Prediction, QueueItem, Turn, to_json
from tidemill.runtime.answers import parse_label
from tidemill.store import Store
from tidemill.store.erasing import last_erasure, refuse_erased
from tidemill.tasks import stated_spec


def answer_spec(project: OpenProject) -> JSON:
    """What labels are checked against: the task's answer for the signature as it now stands."""
    return stated_spec(project.task, project.signature, project.config)


def stated(project: OpenProject, texts: Sequence[str]) -> Any:
    """The label that somebody typed, as one text or several; what it says is checked where it is stored.

    Where any number of labels is right, each text is one of them, or holds several with the source's separator (else a
    comma) between; no text at all, or only empty ones, says that there is none.

    Raises:
        InputError: several texts where one answer is right.
    """
    signature = project.signature
    if signature.kind != "multilabel":
        if len(texts) != 1:
            what = "a number is" if signature.kind == "regression" else "one of the labels is"
            raise InputError(f"{len(texts)} values are given, and {what} right", mend="Give one.")
        return texts[0]
    return [label for text in texts for label in split_labels(text, signature)]


def export_feedback(project: OpenProject, path: Path) -> int:
    """Write all feedback as JSONL, or as CSV where the file is named so; the number of statements."""
    items = [item for item in project.store.find(Feedback) if not item.erased]
    if path.suffix == ".csv":
        write_csv(path, [to_json(item) for item in items], [f.name for f in fields(Feedback)], project.signature)
        return len(items)
    with path.open("w", encoding="utf-8") as file:
        for item in items:
            file.write(json.dumps(to_json(item), ensure_ascii=False) + "\n")
    return len(items)


def questions(project: OpenProject, n: int, purpose: str | None = None) -> list[QueueItem]:
    """The next *n* questions: the audit's and what would teach the model most, in turn, unless one is asked for."""
    fold_journal(project.store)
    waiting = project.store.find(QueueItem, done=False)
    audit = [q for q in sorted(waiting, key=lambda q: q.rank) if q.purpose == "audit"]
    useful = sorted((q for q in waiting if q.purpose != "audit"), key=lambda q: (q.purpose != "settle", q.rank))
    if purpose is not None:
        return (audit if purpose == "audit" else useful)[:n]
    mixed = [q for pair in zip(audit, useful, strict=False) for q in pair]
    longer = audit if len(audit) > len(useful) else useful
    return (mixed + longer[min(len(audit), len(useful)) :])[:n]


def require_subject(project: OpenProject, subject: str, where: str | None = None) -> None:
    """Refuse what nobody can have been asked about; an answer may be given again, and replaces the older.

    A question may be gone when its answer comes, from a page that stood open or out of Label Studio. So whatever was
    asked about counts, and every sample and every prediction.

    Raises:
        NotFoundError: it is unknown, or was erased.
    """
    store = project.store
    named = subject.split(":")[1:] if subject.startswith(PAIR) else [subject]
    given = store.find(Prediction, id=named)
    refuse_erased([p.id for p in given if p.erased], subject, where)
    if len(given) == len(named) or any(store.find(kind, subject=subject, limit=1) for kind in (QueueItem, Turn)):
        return
    if inputs_of(project, subject) is None:
        mend = "List the questions with `tidemill label --list`."
        raise NotFoundError(f"nobody asked about {subject!r:.100}", where=where, mend=mend)


_opened: WeakKeyDictionary[Store, tuple[tuple[object, ...], DatasetArrays]] = WeakKeyDictionary()


def inputs_of(project: OpenProject, subject: str) -> JSON | None:
    """What a prediction or a sample of the project's dataset was made of; ``None`` where there is none such."""
    store = project.store
    if not subject.startswith("smp_"):
        found = store.find(Prediction, id=subject)
        return found[0].inputs if found else None
    record = project.dataset
    if record is None:
        return None
    version = (record.id, *last_erasure(store))
    try:
        known = _opened.get(store)
        if known is None or known[0] != version:
            known = _opened[store] = (version, open_dataset(store.root, record))
        inputs: JSON = known[1].show(known[1].row_of(subject))
    except (InputError, NotFoundError, StoreError):  # no id, no such sample, or the version's files were removed
        return None
    return inputs


def check_answers(project: OpenProject, items: Sequence[Placed]) -> None:
    """Refuse a whole file of answers when one of them is faulty, so that nothing is half imported.

    Raises:
        InputError: a missing field, one that is no text, or an unknown label; names the line.
        NotFoundError: nobody asked about a subject.
    """
    spec = answer_spec(project)
    for place, item in items:
        for field in ("subject", "label"):
            if item.get(field) is None:
                raise InputError(f"there is no {field!r}", where=place, mend="Add it to this line.")
        for field in ("subject", "author", "note"):
            if not isinstance(item.get(field), str | None):
                raise InputError(f"{field!r} is no text, but {item[field]!r}", where=place, mend="Put it in quotes.")
        parse_label(spec, item["label"], where=place)
        require_subject(project, item["subject"], place)
