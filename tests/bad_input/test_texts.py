"""Texts that are empty, far too long, of emoji alone or of several encodings: repaired and said, or refused."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from newcomer import Outcome, actions, cycle, start, state, tidemill
from rich.console import Console

from tidemill.cli.commands.cycle import view
from tidemill.project import OpenProject

WORDS = ("tide", "mill", "water", "moon", "river", "boat", "stone", "wheel", "grain", "harbour", "rope", "net", "sail")
LONG = "a word after a word " * 49_000
"""Just under the limit of one megabyte."""


def message(row: int, label: str) -> str:
    """A text of its own, which says its label."""
    words = " ".join(random.Random(row).choices(WORDS, k=6))
    return f"{words} {'great' if label == 'good' else 'awful'} {row}"


def lines(count: int) -> list[bytes]:
    """Rows of text and label."""
    labels = [("bad", "good")[row % 2] for row in range(count)]
    return [f"{message(row, label)},{label}".encode() for row, label in enumerate(labels)]


def table(path: Path, rows: list[bytes]) -> Path:
    path.write_bytes(b"\n".join([b"text,label", *rows]) + b"\n")
    return path


MESSY: dict[str, tuple[bytes, str]] = {
    "nothing": (b",good", "missing values in 'text'"),
    "blanks": (b" \t ,bad", "missing values in 'text'"),
    "signs that are none": ("\x07\x00\ufeff,good".encode(), "control characters and byte order marks"),
    "a megabyte": (LONG.encode() + b"great,good", ""),
    "over a megabyte": (LONG.encode() * 2 + b",bad", "a field is longer than 1,000,000 bytes"),
    "gb18030": ("酒店的房间很干净，早餐也不错,good".encode("gb18030"), "the row is no UTF-8 and was read as gb18030"),
    "no encoding": (b"caf\xc3\xa9 \xff caf\xc3\xa9,bad", "bytes that are no text in this encoding"),
    "latin-1": ("déjà vu à la marée,bad".encode("latin-1"), "the row is no UTF-8 and was read as cp1252"),
    "emoji": ("😢💔😢,bad".encode(), ""),
    "other scripts": ("ספינה على البحر ทะเล,good".encode(), ""),
    "a comma too much": (b"well, then,good", "another number of fields"),
}
"""A row, and what is said of it; rows of nothing but text are read as they are."""


@pytest.fixture(scope="module")
def messy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """A project on texts, among them every mess at once."""
    folder = tmp_path_factory.mktemp("messy")
    data = table(folder / "texts.csv", [*lines(120), *(row for row, _ in MESSY.values())])
    project = start(folder / "project", data)
    return project, cycle(project)


@pytest.fixture(scope="module")
def emoji(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project on texts of nothing but emoji."""
    folder = tmp_path_factory.mktemp("emoji")
    texts = ["😀🎉🌊"[i % 3 :] * (1 + i // 2) if i % 2 else "😢💔" * (1 + i // 2) for i in range(80)]
    rows = [f"{text},{('bad', 'good')[i % 2]}".encode() for i, text in enumerate(texts)]
    project = start(folder / "project", table(folder / "texts.csv", rows))
    assert cycle(project).document["decision"]["outcome"] == "promoted"
    return project


def test_messy_texts_are_learned_from_and_every_row_is_accounted_for(messy: tuple[Path, Outcome]) -> None:
    project, done = messy
    assert done.document["decision"]["outcome"] == "promoted", done.out
    told = actions(project)
    for number, (name, (_, said)) in enumerate(MESSY.items(), start=121):
        found = [e for what, (_, examples) in told.items() if said and said in what for e in examples]
        assert any(e.startswith(f"texts.csv, row {number}") for e in found) or not said, (name, told)
    left_out = sum(n for what, (n, _) in told.items() if "left out" in what)
    counts = done.document["dataset"]["counts"]
    assert left_out == 2 and sum(counts.values()) == 120 + len(MESSY) - left_out
    assert counts["dropped"] == told["rows without any input were dropped"][0] == 3


ASKED: dict[str, tuple[str, str]] = {
    "nothing": ("", "no value"),
    "blanks": (" \t\n ", "no value"),
    "signs that are none": ("\x07\x00\ufeff", "no value"),
    "half a character": ("well \ud83d", "half a surrogate pair"),
    "over a megabyte": ("潮" * 333_334, "1 MB are the limit"),
}


@pytest.mark.parametrize("what", ASKED)
def test_a_text_that_cannot_be_answered(what: str, emoji: Path) -> None:
    text, said = ASKED[what]
    assert said in tidemill("predict", text, "-C", emoji).refusal()


@pytest.mark.parametrize(
    "text", ["🎉🌊", "🏳️‍🌈👩‍👩‍👧", "e\u0301" * 900, "x" * 999_999, LONG, "潮汐" * 99_000, "\u202eabc", "."]
)
def test_any_other_text_is_answered(text: str, emoji: Path, messy: tuple[Path, Outcome], tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(text, "utf-8")
    for project, given in ((emoji, text), (messy[0], f"@{tmp_path / 'text.txt'}")):
        scores = tidemill("predict", given, "-C", project).document["predictions"][0]["scores"]
        assert sum(scores.values()) == pytest.approx(1, abs=1e-6)


def test_emoji_are_told_apart(emoji: Path) -> None:
    for text, label in (("🎉🌊", "good"), ("😢💔😢💔", "bad")):
        assert tidemill("predict", text, "-C", emoji).document["predictions"][0]["label"] == label


def class_folders(folder: Path, content: Callable[[int, str], bytes], more: dict[str, bytes] | None = None) -> Path:
    files = {f"{label}/{row}.txt": content(row, label) for row in range(60) for label in [("bad", "good")[row % 2]]}
    for name, data in {**files, **(more or {})}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def test_class_folders_with_what_is_no_text_among_them(tmp_path: Path) -> None:
    folder = class_folders(
        tmp_path / "texts",
        lambda row, label: message(row, label).encode(),
        {
            "good/noise.txt": bytes(range(256)) * 9, "good/long.txt": LONG.encode() * 2, "bad/empty.txt": b"",
            "bad/gb.txt": "酒店的房间很干净".encode("gb18030"), "bad/mark.txt": "a tide".encode("utf-16"),
            "good/photo.png": b"\x89PNG", "good/.hidden.txt": b"hidden", "notes.md": b"# notes",
        },
    )  # fmt: skip
    (folder / "good" / "away.txt").symlink_to("/etc/passwd")
    project = start(tmp_path / "project", folder)
    done = cycle(project)
    told = actions(project)
    unread = "the file is no text that can be read and was left out"
    assert [e.partition(":")[0] for e in told[unread][1]] == ["good/away.txt", "good/long.txt", "good/noise.txt"]
    assert told["the file is no UTF-8 and was read as gb18030"][1] == ["bad/gb.txt: 酒店的房间很干净"]
    assert told["rows without any input were dropped"] == (1, ["texts/bad/empty.txt"])
    assert sum(done.document["dataset"]["counts"].values()) == 60 + 3, done.out
    dataset = OpenProject(project).dataset
    assert dataset is not None
    assert "images among them are left alone (1, such as good/photo.png)" in dataset.report["notes"]


REFUSED: dict[str, tuple[Callable[[Path], Path], tuple[str, ...]]] = {
    "binary files": (lambda folder: class_folders(folder / "texts", lambda *_: b"\0\1\xff" * 9),
                     ("no text that can be read", "60 in all", "bad/0.txt")),
    "rows too long": (lambda folder: table(folder / "a.csv", [LONG.encode() * 2 + b",good"] * 2),
                      ("a field is longer than 1,000,000 bytes", "a.csv, row 1")),
    "one label": (lambda folder: table(folder / "a.csv", [row.replace(b"bad", b"good") for row in lines(40)]),
                  ("the same label, 'good'", "--label")),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_texts_of_which_nothing_can_be_used(what: str, tmp_path: Path) -> None:
    make, said = REFUSED[what]
    refused = tidemill("init", tmp_path / "project", "--data", make(tmp_path), "--target", "label").refusal()
    assert all(words in refused for words in said), refused
    assert not (tmp_path / "project").exists()


def test_texts_that_are_all_empty_leave_the_champion(emoji: Path) -> None:
    data, before = emoji.parent / "texts.csv", state(emoji)
    right = data.read_bytes()
    table(data, [b",good", b" ,bad"] * 30)
    refused = cycle(emoji).refusal()
    data.write_bytes(right)
    assert "no row is left after cleaning" in refused and "rows without any input were dropped: 60" in refused
    assert state(emoji) == before


def test_texts_that_are_all_the_same_wait_for_an_answer_and_say_where_they_went(tmp_path: Path) -> None:
    data = table(tmp_path / "a.csv", [b"the same tide,good", b"the same tide,bad"] * 40)
    project = start(tmp_path / "project", data, "--task", "text-classification")
    done = cycle(project).document
    assert done["decision"] is None and sum(done["questions"].values()) == 1
    assert actions(project)["duplicates with contradicting labels were taken for unlabelled"][0] == 80
    shown = io.StringIO()
    Console(file=shown).print(view(done, "accuracy"))
    words = " ".join(shown.getvalue().replace("│", " ").split())
    assert "79 of 80 rows were dropped; `tidemill data` says why" in words
