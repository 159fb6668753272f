"""The labelling dialogue: one question at a time, one key or one line an answer."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tidemill.cli.show.samples import sample
from tidemill.cli.show.units import percent
from tidemill.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

SKIP, BACK, QUIT = "s", "u", "q"
_KEYS = [k for k in "123456789abcdefghijklmnoprtvwxyz" if k not in (SKIP, BACK, QUIT)]

Save = Callable[[str, Any], Any]


def keys_for(labels: Sequence[str]) -> dict[str, str]:
    """A key for each label: the label itself where all are one letter or digit, otherwise 1, 2, … a, b, …

    >>> keys_for(["0", "1"]), keys_for(["cat", "dog"])
    ({'0': '0', '1': '1'}, {'1': 'cat', '2': 'dog'})
    """
    if all(len(label) == 1 and label not in (SKIP, BACK, QUIT) for label in labels):
        return {label: label for label in labels}
    return dict(zip(_KEYS, labels, strict=False)) if len(labels) <= len(_KEYS) else {}


@dataclass
class Dialogue:
    """Asks, saves each answer at once, and can go back: a new answer by the same author supersedes the old one.

    Attributes:
        labels: the labels to choose from.
        save: called with the subject and the label.
        read: returns what was typed, or ``None`` at the end of the input.
        out: where questions are shown.
        numbers: the answers are numbers.
    """

    labels: Sequence[str]
    save: Save
    read: Callable[[], str | None]
    out: Console
    numbers: bool = False
    answered: dict[str, Any] = field(default_factory=dict)
    skipped: set[str] = field(default_factory=set)

    def run(self, questions: Sequence[Mapping[str, Any]]) -> dict[str, int]:
        """Ask them all; returns how many were answered, skipped and left."""
        keys = keys_for(self.labels)
        index = 0
        while index < len(questions):
            question = questions[index]
            self._show(question, index, len(questions), keys)
            typed = self.read()
            if typed is None or typed == QUIT:
                break
            if typed == BACK:
                index = max(0, index - 1)
            elif typed in (SKIP, ""):
                self.skipped.add(str(question["subject"]))
                index += 1
            elif self._answer(question, typed, keys):
                index += 1
        left = len(questions) - len(self.answered) - len(self.skipped - self.answered.keys())
        return {
            "answered": len(self.answered),
            "skipped": len(self.skipped - self.answered.keys()),
            "left": left,
        }

    def _answer(self, question: Mapping[str, Any], typed: str, keys: Mapping[str, str]) -> bool:
        subject = str(question["subject"])
        try:
            label: Any = _number(typed) if self.numbers else keys.get(typed, typed)
            self.save(subject, label)
        except InputError as error:  # a slip of the finger is asked again
            self.out.print(f"{error.what.rstrip('.')}. {error.mend or ''}", style="yellow", markup=False)
            return False
        self.answered[subject] = label
        self.out.print(f"  {label}", style="green", markup=False)
        return True

    def _show(self, question: Mapping[str, Any], index: int, total: int, keys: Mapping[str, str]) -> None:
        self.out.rule(
            f"{index + 1} of {total} · {question['purpose']} · {question['reason']}", align="left", style="dim"
        )
        colour = self.out.color_system is not None and not self.out.no_color
        self.out.print(sample(question["inputs"], width=min(64, self.out.width), colour=colour))
        if (suggestion := question.get("suggestion")) and question["purpose"] != "audit":  # audits must not be led
            self.out.print(f"the model says {_said(suggestion)}", style="dim", markup=False)
        choices = "  ".join(k if k == v else f"{k} {v}" for k, v in keys.items()) or "type the answer"
        self.out.print(f"{choices}   ·   {SKIP} skip  {BACK} back  {QUIT} quit", style="bold", markup=False)


@contextlib.contextmanager
def reader(labels: Sequence[str]) -> Iterator[Callable[[], str | None]]:
    """Single keys on a terminal when every label has one; lines otherwise."""
    if not (sys.stdin.isatty() and keys_for(labels)):
        yield _line
        return
    import termios
    import tty

    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)
    tty.setcbreak(number, termios.TCSADRAIN)  # what was typed ahead stays; Ctrl-C still interrupts
    try:
        yield _key
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)


def _key() -> str | None:
    typed = sys.stdin.read(1)
    if typed in ("", "\x04"):  # the end of the input, Ctrl-D
        return None
    return "" if typed in ("\r", "\n", " ") else typed


def _line() -> str | None:
    line = sys.stdin.readline()
    return line.strip() if line else None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{text!r} is not a number.", mend="Type a number.") from None


def _said(suggestion: Mapping[str, Any]) -> str:
    if "label" in suggestion:
        return f"{suggestion['label']} ({percent(suggestion.get('score'))})"
    return str(suggestion.get("value", suggestion))
