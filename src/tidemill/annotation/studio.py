"""Label Studio's JSON: a label of ours as the results of one of its annotations, and back.

Every widget of ours has one tag there: ``Choices`` (one or several), ``Number``, ``TextArea`` and ``Pairwise``. Other
results (boxes, polygons, spans, …) are refused by their type's name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from tidemill.annotation.widgets import SIDES, Widget
from tidemill.errors import InputError
from tidemill.records import JSON

SUBJECT = "tidemill_subject"
"""The key of a task's data under which its question's subject travels there and back."""
ANSWERS = "tidemill_answers"
"""The key under which a task's data say what was answered here, and by whom."""
CONTROL, OBJECT = "label", "input"
"""The names of the tags that are answered, and that are asked about."""
TYPES: dict[Widget, str] = {
    "class": "choices",
    "several": "choices",
    "number": "number",
    "text": "textarea",
    "better": "pairwise",
}
_VALUE = {"choices": "choices", "number": "number", "textarea": "text", "pairwise": "selected"}
_SHOWN = {"choices": "Choices", "number": "Number", "textarea": "TextArea", "pairwise": "Pairwise"}
_REGION = frozenset(("x", "y", "start", "end", "points", "startOffset", "globalOffsets"))


def results_of(widget: Widget, label: Any, control: str = CONTROL, to: str | None = None) -> list[JSON]:
    """The results that state *label*; none of a list of labels that is empty.

    >>> results_of("class", "spam")[0]["value"]
    {'choices': ['spam']}
    """
    kind = TYPES[widget]
    if widget == "several" and not label:
        return []
    value: Any = label
    if kind == "choices":
        value = list(label) if isinstance(label, list | tuple) else [label]
    elif kind == "textarea":
        value = [label]
    target = to or ("left,right" if widget == "better" else OBJECT)
    return [{"from_name": control, "to_name": target, "type": kind, "value": {_VALUE[kind]: value}}]


def label_of(widget: Widget, results: Sequence[Any], where: str) -> Any:
    """The label that the results of one annotation state, as it is before it is checked.

    Args:
        widget: what the task asks for.
        results: of one annotation.
        where: its place, for messages.

    Raises:
        InputError: they are of a type that is not supported, belong to a region, or state no label.
    """
    wanted = TYPES[widget]
    found: list[Any] = []
    for number, result in enumerate(results, start=1):
        place = f"{where}, result {number}"
        if not isinstance(result, Mapping) or not isinstance(result.get("value"), Mapping):
            raise InputError("the result is no object with a value", where=place, mend="Export the project again.")
        kind, value = str(result.get("type")), result["value"]
        if kind not in _VALUE:
            raise InputError(
                f"results of the type {kind!r:.60} are not supported yet",
                where=place,
                mend=f"Supported are {', '.join(sorted(_VALUE))}.",
            )
        if not _REGION.isdisjoint(value):
            raise InputError(
                f"{kind} of a part of the sample are not supported yet",
                where=place,
                mend="Label the sample as a whole.",
            )
        if kind != wanted:
            raise InputError(
                f"the result is of the type {kind!r}, and this task is answered by {wanted!r}",
                where=place,
                mend=f"Use the tag {_SHOWN[wanted]}, as `tidemill label-studio config` writes it.",
            )
        said = value.get(_VALUE[kind])
        found += said if isinstance(said, list) else [said]
    if widget == "several":
        return found
    if len(found) != 1:
        said_so = "no answer" if not found else f"{len(found)} answers"
        raise InputError(f"the annotation holds {said_so}, and one is right", where=where, mend="Give one.")
    if widget == "better" and found[0] not in SIDES:
        raise InputError(f"{found[0]!r:.60} is no side", where=where, mend="Export the project again.")
    return found[0]


