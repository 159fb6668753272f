"""The quick looks at bytes say what the patterns and Arrow's own functions say."""

from __future__ import annotations

import random
import sys

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tidemill.data import spelling


def strings(values: list[str | None]) -> pa.Array:
    return pa.array(values, pa.large_string())


def test_white_space_of_every_script_is_stripped() -> None:
    characters = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
    column = strings([f"{c}x{c}" for c in characters])
    assert spelling.strip(column).equals(pc.utf8_trim_whitespace(column))
    blanks = [c for c in characters if c.isspace()]
    assert len(blanks) > 20
    for blank in blanks:  # alone among tidy ones, where a look at the ends has to find it
        for padded in (f"{blank}x", f"x{blank}", blank):
            tidy = ["tide", "磨", "", "é"]
            assert spelling.strip(strings([*tidy, padded])).to_pylist() == [*tidy, padded.strip()]


def test_nothing_to_strip_gives_the_same_column() -> None:
    for column in (strings([*["tide"] * 20, "磨坊。", "", None]), strings([]), strings([None, None])):
        assert spelling.strip(column) is column


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_slices_and_nulls_are_looked_at_in_their_place(kind: pa.DataType) -> None:
    column = pa.array([" 1", "2", None, "NA", "", "-3.5", "x "], kind)
    assert spelling.missing(column[1:6]).tolist() == [False, True, True, True, False]
    assert spelling.numeric(column[1:]).tolist() == [True, False, False, False, True, False]
    numbers, gaps = spelling.numbers_and_gaps(column[1:6]) or (np.empty(0), np.empty(0, bool))
    np.testing.assert_array_equal(numbers, [2.0, np.nan, np.nan, np.nan, -3.5])
    assert gaps.tolist() == [False, True, True, True, False]
    assert spelling.numbers_and_gaps(column) is None


def test_numbers_are_numbers_whichever_way_they_are_told() -> None:
    rng = random.Random(0)
    made = ["".join(rng.choices("0123456789+-.eE nainf", k=rng.randint(1, 8))) for _ in range(3_000)]
    column = strings([m.strip() for m in made])
    told = spelling.numeric(column)
    assert 100 < told.sum() < 1_500
    plain = pc.match_substring_regex(column, spelling._NUMBER).to_numpy(zero_copy_only=False)
    np.testing.assert_array_equal(told, plain)
    np.testing.assert_array_equal(told, [spelling.is_number(m.strip()) for m in made])
    for i, text in enumerate(column.to_pylist()):  # one by one: what the quick way takes is what the slow way takes
        quick = spelling.numbers_and_gaps(strings([text]))
        if quick is not None:
            slow = spelling.to_numbers(strings([text]))
            assert spelling.missing(strings([text]))[0] or (told[i] and quick[0][0] == slow[0]), text


def test_dates_are_dates_whichever_way_they_are_told() -> None:
    rng = random.Random(0)
    moments = []
    for _ in range(3_000):
        text = list(f"20{rng.randint(0, 99):02}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}")
        text += list(rng.choice(["", " 12:30", "T12:30:59", " 12", "T1230", " 123059", "T12:30Z", " 12:30+01", "Z"]))
        for _ in range(rng.choice([0, 0, 1, 2])):
            text[rng.randrange(len(text))] = rng.choice("0123456789-:T Z+.")
        moments.append("".join(text).strip())
    told = spelling.dates(strings(moments))
    assert 300 < told.sum() < 2_700
    for text, known in zip(moments, told.tolist(), strict=True):
        quick = spelling._plain_moments(strings([text]))
        if quick is not None:
            assert known, text
            assert quick[0] == spelling._parsed(strings([text]), None)[0]


def test_one_date_in_its_usual_form_is_the_same_moment() -> None:
    rng = random.Random(0)
    texts = [
        "2026-02-29",
        "2026-13-01",
        "0000-01-01",
        "2026-01-01T24:00",
        "2026-01-01T23:59:60",
        "2026-1-1",
        "٢٠٢٦-01-01",
    ]
    for _ in range(3000):
        day = f"{rng.choice([1, 1677, 1970, 2262, 9999, rng.randint(1, 9999)]):04}-{rng.randint(1, 12):02}"
        text = f"{day}-{rng.randint(1, 31):02}"
        if rng.random() < 0.8:
            text += f"{rng.choice('T ')}{rng.randint(0, 23):02}:{rng.randint(0, 59):02}"
            text += rng.choice(["", ":07", f":59.{rng.randint(0, 999_999):06}", f":01.{rng.randint(0, 9)}"])
            text += rng.choice(["", "Z", "+00:00", "-11:30", "+14:00", "+0200"])
        texts.append(text)
    quick = [spelling.plain_seconds(text) for text in texts]
    assert 1500 < sum(moment is not None for moment in quick) < len(texts)
    for text, moment in zip(texts, quick, strict=True):
        assert moment is None or moment == spelling.to_seconds(strings([text]))[0], text
