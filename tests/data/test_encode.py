"""Requests: what fits, and the one clear message for what does not."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tidemill.data.encode import decode_row, encode
from tidemill.data.images import encode_png
from tidemill.data.keys import content_keys
from tidemill.data.schema import Field, Signature
from tidemill.errors import InputError, TooLargeError

TABLE = Signature(
    inputs=(
        Field(name="age", type="number"),
        Field(name="job", type="category"),
        Field(name="note", type="text", optional=True),
        Field(name="born", type="date", optional=True),
    ),
    target="income",
    kind="classification",
    labels=("no", "yes"),
)
PICTURE = Signature(
    inputs=(Field(name="image", type="image", shape=(2, 3, 1)),),
    target="label",
    kind="classification",
    labels=("a", "b"),
)
PIXELS = np.array([[0, 50, 100], [150, 200, 250]], np.uint8)


def test_a_row_of_a_table_and_back() -> None:
    columns = encode(TABLE, [{"age": 39, "job": " clerk ", "born": "1984-02-29T12:00:00Z"}])
    assert decode_row(TABLE, columns, 0) == {
        "age": 39, "job": "clerk", "note": None, "born": "1984-02-29T12:00:00Z",
    }  # fmt: skip


@pytest.mark.parametrize(
    "value",
    [
        PIXELS,
        PIXELS.tolist(),
        PIXELS[..., None].tolist(),
        PIXELS.ravel().tolist(),
        PIXELS.astype(float),
        encode_png(PIXELS[..., None]),
        base64.b64encode(encode_png(PIXELS[..., None])).decode(),
        "data:image/png;base64," + base64.b64encode(encode_png(PIXELS[..., None])).decode(),
        Image.fromarray(PIXELS),
    ],
    ids=["array", "list", "list with channel", "flat", "float", "bytes", "base64", "data URL", "Pillow"],
)
def test_all_ways_to_give_an_image_are_one(value: Any) -> None:
    columns = encode(PICTURE, [{"image": value}])
    assert np.array_equal(columns["image"], PIXELS[None, ..., None])
    assert np.array_equal(encode(PICTURE, [decode_row(PICTURE, columns, 0)])["image"], columns["image"])


@pytest.mark.parametrize(
    ("record", "what", "mend"),
    [
        ({"age": "39", "job": "a"}, "field 'age'.*'39' is no number", "without quotes"),
        ({"age": True, "job": "a"}, "True is no number", "without quotes"),
        ({"age": float("nan"), "job": "a"}, "nan is not finite", "null"),
        ({"age": float("inf"), "job": "a"}, "inf is not finite", "null"),
        ({"age": 10**400, "job": "a"}, "is not finite", "null"),
        ({"age": None, "job": "a"}, "field 'age': the field has no value", "number"),
        ({"job": "a"}, "field 'age': the field is missing", "number"),
        ({"age": 1, "job": "?"}, "field 'job': the field has no value", "category"),
        ({"age": 1, "job": ["a"]}, "a list is no text", "string"),
        ({"age": 1, "job": "\ud800"}, "surrogate", "Unicode"),
        ({"age": 1, "job": "a", "born": "yesterday"}, "no date", "2026-01-31"),
        ({"age": 1, "Job": "a"}, "no field 'Job'", "Did you mean 'job'"),
        ({"age": 1, "job": "a", "zzz": 1}, "no field 'zzz'", "The fields are 'age'"),
        ({"age": 1, "job": "a", "income": "no"}, "is what the model answers", "Leave it out"),
        ([1, "a"], "a list, not an object", '{"age": …'),
    ],
)
def test_what_does_not_fit_names_row_and_field(record: Any, what: str, mend: str) -> None:
    good = {"age": 1, "job": "a"}
    with pytest.raises(InputError, match=what) as alone:
        encode(TABLE, [record])
    assert mend in (alone.value.mend or "") and "row" not in (alone.value.where or "")
    with pytest.raises(InputError, match="row 2"):
        encode(TABLE, [good, record])


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (None, "there is no image"),
        ("/etc/passwd", "no base64|no image"),
        ("data:image/png,abc", "not in base64"),
        (base64.b64encode(b"hello").decode(), "no image"),
        (encode_png(PIXELS[..., None])[:50], "truncated|no image"),
        ([[1, 2], [3]], "differ in length"),
        ({"a": 1}, "a dict is no image"),
        (7, "an? int is no image"),
    ],
)
def test_what_is_no_image(value: Any, what: str) -> None:
    with pytest.raises(InputError, match=what) as caught:
        encode(PICTURE, [{"image": value}])
    assert caught.value.where == "field 'image'" and caught.value.status == 422


def test_too_many_pixels() -> None:
    with pytest.raises(TooLargeError, match="pixels") as caught:
        encode(PICTURE, [{"image": encode_png(np.zeros((20, 20, 1), np.uint8))}], max_pixels=100)
    assert caught.value.status == 413


def test_no_rows() -> None:
    columns = encode(TABLE, [])
    assert {len(c) for c in columns.values()} == {0}
    assert encode(PICTURE, [])["image"].shape == (0, 2, 3, 1)


def test_a_text_may_be_as_long_as_it_is_told() -> None:
    signature = Signature(inputs=(Field(name="note", type="text"),), target="y", kind="regression")
    with pytest.raises(
        TooLargeError, match=r"row 2, field 'note': the text has 1,000,002 bytes. Give at most 1,000,000"
    ):
        encode(signature, [{"note": "a"}, {"note": "潮" * 333_334}], max_text=1_000_000)
    long = {"note": "tide " * 300_000 + "mill"}
    assert encode(signature, [long])["note"][0] == long["note"]  # type: ignore[index]
    tidied = encode(signature, [{"note": "\ufeff a\x00b\u200dc \x07"}])["note"]
    assert tidied[0] == "ab\u200dc"  # type: ignore[index]


def test_rows_with_texts_come_back_as_they_are_shown() -> None:
    signature = Signature(inputs=(Field(name="note", type="text", optional=True),), target="y", kind="regression")
    texts = ["e\u0301", "\u00e9", "👩‍👩‍👧 ❤️", "两  行\n文字", "nan", ""]  # Unicode forms stay as they are
    columns = encode(signature, [{"note": text} for text in texts])
    shown = [decode_row(signature, columns, row) for row in range(len(texts))]
    assert [s["note"] for s in shown] == [*texts[:5], None]
    assert (content_keys(encode(signature, shown), signature) == content_keys(columns, signature)).all()
