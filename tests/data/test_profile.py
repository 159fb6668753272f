"""The profile of a dataset version: right in figures, bounded in what it reads, made once, and fit to be shown."""

from __future__ import annotations

import base64
import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tidemill.data import profile as profiles
from tidemill.data.describe import without_sketches
from tidemill.data.previews import preview, read_column
from tidemill.data.profile import open_profile, profile
from tidemill.errors import StoreError
from tidemill.records import JSON

Make = Any


def of(prepared: Any) -> JSON:
    return profile(prepared.data, prepared.record.report)


def adult(data_dir: Path, folder: Path, train: int = 1500, test: int = 800) -> Path:
    """A slice of the census with a header, in two files as it comes."""
    head = (data_dir / "adult-census" / "adult.names").read_text("utf-8").splitlines()
    names = [line.partition(":")[0] for line in head if line.endswith(".")][-14:]
    folder.mkdir()
    for part, count in (("train", train), ("test", test)):
        with (data_dir / "adult-census" / f"adult-{part}.csv").open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.reader(file) if len(row) == 15][:count]
        with (folder / f"{part}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([[*names, "income"], *rows])
    return folder


def test_a_census_in_figures(make: Make, data_dir: Path, tmp_path: Path) -> None:
    found = of(make("tabular-classification", adult(data_dir, tmp_path / "adult"), "income"))
    assert found["kind"] == "classification" and found["labels"] == ["<=50K", ">50K"]
    splits = found["splits"]
    assert splits["reference"]["rows"] in range(790, 801) and splits["train"]["rows"] > 1000
    assert all(size["labelled"] == size["rows"] == size["read"] for size in splits.values())
    assert sum(found["balance"]["train"]["counts"]) == splits["train"]["rows"]
    columns = {c["name"]: c for c in found["columns"]}
    age, job = columns["age"], columns["occupation"]
    assert age["type"] == "number" and 36 < age["splits"]["train"]["mean"] < 41
    assert sum(age["histogram"]["shares"]["train"]) == pytest.approx(1, abs=1e-3)
    assert len(age["histogram"]["edges"]) == len(age["histogram"]["shares"]["reference"]) + 1
    assert job["splits"]["train"]["missing"] > 40 and job["histogram"] is None
    assert found["spread"] is None and found["pictures"] == []
    assert sum(s["rows"] for s in found["sources"]) == 2300


def test_it_is_made_once_and_kept(make: Make, data_dir: Path, tmp_path: Path) -> None:
    prepared = make("tabular-classification", adult(data_dir, tmp_path / "adult", 400, 100), "income")
    root = tmp_path / ".tidemill"
    first = open_profile(root, prepared.record)
    path = root / prepared.record.path / "profile.json"
    assert json.loads(path.read_text("utf-8")) == first
    path.write_text(json.dumps({**first, "target": "was read"}), "utf-8")
    assert open_profile(root, prepared.record)["target"] == "was read"
    for torso in ("", "{", "[]", json.dumps({**first, "schema": 0, "target": "of old"})):
        path.write_text(torso, "utf-8")
        assert open_profile(root, prepared.record) == first
    assert [p.name for p in path.parent.iterdir() if p.name.startswith(".profile")] == []


def test_a_profile_that_cannot_be_kept_is_said(make: Make, data_dir: Path, tmp_path: Path) -> None:
    prepared = make("tabular-classification", adult(data_dir, tmp_path / "adult", 200, 60), "income")
    (tmp_path / ".tidemill" / prepared.record.path / "profile.json").mkdir()
    with pytest.raises(StoreError, match="cannot be kept"):
        open_profile(tmp_path / ".tidemill", prepared.record)


def test_texts_and_their_copies(make: Make, data_dir: Path, tmp_path: Path) -> None:
    lines = (data_dir / "sms-spam" / "SMSSpamCollection").read_text("utf-8").split("\n")[:1500]
    with (tmp_path / "sms.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("label", "text"), *(line.split("\t", 1) for line in lines)])
    prepared = make("text-classification", tmp_path / "sms.csv", "label")
    found = of(prepared)
    exact, near = found["duplicates"]["exact"], found["duplicates"]["near"]
    assert exact["dropped"] == int((prepared.data.split == 255).sum()) - near["dropped"] > 20
    for pair in exact["examples"]:
        assert pair["row"]["inputs"] == pair["same_as"]["inputs"] and pair["row"]["split"] is None
        assert pair["row"]["origin"] != pair["same_as"]["origin"] and pair["same_as"]["split"]
    assert near["clusters"] > 0 and near["by"] == "likeness"
    for cluster in near["examples"]:
        assert len({member["split"] for member in cluster}) == 1  # a cluster is never torn apart
        assert len({member["inputs"]["text"] for member in cluster}) == len(cluster) > 1
    [column] = found["columns"]
    assert column["histogram"]["of"] == "words" and column["splits"]["train"]["scripts"]["Latin"] > 0.9


def test_several_labels_a_row(make: Make, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    titles = [f"story number {i} of the sea" for i in range(300)]
    labels = [[n for n in ("calm", "deep", "wild") if rng.random() < 0.4] for _ in titles]
    pq.write_table(pa.table({"title": titles, "moods": labels}), tmp_path / "moods.parquet")
    found = of(make("text-multi-label", tmp_path / "moods.parquet", "moods"))
    total = sum(sum(side["counts"]) for side in found["balance"].values())
    assert total == sum(len(stated) for stated in labels)
    per_row = found["balance"]["train"]["per_row"]
    assert per_row["min"] == 0 and per_row["max"] == 3 and per_row["rows"] == found["splits"]["train"]["rows"]
    assert found["spread"]["of"] == "per_row" and found["spread"]["edges"] == [-0.5, 0.5, 1.5, 2.5, 3.5]


def test_a_quantity_is_spread_over_the_same_bars(make: Make, data_dir: Path, tmp_path: Path) -> None:
    rows = (data_dir / "california-housing" / "housing.csv").read_text("utf-8").splitlines()[:1200]
    rows[5] = ",".join([*rows[5].split(",")[:8], "", rows[5].split(",")[9]])  # a house without a price
    (tmp_path / "housing.csv").write_text("\n".join(rows), "utf-8")
    found = of(make("tabular-regression", tmp_path / "housing.csv", "median_house_value"))
    assert found["labels"] == [] and set(found["spread"]["shares"]) == set(found["splits"])
    assert sum(s["rows"] - s["labelled"] for s in found["splits"].values()) == 1
    numbers = [side["numbers"] for side in found["balance"].values()]
    assert sum(n["missing"] for n in numbers) == 1 and max(n["max"] for n in numbers) == 500_001
    json.dumps(without_sketches(found), allow_nan=False)


def test_images_are_shown_small_by_label(make: Make, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for label in ("dark", "light"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for i in range(30):
            pixels = rng.integers(0, 90, (100, 80, 3), np.uint8) + (150 if label == "light" else 0)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "images" / label / f"{i}.png")
    found = of(make("image-classification", tmp_path / "images", "label"))
    assert [line["label"] for line in found["pictures"]] == ["dark", "light"]
    for line in found["pictures"]:
        assert len(line["images"]) == min(12, found["balance"]["train"]["counts"][found["labels"].index(line["label"])])
        shown = Image.open(io.BytesIO(base64.b64decode(line["images"][0].partition(",")[2])))
        assert max(shown.size) <= 64
        assert (np.asarray(shown).mean() > 128) == (line["label"] == "light")
    [column] = found["columns"]
    assert column["histogram"]["of"] == "brightness" and column["splits"]["train"]["blank"] == 0


def test_only_so_many_rows_are_read(
    make: Make, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = make("tabular-classification", adult(data_dir, tmp_path / "adult", 900, 300), "income")
    whole = of(prepared)
    monkeypatch.setattr(profiles, "MOST_ROWS", 120)
    found = of(prepared)
    assert {name: size["rows"] for name, size in found["splits"].items()} == {
        name: size["rows"] for name, size in whole["splits"].items()
    }
    assert found["splits"]["train"]["read"] == 120 and all(size["read"] <= 120 for size in found["splits"].values())
    assert found["balance"] == whole["balance"]  # labels are counted over all rows


def test_previews_cut_long_texts_between_characters(make: Make, tmp_path: Path) -> None:
    texts = ["磨" * 40_000, "short", "é" * 9000, "", "plain words"] * 3
    rows = [{"text": f"{text}{i}" if text else "", "label": "ab"[i % 2]} for i, text in enumerate(texts)]
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    data = make("text-classification", tmp_path / "t.jsonl", "label").data
    column, sizes = read_column(data, "text", np.arange(5))
    assert sizes is not None and sizes[0] == 120_001 and sizes[1] == 6
    assert column[0] == "磨" * 5461 and column[2] == "é" * 8192  # 16 kB, and no half character
    shown = preview(data, 0)["text"]
    assert len(shown) == 300 and shown.endswith("…") and preview(data, 3)["text"] is None
    assert preview(data, 1)["text"] == "short1"


def test_dates_and_numbers_are_previewed_as_people_write_them(make: Make, tmp_path: Path) -> None:
    rows = ["day,moment,count,size,kind"]
    rows += [f"2024-03-{1 + i % 28:02d},2024-03-01T10:{i % 60:02d}:00,{i % 7},{i / 8},{'ab'[i % 2]}" for i in range(60)]
    (tmp_path / "d.csv").write_text("\n".join(rows), "utf-8")
    data = make("tabular-classification", tmp_path / "d.csv", "kind").data
    assert preview(data, 4) == {"day": "2024-03-05", "moment": "2024-03-01 10:04:00 UTC", "count": 4, "size": 0.5}
