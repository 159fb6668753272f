"""Splits by time and by groups, for every kind of target and for texts, on real data."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

SPLITS = ("train", "validation", "reference")
Make = Callable[..., Any]


def assert_whole(done: Any, groups: Sequence[str]) -> None:
    """Every group lies in one split, and every split has rows."""
    split = np.asarray(done.data.split)
    assert len(split) == len(groups)
    homes: dict[str, set[int]] = {}
    for group, code in zip(groups, split.tolist(), strict=True):
        if group and code != 255:
            homes.setdefault(group, set()).add(code)
    assert len(homes) > 20 and all(len(codes) == 1 for codes in homes.values())
    counts = [done.record.counts[s] for s in SPLITS]
    assert np.allclose(np.array(counts) / sum(counts), [0.7, 0.1, 0.2], atol=0.04)


def test_california_by_age_as_time(make: Make, data_dir: Path) -> None:
    path = data_dir / "california-housing" / "housing.csv"
    done = make(
        "tabular-regression", path, "median_house_value", splits={"policy": "time", "key": "housing_median_age"}
    )
    ages = [done.data.columns(done.data.rows(s))["housing_median_age"] for s in SPLITS]
    assert ages[0].max() <= ages[1].min() and ages[1].max() <= ages[2].min()
    shares = [len(a) / done.data.n for a in ages]
    assert np.allclose(shares, [0.7, 0.1, 0.2], atol=0.002)
    assert done.data.target.dtype == np.float32 and done.record.counts["unlabelled"] == 0
    assert any("splits by time in 'housing_median_age'" in note for note in done.notes)


def test_california_by_place(make: Make, data_dir: Path, tmp_path: Path) -> None:
    table = pacsv.read_csv(data_dir / "california-housing" / "housing.csv")
    places = [
        f"{x:.0f} {y:.0f}" for x, y in zip(table["longitude"].to_pylist(), table["latitude"].to_pylist(), strict=True)
    ]
    path = tmp_path / "places.parquet"
    pq.write_table(table.append_column("place", pa.array(places)), path)
    done = make("tabular-regression", path, "median_house_value", splits={"policy": "group", "key": "place"})
    assert "place" not in {f.name for f in done.data.signature.inputs}
    assert_whole(done, places)


def test_groups_of_adult_beside_its_own_test_split(make: Make, data_dir: Path) -> None:
    """The source's test rows stay test; training rows of the same group would be leakage, and are left out."""
    done = make(
        "tabular-classification",
        data_dir / "adult-census",
        "income",
        splits={"policy": "group", "key": "column_3"},
    )
    leaked = done.actions["source rows that match rows of a test or validation split were dropped"][0]
    assert leaked > 1000
    keys = {s: set(done.data.keys[done.data.rows(s)].tolist()) for s in SPLITS}
    assert not keys["train"] & keys["reference"] and not keys["train"] & keys["validation"]


def test_news_by_agency(make: Make, data_dir: Path, tmp_path: Path) -> None:
    with (data_dir / "ag-news" / "train.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for _, row in zip(range(2000), csv.reader(file), strict=False)]
    # The source of a story stands in brackets behind its title.
    agencies = [
        t.rsplit("(", 1)[-1].rstrip(")") if t.endswith(")") else f"none {i}" for i, (_, t, _) in enumerate(rows)
    ]
    path = tmp_path / "news.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(
            [["label", "title", "text", "agency"]] + [[*row, a] for row, a in zip(rows, agencies, strict=True)]
        )
    inputs = ["title", "text"]
    grouped = make("text-classification", path, "label", inputs=inputs, splits={"policy": "group", "key": "agency"})
    assert [f.type for f in grouped.data.signature.inputs] == ["text", "text"]
    assert_whole(grouped, agencies)


def test_news_by_day(make: Make, data_dir: Path, tmp_path: Path) -> None:
    with (data_dir / "ag-news" / "train.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for _, row in zip(range(1000), csv.reader(file), strict=False)]
    days = [f"2004-{1 + i % 12:02}-{1 + i % 28:02}" for i in range(len(rows))]
    days[5] = "soon"
    path = tmp_path / "news.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(
            [["label", "title", "text", "day"]] + [[*row, d] for row, d in zip(rows, days, strict=True)]
        )
    done = make("text-classification", path, "label", inputs=["title", "text"], splits={"policy": "time", "key": "day"})
    split = np.asarray(done.data.split)
    newest = [max(d for d, s in zip(days, split, strict=True) if s == code and d != "soon") for code in range(3)]
    oldest = [min(d for d, s in zip(days, split, strict=True) if s == code) for code in range(3)]
    assert newest[0] <= oldest[1] and newest[1] <= oldest[2]
    assert split[5] == 0  # without a date a row can only train
    assert done.actions["rows without a moment in 'day' were put among the oldest"] == (1, ["news.csv, row 6"])


def test_films_by_year_with_several_labels(make: Make, data_dir: Path, tmp_path: Path) -> None:
    folder = data_dir / "ml-100k"
    names = [line.split("|")[0] for line in (folder / "u.genre").read_text("latin-1").splitlines() if "|" in line]
    films = [line.split("|") for line in (folder / "u.item").read_text("latin-1").splitlines()]
    genres = [[n for n, given in zip(names, cells[5:], strict=True) if given == "1"] for cells in films]
    years = [cells[2][-4:] for cells in films]
    path = tmp_path / "films.parquet"
    pq.write_table(pa.table({"title": [cells[1] for cells in films], "year": years, "genres": genres}), path)
    done = make("text-multi-label", path, "genres", splits={"policy": "group", "key": "year"})
    assert done.data.signature.kind == "multilabel" and len(done.data.signature.labels) == 19
    assert_whole(done, years)
