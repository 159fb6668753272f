"""What a project says of its data: versions beside one another, what stands out, and what is not known."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from tidemill.api import Project, init
from tidemill.data.settled import Settled
from tidemill.errors import InputError, NotFoundError, NotReadyError
from tidemill.project.data_page import data, data_of_report
from tidemill.project.findings import findings
from tidemill.records import JSON, Cycle, Dataset, new_id
from tidemill.stages.prepare import prepare

HEAD = ["longitude", "rooms", "near", "sold", "price"]


def houses(data_dir: Path) -> list[list[Any]]:
    """Rows of five columns of California's houses, with a class of price."""
    with (data_dir / "california-housing" / "housing.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[::25]
    prices = ((120_000, "low"), (250_000, "middle"), (490_000, "high"), (1e9, "top"))
    return [
        [r["longitude"], r["total_rooms"], r["ocean_proximity"], f"2024-01-{1 + i % 28:02d}",
         next(name for most, name in prices if float(r["median_house_value"]) < most)]
        for i, r in enumerate(rows)
    ]  # fmt: skip


def write(folder: Path, train: list[list[Any]], test: list[list[Any]], head: list[str] = HEAD) -> Path:
    folder.mkdir(exist_ok=True)
    for name, rows in (("train", train), ("test", test)):
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([head, *rows])
    return folder


def cycled(project: Project) -> str:
    """A dataset version, as a cycle that does no more than prepare leaves it."""
    name = prepare(project.store, project.task, project.config, list(project.sources), Settled())
    plan: JSON = {}
    started = Cycle(id=new_id("cycle"), status="done", trigger="asked", seed=0, plan=plan, dataset_id=name)
    project.store.insert(dataclasses.replace(started, finished=time.time()))
    return name


@pytest.fixture
def parted(data_dir: Path, tmp_path: Path) -> tuple[Project, list[list[Any]], list[list[Any]]]:
    """A project whose test rows lie elsewhere than those that train, and hold a label that these never have."""
    rows = houses(data_dir)
    train = [r for r in rows if float(r[0]) < -119 and r[4] != "top"]
    test = [r for r in rows if float(r[0]) >= -119][:150]
    for row in train[:40]:
        row[1] = ""
    for row in train[100:120]:
        row[4] = ""
    source = write(tmp_path / "houses", train, test)
    return init(tmp_path / "p", data=source, target="price"), train, test


def test_drift_and_what_stands_out(parted: Any) -> None:
    project, train, test = parted
    name = cycled(project)
    told: list[str] = []
    found = project.data(say=told.append)
    json.dumps(found, allow_nan=False)
    assert found["version"]["id"] == name and found["against"] is None and found["drift"]["versions"] is None
    [comparison] = found["drift"]["splits"]
    assert (comparison["before"], comparison["after"]) == ("train", "reference")
    assert {"longitude", "near"} <= set(comparison["moved"]) and "sold" not in comparison["moved"]
    texts = {text for finding in found["findings"] if (text := finding["text"])}
    assert "the label 'top' is in reference, and never in train" in texts
    assert any("rows of train have no label" in text for text in texts)
    assert any(text.startswith("'longitude' is") and "higher in reference than in train" in text for text in texts)
    [missing] = found["missing"]
    assert missing["column"] == "rooms" and missing["splits"]["reference"] == 0.0
    assert missing["share"] == pytest.approx(40 / (len(train) + len(test)), rel=0.1)
    assert told and "once" in told[0] and found["label_errors"]["rows"] > 150
    told.clear()
    assert project.data(say=told.append) == found and not told  # all of it was kept


def test_versions_are_compared(parted: Any, tmp_path: Path) -> None:
    project, train, test = parted
    first = cycled(project)
    more = [[r[0], float(r[1] or 0) * 5, r[2], f"2025-06-{1 + i % 28:02d}", r[4]] for i, r in enumerate(test * 3)]
    more = [row for row in more if row[4] != "top"]
    write(tmp_path / "houses", [*train, *more], test)
    second = cycled(project)
    assert first != second
    found = project.data(search=False)
    assert (found["version"]["id"], found["against"]["id"]) == (second, first)
    versions = found["drift"]["versions"]
    assert {"sold", "rooms", "longitude"} <= set(versions["moved"])
    assert any("later in this version than in the version before" in line["sentence"] for line in versions["columns"])
    assert found["label_errors"] == {"unknown": found["label_errors"]["unknown"]}
    back = project.data(first, against=second, search=False)
    assert back["version"]["id"] == first and f"than in {second}" in json.dumps(back["drift"]["versions"])
    assert project.data(first, search=False)["against"] is None  # nothing came before it
    # the source is put back as it was: the version of old again, and the one before it is the newer
    write(tmp_path / "houses", train, test)
    assert cycled(project) == first
    again = project.data(search=False)
    assert (again["version"]["id"], again["against"]["id"]) == (first, second)
    shutil.rmtree(project.store.root / project.store.get(Dataset, second).path)
    assert project.data(search=False)["against"] is None
    with pytest.raises(NotFoundError, match="were removed"):
        project.data(second)
    with pytest.raises(InputError, match="does not differ from itself"):
        project.data(against=first)
    with pytest.raises(NotFoundError):
        project.data("data_nothing")


def test_columns_that_came_went_and_changed_their_type(data_dir: Path, tmp_path: Path) -> None:
    rows = houses(data_dir)[:400]
    source = write(tmp_path / "houses", rows[:300], rows[300:])
    project = init(tmp_path / "p", data=source, target="price")
    cycled(project)
    head = ["longitude", "rooms", "heating", "sold", "price"]
    changed = [[r[0], f"about {r[1]}", "gas" if i % 2 else "oil", r[3], r[4]] for i, r in enumerate(rows)]
    write(tmp_path / "houses", changed[:300], changed[300:], head)
    cycled(project)
    versions = project.data(search=False)["drift"]["versions"]
    assert (versions["added"], versions["removed"], versions["retyped"]) == (["heating"], ["near"], ["rooms"])
    assert {line["column"] for line in versions["columns"]} == {"longitude", "sold", "label"}
    texts = [finding["text"] for finding in project.data(search=False)["findings"]]
    assert "the column 'heating' came in since the version before" in texts


def test_a_quantity_and_what_cannot_be_doubted(data_dir: Path, tmp_path: Path) -> None:
    rows = [[*r[:4], float(i)] for i, r in enumerate(houses(data_dir)[:60])]
    source = write(tmp_path / "houses", rows[:40], rows[40:])
    project = init(tmp_path / "p", data=source, target="price", task="tabular-regression")
    with pytest.raises(NotReadyError, match="no data has been prepared"):
        data(project)
    cycled(project)
    found = project.data()
    assert found["kind"] == "regression" and found["drift"]["splits"][0]["columns"][0]["column"] == "label"
    few = [[*r[:4], r[4] if i < 4 else ""] for i, r in enumerate(rows)]
    write(tmp_path / "houses", few[:40], rows[40:])
    cycled(project)
    assert "too few labelled rows" in project.data()["label_errors"]["unknown"]


def test_a_report_takes_what_is_at_hand(parted: Any) -> None:
    project, _, _ = parted
    name = cycled(project)
    assert data_of_report(project, None) is None
    before = data_of_report(project, name)
    assert before is not None and "tidemill data" in before["label_errors"]["unknown"]
    project.data()
    after = data_of_report(project, name)
    assert after is not None and after["label_errors"]["suspected"] >= 0
    shutil.rmtree(project.store.root / project.store.get(Dataset, name).path)
    assert data_of_report(project, name) is None


def test_few_findings_stand_for_many() -> None:
    line = {"type": "number", "moved": True, "effect": "large"}
    columns = [{**line, "column": f"c{i}", "sentence": f"'c{i}' is higher"} for i in range(30)]
    comparison = {
        "before": "train",
        "after": "reference",
        "columns": columns,
        "added": [],
        "removed": [],
        "retyped": [],
    }
    counts = {"train": {"counts": [500, 3, 0]}, "reference": {"counts": [90, 1, 0]}}
    page = {
        "profile": {
            "labels": ["a", "b", "c"],
            "splits": {"train": {"rows": 503, "labelled": 503}, "reference": {"rows": 91, "labelled": 91}},
            "balance": counts,
            "columns": [],
            "duplicates": {
                "exact": {"dropped": 0},
                "near": {"dropped": 2, "clusters": 4, "rows": 9, "by": "group"},
            },
        },
        "drift": {"splits": [comparison], "versions": None},
        "label_errors": {"unknown": "nobody asked"},
        "missing": [{"column": f"m{i}", "share": 0.5 - i / 100, "splits": {}} for i in range(40)],
    }
    assert [finding["text"] for finding in findings(page)] == [
        "'c0' is higher",
        "'c1' is higher",
        "'c2' is higher",
        "'c3', 'c4', 'c5', 'c6', 'c7' and 22 more differ between train and reference too",
        "labels are uneven in train: 500 rows of 'a', 3 of 'b'",
        "the label 'b' has fewer than 10 rows in train",
        "'m0' is missing in 50 % of the rows",
        "'m1' is missing in 49 % of the rows",
        "'m2' is missing in 48 % of the rows",
        "37 more columns miss values in 5 % of the rows or more",
        "2 near copies of rows in another split were left out",
    ]