def annotations_of(tasks: Any, where: str) -> Iterator[tuple[str, JSON, JSON]]:
    """Every annotation of an export that states something: its place, its task, and itself.

    Skipped ones (``was_cancelled``) are left out.

    Raises:
        InputError: it is no export of tasks.
    """
    if not isinstance(tasks, list):
        raise InputError("this is no list of tasks", where=where, mend="Export as JSON (not JSON_MIN, CSV or COCO).")
    for place, task in enumerate(tasks, start=1):
        at = f"{where}, task {task.get('id', place) if isinstance(task, Mapping) else place}"
        if not isinstance(task, Mapping) or not isinstance(task.get("data"), Mapping):
            raise InputError("the task has no data", where=at, mend="Export as JSON (not JSON_MIN, CSV or COCO).")
        given = task.get("annotations", task.get("completions", []))
        if not isinstance(given, list):
            raise InputError("its annotations are no list", where=at, mend="Export the project again.")
        for number, one in enumerate(given, start=1):
            if not isinstance(one, Mapping) or not isinstance(one.get("result"), list):
                raise InputError(
                    "the annotation has no results",
                    where=f"{at}, annotation {number}",
                    mend="Export the project again.",
                )
            if not one.get("was_cancelled"):
                yield f"{at}, annotation {one.get('id', number)}", dict(task), dict(one)


def author_of(annotation: Mapping[str, Any], fallback: str) -> str:
    """Who made an annotation: the address, where the export has it; else the number.

    >>> author_of({"completed_by": {"id": 1, "email": "ann@example.org"}}, "me"), author_of({"completed_by": 3}, "me")
    ('ann@example.org', 'label-studio 3')
    """
    by = annotation.get("completed_by")
    if isinstance(by, Mapping):
        return str(by.get("email") or f"label-studio {by.get('id')}")[:200]
    return fallback if by is None else f"label-studio {by}"[:200]


def changed_of(annotation: Mapping[str, Any]) -> float | None:
    """When an annotation was last changed over there, UTC seconds; ``None`` where the export does not say.

    >>> changed_of({"created_at": "2024-01-01T00:00:00Z", "updated_at": "2024-01-01T00:00:01.5Z"})
    1704067201.5
    """
    said = annotation.get("updated_at") or annotation.get("created_at")
    try:
        moment = datetime.fromisoformat(said) if isinstance(said, str) else None
    except ValueError:
        return None
    return None if moment is None else (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def task_of(
    subject: str,
    inputs: Mapping[str, Any],
    widget: Widget,
    *,
    suggestion: Mapping[str, Any] | None = None,
    model: str = "",
    answers: Sequence[tuple[str, Any]] = (),
    accounts: bool = False,
) -> JSON:
    """A task for Label Studio.

    Args:
        subject: of the question.
        inputs: of the sample, as a request has them.
        widget: what is asked.
        suggestion: the model's answer, as its pre-annotation.
        model: its id.
        answers: what was answered so far: by whom, and what.
        accounts: make annotations of the answers whose author is an e-mail address. Label Studio refuses a file that
            names an address of which it has no account, and without one an answer would be its importer's.
    """
    data: JSON = {variable(name): value for name, value in inputs.items()} | {SUBJECT: subject}
    if answers:
        data[ANSWERS] = [{"author": author, "answer": label} for author, label in answers]
    task: JSON = {"data": data, "annotations": [], "predictions": []}
    if suggestion is not None and (guess := guess_of(widget, suggestion)) is not None:
        score = suggestion.get("score")
        prediction: JSON = {"model_version": model, "result": results_of(widget, guess)}
        task["predictions"] = [prediction | ({} if score is None else {"score": float(score)})]
    for author, label in answers:
        if accounts and "@" in author:
            task["annotations"].append(
                {"result": results_of(widget, label), "completed_by": {"email": author}, "was_cancelled": False}
            )
    return task


def guess_of(widget: Widget, answer: Mapping[str, Any]) -> Any:
    """What a model's answer suggests for a widget; ``None`` where that is nothing."""
    if widget == "class":
        return answer.get("label")
    if widget == "several":
        return answer.get("labels")
    return answer.get("value") if widget == "number" else None


def variable(name: str) -> str:
    """An input's name as a variable of a labelling configuration.

    >>> variable("weight (kg)")
    'weight__kg_'
    """
    return "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name) or "_"
