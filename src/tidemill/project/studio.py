"""To Label Studio and back: questions as its tasks, its annotations as answers."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidemill.annotation.studio import SUBJECT, annotations_of, author_of, changed_of, label_of, task_of, variable
from tidemill.annotation.studio_config import config_of
from tidemill.annotation.widgets import SIDES, Widget, parse_answer, widget_of, widgets_of
from tidemill.data.assigned import fold_journal
from tidemill.data.encode import encode
from tidemill.data.keys import content_keys, key_text
from tidemill.errors import InputError, NotFoundError
from tidemill.project import desk, guidelines
from tidemill.project.labels import answer_spec, questions, require_subject
from tidemill.project.opened import OpenProject
from tidemill.records import JSON, PAIR, Annotation, Feedback, QueueItem

_LARGEST = 512_000_000


def write_config(project: OpenProject, path: Path, widget: Widget | None = None) -> JSON:
    """Write the labelling configuration for one widget: the project's own unless given.

    Raises:
        InputError: no question of the project is answered by *widget*.
    """
    signature, asked = project.signature, _asked_by(project, widget)
    path.write_text(config_of(signature, asked, guidelines.read(project)) + "\n", encoding="utf-8")
    return {"path": str(path), "widget": asked, "labels": len(signature.labels)}


def export_tasks(
    project: OpenProject,
    path: Path,
    n: int,
    purpose: str | None = None,
    *,
    widget: Widget | None = None,
    accounts: bool = False,
) -> JSON:
    """Write the next questions as tasks, with the suggestion as prediction where it would sway nobody, and with what
    annotators have said so far.

    A project of Label Studio asks by one configuration, so a file holds the questions of one widget.

    Args:
        project: whose questions.
        path: of the file.
        n: at most so many.
        purpose: ``audit`` or ``useful``; both unless given.
        widget: by which they are answered; the project's own unless given.
        accounts: see :func:`tidemill.annotation.studio.task_of`.

    Returns:
        ``{"path", "widget", "tasks", "others"}``: how many were written, and how many wait for other widgets.

    Raises:
        InputError: no question of the project is answered by *widget*.
    """
    wanted = _asked_by(project, widget)
    waiting = [(q, widget_of(project.signature.kind, q)) for q in questions(project, sys.maxsize, purpose)]
    asked = [q for q, by in waiting if by == wanted][:n]
    champion = project.store.champion()
    model = "" if champion is None else champion.model_id
    said = _answers(project, {q.subject for q in asked}, wanted)
    tasks = []
    for q in asked:
        suggestion = desk.shown(project, q)["suggestion"]
        answers = said.get(q.subject, ())
        tasks.append(
            task_of(q.subject, q.inputs, wanted, suggestion=suggestion, model=model, answers=answers, accounts=accounts)
        )
    path.write_text(json.dumps(tasks, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    others = Counter(by for _, by in waiting if by != wanted)
    return {"path": str(path), "widget": wanted, "tasks": len(tasks), "others": dict(others)}


def import_export(project: OpenProject, path: Path, *, author: str) -> JSON:
    """Take the annotations of an export as answers; all of them or none.

    Of several annotations of one sample by one person the newest counts. What a person has said here before is not
    said again, so that an export which holds all that ever was annotated takes back nothing that they corrected here;
    unless they changed it over there since they last spoke here.

    Args:
        path: an export of Label Studio in the format JSON.
        author: of annotations that name nobody.

    Returns:
        ``{"answers", "already", "replaced", "skipped", "disputed"}``: how many were taken, how many their authors have
        said here before, how many a newer one of the same person replaces, how many annotations were skipped over
        there, and on how many people disagree now.

    Raises:
        NotFoundError: there is no such file, or nobody asked about a task and no sample has its content.
        InputError: it is no such export, a label is unknown, or a result is of a type that is not supported.
    """
    fold_journal(project.store)
    tasks = _read(path)
    spec = answer_spec(project)
    newest: dict[tuple[str, str], _Answer] = {}
    given = 0
    for where, task, annotation in annotations_of(tasks, path.name):
        subject = _subject(project, task["data"], where)
        widget = _widget(project, subject)
        label = parse_answer(widget, spec, label_of(widget, annotation["result"], where), where=where)
        one = _Answer(subject, author_of(annotation, author), widget, label, changed_of(annotation), where)
        before = newest.get((subject, one.author))
        if before is None or (before.changed or 0.0) <= (one.changed or 0.0):
            newest[subject, one.author] = one
        given += 1
    with project.store.transaction():
        found = [one for one in newest.values() if not _said_before(project, one)]
        disputed = sum(
            desk.answer(project, one.subject, one.label, author=one.author, where=one.where)["disputed"]
            for one in found
        )
    return {
        "answers": len(found),
        "already": len(newest) - len(found),
        "replaced": given - len(newest),
        "skipped": _skipped(tasks),
        "disputed": disputed,
    }


@dataclass(frozen=True, slots=True)
class _Answer:
    """What somebody says in an export."""

    subject: str
    author: str
    widget: Widget
    label: Any
    changed: float | None
    where: str


def _asked_by(project: OpenProject, widget: Widget | None) -> Widget:
    own, *others = known = widgets_of(project.signature.kind)
    if widget is None:
        return own
    if widget not in known:
        raise InputError(
            f"no question of this project is answered by {widget!r:.40}",
            where="widget",
            mend=f"Choose {own}, or for questions that somebody asked by hand {' or '.join(others)}.",
        )
    return widget


def _widget(project: OpenProject, subject: str) -> Widget:
    """By which a subject's question is answered: the one that waits, else the last one."""
    found = project.store.find(QueueItem, subject=subject, newest_first=True)
    question = next((q for q in reversed(found) if not q.done), found[0] if found else None)
    return "better" if subject.startswith(PAIR) else widget_of(project.signature.kind, question)


