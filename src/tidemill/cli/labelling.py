"""The labelling dialogue: one question at a time, answered by a key, by several keys, or by a line."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from tidemill.annotation.keys import BACK, NONE, NOTE, QUIT, SKIP, keys_for
from tidemill.annotation.widgets import SIDES, widget_of
from tidemill.cli.show import answers
from tidemill.cli.show.layout import visible
from tidemill.cli.show.samples import sample
from tidemill.errors import InputError, NotFoundError

if TYPE_CHECKING:
    from rich.console import Console

    from tidemill.data.schema import Kind

_SIDES = dict(zip("12", SIDES, strict=True))
_LISTED = 60  # labels that are named before each question when they are too many for keys

_KEPT = 20  # questions that are kept for whoever answers, until the next ones are asked for

Question = Mapping[str, Any]
Save = Callable[[Question, Any, str | None], Any]
Skip = Callable[[Question, str | None], Any]
More = Callable[[int, Sequence[str]], Sequence[Question]]


class Desk(Protocol):
    """Where answers are typed.

    Attributes:
        at_once: a key counts without Enter.
    """

    at_once: bool

    def read(self) -> str | None:
        """A key, or a line; ``None`` at the end of the input."""

    def line(self) -> str | None:
        """A line, whatever counts otherwise."""


@dataclass
class Dialogue:
    """Asks, saves each answer at once, and can go back: a new answer by the same author supersedes the old one.

    Attributes:
        labels: the labels to choose from.
        save: called with the question, the label and the note on it.
        skip: called with a question that is left to others, and the note on it.
        desk: where answers are typed.
        out: where questions are shown.
        kind: one of the labels, any number of them, or a number; a question may ask for something else.
    """

    labels: Sequence[str]
    save: Save
    desk: Desk
    out: Console
    kind: Kind = "classification"
    skip: Skip = field(default=lambda _question, _note: None)
    answered: dict[str, Any] = field(default_factory=dict)
    skipped: set[str] = field(default_factory=set)
    notes: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._keys = keys_for(self.labels)

    def run(self, limit: int, more: More) -> dict[str, int]:
        """Ask at most *limit* questions; returns how many were answered, skipped and left.

        Args:
            limit: how many.
            more: gives the next ones, at most so many, besides those whose ids it is told.
        """
        questions: list[Question] = []
        index = 0
        while index < limit:
            if index == len(questions):
                new = more(min(_KEPT, limit - index), [str(q["id"]) for q in questions])
                if not new:
                    break
                questions += new
            question = questions[index]
            self._show(question, index, len(questions))
            typed = self._typed(question)
            if typed is None or typed == QUIT:
                break
            if typed == BACK:
                index = max(0, index - 1)
            elif typed in (SKIP, ""):
                self._skip(question)
                index += 1
            elif self._answer(question, typed):
                index += 1
        skipped = len(self.skipped - self.answered.keys())
        return {
            "answered": len(self.answered),
            "skipped": skipped,
            "left": len(questions) - len(self.answered) - skipped,
        }

    def _widget(self, question: Question) -> str:
        return str(question.get("widget") or widget_of(self.kind))

    def _typed(self, question: Question) -> str | list[str] | None:
        """What was typed about one question: a command, a key or line, or the labels that were toggled."""
        name, widget = str(question["id"]), self._widget(question)
        chosen = set(self.answered.get(name) or ()) if widget == "several" else set()
        toggling = widget == "several" and self.desk.at_once
        while True:
            typed = self.desk.line() if widget == "text" else self.desk.read()
            if typed == NOTE:
                self._note(name)
            elif typed is None or typed in (SKIP, BACK, QUIT) or not toggling:
                return typed
            elif typed == NONE:
                return []
            elif typed == "":
                if chosen:
                    return [label for label in self.labels if label in chosen]
                self._say(f"nothing is chosen yet: {NONE} says that no label is right, {SKIP} skips")
            elif (label := self._keys.get(typed)) is None:
                self._say(f"{typed!r} is no key of a label")
            else:
                chosen ^= {label}
                self.out.print(f"  {answers.label([n for n in self.labels if n in chosen])}", markup=False)

    def _note(self, name: str) -> None:
        self.out.print("a note on this one, then Enter:", style="dim", end=" ")
        if text := self.desk.line():
            self.notes[name] = text
        self.out.print("now the answer", style="dim")

    def _skip(self, question: Question) -> None:
        name = str(question["id"])
        if name not in self.answered:  # else what was said stands
            self.skip(question, self.notes.get(name))
            self.skipped.add(name)

    def _answer(self, question: Question, typed: str | list[str]) -> bool:
        """Keep an answer; whether the next question comes."""
        name = str(question["id"])
        try:
            label = self._label(self._widget(question), typed)
            self.save(question, label, self.notes.get(name))
        except InputError as error:  # a slip of the finger is asked again
            self._say(f"{error.what.rstrip('.')}. {error.mend or ''}")
            return False
        except NotFoundError as error:  # erased meanwhile
            self._say(f"{error.what.rstrip('.')}.")
            self.skipped.add(name)
            return True
        self.answered[name] = label
        self.out.print(f"  {visible(answers.label(label))}", style="green", markup=False)
        return True

    def _label(self, widget: str, typed: str | list[str]) -> Any:
        if isinstance(typed, list) or widget == "text":
            return typed
        if widget == "number":
            return _number(typed)
        if widget in ("class", "better"):
            return (_SIDES if widget == "better" else self._keys).get(typed, typed)
        if typed == NONE:
            return []
        if typed in self.labels:
            return [typed]
        parts = [part.strip() for part in typed.split(",") if part.strip()]
        if len(parts) == 1 and all(key in self._keys for key in typed.split()):
            parts = typed.split()
        return [self._keys.get(part, part) for part in parts]

    def _say(self, text: str) -> None:
        self.out.print(visible(text), style="yellow", markup=False)

    def _show(self, question: Question, index: int, total: int) -> None:
        self.out.rule(
            f"{index + 1} of {total} · {question['purpose']} · {visible(question['reason'])}", align="left", style="dim"
        )
        colour = self.out.color_system is not None and not self.out.no_color
        self.out.print(sample(question["inputs"], width=min(64, self.out.width), colour=colour))
        if (suggestion := question.get("suggestion")) and question["purpose"] != "audit":  # audits must not be led
            self.out.print(f"the model says {visible(answers.phrase(suggestion))}", style="dim", markup=False)
        self.out.print(
            f"{self._choices(self._widget(question))}   ·   {SKIP} skip  {BACK} back  {NOTE} note  {QUIT} quit",
            style="bold",
            markup=False,
        )

    def _choices(self, widget: str) -> str:
        if widget in ("number", "text"):
            return f"type a {widget}"
        if widget == "better":
            return "which is better?  " + "  ".join(f"{key} {side}" for key, side in _SIDES.items())
        shown = "  ".join(visible(k if k == v else f"{k} {v}") for k, v in self._keys.items())
        if not shown:
            names = ", ".join(map(visible, self.labels[:_LISTED]))
            more = f" and {len(self.labels) - _LISTED} more" if len(self.labels) > _LISTED else ""
            shown = f"{names}{more}   ·   type {'labels, commas between' if widget == 'several' else 'the answer'}"
        if widget == "class":
            return shown
        how = "keys choose, Enter confirms" if self.desk.at_once else "several on one line, commas between"
        return f"{shown}  {NONE} none   ·   {how}"


class _Lines:
    """Answers by lines: from a pipe, or where there are no keys."""

    at_once = False

    def read(self) -> str | None:
        line = sys.stdin.readline()
        return line.strip() if line else None

    line = read


class _Keys:
    """Answers by single keys on a terminal."""

    at_once = True

    def __init__(self, cooked: Callable[[], contextlib.AbstractContextManager[None]]) -> None:
        self._cooked = cooked

    def read(self) -> str | None:
        typed = sys.stdin.read(1)
        if typed in ("", "\x04"):  # the end of the input, Ctrl-D
            return None
        return "" if typed in ("\r", "\n", " ") else typed

    def line(self) -> str | None:
        with self._cooked():
            line = sys.stdin.readline()
        return line.strip() if line else None


@contextlib.contextmanager
def desk(labels: Sequence[str]) -> Iterator[Desk]:
    """Single keys on a terminal when every label has one; lines otherwise."""
    if not (sys.stdin.isatty() and labels and keys_for(labels)):
        yield _Lines()
        return
    import termios
    import tty

    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)

    @contextlib.contextmanager
    def cooked() -> Iterator[None]:
        termios.tcsetattr(number, termios.TCSADRAIN, before)
        try:
            yield
        finally:
            tty.setcbreak(number, termios.TCSADRAIN)

    tty.setcbreak(number, termios.TCSADRAIN)  # what was typed ahead stays; Ctrl-C still interrupts
    try:
        yield _Keys(cooked)
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{text!r} is not a number.", mend="Type a number.") from None
