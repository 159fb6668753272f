"""What a question asks for: the widget by which it is answered, and how an answer is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast, get_args

from tidemill.errors import InputError
from tidemill.records import PAIR, QueueItem
from tidemill.runtime.answers import parse_label

Widget = Literal["class", "several", "number", "text", "better"]
"""One of the labels; any number of them; a number; a text; which of two answers is better."""
WIDGETS: tuple[str, ...] = get_args(Widget)
_OF_KIND: dict[str, Widget] = {"classification": "class", "multilabel": "several", "regression": "number"}
SIDES = ("left", "right")
"""The answers to which of two is better: the first prediction of the pair stands left."""
MOST_TEXT = 10_000


def widget_of(kind: str, question: QueueItem | None = None) -> Widget:
    """The widget of a task's kind, or the one that a question asks for itself.

    >>> widget_of("multilabel")
    'several'
    """
    if question is not None and question.ask:
        return cast("Widget", question.ask)
    if question is not None and question.subject.startswith(PAIR):
        return "better"
    return _OF_KIND.get(kind, "class")


def widgets_of(kind: str) -> tuple[Widget, ...]:
    """The widgets that a task of this kind asks with: its own, and those of questions that somebody asks by hand.

    >>> widgets_of("regression")
    ('number', 'text', 'better')
    """
    return widget_of(kind), "text", "better"


def parse_answer(widget: Widget, spec: Mapping[str, Any], value: Any, *, where: str | None = None) -> Any:
    """An answer, as it is kept.

    Args:
        widget: by which it was given.
        spec: the task's answer spec, for labels and numbers.
        value: what came.
        where: its place, for messages.

    Raises:
        InputError: it is none that the widget gives.
    """
    if widget == "better":
        if value not in SIDES:
            raise InputError(f"{value!r:.80} is no side", where=where, mend="Say left or right.")
        return value
    if widget == "text":
        if not isinstance(value, str) or not value.strip():
            raise InputError("the answer is no text", where=where, mend="Write something.")
        if len(value) > MOST_TEXT:
            raise InputError(f"{len(value):,} characters are too many", where=where, mend=f"Use at most {MOST_TEXT:,}.")
        return value
    return parse_label(spec, value, where=where)
