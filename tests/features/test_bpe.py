"""Byte pair encoding: nothing of a text is lost in any script, and a text has the same tokens wherever it stands."""

from __future__ import annotations

import csv
import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders

from tidemill.data.arrays import Columns, Ragged, take
from tidemill.errors import ConfigError
from tidemill.features import bpe
from tidemill.features.bpe import Bpe

MIXED = [
    "Tide and mill, TIDE AND MILL",
    "磨坊很好，水車小屋",
    "โรงสีน้ำ",
    "मिल और ज्वार",
    "طاحونة المد",
    "🌊🌊 👩‍👩‍👧 🇧🇪",
    "ﬁne ＦＩＮＥ fine",
    "a\x00b\u200d",
    "  two  blanks\t\n",
    "Straße ΣΊΣΥΦΟΣ",
    "\u0301 alone",
]


def columns(texts: list[str]) -> Columns:
    return {"text": Ragged.from_strings(texts)}


def fitted(texts: list[str], **options: Any) -> Bpe:
    step = Bpe(["text"], **options)
    step.observe(columns(texts))
    step.finish()
    return step


def tokens(step: Bpe, texts: list[str]) -> np.ndarray:
    return step.transform(columns(texts))["tokens"]


def spoken(step: Bpe, row: np.ndarray) -> str:
    """The text that a row of ids stands for."""
    names = step.state()["tokens"]
    decoded: str = decoders.ByteLevel().decode([names[i - 2] for i in row[row > 1]])
    return decoded


@pytest.fixture(scope="module")
def messages(data_dir: Path) -> list[str]:
    lines = (data_dir / "sms-spam" / "SMSSpamCollection").read_text("utf-8").split("\n")[:600]
    return [line.split("\t", 1)[1] for line in lines]


@pytest.fixture(scope="module")
def reviews(data_dir: Path) -> list[str]:
    with (data_dir / "chnsenticorp-htl" / "ChnSentiCorp_htl_all.csv").open(encoding="utf-8") as file:
        return [row["review"] for _, row in zip(range(300), csv.DictReader(file), strict=False)]


@pytest.fixture(scope="module")
def learned(messages: list[str], reviews: list[str]) -> Bpe:
    return fitted([*messages, *reviews])


def test_what_was_learned_is_short_and_covers_the_training_texts(learned: Bpe, messages: list[str]) -> None:
    info = learned.info()["tokens"]
    assert info.dtype == "int32" and info.shape[0] % 8 == 0 and info.shape[0] <= 256
    assert info.meta == {"vocabulary": len(learned.state()["tokens"]) + 2, "pad": 0}
    ids = tokens(learned, messages)
    assert ids.shape == (len(messages), info.shape[0]) and ids.dtype == np.int32
    assert ids.max() < info.meta["vocabulary"] and 1 not in ids
    filled = (ids != 0).sum(axis=1)
    assert (np.diff((ids != 0).astype(int), axis=1) <= 0).all()  # padding stands at the end alone
    characters = np.array([len(text) for text in messages])
    whole = filled < info.shape[0]
    assert filled[whole].sum() < 0.7 * characters[whole].sum()  # pairs that are often there are one token


def test_the_length_is_what_nearly_all_training_rows_need(messages: list[str]) -> None:
    step, roomy = fitted(messages), Bpe(["text"])
    roomy.restore(step.state() | {"length": 256})
    needed = (tokens(roomy, messages) != 0).sum(axis=1)
    length = step.info()["tokens"].shape[0]
    assert (needed <= length).mean() >= 0.98 and (needed <= length - 8).mean() <= 0.98
    assert fitted(messages, max_length=24).info()["tokens"].shape == (24,)


@pytest.mark.parametrize("text", MIXED)
def test_every_text_can_be_read_back_whatever_its_script(learned: Bpe, text: str) -> None:
    row = tokens(learned, [text])[0]
    small = "".join(character.lower() for character in unicodedata.normalize("NFKC", text))
    assert spoken(learned, row) == " " + small.removeprefix(" ")


def test_scripts_that_training_never_saw_can_be_read_back(messages: list[str]) -> None:
    step = fitted(messages)
    for text in ("ⴰⵎⴰⵣⵉⵖ", "ᏣᎳᎩ", "𒀭𒂗𒆤", "ꦗꦮ", "\U0010fffd"):
        assert spoken(step, tokens(step, [text])[0]) == " " + text.lower()


def test_capitals_count_only_where_asked(messages: list[str]) -> None:
    plain, exact = fitted(messages), fitted(messages, lowercase=False)
    assert np.array_equal(*tokens(plain, ["Call NOW", "call now"]))
    assert not np.array_equal(*tokens(exact, ["Call NOW", "call now"]))
    assert np.array_equal(*tokens(exact, ["ﬁne ＦＩＮＥ", "fine FINE"]))  # one Unicode form in any case


