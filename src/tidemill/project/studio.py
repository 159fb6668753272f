"""To Label Studio and back: questions as its tasks, its annotations as answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tidemill.annotation.studio import SUBJECT, annotations_of, author_of, label_of, task_of, variable
from tidemill.annotation.studio_config import config_of
from tidemill.annotation.widgets import Widget, parse_answer, widget_of
from tidemill.data.assigned import fold_journal
from tidemill.data.encode import encode
from tidemill.data.keys import content_keys, key_text
from tidemill.errors import InputError, NotFoundError
from tidemill.project import desk
from tidemill.project.labels import answer_spec, questions, require_subject
from tidemill.project.opened import OpenProject
from tidemill.records import JSON, Annotation, QueueItem

_LARGEST = 512_000_000


def write_config(project: OpenProject, path: Path) -> JSON:
    """Write the labelling configuration for the project's own widget."""
    widget = widget_of(project.signature.kind)
    path.write_text(config_of(project.signature, widget, desk.guidelines(project)) + "\n", encoding="utf-8")
    return {"path": str(path), "widget": widget, "labels": len(project.signature.labels)}


def export_tasks(project: OpenProject, path: Path, n: int, purpose: str | None = None) -> JSON:
    """Write the next questions as tasks, with the suggestion as prediction where it would sway nobody, and with what
    annotators have said so far.
    """
    asked = [q for q in questions(project, n, purpose) if not q.ask]
    champion = project.store.champion()
    model = "" if champion is None else champion.model_id
    said: dict[str, list[Annotation]] = {}
    for one in project.store.find(Annotation, subject={q.subject for q in asked}, superseded_by=None):
        if one.label is not None and not one.erased:
            said.setdefault(one.subject, []).append(one)
    tasks = []
    for q in asked:
        answers = [(a.author, a.label, a.created) for a in said.get(q.subject, ())]
        shown = desk.shown(project, q)
        widget: Widget = shown["widget"]
        tasks.append(task_of(q.subject, q.inputs, widget, suggestion=shown["suggestion"], model=model, answers=answers))
    path.write_text(json.dumps(tasks, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return {"path": str(path), "tasks": len(tasks)}


def import_export(project: OpenProject, path: Path, *, author: str) -> JSON:
    """Take the annotations of an export as answers; all of them or none.

    Args:
        path: an export of Label Studio in the format JSON.
        author: of annotations that name nobody.

    Returns:
        ``{"answers", "already", "skipped", "disputed"}``: how many were taken, how many stand here already, how many
        annotations were skipped over there, and on how many people disagree now.

    Raises:
        NotFoundError: there is no such file, or nobody asked about a task and no sample has its content.
        InputError: it is no such export, a label is unknown, or a result is of a type that is not supported.
    """
    fold_journal(project.store)
    tasks = _read(path)
    spec, kind = answer_spec(project), project.signature.kind
    found: list[tuple[str, str, Any, str]] = []
    already = 0
    for where, task, annotation in annotations_of(tasks, path.name):
        widget = widget_of(kind)
        label = parse_answer(widget, spec, label_of(widget, annotation["result"], where), where=where)
        subject = _subject(project, task["data"], where)
        who = author_of(annotation, author)
        if _stands(project, subject, who, label):
            already += 1
        else:
            found.append((subject, who, label, where))
    disputed = 0
    with project.store.transaction():
        for subject, who, label, where in found:
            disputed += desk.answer(project, subject, label, author=who, where=where)["disputed"]
    return {"answers": len(found), "already": already, "skipped": _skipped(tasks), "disputed": disputed}


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


def _stands(project: OpenProject, subject: str, author: str, label: Any) -> bool:
    """Whether the author has said just that already."""
    said = project.store.find(Annotation, subject=subject, author=author, superseded_by=None)
    return any(one.label == label for one in said)


def _skipped(tasks: list[JSON]) -> int:
    return sum(
        bool(one.get("was_cancelled"))
        for task in tasks
        for one in task.get("annotations", task.get("completions", ())) or ()
    )
