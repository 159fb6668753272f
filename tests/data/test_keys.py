"""Keys: equal content, equal key, on every way; and near copies, found and not invented."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tidemill.data import spelling
from tidemill.data.arrays import Ragged, take
from tidemill.data.clean import Cleaner, Tally
from tidemill.data.encode import decode_row, encode
from tidemill.data.keys import content_keys, hash_strings, key_array, key_int, key_text, near_text, once_each
from tidemill.data.near import near_keys, near_pairs, thumbnails
from tidemill.data.schema import Field, Signature
from tidemill.data.sources import open_source
from tidemill.errors import InputError

MIXED = Signature(
    inputs=(
        Field(name="n", type="number", optional=True),
        Field(name="c", type="category", optional=True),
        Field(name="t", type="text", optional=True),
        Field(name="d", type="date", optional=True),
    ),
    target="y",
    kind="classification",
    labels=("a", "b"),
)


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "n": st.none() | st.floats(allow_nan=False, allow_infinity=False),
                "c": st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
                "t": st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
                "d": st.none() | st.integers(-(10**9), 4 * 10**9),
            }
        ),
        min_size=1,
        max_size=80,
    )
)
def test_a_shown_row_has_the_key_of_its_origin(records: list[dict[str, object]]) -> None:
    columns = encode(MIXED, records)
    keys = content_keys(columns, MIXED)
    shown = [json.loads(json.dumps(decode_row(MIXED, columns, i))) for i in range(len(records))]
    assert np.array_equal(content_keys(encode(MIXED, shown), MIXED), keys)
    # one by one, in another order, and beside many others: always the same key
    assert np.array_equal(content_keys(encode(MIXED, records[:1]), MIXED), keys[:1])
    order = np.arange(len(records))[::-1].copy()
    assert np.array_equal(content_keys(take(columns, order), MIXED), keys[::-1])
    many = take(columns, np.arange(300) % len(records))
    assert np.array_equal(content_keys(many, MIXED), keys[np.arange(300) % len(records)])


def test_content_decides_and_nothing_else() -> None:
    def key(**values: object) -> int:
        return int(content_keys(encode(MIXED, [values]), MIXED)[0])

    assert key(n=0.0) == key(n=-0.0) and key(c=" x ") == key(c="x") and key(c="N/A") == key()
    assert key(c=3) == key(c="3") and key(c=True) == key(c="true")
    assert key(d="1970-01-01T01:00:00+01:00") == key(d=0)
    assert len({key(), key(c="x"), key(t="x"), key(c="x", t="x"), key(n=1), key(d=1), key(n=1, d=1)}) == 7
    assert key(t="none") != key()  # in free text, none is a word


def test_keys_as_text() -> None:
    assert key_int(key_text(2**64 - 1)) == 2**64 - 1
    assert key_array(["00000000000000ff"]).tolist() == [255]
    for wrong in ("", "ff", "zz00000000000000", "00000000000000FF"):
        with pytest.raises(InputError, match="no key"):
            key_int(wrong)


@pytest.mark.parametrize("name", ["adult-census", "mnist", "cifar10-5k/cifar10-5k.zip", "chnsenticorp-htl"])
def test_import_and_request_agree_on_real_data(data_dir: Path, name: str) -> None:
    source = open_source(data_dir / name)
    summary = source.summary()
    target = summary.target
    fields = tuple(
        Field(name=c.name, type=c.type, shape=c.shape, optional=c.missing > 0)
        for c in summary.columns
        if c.name != target
    )
    signature = Signature(inputs=fields, target=target, kind="classification", labels=summary.column(target).values)
    batch = next(iter(source.batches(500)))
    columns = Cleaner(signature, Tally()).clean(batch).columns
    requests = [decode_row(signature, columns, row) for row in range(0, 500, 25)]
    expected = content_keys(columns, signature)[:500:25]
    assert np.array_equal(content_keys(encode(signature, requests), signature), expected)
    assert len(set(expected.tolist())) == 20


def test_near_texts() -> None:
    column = Ragged.from_strings(["Hello,  World!", "hello world", "hello word", "!!!", "???", "Ｈｅｌｌｏ world"])
    keys = near_text(column)
    assert keys[0] == keys[1] == keys[5]
    assert len(set(keys.tolist())) == 4
    signature = Signature(
        inputs=(Field(name="t", type="text"), Field(name="n", type="number")), target="y", kind="regression"
    )
    near = near_keys({"t": column, "n": np.array([1.0, 1, 1, 1, 1, 2])}, signature)
    assert near is not None and near[0] == near[1] != near[5]
    table = Signature(inputs=(Field(name="n", type="number"),), target="y", kind="regression")
    assert near_keys({"n": np.zeros(3)}, table) is None


@pytest.mark.parametrize(
    ("texts", "groups"),
    [
        (["好", "好！", "好。。。", " 好 ", "不好", "很好"], 3),  # short, without spaces
        (["❤️", "☀️", "❤", "👩‍👩‍👧", "👍🏽", "👍", "🇨🇳", "🇩🇪"], 6),  # variants of style and colour fall together
        (["good 😀", "good 😡", "Good! 😀"], 2),  # the face is what was said
        (["हिंदी", "हंदी", "हिंदी।"], 2),  # vowel signs count
        (["…", "!!!", "?", "?!"], 4),
        (["tide " * 50_000 + "mill", "TIDE; " * 50_000 + "Mill.", "tide " * 50_000 + "milk"], 2),
        (["zero\u200bwidth", "zerowidth", "soft\u00adhyphen", "softhyphen"], 2),
    ],
)
def test_what_texts_are_near(texts: list[str], groups: int) -> None:
    together = near_text(Ragged.from_strings(texts))
    assert len(set(together.tolist())) == groups
    alone = [near_text(Ragged.from_strings([text]))[0] for text in texts]  # whatever stands beside them
    assert together.tolist() == alone


@given(st.lists(st.text(max_size=40), min_size=1, max_size=150))
def test_hashes_of_strings_do_not_depend_on_their_neighbours(texts: list[str]) -> None:
    column = Ragged.from_strings([t.encode("utf-8", "ignore").decode() for t in texts] * 2)
    keys = hash_strings(column)
    each = [hash_strings(column.take(np.array([row])))[0] for row in range(len(column))]
    assert keys.tolist() == each
    assert len(set(keys.tolist())) == len({column[row] for row in range(len(column))})


def test_hashes_of_very_long_strings_do_not_depend_on_their_neighbours() -> None:
    """More words than have numbers of their own, in one text, in some and in many."""
    for many in (1, 15, 16, 60):
        texts = [f"{row} " + "tide " * (1700 + row) for row in range(many)] + ["", "ebb", "x" * 8192, "flood" * 40]
        column = Ragged.from_strings(texts * 2)
        each = [hash_strings(Ragged.from_strings([text]))[0] for text in texts]
        assert hash_strings(column).tolist() == each * 2
        assert len(set(each)) == len(texts)


def test_near_texts_that_repeat_are_looked_at_once() -> None:
    texts = ["Good!", "good", "", "好 👍🏽", "好。", "…"] * 500
    column = Ragged.from_strings(texts)
    assert np.array_equal(once_each(column, near_text), near_text(column))
    several = Ragged.from_strings([f"Row {row}" for row in range(3000)])
    assert np.array_equal(once_each(several, near_text), near_text(several))


def test_reviews_and_messages_have_keys_of_their_own(data_dir: Path) -> None:
    """No two of 13,000 real texts share a key; what is near differs in signs, case and spaces alone."""
    for name, near in (("chnsenticorp-htl/ChnSentiCorp_htl_all.csv", 1), ("sms-spam/SMSSpamCollection", 30)):
        batches = open_source(data_dir / name).batches(100_000)
        cells = [t for b in batches for t in spelling.strip(list(b.columns.values())[1]).to_pylist()]
        distinct = sorted(set(cells))
        column = Ragged.from_strings(distinct)
        assert len(np.unique(hash_strings(column))) == len(distinct)
        assert near / 2 <= len(distinct) - len(np.unique(near_text(column))) <= 2 * near, name


def cifar(data_dir: Path, count: int) -> np.ndarray:
    batch = next(iter(open_source(data_dir / "cifar10-5k" / "cifar10-5k.zip").batches(count)))
    return np.asarray(batch.columns["image"])


def test_images_saved_again_are_near(data_dir: Path) -> None:
    originals = cifar(data_dir, 600)
    copies = []
    for pixels in originals[:40]:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=95, subsampling=0)
        copies.append(np.asarray(Image.open(buffer)))
    noise = np.random.default_rng(0).integers(-1, 2, originals[40:80].shape)
    copies += list(np.clip(originals[40:80] + noise, 0, 255).astype(np.uint8))
    every = np.concatenate([originals, np.stack(copies)])
    pairs = near_pairs(thumbnails(every), lambda rows: every[rows])
    found = {tuple(p) for p in pairs.tolist()}
    expected = {(i, 600 + i) for i in range(80)}
    assert len(found & expected) >= 72
    assert not found - expected


def test_no_digit_is_near_another(data_dir: Path) -> None:
    source = open_source(data_dir / "mnist")
    pixels = np.concatenate(
        [np.asarray(b.columns["image"]) for b, _ in zip(source.batches(4000), range(3), strict=False)]
    )
    assert len(near_pairs(thumbnails(pixels), lambda rows: pixels[rows])) == 0
    small = np.asarray(next(iter(open_source("sklearn:digits").batches())).columns["image"])
    assert len(near_pairs(thumbnails(small), lambda rows: small[rows])) == 0


def test_thumbnails_are_means() -> None:
    pixels = np.zeros((1, 16, 24, 3), np.uint8)
    pixels[0, :2, :3] = 200
    assert thumbnails(pixels).reshape(8, 8)[0, :2].tolist() == [200, 0]
    assert thumbnails(np.full((2, 3, 5, 1), 7, np.uint8)).tolist() == [[7] * 64] * 2
