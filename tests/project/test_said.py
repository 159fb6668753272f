"""Statements of every kind: taken from files, shown, traced, and kept with what they speak of."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tidemill
from tidemill.errors import ConflictError, InputError, NotFoundError
from tidemill.project import importing
from tidemill.records import Feedback, Member, Prediction

ORDER = ("prediction", "kind", "value", "author", "asked", "key", "episode", "predictions")


@pytest.fixture
def some(lived: tidemill.Project) -> list[str]:
    return [prediction.id for prediction in lived.store.find(Prediction)]


def statements(some: Sequence[str]) -> list[dict[str, Any]]:
    one, two, three = some[:3]
    return [
        {"prediction": one, "kind": "correction", "value": "yes", "author": "ada"},
        {"prediction": two, "kind": "confirmation", "author": "ada", "asked": True},
        {"prediction": one, "kind": "preference", "value": {"over": two}, "author": "ada", "key": "p1"},
        {"prediction": three, "kind": "comment", "value": "odd, isn't it?"},
        {"prediction": three, "kind": "rating", "value": 4.5, "author": "bob"},
        {"episode": "visit; 7", "predictions": [two, three], "kind": "reward", "value": -1.0, "author": "bob"},
        {"episode": "visit; 7", "kind": "comment", "value": "never again", "author": "bob"},
    ]


def write(path: Path, said: Sequence[dict[str, Any]]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(one) + "\n" for one in said), "utf-8")
    elif path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ORDER)
            writer.writeheader()
            for one in said:
                cells = {k: json.dumps(v) if isinstance(v, list | dict | bool) else v for k, v in one.items()}
                writer.writerow(cells)
    else:
        plain = [{**one, "value": _text(one.get("value"))} for one in said]
        pq.write_table(pa.Table.from_pylist([{name: one.get(name) for name in ORDER} for one in plain]), path)
    return path


def _text(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict) else None if value is None else str(value)


@pytest.mark.parametrize("name", ["said.jsonl", "said.csv"])
def test_every_kind_comes_from_a_file_once_however_often_it_is_imported(
    name: str, lived: tidemill.Project, some: list[str], tmp_path: Path
) -> None:
    before = lived.store.count(Feedback)
    path = write(tmp_path / name, statements(some))
    events: list[dict[str, Any]] = []
    done = lived.feedback_import(path, author="cem", on_event=events.append)
    assert (done["accepted"], done["repeated"], done["refused"]) == (7, 0, 0)
    assert events[-1]["done"] == events[-1]["total"] == 7
    again = lived.feedback_import(path, author="cem")
    assert (again["accepted"], again["repeated"]) == (0, 7) and lived.store.count(Feedback) == before + 7
    kept = lived.store.find(Feedback, newest_first=True, limit=7)[::-1]
    assert [item.value for item in kept] == ["yes", None, {"over": some[1]}, "odd, isn't it?", 4.5, -1.0, "never again"]
    assert [item.author for item in kept] == ["ada", "ada", "ada", "cem", "bob", "bob", "bob"]
    assert kept[2].key == "p1" and kept[1].asked and kept[5].predictions == (some[1], some[2])


def test_labels_and_comments_come_from_parquet(lived: tidemill.Project, some: list[str], tmp_path: Path) -> None:
    said = [one for one in statements(some) if one["kind"] in ("correction", "confirmation", "comment", "preference")]
    done = lived.feedback_import(write(tmp_path / "said.parquet", said))
    assert (done["accepted"], done["refused"]) == (5, 0)
    with pytest.raises(InputError, match="not Parquet"):
        lived.feedback_import(write(tmp_path / "said.jsonl", said).rename(tmp_path / "other.parquet"))


def test_an_import_that_was_interrupted_goes_on_where_it_stopped(
    lived: tidemill.Project, some: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "AT_ONCE", 10)
    said = [
        {"prediction": some[n % 20], "kind": "comment", "value": f"no. {n}", "author": f"u{n // 20}"} for n in range(95)
    ]
    path = write(tmp_path / "many.jsonl", said)

    def pull_the_plug(event: dict[str, Any]) -> None:
        if event["what"].startswith("committing") and event["done"] == 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lived.feedback_import(path, on_event=pull_the_plug)
    assert lived.store.count(Feedback, kind="comment") == 40
    done = lived.feedback_import(path)
    assert (done["accepted"], done["repeated"]) == (55, 40) and lived.store.count(Feedback, kind="comment") == 95
    path.write_text(path.read_text("utf-8") + json.dumps(said[0]) + "\n", "utf-8")  # another file, so another statement
    assert lived.feedback_import(path)["accepted"] == 96


def test_faulty_rows_refuse_a_file_unless_they_are_to_be_left_out(
    lived: tidemill.Project, some: list[str], tmp_path: Path
) -> None:
    before = lived.store.count(Feedback)
    path = write(tmp_path / "said.jsonl", statements(some))
    lines = path.read_text("utf-8").splitlines()
    lines[1:1] = ["{", json.dumps({"prediction": "pred_nobody", "kind": "confirmation"})]
    path.write_text("\n".join([*lines, json.dumps({"prediction": some[0], "value": "perhaps", "kind": "correction"})]))
    with pytest.raises(InputError, match=r"said\.jsonl:2"):
        lived.feedback_import(path)
    assert lived.store.count(Feedback) == before
    done = lived.feedback_import(path, skip=True)
    assert (done["accepted"], done["refused"]) == (7, 3)
    assert [fault["where"].rpartition("/")[2] for fault in done["faults"]] == [
        "said.jsonl:2", "said.jsonl:3.prediction", "said.jsonl:10.value",
    ]  # fmt: skip


def test_what_was_exported_is_the_same_when_it_is_imported(
    lived: tidemill.Project, some: list[str], tmp_path: Path
) -> None:
    lived.feedback_import(write(tmp_path / "said.jsonl", statements(some)))
    for name in ("out.jsonl", "out.csv"):
        rows = lived.feedback_export(tmp_path / name)["rows"]
        done = lived.feedback_import(tmp_path / name)
        assert (done["accepted"], done["repeated"]) == (0, rows), "their keys came with them"


def test_what_nobody_learns_from_is_shown(lived: tidemill.Project, some: list[str], tmp_path: Path) -> None:
    lived.feedback_import(write(tmp_path / "said.jsonl", statements(some)))
    one, two, three = some[:3]
    found = lived.feedback_list(3)
    kinds = {"correction": 21, "confirmation": 1, "rating": 1, "comment": 2, "preference": 1, "reward": 1}
    assert found["kinds"] == kinds == lived.status()["live"]["kinds"]
    assert [item["kind"] for item in found["statements"]] == ["comment", "reward", "rating"]
    assert {item["kind"] for item in lived.feedback_list(about=two)["statements"]} == {
        "correction", "confirmation", "preference", "reward", "comment",
    }  # fmt: skip
    assert len(lived.feedback_list(author="bob")["statements"]) == 3
    with pytest.raises(InputError, match="no kind 'praise'"):
        lived.feedback_list(kind="praise")

    line = lived.trace(two)
    assert [item["value"] for item in line["pairs"]] == [{"over": two}]
    assert [item["value"] for item in line["episodes"]] == [-1.0, "never again"]
    episode = lived.trace("episode:visit; 7")
    assert episode["kind"] == "episode" and episode["record"]["predictions"] == [two, three]
    assert len(episode["feedback"]) == 2
    pair = lived.trace(line["pairs"][0]["subject"])
    assert pair["kind"] == "pair" and set(pair["record"]["predictions"]) == {one, two}
    assert lived.trace(line["episodes"][0]["id"])["about"]["record"]["id"] == "episode:visit; 7"
    with pytest.raises(NotFoundError, match="nobody has said anything"):
        lived.trace("episode:another")


def test_pairs_and_episodes_keep_their_predictions_when_old_ones_are_archived(
    lived: tidemill.Project, some: list[str]
) -> None:
    said = {"kind": "reward", "author": "ada"}
    lived.store.delete(Feedback, [item.id for item in lived.store.find(Feedback)])
    lived.feedback(episode="visit 1", predictions=some[:2], value=1, **said)
    with lived.store.database.transaction() as connection:
        connection.exec_driver_sql("UPDATE predictions SET created = 1.0")
    assert lived.gc()["predictions"] == 18
    assert [p.id for p in lived.store.find(Prediction)] == some[:2]


def test_a_newer_word_on_a_pair_or_an_episode_replaces_the_older_whichever_was_named_first(
    lived: tidemill.Project, some: list[str]
) -> None:
    first = lived.feedback(some[0], {"over": some[1]}, kind="preference", author="ada")
    turned = lived.feedback(some[1], {"over": some[0]}, kind="preference", author="ada")
    assert turned["superseded"] == first["feedback"]["id"]
    beside = lived.feedback(some[0], {"over": some[1]}, kind="preference", author="bob")
    assert beside["superseded"] is None
    one = lived.feedback(episode="visit 1", kind="reward", value=1, author="ada", key="k1")
    more = lived.feedback(episode="visit 1", predictions=some[:3], kind="reward", value=2, author="ada", key="k2")
    assert more["superseded"] == one["feedback"]["id"] and lived.store.count(Member, subject="episode:visit 1") == 3
    again = lived.feedback(episode="visit 1", predictions=some[2::-1], kind="reward", value=2, author="ada", key="k2")
    assert again["status"] == "repeated"
    fewer = lived.feedback(episode="visit 1", predictions=some[:2], kind="reward", value=2, author="ada", key="k2")
    assert fewer["status"] == "conflict"
    with pytest.raises(ConflictError, match="exists already"):
        lived.store.insert(lived.store.find(Member)[0])
