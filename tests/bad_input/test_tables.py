"""Tables that cannot be used are refused and nothing is made; a few bad rows among many are repaired and counted."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest
from newcomer import HEADER, actions, cycle, quick, rows, start, state, tidemill

REFUSED: dict[str, tuple[bytes | str | None, tuple[str, ...]]] = {
    "missing": (None, ("no such file", "missing.csv")),
    "empty": ("", ("the file is empty", "empty.csv")),
    "blank": ("\n  \n\n", ("nothing but white space",)),
    "header-only": (HEADER, ("no rows", "header-only.csv")),
    "no-target": ("size,lable\n1,ebb\n2,flood\n", ("no column 'label'", "Did you mean 'lable'?")),
    "one-class": (HEADER + rows(20, lambda _: "ebb"), ("the same label, 'ebb'", "--label")),
    "one-row": (HEADER + "1,neap,ebb\n", ("the same label",)),
    "empty-targets": (HEADER + rows(20, lambda _: ""), ("no sample has a label", "--label")),
    "class-none": (HEADER + rows(20, lambda i: ("some", "none")[i % 2]), ("'some'", "`none`")),
    "only-target": ("label\n" + "ebb\nflood\n" * 9, ("no column besides the target",)),
    "mostly-ragged": (
        HEADER + "1,neap,ebb\n" * 30 + "1,2\n1\n1,2,3,4\n1,2,3,4,5\n" * 15,
        ("another number of fields",),
    ),
    "binary": (bytes(range(256)) * 40, ("binary", "UTF-8")),
    "pickle": (b"\x80\x04\x95" + bytes(range(1, 32)) * 20, ("binary",)),
    "utf-16-unmarked": ((HEADER + rows(9)).encode("utf-16-le"), ("binary", "UTF-8")),
    "truncated-gzip": (gzip.compress((HEADER + rows(4000)).encode())[:-40], ("truncated", "again")),
    "gzip-bomb": (gzip.compress(b"a,label\n" + b"0" * 20_000_000), ("200 times", "limits.archive_ratio")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_table_that_cannot_be_used_is_refused_before_anything_is_made(name: str, tmp_path: Path) -> None:
    content, said = REFUSED[name]
    data = tmp_path / f"{name}.csv"
    if content is not None:
        data.write_bytes(content.encode() if isinstance(content, str) else content)
    message = tidemill("init", tmp_path / "project", "--data", data, "--target", "label").refusal()
    assert all(words in message for words in said), message
    assert not (tmp_path / "project").exists()


@pytest.mark.parametrize("name", REFUSED)
def test_when_it_comes_later_the_champion_stays(name: str, kept: Path) -> None:
    content, said = REFUSED[name]
    data, before = kept.parent / "tides.csv", state(kept)
    right = data.read_bytes()
    data.unlink()
    if content is not None:
        data.write_bytes(content.encode() if isinstance(content, str) else content)
    message = cycle(kept).refusal()
    data.write_bytes(right)
    if name not in ("only-target", "mostly-ragged"):
        assert said[0] in message, message
    assert state(kept) == before


def test_what_is_refused_leaves_the_model_answering(kept: Path) -> None:
    (kept.parent / "tides.csv").rename(kept.parent / "elsewhere.csv")
    assert "no such file" in cycle(kept).refusal()
    assert tidemill("predict", "size=4", "tide=neap", "-C", kept).document["predictions"][0]["label"] == "flood"
    (kept.parent / "elsewhere.csv").rename(kept.parent / "tides.csv")


REPAIRED: dict[str, tuple[bytes | str, dict[str, int]]] = {
    "ragged": (rows(60) + "1,neap\n2,mean,ebb,9,9\n", {"another number of fields": 2}),
    "wrong-bytes": (
        rows(60).encode() + "1,à marée,ebb\n2,à marée,flood\n3,à marée,ebb\n".encode() + b"1,\xff\xfe,ebb\n",
        {"replaced by �": 1},
    ),
    "infinite": (rows(60) + "NaN,neap,ebb\ninf,mean,ebb\n-Infinity,neap,flood\n1e999,mean,ebb\n",
                 {"infinite numbers": 3, "spellings of a missing value": 1, "missing values in 'size'": 4}),
    "padded": (rows(60) + " 1 , neap,EBB.\n", {"padded values": 2, "variant spellings of a label": 1}),
    "few-empty-targets": (rows(60, lambda i: "" if i % 10 == 0 else ("ebb", "flood")[i % 2]),
                          {"samples without a label": 6}),
    "class-none": (rows(60, lambda i: ("ebb", "flood", "none")[i % 3]), {"labels spelled like a missing value": 20}),
    "duplicates": (rows(60) + rows(10), {"equal rows were merged": 10}),
    "contradictions": (rows(60) + "7.5,neap,ebb\n" * 3 + "7.5,neap,flood\n" * 2,
                       {"equal in content but not in label": 5, "equal rows were merged": 3}),
    "no-inputs": (rows(60) + ",,ebb\n", {"rows without any input": 1}),
    "huge": (rows(60) + "9007199254740993,neap,flood\n123456789012345678901234567890,mean,flood\n",
             {"more digits than can be told apart": 2}),
    "text-in-numbers": (rows(120) + "four,neap,flood\n", {"text where a number belongs": 1}),
}  # fmt: skip


@pytest.mark.parametrize("name", REPAIRED)
def test_a_few_bad_rows_are_repaired_and_the_report_counts_them(name: str, tmp_path: Path) -> None:
    content, expected = REPAIRED[name]
    data = tmp_path / "tides.csv"
    data.write_bytes(HEADER.encode() + (content.encode() if isinstance(content, str) else content))
    project = start(tmp_path / "project", data)
    done = cycle(project)
    assert done.code == 0, done.out
    told = actions(project)
    for words, count in expected.items():
        found = [(n, examples) for what, (n, examples) in told.items() if words in what]
        assert [n for n, _ in found] == [count], told
        assert found[0][1], "no example is shown"
    counts = done.document["dataset"]["counts"]
    lines = data.read_bytes().count(b"\n") - 1
    left_out = sum(n for what, (n, _) in told.items() if "left out" in what and "fields" in what)
    assert sum(counts.values()) == lines - left_out, "a row is missing from the counts"


def test_a_class_with_one_sample_is_trained_on(tmp_path: Path) -> None:
    """By its hash it would have been a test row, from which nothing is learned."""
    data = tmp_path / "tides.csv"
    for size in range(9):
        data.write_text(HEADER + rows(60) + f"{size},neap,slack\n", "utf-8")
        project = start(tmp_path / f"project{size}", data)
        done = cycle(project)
        assert done.code == 0, done.out
        if (moved := actions(project).get("single samples of a class were put into train")) is not None:
            assert moved == (1, ["tides.csv, row 61"])
            return
    raise AssertionError("each of nine samples hashes to train")


def test_a_class_named_like_a_missing_value_can_be_stated(tmp_path: Path) -> None:
    data = tmp_path / "tides.csv"
    data.write_text(HEADER + rows(60, lambda i: ("some", "none")[i % 2]), "utf-8")
    project = start(tmp_path / "project", data, "--label", "none")
    done = cycle(project)
    assert done.document["dataset"]["counts"]["unlabelled"] == 0, done.out
    model = done.document["candidates"][0]["model"]
    answered = tidemill("predict", "size=0", "tide=neap", "-C", project, "--model", model)
    assert set(answered.document["predictions"][0]["scores"]) == {"none", "some"}, answered.out


@pytest.mark.parametrize(
    ("encoding", "names"),
    [("latin-1", "Zürich,Köln,Málaga"), ("cp1252", "Ärger,€uro,naïve"),
     ("gb18030", "北京,上海,广州"), ("utf-16", "Zürich,上海,🎈"), ("utf-8-sig", "Zürich,上海,🎈")],
)  # fmt: skip
def test_names_survive_their_encoding(encoding: str, names: str, tmp_path: Path) -> None:
    """Two accents in a small file were once read as rare Chinese characters, and one was replaced."""
    one, two, three = names.split(",")
    lines = [f"{i},{(one, two, three)[i % 3]},{(one, two)[i % 2]}\n" for i in range(30)]
    data = tmp_path / "städte 城市 🎈.csv"
    data.write_bytes(("nummer,größe,label\n" + "".join(lines)).encode(encoding))
    made = tidemill("init", tmp_path / "prüfung 项目", "--data", data, "--target", "label")
    assert made.code == 0, made.out
    quick(tmp_path / "prüfung 项目")
    assert cycle(tmp_path / "prüfung 项目").code == 0
    from tidemill.project import OpenProject

    assert OpenProject(tmp_path / "prüfung 项目").signature.labels == tuple(sorted([one, two]))


LABELS = {"booleans": "true,false", "numbers": "1,2", "dates": "2020-01-01,2021-02-02", "keys": "label,inputs"}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_stay_words_whatever_they_look_like(kind: str, tmp_path: Path) -> None:
    words = LABELS[kind].split(",")
    data = tmp_path / "odd.csv"
    lines = [f"{i % 2 * 9 + i / 100},{i},{words[i % 2]}\n" for i in range(60)]
    data.write_text("inputs,key,label\n" + "".join(lines), "utf-8")
    project = start(tmp_path / "project", data)
    assert cycle(project).document["decision"]["outcome"] == "promoted"
    answer = tidemill("predict", "inputs=9", "key=31", "-C", project).document["predictions"][0]
    assert answer["label"] == words[1]


def test_a_quantity_is_predicted_as_a_number_unless_it_is_to_be_a_class(tmp_path: Path) -> None:
    data = tmp_path / "tides.csv"
    data.write_text(HEADER + rows(80, lambda i: f"{i * 1.5}"), "utf-8")
    made = tidemill("init", tmp_path / "project", "--data", data, "--target", "label")
    assert made.document["task"] == "tabular-regression" and "quantity" in made.document["reason"]
    data.write_text(HEADER + rows(80), "utf-8")
    message = tidemill(
        "init", tmp_path / "b", "--data", data, "--target", "label", "--task", "tabular-regression"
    ).refusal()
    assert "label" in message


def test_dates_at_the_end_of_time_are_dates(tmp_path: Path) -> None:
    """``9999-12-31`` is how many tables write "for ever"; it used to be too many microseconds."""
    data = tmp_path / "dates.csv"
    days = ("2020-01-01", "9999-12-31", "0001-01-01", "2020-02-30")
    data.write_text("size,day,label\n" + "".join(f"{i},{days[i % 4]},{'ab'[i % 2]}\n" for i in range(60)), "utf-8")
    project = start(tmp_path / "project", data)
    assert cycle(project).code == 0
    assert actions(project)["text where a date belongs was taken for missing"][0] == 15


def test_rows_without_any_input_at_all(tmp_path: Path) -> None:
    data = tmp_path / "tides.csv"
    data.write_text(HEADER + ",,ebb\n,,flood\n" * 9, "utf-8")
    message = cycle(start(tmp_path / "project", data)).refusal()
    assert "no row is left" in message
    assert "rows without any input were dropped: 18" in message


def test_columns_of_one_name_are_told_apart(tmp_path: Path) -> None:
    data = tmp_path / "twice.csv"
    data.write_text("size,size,Size,label\n" + "".join(f"{i},{i % 7},{i % 3},{'ab'[i % 2]}\n" for i in range(40)))
    project = start(tmp_path / "project", data)
    assert cycle(project).code == 0
    answered = tidemill("predict", "size=1", "size_2=2", "Size=3", "-C", project)
    assert answered.code in (0, 2)
    assert "size_2" not in answered.out, "the second column is an input of its own"


ODD = {
    "a pipe": ("fifo", ("no regular file",)),
    "an address": ("https://example.com/tides.csv", ("nothing over the network", "Download it")),
    "an unknown id": ("hub:mnist", ("neither a file nor an id", "sklearn:digits")),
    "a mistyped id": ("sklearn:digitz", ("sklearn:digits",)),
    "a broken Parquet file": ("broken.parquet", ("no complete Parquet file",)),
    "an empty folder": ("folder", ("nothing in the folder",)),
    "a dangling link": ("dangling", ("no such file",)),
}


@pytest.mark.parametrize("what", ODD)
def test_what_is_no_data_at_all(what: str, tmp_path: Path) -> None:
    spec, said = ODD[what]
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and nothing more PAR1")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    data = spec if ":" in spec else tmp_path / spec
    message = tidemill("init", tmp_path / "project", "--data", data, "--target", "label").refusal()
    assert all(words in message for words in said), message
