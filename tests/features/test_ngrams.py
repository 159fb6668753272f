"""N-grams: equal to scikit-learn's on real text, the same for a batch and for one, and safe on any text."""

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
from sklearn.feature_extraction.text import TfidfVectorizer

from tidemill.data.arrays import Columns, Ragged
from tidemill.data.schema import Field, Signature
from tidemill.errors import ConfigError
from tidemill.features import _ngram_vocabulary
from tidemill.features._base import Sparse
from tidemill.features._ngram_vocabulary import Counter, Table
from tidemill.features.ngrams import Ngrams
from tidemill.features.pipeline import Pipeline

MIXED = [
    "Tide and mill",
    "磨坊很好，水車小屋",
    "โรงสีน้ำ",
    "मिल और ज्वार",
    "🌊🌊",
    "",
    "ﬁne ＦＩＮＥ fine",
    "a\x00b",
    "  \t\n ",
    "Straße STRASSE",
]


def columns(texts: list[str]) -> Columns:
    return {"text": Ragged.from_strings(texts)}


def fitted(texts: list[str], **options: Any) -> Ngrams:
    step = Ngrams(["text"], **options)
    step.observe(columns(texts))
    step.finish()
    return step


def dense(step: Ngrams, texts: list[str]) -> np.ndarray:
    return step.sparse(columns(texts)).to_scipy().toarray()


@pytest.fixture(scope="module")
def messages(data_dir: Path) -> list[str]:
    lines = (data_dir / "sms-spam" / "SMSSpamCollection").read_text("utf-8").split("\n")[:1500]
    return [line.split("\t", 1)[1] for line in lines]


@pytest.fixture(scope="module")
def reviews(data_dir: Path) -> list[str]:
    with (data_dir / "chnsenticorp-htl" / "ChnSentiCorp_htl_all.csv").open(encoding="utf-8") as file:
        return [row["review"] for _, row in zip(range(300), csv.DictReader(file), strict=False)]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"words": [1, 2], "characters": None}, {"ngram_range": (1, 2), "token_pattern": r"\w+"}),
        ({"words": None, "characters": [2, 5]}, {"ngram_range": (2, 5), "analyzer": "char_wb"}),
        ({"words": None, "characters": [1, 4], "boundaries": "across"}, {"ngram_range": (1, 4), "analyzer": "char"}),
        (
            {"words": [1, 1], "characters": None, "sublinear": False, "min_df": 3},
            {"min_df": 3, "token_pattern": r"\w+"},
        ),
    ],
)
def test_it_equals_scikit_learn(messages: list[str], ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    given_options = {"min_df": 2, "sublinear_tf": ours.get("sublinear", True), **theirs}
    vectorizer = TfidfVectorizer(preprocessor=lambda t: unicodedata.normalize("NFKC", t).casefold(), **given_options)
    expected = vectorizer.fit_transform(messages[:1000])
    step = fitted(messages[:1000], **ours)
    got = step.sparse(columns(messages[:1000])).to_scipy()
    assert got.shape == expected.shape and got.nnz == expected.nnz
    # the columns stand in another order: the same ones, when the rows agree with one another in the same way
    np.testing.assert_allclose((got @ got.T).toarray(), (expected @ expected.T).toarray(), atol=1e-5)
    new, as_new = step.sparse(columns(messages[1000:])).to_scipy(), vectorizer.transform(messages[1000:])
    np.testing.assert_allclose((new @ got.T).toarray(), (as_new @ expected.T).toarray(), atol=1e-5)


def test_chinese_has_words_of_one_character_and_pairs_of_them(reviews: list[str]) -> None:
    han = r"[\u4e00-\u9fff]|[^\W\u4e00-\u9fff]+"
    vectorizer = TfidfVectorizer(
        token_pattern=han,
        ngram_range=(1, 2),
        min_df=2,
        sublinear_tf=True,
        preprocessor=lambda t: unicodedata.normalize("NFKC", t).casefold(),
    )
    expected = vectorizer.fit_transform(reviews)
    got = fitted(reviews, words=[1, 2], characters=None).sparse(columns(reviews)).to_scipy()
    assert got.shape == expected.shape
    np.testing.assert_allclose((got @ got.T).toarray(), (expected @ expected.T).toarray(), atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=30), min_size=1, max_size=12), st.sampled_from(["within", "across"]), st.data())
def test_a_batch_a_row_and_another_order_give_the_same(texts: list[str], boundaries: str, data: st.DataObject) -> None:
    step = fitted(MIXED + texts, boundaries=boundaries, min_df=1)
    whole = dense(step, texts)
    alone = np.concatenate([dense(step, [text]) for text in texts])
    np.testing.assert_array_equal(whole, alone)
    order = data.draw(st.permutations(range(len(texts))))
    np.testing.assert_array_equal(dense(step, [texts[i] for i in order]), whole[order])
    assert np.isfinite(whole).all()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(MIXED), min_size=2, max_size=10), st.integers(1, 9))
def test_it_does_not_matter_how_training_rows_come_in_chunks(texts: list[str], cut: int) -> None:
    whole = fitted(texts)
    step = Ngrams(["text"])
    for part in (texts[:cut], texts[cut:]):
        if part:
            step.observe(columns(part))
    step.finish()
    assert step.state() == whole.state()


