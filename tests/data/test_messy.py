"""Messy input: each mess is a clear message or a repair that the report states, and nothing is lost in silence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tidemill.data.encode import encode
from tidemill.data.keys import content_keys
from tidemill.errors import SourceError

Make = Callable[..., Any]
CLASSES = "tabular-classification"
NUMBERS = "tabular-regression"
TEXTS = "text-classification"


def write(path: Path, header: str, lines: Sequence[str]) -> Path:
    path.write_text("\n".join([header, *lines]) + "\n", "utf-8")
    return path


def adds_up(done: Any) -> bool:
    """Every row is in the counts."""
    return sum(done.record.counts.values()) == done.data.n == done.record.report["rows"]


# --- texts


def test_the_one_empty_review(make: Make, data_dir: Path) -> None:
    done = make(TEXTS, data_dir / "chnsenticorp-htl" / "ChnSentiCorp_htl_all.csv", "label")
    assert done.data.n == 7766 and adds_up(done)
    assert done.actions["rows without any input were dropped"] == (1, ["ChnSentiCorp_htl_all.csv, row 6375"])
    assert [f.type for f in done.data.signature.inputs] == ["text"]


def test_texts_of_emoji_and_texts_a_megabyte_long(make: Make, tmp_path: Path) -> None:
    faces = [chr(0x1F600 + i) * (1 + i % 3) for i in range(60)]
    long = "tide mill " * 99_999  # just under the limit of a field
    texts = [*faces, long + "ebb", long + "flood", "", " ", *[f"a good day {i}" for i in range(20)]]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": texts, "mood": [("up", "down")[i % 2] for i in range(len(texts))]}), path)
    done = make(TEXTS, path, "mood")
    assert adds_up(done) and done.record.counts["dropped"] == 2
    assert done.actions["rows without any input were dropped"][1] == ["a.parquet, row 63", "a.parquet, row 64"]
    assert "near copies were found: they share a split, or are dropped" not in done.actions
    assert done.data.show(60)["text"] == long + "ebb" and done.data.show(3)["text"] == faces[3]


def test_signs_that_no_text_means_are_removed_and_said(make: Make, tmp_path: Path) -> None:
    texts = [f"the tide of day {i}" for i in range(60)]
    texts[10:13] = ["n\x00u\x00l\x00", "a mark \ufeffinside", "\x07bell\tand tab\x7f"]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": texts, "mood": [("up", "down")[i % 2] for i in range(60)]}), path)
    done = make(TEXTS, path, "mood")
    assert [done.data.show(i)["text"] for i in (10, 11, 12)] == ["nul", "a mark inside", "bell\tand tab"]
    what = "control characters and byte order marks inside of texts were removed"
    assert done.actions[what][0] == 3 and done.actions[what][1][1] == "a.parquet, row 12: text = 'a mark \\ufeffinside'"
    asked = encode(done.data.signature, [{"text": text} for text in texts])
    assert np.array_equal(content_keys(asked, done.data.signature), done.data.content)


# --- columns that are not what they seem


def test_a_column_that_turns_from_numbers_to_text(make: Make, tmp_path: Path) -> None:
    lines = [f"{i if i < 100 else f'word {i}'},{i / 2},{'yn'[i % 2]}" for i in range(200)]
    done = make(CLASSES, write(tmp_path / "a.csv", "a,b,answer", lines), "answer")
    count, examples = done.actions["numbers stand among the words of 'a', so it was read as words"]
    assert count == 100 and examples[1] == "a.csv, row 2: a = '1'"
    assert done.data.show(5)["a"] == "5" and done.data.show(150)["a"] == "word 150"

    lines = [f"{i if i < 197 else f'word {i}'},{i / 2},{'yn'[i % 2]}" for i in range(200)]
    done = make(CLASSES, write(tmp_path / "b.csv", "a,b,answer", lines), "answer")
    count, examples = done.actions["text where a number belongs was taken for missing"]
    assert count == 3 and examples[0] == "b.csv, row 198: a = 'word 197'"


def test_dates_that_are_none(make: Make, tmp_path: Path) -> None:
    days = [f"2026-{1 + i % 12:02}-{1 + i % 28:02}" for i in range(300)]
    days[7:10] = ["2026-02-31", "soon", "0000-00-00"]
    lines = [f"{day},{'yn'[i % 2]}" for i, day in enumerate(days)]
    done = make(CLASSES, write(tmp_path / "a.csv", "day,answer", lines), "answer")
    assert done.actions["text where a date belongs was taken for missing"] == (
        3,
        ["a.csv, row 8: day = '2026-02-31'", "a.csv, row 9: day = 'soon'", "a.csv, row 10: day = '0000-00-00'"],
    )
    assert done.data.show(6)["day"] == "2026-07-07T00:00:00Z" and done.data.show(7)["day"] is None


def test_a_hundred_thousand_categories(make: Make, tmp_path: Path) -> None:
    lines = [f"user-{i},{i % 7},{'yn'[i % 2]}" for i in range(100_000)]
    done = make(CLASSES, write(tmp_path / "a.csv", "user,day,answer", lines), "answer")
    assert adds_up(done) and done.record.counts["dropped"] == 0
    assert done.data.show(99_999) == {"user": "user-99999", "day": 99_999 % 7}


SPELLINGS = ["", "?", "NA", "n/a", "#N/A", "<NA>", "null", "None", "nan", "NIL", "-", "--", "\\N", " ? "]


@pytest.mark.parametrize("kind", ["number", "category", "date", "target"])
def test_missing_values_of_every_spelling(make: Make, tmp_path: Path, kind: str) -> None:
    value = {"number": "{}.5", "category": "c{}", "date": "2026-01-{:02}", "target": "{}.5"}[kind]
    cells = [value.format(1 + i % 28) for i in range(800)]
    cells[: len(SPELLINGS)] = SPELLINGS
    lines = [f"{i},{cell},{i % 17}" for i, cell in enumerate(cells)]
    path = write(tmp_path / "a.csv", "row,cell,y", lines)
    done = make(NUMBERS, path, "cell" if kind == "target" else "y")
    spelled = done.actions["spellings of a missing value (?, NA, …) were taken for missing"][0]
    assert spelled == len(SPELLINGS) - 1
    if kind == "target":
        assert np.isnan(done.data.target[: len(SPELLINGS)]).all() and done.record.counts["unlabelled"] == len(SPELLINGS)
        assert done.actions["samples without a label were kept, to be asked about"][0] == len(SPELLINGS)
    else:
        assert done.actions["missing values in 'cell'"][0] == len(SPELLINGS)
        assert {done.data.show(i)["cell"] for i in range(len(SPELLINGS))} == {None}
        field = next(f for f in done.data.signature.inputs if f.name == "cell")
        assert (field.type, field.optional) == (kind, True)
    assert adds_up(done)


# --- targets


def test_a_label_that_only_the_test_split_has(make: Make, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    write(folder / "train.csv", "size,answer", [f"{i},{('ebb', 'flood')[i % 2]}" for i in range(200)])
    write(folder / "test.csv", "size,answer", [f"{i}.5,{('ebb.', 'flood.', 'slack.')[i % 3]}" for i in range(90)])
    done = make(CLASSES, folder, "answer")
    what = "labels occur in the test split, but not in training: the model cannot give them"
    assert done.actions[what] == (30, ["'slack.' in 30 rows"])
    assert done.actions["variant spellings of a label were merged"][0] == 60
    assert done.data.signature.labels == ("ebb", "flood", "slack.")


def test_a_target_that_never_changes(make: Make, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"y: every value to be learned is 3.5. Name another target"):
        make(NUMBERS, write(tmp_path / "a.csv", "x,y", [f"{i},3.5" for i in range(60)]), "y")


def test_targets_that_are_no_numbers(make: Make, tmp_path: Path) -> None:
    values = [str(i) for i in range(300)]
    values[3:6] = ["-inf", "about 5", "1e300"]
    done = make(NUMBERS, write(tmp_path / "a.csv", "x,y", [f"{i},{v}" for i, v in enumerate(values)]), "y")
    assert np.flatnonzero(np.isnan(done.data.target)).tolist() == [3, 4, 5] and done.record.counts["unlabelled"] == 3
    assert done.actions["infinite numbers were taken for missing"] == (1, ["a.csv, row 4: y"])
    assert done.actions["text where a number belongs was taken for missing"] == (1, ["a.csv, row 5: y = 'about 5'"])
    assert done.actions["numbers too large for a target were taken for missing"] == (1, ["a.csv, row 6: y"])


def test_equal_texts_with_several_numbers(make: Make, tmp_path: Path) -> None:
    said = [("a quiet morning tide", 3), ("a quiet morning tide", 4), ("a quiet morning tide", 9)]
    said += [("a mill by the river mouth", 1), ("a mill by the river mouth", 2)]
    said += [(f"the long story of boat number {i}", i) for i in range(60)]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"note": [t for t, _ in said], "stars": [n for _, n in said]}), path)
    done = make(NUMBERS, path, "stars")
    assert done.data.signature.inputs[0].type == "text"
    median = "duplicates with several numbers were settled by their median"
    assert done.actions[median] == (3, ["a.parquet, row 1: 3 (1) / 4 (1) / 9 (1)"])
    assert done.actions["duplicates with contradicting labels were taken for unlabelled"][0] == 2
    assert done.data.target[0] == 4.0 and np.isnan(done.data.target[3])