def test_no_text_at_all_is_all_padding(learned: Bpe) -> None:
    ids = tokens(learned, ["", "word", ""])
    assert not ids[[0, 2]].any() and ids[1].any()
    empty = fitted(["", "", ""])
    assert empty.info()["tokens"].shape == (8,)
    assert spoken(empty, tokens(empty, ["any"])[0]) == " any"


def test_a_megabyte_is_its_beginning(learned: Bpe) -> None:
    length = learned.info()["tokens"].shape[0]
    long = ["tide " * 210_000, "磨坊" * 200_000, "x" * (1 << 20), "🌊" * 300_000, " " * (1 << 20), "\n" * (1 << 20)]
    ids = tokens(learned, [*long, *(text[:4096] for text in long)])
    np.testing.assert_array_equal(ids[: len(long)], ids[len(long) :])
    assert (ids[:2] != 0).all() and ids.shape[1] == length
    assert fitted(long).info()["tokens"].shape == (256,)


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.text(max_size=60) | st.sampled_from(MIXED), min_size=1, max_size=40))
def test_a_batch_a_row_and_a_restored_step_give_the_same(learned: Bpe, texts: list[str]) -> None:
    texts = [text.encode("utf-8", "ignore").decode() for text in texts]  # no halves of surrogate pairs
    many = tokens(learned, texts)
    again = Bpe(["text"])
    again.restore(json.loads(json.dumps(learned.state())))
    np.testing.assert_array_equal(np.concatenate([tokens(again, [text]) for text in texts]), many)
    assert again.info() == learned.info() and again.state() == learned.state()


def test_columns_are_joined_in_their_order_with_a_separator(learned: Bpe) -> None:
    both = Bpe(["title", "text"])
    both.restore(learned.state())
    titles, texts = ["tide", "", "磨坊", ""], ["mill", "wheel", "", ""]
    joined = both.transform({"text": Ragged.from_strings(texts), "title": Ragged.from_strings(titles)})["tokens"]
    for row, title, text in zip(joined, titles, texts, strict=True):
        parts = [part[part != 0].tolist() for part in tokens(learned, [title, text])]
        assert row[row != 0].tolist() == [*parts[0], 1, *parts[1]]
    full = both.transform({"title": Ragged.from_strings(["tide " * 9000]), "text": Ragged.from_strings(["mill"])})
    np.testing.assert_array_equal(full["tokens"], tokens(learned, ["tide " * 9000]))  # no place is left for the text


def test_two_columns_are_learned_from_and_counted_together(messages: list[str]) -> None:
    step = Bpe(["a", "b"])
    short = Ragged.from_strings([text[:30] for text in messages])
    step.observe({"a": short, "b": short})
    step.finish()
    half = fitted([text[:30] for text in messages])
    assert half.info()["tokens"].shape[0] < step.info()["tokens"].shape[0] <= 2 * half.info()["tokens"].shape[0] + 8


def test_chunks_and_repetition_change_nothing(messages: list[str]) -> None:
    whole, parts = fitted(messages), Bpe(["text"])
    column = columns(messages)
    for start in range(0, len(messages), 70):
        parts.observe(take(column, np.arange(start, min(start + 70, len(messages)))))
    parts.finish()
    assert parts.state() == whole.state() == fitted(messages).state()


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_the_sample_is_even_however_the_rows_come(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(bpe, "_SAMPLE", 3000)
    step = Bpe(["text"])
    rows = [f"row {i}" if i % 3 else "" for i in range(2500)]
    for start in range(0, len(rows), size):
        step.observe(columns(rows[start : start + size]))
    assert step._stride > 1 and [texts[0] for texts in step._sample] == rows[:: step._stride]
    assert sum(bpe._ROW + len(texts[0]) for texts in step._sample) <= 3000


@pytest.mark.parametrize(
    "options", [{"vocabulary": 300}, {"vocabulary": 1 << 20}, {"max_length": 4}, {"max_length": 10**6}]
)
def test_sizes_that_make_no_sense_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        Bpe(["text"], **options)


def test_the_vocabulary_is_no_larger_than_asked(messages: list[str]) -> None:
    assert fitted(messages, vocabulary=512).info()["tokens"].meta["vocabulary"] <= 512
    assert fitted(messages, vocabulary=700).info()["tokens"].meta["vocabulary"] == 700


@pytest.mark.parametrize("change", [{"merges": [["q", "zz"]]}, {"length": 0}, {"length": 10**9}, {"tokens": []}])
def test_a_state_that_contradicts_itself_is_refused(learned: Bpe, change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"merge|length"):
        Bpe(["text"]).restore(learned.state() | change)