@pytest.mark.parametrize("options", [{}, {"buckets": 512}, {"joined": False}, {"words": None, "idf": False}])
def test_state_as_json_gives_the_same_step(options: dict[str, Any], messages: list[str]) -> None:
    texts = {"a": Ragged.from_strings(messages[:200]), "b": Ragged.from_strings(messages[200:400])}
    signature = Signature(
        inputs=(Field(name="a", type="text"), Field(name="b", type="text")), target="y", kind="classification"
    )
    pipeline = Pipeline([{"step": "ngrams", **options}], signature)
    pipeline.fit([texts])
    again = Pipeline.from_json(json.loads(json.dumps(pipeline.to_json())))
    assert again.info() == pipeline.info()
    got, expected = again.transform(texts)["ngrams"], pipeline.transform(texts)["ngrams"]
    assert isinstance(got, Sparse) and isinstance(expected, Sparse)
    for name in ("indices", "values", "offsets", "width"):
        np.testing.assert_array_equal(getattr(got, name), getattr(expected, name))
    assert pipeline.info()["ngrams"].shape == (got.width,)


def test_the_same_letters_in_another_form_are_the_same() -> None:
    step = fitted(["fine straße é"] * 2)
    rows = dense(step, ["FINE STRASSE É", "ﬁne strasse e\u0301", "ｆｉｎｅ Straße é"])
    assert rows[0].any()
    np.testing.assert_array_equal(rows[0], rows[1])
    np.testing.assert_array_equal(rows[0], rows[2])


def test_no_ngram_goes_from_one_text_into_the_next() -> None:
    step = fitted(["ab cd", "ab cd"], words=[1, 2], characters=[2, 3], boundaries="across", min_df=1)
    apart, together = dense(step, ["ab", "cd"]), dense(step, ["ab cd"])
    assert (apart > 0).sum() < (together > 0).sum()


def test_families_have_length_one_each() -> None:
    step = fitted(MIXED, min_df=1)
    lengths = np.square(dense(step, ["tide and mill", "🌊🌊", "", "unseen?"])).sum(axis=1)
    np.testing.assert_allclose(lengths[:3], [2, 1, 0], atol=1e-6)  # an emoji is no word
    assert lengths[3] <= 2


def test_empty_and_emoji_texts_are_rows_like_others() -> None:
    step = fitted(["", "🌊", "\ufe0f", "\x00\x00"])  # no n-gram occurs twice
    assert step.info()["ngrams"].shape == (2,)  # of each family one that is always zero
    rows = step.sparse(columns(["", "🌊", "anything", "\x00"]))
    assert len(rows) == 4 and not len(rows.indices)
    assert len(step.sparse(columns([]))) == 0


def test_of_a_long_text_only_the_start_is_read() -> None:
    step = fitted(["磨坊 mill", "磨坊 mill"], max_chars=7)
    head, longer = dense(step, ["磨坊 mill"]), dense(step, ["磨坊 mill" + " tide" * 200_000])
    np.testing.assert_array_equal(head, longer)


def test_joined_columns_are_one_text_and_others_have_their_own() -> None:
    title, body = Ragged.from_strings(["tide", "mill"]), Ragged.from_strings(["mill", "tide"])
    both: Columns = {"title": title, "body": body}
    for joined, same in ((True, True), (False, False)):
        step = Ngrams(["title", "body"], words=[1, 1], characters=None, min_df=1, joined=joined)
        step.observe(both)
        step.finish()
        rows = step.sparse(both).to_scipy().toarray()
        assert np.array_equal(rows[0], rows[1]) is same


@pytest.mark.parametrize(
    "options",
    [
        {"words": [2, 1]},
        {"characters": [0, 3]},
        {"words": None, "characters": None},
        {"boundaries": "beyond"},
        {"buckets": 0},
        {"words": 3},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options)) if "words" not in options else "words|characters"):
        Ngrams(["text"], **options)


@settings(max_examples=30, deadline=None)
@given(st.sets(st.integers(0, (1 << 50) - 1), max_size=300), st.integers(0, 1 << 13))
def test_the_table_finds_all_that_are_there_and_nothing_else(numbers: set[int], crowd: int) -> None:
    crowded = {(7 << 38) + i for i in range(crowd % 50)}  # many that want the same slot
    hashes = np.array(sorted(numbers | crowded), np.uint64) << np.uint64(14)
    table = Table(hashes)
    which, places = table.find(hashes)
    np.testing.assert_array_equal(np.sort(which), np.arange(len(hashes)))
    np.testing.assert_array_equal(places, which)
    others = np.array([n for n in range(1 << 12) if n not in numbers], np.uint64) << np.uint64(14)
    assert not len(table.find(others)[0])


def test_counts_stay_bounded_and_keep_what_is_frequent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_ngram_vocabulary, "_MOST", 1000)
    rng = np.random.default_rng(0)
    counter = Counter()
    often = np.arange(1, 51, dtype=np.uint64) << np.uint64(40)
    for _ in range(40):
        rare = rng.integers(0, 1 << 50, 500).astype(np.uint64) << np.uint64(14)
        counter.observe(np.concatenate([often, rare, often]))  # twice in the same row counts once
        assert len(counter._hashes) <= 1000
    hashes, counts = counter.most_frequent(2, 50)
    np.testing.assert_array_equal(hashes, often)
    assert (counts == 40).all()
