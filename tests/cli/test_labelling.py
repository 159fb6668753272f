"""The labelling dialogue, with keys as a person would press them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from rich.console import Console

from tidemill.cli.labelling import Dialogue, keys_for
from tidemill.data.schema import Kind
from tidemill.errors import InputError, NotFoundError

QUESTIONS = [
    {
        "id": f"ask_{n}",
        "subject": f"smp_{n}",
        "purpose": purpose,
        "reason": "why not",
        "inputs": {"age": n},
        "suggestion": {"label": "dog", "score": 0.61},
    }
    for n, purpose in enumerate(["audit", "useful", "useful"])
]


class Desk:
    """What is typed, with ``|`` or commas between."""

    def __init__(
        self,
        typed: str,
        labels: tuple[str, ...] = ("cat", "dog"),
        *,
        kind: Kind = "classification",
        by_key: bool = False,
    ) -> None:
        self.saved: list[tuple[str, Any]] = []
        self.notes: list[str | None] = []
        self.text = io.StringIO()
        self.at_once = by_key
        self._typed = iter(typed.split("|" if "|" in typed else ","))
        self.dialogue = Dialogue(
            labels=labels,
            save=self.save,
            desk=self,
            out=Console(file=self.text, width=100, no_color=True),
            kind=kind,
        )
        self.allowed = labels

    def read(self) -> str | None:
        return next(self._typed, None)

    line = read

    def save(self, question: Mapping[str, Any], label: Any, note: str | None) -> None:
        for one in label if isinstance(label, list) else [label]:
            if self.allowed and one not in self.allowed:
                raise InputError(f"there is no label {one!r}.", mend="Did you mean 'cat'?")
        self.saved.append((question["subject"], label))
        self.notes.append(note)

    def run(self, questions: Sequence[Mapping[str, Any]] = QUESTIONS) -> dict[str, int]:
        def more(n: int, besides: Sequence[str]) -> list[Mapping[str, Any]]:
            return [q for q in questions if q["id"] not in besides][:n]

        return self.dialogue.run(len(questions), more)


def test_a_key_an_answer() -> None:
    desk = Desk("1,2,dog")
    assert desk.run() == {"answered": 3, "skipped": 0, "left": 0}
    assert desk.saved == [("smp_0", "cat"), ("smp_1", "dog"), ("smp_2", "dog")]
    assert "1 cat  2 dog" in desk.text.getvalue() and "1 of 3 · audit · why not" in desk.text.getvalue()


def test_skip_back_and_quit() -> None:
    desk = Desk("s,2,u,1,q")
    assert desk.run() == {"answered": 1, "skipped": 1, "left": 1}
    assert desk.saved == [("smp_1", "dog"), ("smp_1", "cat")]  # the second supersedes the first
    assert Desk("u,1,s,u,u,2").run() == {"answered": 1, "skipped": 1, "left": 1}


def test_a_slip_is_asked_again_and_the_end_of_input_keeps_what_was_said() -> None:
    desk = Desk("ct,1")
    assert desk.run() == {"answered": 1, "skipped": 0, "left": 2}
    assert "Did you mean 'cat'?" in desk.text.getvalue()
    assert desk.saved == [("smp_0", "cat")]


def test_a_question_that_is_gone_does_not_end_the_dialogue(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk("1,2,2")
    monkeypatch.setattr(desk.dialogue, "save", lambda q, label, note: _erased(desk, q, label, note))
    assert desk.run() == {"answered": 2, "skipped": 1, "left": 0}
    assert desk.saved == [("smp_1", "dog"), ("smp_2", "dog")] and "was erased" in desk.text.getvalue()


def _erased(desk: Desk, question: Mapping[str, Any], label: Any, note: str | None) -> None:
    if question["subject"] == "smp_0":
        raise NotFoundError("smp_0 was erased")
    desk.save(question, label, note)


def test_audits_are_asked_without_the_models_opinion() -> None:
    desk = Desk("q")
    desk.run()
    assert "the model says" not in desk.text.getvalue()
    desk = Desk("s,q")
    desk.run()
    assert desk.text.getvalue().count("the model says dog (61.0 %)") == 1


def test_numbers_are_typed() -> None:
    desk = Desk("1.5,x,2e3,q", (), kind="regression")
    assert desk.run()["answered"] == 2
    assert desk.saved == [("smp_0", 1.5), ("smp_1", 2000.0)]


def test_several_keys_are_toggled_then_confirmed() -> None:
    labels = ("comedy", "drama", "war")
    desk = Desk("1|3|1||-|2|q", labels, kind="multilabel", by_key=True)
    assert desk.run() == {"answered": 2, "skipped": 0, "left": 1}
    assert desk.saved == [("smp_0", ["war"]), ("smp_1", [])]
    assert "Enter confirms" in desk.text.getvalue() and "- none" in desk.text.getvalue()


def test_enter_without_a_label_asks_whether_there_is_none_and_going_back_shows_what_was_chosen() -> None:
    labels = ("comedy", "drama", "war")
    desk = Desk("|z|2||u|3||q", labels, kind="multilabel", by_key=True)
    assert desk.run()["answered"] == 1
    assert desk.saved == [("smp_0", ["drama"]), ("smp_0", ["drama", "war"])]
    assert "nothing is chosen yet" in desk.text.getvalue() and "'z' is no key" in desk.text.getvalue()


def test_several_labels_on_a_line() -> None:
    labels = ("comedy", "drama", "sci-fi, horror")
    desk = Desk("1 3|drama, comdy|drama, 1|sci-fi, horror", labels, kind="multilabel")
    assert desk.run() == {"answered": 3, "skipped": 0, "left": 0}
    assert [label for _, label in desk.saved] == [["comedy", "sci-fi, horror"], ["drama", "comedy"], ["sci-fi, horror"]]
    assert Desk("-|s|q", labels, kind="multilabel").run() == {"answered": 1, "skipped": 1, "left": 1}


def test_a_note_goes_with_the_answer() -> None:
    desk = Desk("n|hard to tell|1|2|q")
    assert desk.run()["answered"] == 2
    assert desk.notes == ["hard to tell", None]


def test_texts_are_shown_as_paragraphs_that_cannot_steer_the_terminal() -> None:
    text = "The tide " * 40 + "\x1b[2J\x07 is rising"
    desk = Desk("q")
    desk.run([{**QUESTIONS[0], "inputs": {"text": text, "title": "Tides"}}])
    shown = desk.text.getvalue()
    assert "\x1b" not in shown and "\x07" not in shown and "␛[2J" in shown
    assert max(map(len, shown.splitlines())) <= 102 and shown.count("The tide") == 40


@pytest.mark.parametrize(
    ("labels", "keys"),
    [
        (["0", "1", "9"], {"0": "0", "1": "1", "9": "9"}),
        (["s", "q"], {"1": "s", "2": "q"}),  # those two letters skip and quit
        (["n", "m"], {"1": "n", "2": "m"}),
        ([str(n) for n in range(50)], {}),
    ],
)
def test_keys(labels: list[str], keys: dict[str, str]) -> None:
    assert keys_for(labels) == keys
    many = keys_for([f"label {n}" for n in range(20)])
    assert len(many) == 20 and not {"s", "u", "q", "n"} & many.keys()
