"""Feedback from the command line and from files of any length: checked, then committed a few hundred at a time.

A statement without a key of its own gets one made of the file's content and its place in it, so an import that was
interrupted is simply run again: what was committed is told apart from what was not.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from tidemill.data.assigned import fold_journal
from tidemill.errors import InputError, NotFoundError
from tidemill.loop import OnEvent, unheard
from tidemill.project.opened import OpenProject
from tidemill.project.statements import Maybe, Placed, read_each
from tidemill.records import EPISODE, JSON, PAIR, Feedback, Prediction
from tidemill.runtime.statements import parse_feedback, require_answer
from tidemill.store import FeedbackOutcome, check_prediction_id
from tidemill.store.erasing import erased_ids, refuse_erased

AT_ONCE = 500
"""Statements that are committed together: they hold the write lock for some ten milliseconds."""
SHOWN = 20
"""Faults that are told one by one."""

Fault = InputError | NotFoundError
Checked = Feedback | Fault


class Checker:
    """Reads statements as a project takes them.

    Args:
        project: whose predictions they speak of.
        author: who says it where a statement names nobody.
    """

    def __init__(self, project: OpenProject, author: str | None = None) -> None:
        self._store = project.store
        self._spec = project.task.answer(project.signature)
        self._gone = erased_ids(project.store)
        self._author = author

    def check(self, items: Iterable[Maybe]) -> list[Checked]:
        """The statement in each item, or what is wrong with it."""
        given = [(where, item if isinstance(item, InputError) else self._parsed(where, item)) for where, item in items]
        confirmed = [s.subject for _, s in given if isinstance(s, Feedback) and s.kind == "confirmation"]
        answers = {p.id: p.answer for p in self._store.find(Prediction, id=confirmed)} if confirmed else {}
        return [_answered(where, item, answers) for where, item in given]

    def _parsed(self, where: str, item: JSON) -> Checked:
        said = imported(item)
        if self._author is not None and said.get("author") is None:
            said = {**said, "author": self._author}
        try:
            return parse_feedback(said, where, self._spec, self._known)
        except (InputError, NotFoundError) as error:
            return error

    def _known(self, prediction: str) -> bool:
        refuse_erased(self._gone, prediction)
        return check_prediction_id(self._store.secret, prediction)


def add_feedback(project: OpenProject, items: Iterable[Placed]) -> list[FeedbackOutcome]:
    """Check all statements, then commit them together; when one is faulty, none is written.

    Raises:
        InputError, NotFoundError: one is.
    """
    fold_journal(project.store)
    return project.store.add_feedback([_good(item) for item in Checker(project).check(items)])


def import_feedback(
    project: OpenProject,
    path: Path,
    *,
    author: str | None = None,
    skip: bool = False,
    on_event: OnEvent = unheard,
) -> JSON:
    """Add every statement of a JSONL, CSV, TSV or Parquet file, in memory that does not grow with it.

    All of the file is checked before anything of it is written; then a few hundred statements at a time are committed.

    Args:
        author: who says it where a statement names nobody.
        skip: leave faulty statements out, instead of refusing the file.
        on_event: told about progress.

    Returns:
        ``{"accepted", "repeated", "conflict", "refused", "faults"}``: how many statements each, and the first faults,
        each with *what*, *where* and *mend*.

    Raises:
        NotFoundError: there is no such file, or a statement speaks of an unknown prediction.
        InputError: a statement is faulty.
    """
    fold_journal(project.store)
    checker, name = Checker(project, author), path.name
    faults: list[JSON] = []
    rows = refused = 0
    for batch in _batches(read_each(path, project.signature, "value")):
        for item in checker.check(batch):
            rows += 1
            if not isinstance(item, Feedback):
                if not skip:
                    raise item
                refused += 1
                if len(faults) < SHOWN:
                    faults.append(item.to_json()["error"])
        on_event({"stage": "feedback", "what": f"checking {name}", "done": rows, "total": None})
    digest, done = _digest(path), 0
    became: Counter[str] = Counter()
    for batch in _batches(read_each(path, project.signature, "value")):
        good: list[Feedback] = []
        for place, item in enumerate(checker.check(batch), done):
            if isinstance(item, Feedback):  # one without a key has its id for one
                good.append(item if item.key != item.id else replace(item, key=f"file:{digest}:{place}"))
        became.update(outcome.status for outcome in project.store.add_feedback(good))
        done += len(batch)
        on_event({"stage": "feedback", "what": f"committing {name}", "done": done, "total": rows})
    return {
        **{status: became[status] for status in ("accepted", "repeated", "conflict")},
        "refused": refused,
        "faults": faults,
    }


def imported(item: JSON) -> JSON:
    """A statement as it is given; of one that was exported, what it says.

    >>> imported({"id": "fb_1", "subject": "episode:game 7", "kind": "reward", "value": 1, "predictions": []})
    {'episode': 'game 7', 'predictions': [], 'kind': 'reward', 'value': 1}
    """
    if "subject" not in item or "prediction" in item or "episode" in item:
        return item
    left_out = ("id", "created", "superseded_by", "subject", "via", "predictions")
    said = {name: value for name, value in item.items() if name not in left_out}
    subject, members = str(item["subject"]), item.get("predictions") or []
    if subject.startswith(EPISODE):
        return {"episode": subject.removeprefix(EPISODE), "predictions": members, **said}
    if subject.startswith(PAIR) and members:
        return {"prediction": members[0], **said}
    return {"prediction": subject, **said}


def _good(item: Checked) -> Feedback:
    if not isinstance(item, Feedback):
        raise item
    return item


def _answered(where: str, item: Checked, answers: dict[str, JSON]) -> Checked:
    """*item*, unless it confirms what the model did not answer."""
    if isinstance(item, Feedback) and item.kind == "confirmation":
        try:
            require_answer(answers.get(item.subject), f"{where}.kind")
        except InputError as error:
            return error
    return item


def _batches(items: Iterator[Maybe]) -> Iterator[list[Maybe]]:
    while batch := list(itertools.islice(items, AT_ONCE)):
        yield batch


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
