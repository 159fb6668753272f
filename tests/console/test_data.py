"""The data page says what is known of every kind of data, loads nothing, and trusts no text."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import check_alone, text_of
from PIL import Image

from tidemill.api import Project, init
from tidemill.console import charts, distributions
from tidemill.console.data import data_page, render_data
from tidemill.data.settled import Settled
from tidemill.records import JSON
from tidemill.stages.prepare import prepare
from tidemill.tasks import get_task
from tidemill.testing.tasks import write_records

EVIL = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"
SECTIONS = ("What stands out", "Doubtful labels", "Drift between train and reference", "Columns", "Duplicates",
            "Sources and preparation")  # fmt: skip


def prepared(folder: Path, source: Path, target: str, task: str | None = None) -> Project:
    project = init(folder, data=source, target=target, task=task)
    prepare(project.store, project.task, project.config, list(project.sources), Settled())
    return project


def of_task(name: str, folder: Path, rows: int = 160) -> JSON:
    """What is in a task's sample data."""
    folder.mkdir(exist_ok=True)
    source = write_records(folder / "data", get_task(name).sample_data(0, rows))
    return prepared(folder / "project", source, "label", name).data()


@pytest.mark.parametrize("task", ["tabular-classification", "text-classification", "text-multi-label",
                                  "tabular-regression", "image-classification", "image-multi-label"])  # fmt: skip
def test_every_kind_has_its_page(task: str, tmp_path: Path) -> None:
    content = of_task(task, tmp_path)
    page = data_page(content)
    check_alone(page, 80)
    text = text_of(page)
    for section in SECTIONS:
        assert f">{section}" in page, section
    assert content["version"]["id"] in text and "nan" not in text.lower().split(" ")
    for column in content["profile"]["columns"]:
        assert f"{column['name']} {column['type']}" in text
    if content["kind"] == "regression":
        assert "How label is spread" in text and "whose value is hard to believe" in text
    else:
        for label in content["profile"]["labels"]:
            assert f">{label}</span>" in page
    assert ("Labels of a row" in text) == (content["kind"] == "multilabel")
    assert ("Images of train" in text) == task.startswith("image") == ("data:image/png" in page)
    recipe = content["label_errors"]["by"]["recipe"]
    assert f"for the model of {recipe}. It was fitted 5 times" in text


