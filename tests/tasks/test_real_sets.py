"""Tasks round the loop on real sets: cells in blood images, genres of films, prices of houses, topics of news."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import tidemill
from tidemill.records import Report

Rows = list[dict[str, Any]]


def jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def cells(data_dir: Path, folder: Path) -> Path:
    """The images that show few of the three kinds of cells, small, with a table of what is to be seen in each."""
    source = data_dir / "bccd"
    folder.mkdir()
    seen: dict[str, list[str]] = {}
    for note in sorted((source / "Annotations").glob("*.xml")):
        names = sorted(set(re.findall(r"<name>(\w+)</name>", note.read_text("utf-8"))))
        seen[note.stem] = names
    chosen = [stem for stem, names in seen.items() if len(names) < 3]
    chosen += [stem for stem, names in seen.items() if len(names) == 3][: len(chosen)]
    for stem in chosen:
        with Image.open(source / "JPEGImages" / f"{stem}.jpg") as image:
            image.resize((48, 36)).save(folder / f"{stem}.png")
    jsonl(folder / "metadata.jsonl", ({"file_name": f"{stem}.png", "cells": seen[stem]} for stem in chosen))
    return folder


def test_cells_in_blood(data_dir: Path, tmp_path: Path) -> None:
    project = tidemill.init(tmp_path / "project", data=cells(data_dir, tmp_path / "cells"), target="cells")
    assert project.task.name == "image-multi-label"
    done = project.cycle(max_trials=1, max_epochs=2, seed=0)
    assert set(project.signature.labels) == {"Platelets", "RBC", "WBC"}
    assert done["decision"]["outcome"] in ("promoted", "refused") and done["decision"]["reason"]
    assert all("model" in candidate for candidate in done["candidates"])
    report = project.store.find(Report, split="reference", newest_first=True, limit=1)[0].content
    assert {label["label"] for label in report["per_class"]} == set(project.signature.labels)
    assert {"subset_accuracy", "f1_macro", "f1_micro", "f1_samples"} <= set(report["metrics"])


def test_genres_of_films(data_dir: Path, tmp_path: Path) -> None:
    """Titles say little of genres; the loop says how little, and does not promote what knows no more than nothing."""
    folder = data_dir / "ml-100k"
    names = [line.split("|")[0] for line in (folder / "u.genre").read_text("latin-1").splitlines() if "|" in line]
    films = [line.split("|") for line in (folder / "u.item").read_text("latin-1").splitlines()]
    rows = [
        {"title": film[1], "genres": [n for n, given in zip(names, film[5:], strict=True) if given == "1"]}
        for film in films
    ]
    data = jsonl(tmp_path / "films.jsonl", rows)
    project = tidemill.init(tmp_path / "project", data=data, target="genres", recipes={"include": ["linear"]})
    assert project.task.name == "text-multi-label"
    done = project.cycle(max_trials=1, max_epochs=3, seed=0)
    assert "Film-Noir" in project.signature.labels
    assert all("model" in candidate for candidate in done["candidates"])
    decision = done["decision"]
    assert decision["outcome"] == "promoted" or "the most frequent labels" in decision["reason"]


@pytest.fixture(scope="module")
def houses(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tidemill.Project:
    with (data_dir / "california-housing" / "housing.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = list(csv.reader(file))
    folder = tmp_path_factory.mktemp("houses")
    with (folder / "houses.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows[::4]])
    project = tidemill.init(
        folder / "project", data=folder / "houses.csv", target="median_house_value", recipes={"include": ["lightgbm"]}
    )
    project.cycle(max_trials=1, max_epochs=4, seed=0)
    return project


def test_prices_of_houses(houses: tidemill.Project) -> None:
    assert houses.task.name == "tabular-regression"
    assert houses.champion is not None
    report = houses.store.find(Report, split="reference", newest_first=True, limit=1)[0].content
    assert report["metrics"]["r2"]["value"] > 0.6
    assert {"mae", "rmse", "r2"} <= set(report["metrics"])
    row = {"longitude": -122.2, "latitude": 37.9, "housing_median_age": 41, "total_rooms": 880, "population": 322}
    row |= {"total_bedrooms": None, "households": 126, "median_income": 8.3, "ocean_proximity": "NEAR BAY"}
    answer = houses.predict(row)[0]
    assert answer["interval"][0] < answer["value"] < answer["interval"][1] and answer["level"] == 0.9


def test_intervals_cover_what_they_promise(houses: tidemill.Project) -> None:
    report = houses.store.find(Report, split="reference", newest_first=True, limit=1)[0].content
    covered = report["metrics"]["interval_coverage"]
    assert covered["low"] - 0.02 < 0.9 < covered["high"] + 0.02


def test_topics_of_news_from_two_columns(data_dir: Path, tmp_path: Path) -> None:
    with (data_dir / "ag-news" / "train.csv").open(newline="", encoding="utf-8") as file:
        rows = [dict(zip(("topic", "title", "text"), row, strict=True)) for row in csv.reader(file)][:1500]
    topics = {"1": "world", "2": "sport", "3": "business", "4": "science"}
    data = jsonl(tmp_path / "news.jsonl", ({**row, "topic": topics[row["topic"]]} for row in rows))
    project = tidemill.init(tmp_path / "project", data=data, target="topic", recipes={"include": ["linear"]})
    assert project.task.name == "text-classification"
    done = project.cycle(max_trials=1, max_epochs=3, seed=0)
    assert done["decision"]["outcome"] == "promoted"
    report = project.store.find(Report, split="reference", newest_first=True, limit=1)[0].content
    assert report["metrics"]["accuracy"]["value"] > 0.8
    answer = project.predict({"title": "Striker scores twice", "text": "The cup final was won in extra time."})[0]
    assert answer["label"] == "sport"