def _answers(project: OpenProject, subjects: set[str], widget: Widget) -> dict[str, list[tuple[str, Any]]]:
    """What was answered about each subject: by whom, and what."""
    found: dict[str, list[tuple[str, Any]]] = {}
    if widget == "better":
        for one in project.store.find(Feedback, subject=subjects, kind="preference", superseded_by=None):
            if not one.erased:
                found.setdefault(one.subject, []).append((one.author, _side(one)))
        return found
    for said in project.store.find(Annotation, subject=subjects, superseded_by=None):
        label = said.note if widget == "text" else said.label
        if label is not None and not said.erased:
            found.setdefault(said.subject, []).append((said.author, label))
    return found


def _side(preference: Feedback) -> str:
    """Which side a preference is for: the first prediction of the pair's subject stands left."""
    return SIDES[preference.subject.split(":")[1:].index(preference.predictions[0])]


def _read(path: Path) -> Any:
    if not path.is_file():
        raise NotFoundError(f"there is no file {path}", mend="Check the path.")
    if path.stat().st_size > _LARGEST:
        raise InputError("the file is too large", where=str(path), mend="Export in several parts.")
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise InputError("this is no UTF-8 text", where=str(path), mend="Export the project again.") from None
    except RecursionError:
        raise InputError("nested too deeply", where=str(path), mend="Export the project again.") from None
    except ValueError as error:
        raise InputError(f"this is no JSON: {error}", where=str(path), mend="Export the project again.") from None


def _subject(project: OpenProject, data: JSON, where: str) -> str:
    """What a task is about: the subject that it carries, else the sample of the same content."""
    named = data.get(SUBJECT)
    if isinstance(named, str):
        require_subject(project, named, where)
        return named
    signature = project.signature
    inputs = {}
    for field in signature.inputs:
        key = next((k for k in (field.name, variable(field.name)) if k in data), None)
        if key is not None:
            inputs[field.name] = data[key]
    try:
        columns = encode(signature, [inputs])
    except InputError as error:
        raise InputError(
            f"the task carries no subject, and its data are no input of the project: {error.what}",
            where=where,
            mend="Label tasks that `tidemill label-studio export` wrote, or import the same columns.",
        ) from None
    subject = f"smp_{key_text(content_keys(columns, signature)[0])}"
    if not project.store.find(QueueItem, subject=subject, limit=1):
        raise NotFoundError(
            "no question is about a sample with this content",
            where=where,
            mend="Label tasks that `tidemill label-studio export` wrote.",
        )
    return subject


def _said_before(project: OpenProject, one: _Answer) -> bool:
    """Whether the author has ever said just that here, and has not changed it over there since they last spoke."""
    store = project.store
    said: Sequence[Annotation | Feedback]
    if one.widget == "better":
        preferences = store.find(Feedback, subject=one.subject, author=one.author, kind="preference")
        said, same = preferences, [_side(p) == one.label for p in preferences]
    else:
        labels = store.find(Annotation, subject=one.subject, author=one.author)
        text = one.widget == "text"
        said, same = labels, [(a.note if text else a.label) == one.label for a in labels]
    if not any(same):
        return False
    return same[-1] or one.changed is None or one.changed <= said[-1].created


def _skipped(tasks: list[JSON]) -> int:
    return sum(
        bool(one.get("was_cancelled"))
        for task in tasks
        for one in task.get("annotations", task.get("completions", ())) or ()
    )