@pytest.fixture(scope="module")
def mess(tmp_path_factory: pytest.TempPathFactory) -> JSON:
    """A table of everything: markup in names, values and labels, gaps, copies, dates, drift, a label in test alone."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("mess")
    (folder / "rows").mkdir()
    for part, rows in (("train", 500), ("test", 250)):
        with (folder / "rows" / f"{part}.csv").open("w", encoding="utf-8", newline="") as file:
            out = csv.writer(file)
            out.writerow(["age", "day", EVIL, "words", "gap", "kind"])
            for i in range(rows):
                age = rng.normal(40 if part == "train" else 60, 5)
                kind = "old" if age > 50 else EVIL if rng.random() < 0.5 else "young"
                kind = "unseen" if part == "test" and i % 10 == 0 else kind
                note = f"{EVIL} said number {i} of the {rng.choice(['sea', 'hill', 'town'])} with many other words"
                gap = "" if rng.random() < (0.5 if part == "train" else 0.1) else f"{rng.integers(0, 9)}"
                out.writerow([f"{age:.1f}", f"2024-02-{1 + i % 28:02d}", [EVIL, "b", "c"][i % 3], note, gap, kind])
            out.writerow(["40", "2024-02-01", "b", "the same", "1", "young"])
            out.writerow(["40", "2024-02-01", "b", "the same", "1", "young"])
    return prepared(folder / "p", folder / "rows", "kind", "tabular-classification").data()


def test_text_from_data_is_escaped(mess: JSON) -> None:
    page = data_page(mess)
    check_alone(page, 300)
    assert "<script" not in page and "<img src=x" not in page
    assert page.count("&lt;script&gt;") > 8


def test_what_moved_is_missing_or_repeats_is_told(mess: JSON) -> None:
    text = text_of(data_page(mess))
    assert "The label &#39;unseen&#39; is in reference, and never in train." in text
    assert "&#39;age&#39; is" in text and "higher in reference than in train" in text
    assert "Missing values" in text and "large" in text and "moved" in text and "&lt;&nbsp;0.001" in text
    assert "2024-02-01" in text and "rows that repeat another were left out" in text
    assert "Columns that chance alone may have parted" in text


def test_sections_without_content_are_left_out(mess: JSON) -> None:
    comparison = {"before": "train", "after": "reference", "columns": [], "moved": [], "added": [], "removed": [],
                  "retyped": []}  # fmt: skip
    bare = mess | {
        "findings": [], "missing": [], "label_errors": {"unknown": "nobody looked"},
        "drift": {"splits": [comparison], "versions": comparison | {"added": ["new"]}},
        "against": {"id": "data_before", "created": None, "counts": {}},
    }  # fmt: skip
    page = data_page(bare)
    check_alone(page, 200)
    text = text_of(page)
    assert "Nothing is known of them: nobody looked." in text and "There is nothing to compare." in text
    assert "Missing values" not in text and "New columns: new" in text and "data_before" in text
    assert "What stands out Nothing. " in text


def test_the_file_is_replaced_as_a_whole(mess: JSON, tmp_path: Path) -> None:
    path = render_data(mess, tmp_path / "deep" / "data.html")
    assert render_data(mess, path).read_text("utf-8").startswith("<!doctype html>")
    assert [p.name for p in path.parent.iterdir()] == ["data.html"]


def test_many_columns_show_those_that_moved() -> None:
    columns = [{"name": f"c{i}", "type": "number"} for i in range(200)]
    lines = [{"column": f"c{i}", "type": "number", "size": i / 100} for i in range(200)]
    shown = distributions.drawn({"profile": {"columns": columns}, "drift": {"splits": [{"columns": lines}]}})
    assert [c["name"] for c in shown] == [f"c{i}" for i in range(199, 139, -1)] and shown[0]["drift"] == lines[199]
    assert len(distributions.drawn({"profile": {"columns": columns}, "drift": {"splits": []}})) == 60


@pytest.mark.parametrize(
    ("edges", "shares", "texts"),
    [
        ([], {"train": []}, []),
        ([0.0, 1.0], {"train": [0.0]}, ["0", "1"]),
        ([-0.5, 0.5, 1.5, 2.5], {"train": [0.2, 0.5, 0.3], "reference": [0, 0, 1]}, [">0<", ">2<", "1: train 50.0 %"]),
        ([-1.7e308, 0.0, 1.7e308], {"train": [0.5, 0.5]}, ["-1.7e+308", "1.7e+308"]),
        ([1e6, 2e6, 3e6], {"train": [], "reference": [0.5, 0.5]}, ["1M", "3M"]),
    ],
)  # fmt: skip
def test_histograms_at_the_edge(edges: list[float], shares: Any, texts: list[str]) -> None:
    drawn = charts.distribution(edges, shares, ["train", "reference"])
    assert bool(drawn) == bool(texts) and "nan" not in drawn and "inf" not in drawn
    assert all(text in drawn for text in texts)


def test_days_are_days() -> None:
    drawn = charts.distribution([0.0, 86_400.0, 172_800.0], {"train": [0.5, 0.5]}, ["train"], dates=True)
    assert "1970-01-01" in drawn and "1970-01-03" in drawn
    assert "1e+300 s" in charts.distribution([0.0, 1e300], {"train": [1.0]}, ["train"], dates=True)


def test_pictures_are_small(tmp_path: Path) -> None:
    """A page of large images stays small enough to be sent."""
    rng = np.random.default_rng(0)
    for label in "ab":
        (tmp_path / "images" / label).mkdir(parents=True)
        for i in range(14):
            file = io.BytesIO()
            Image.fromarray(rng.integers(0, 255, (200, 200, 3), np.uint8)).save(file, "PNG")
            (tmp_path / "images" / label / f"{i}.png").write_bytes(file.getvalue())
    content = prepared(tmp_path / "p", tmp_path / "images", "label").data(search=False)
    assert len(data_page(content)) < 900_000 and len(content["profile"]["pictures"]) == 2
