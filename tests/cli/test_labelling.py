"""The labelling dialogue, with keys as a person would press them."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from tidemill.cli.labelling import Dialogue, keys_for
from tidemill.errors import InputError

QUESTIONS = [
    {
        "subject": f"smp_{n}",
        "purpose": purpose,
        "reason": "why not",
        "inputs": {"age": n},
        "suggestion": {"label": "dog", "score": 0.61},
    }
    for n, purpose in enumerate(["audit", "useful", "useful"])
]


class Desk:
    def __init__(self, typed: str, labels: tuple[str, ...] = ("cat", "dog"), *, numbers: bool = False) -> None:
        self.saved: list[tuple[str, Any]] = []
        self.text = io.StringIO()
        keys = iter(typed.split(","))
        self.dialogue = Dialogue(
            labels=labels,
            save=self.save,
            read=lambda: next(keys, None),
            out=Console(file=self.text, width=100, no_color=True),
            numbers=numbers,
        )
        self.allowed = labels

    def save(self, subject: str, label: Any) -> None:
        if self.allowed and label not in self.allowed:
            raise InputError(f"there is no label {label!r}.", mend="Did you mean 'cat'?")
        self.saved.append((subject, label))

    def run(self) -> dict[str, int]:
        return self.dialogue.run(QUESTIONS)


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


def test_audits_are_asked_without_the_models_opinion() -> None:
    desk = Desk("q")
    desk.run()
    assert "the model says" not in desk.text.getvalue()
    desk = Desk("s,q")
    desk.run()
    assert desk.text.getvalue().count("the model says dog (61.0 %)") == 1


def test_numbers_are_typed() -> None:
    desk = Desk("1.5,x,2e3,q", (), numbers=True)
    assert desk.run()["answered"] == 2
    assert desk.saved == [("smp_0", 1.5), ("smp_1", 2000.0)]


@pytest.mark.parametrize(
    ("labels", "keys"),
    [
        (["0", "1", "9"], {"0": "0", "1": "1", "9": "9"}),
        (["s", "q"], {"1": "s", "2": "q"}),  # those two letters skip and quit
        ([str(n) for n in range(50)], {}),
    ],
)
def test_keys(labels: list[str], keys: dict[str, str]) -> None:
    assert keys_for(labels) == keys
    many = keys_for([f"label {n}" for n in range(20)])
    assert len(many) == 20 and not {"s", "u", "q"} & many.keys()
