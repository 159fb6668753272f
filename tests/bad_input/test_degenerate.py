"""Data on which learners stumble: every recipe is trained on it, and a cycle ends in a decision or in one line."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from newcomer import cycle, start, tidemill

from tidemill.api import open_project


def table(path: Path, header: str, rows: Sequence[Sequence[object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n", "utf-8")
    return path


def whole_cycle(folder: Path, data: Path, *options: str) -> tuple[Path, dict[str, Any]]:
    """One cycle of all recipes, a pass over the data each."""
    project = folder / "project"
    made = tidemill("init", project, "--data", data, "--target", "label", *options)
    assert made.code == 0, made.out
    done = tidemill("cycle", "-C", project, "--max-trials", 0, "--max-epochs", 1)
    assert done.code == 0 and "Traceback" not in done.err, done.out + done.err
    document: dict[str, Any] = done.document
    assert document["decision"]["outcome"] in ("promoted", "refused")
    assert document["decision"]["reason"]
    assert len(document["candidates"]) >= 3
    assert not [c for c in document["candidates"] if "model" not in c], document["candidates"]
    return project, document


def answered(project: Path, document: dict[str, Any], rows: Sequence[dict[str, Any]]) -> None:
    """Every candidate answers every row with finite numbers, which JSON alone can write."""
    opened = open_project(project)
    for candidate in document["candidates"]:
        answers = opened.predict(rows, model=candidate["model"])
        json.dumps(answers, allow_nan=False)
        assert len(answers) == len(rows)


HEADER = "size,one,same,none,empty,kind,day,note,label"
STRANGE: list[dict[str, Any]] = [
    {"size": 1e300, "one": -1e300, "same": "other", "none": 5.0, "empty": "x", "kind": "tsunami", "day": "9999-12-31"},
    {"size": -3, "one": None, "same": None, "kind": None, "day": None, "note": "潮"},
    {"size": 0, "one": 1, "same": "a", "kind": "k1", "day": "0001-01-01", "note": "🌊" * 5000},
]
"""Rows unlike all that were learned from."""


def strange_rows(n: int, label: Sequence[object], unseen: str, seed: int) -> list[list[object]]:
    """Rows whose label follows from their size; every ninth knows nothing else."""
    rng = random.Random(seed)
    sizes = [f"{rng.gauss(i % 2 * 4, 1):.3f}" for i in range(n)]
    known = [[1, "a", "", "", f"{unseen}{i % 5}", "2026-01-01", "a lone note" if i == 3 else ""] for i in range(n)]
    return [[sizes[i], *(known[i] if i % 9 else [""] * 7), label[i]] for i in range(n)]


@pytest.mark.parametrize("task", ["classes", "numbers"])
def test_constant_and_missing_columns_unseen_values_and_single_rows(task: str, tmp_path: Path) -> None:
    """Nothing of what a column holds in training need be there later, and the other way round."""
    labels: list[object] = ["ebb" if i % 2 else "flood" for i in range(60)]
    labels[7], labels[8] = "seldom", "seldom"
    if task == "numbers":
        labels = [i % 2 * 3 + i / 50 for i in range(60)]
        labels[7] = 1e30  # far beyond the others
    table(tmp_path / "set" / "train.csv", HEADER, strange_rows(60, labels, "k", 0))
    table(tmp_path / "set" / "test.csv", HEADER, strange_rows(30, labels, "other", 1))
    project, document = whole_cycle(tmp_path, tmp_path / "set")
    assert document["dataset"]["counts"]["reference"] >= 25
    answered(project, document, STRANGE)


def test_texts_of_a_character_and_classes_of_a_row(tmp_path: Path) -> None:
    texts = [*map(chr, range(0x4E00, 0x4E0C)), *(". " * i for i in range(1, 7)), *("😀" * i for i in range(1, 7))]
    texts += [f"a tide of day {i}" for i in range(12)]
    labels = [f"k{i}" if i % 3 == 0 else ("ebb", "flood")[i % 2] for i in range(len(texts))]
    data = table(tmp_path / "a.csv", "text,label", list(zip(texts, labels, strict=True)))
    project, document = whole_cycle(tmp_path, data, "--task", "text-classification")
    answered(project, document, [{"text": text} for text in ("潮", "x" * 50_000, "\u200b", "!", "a tide")])


def test_labels_of_one_row_and_of_every_row(tmp_path: Path) -> None:
    rows = [{"text": f"a tide of day {i}", "label": ["all", *([f"k{i}"] if i % 3 == 0 else [])]} for i in range(36)]
    rows[5]["label"] = []
    data = tmp_path / "a.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    project, document = whole_cycle(tmp_path, data)
    answered(project, document, [{"text": text} for text in ("潮", "a tide", "🌊")])


@pytest.mark.parametrize("kind", ["text", "table"])
def test_two_rows(kind: str, tmp_path: Path) -> None:
    header, row = ("text,label", ("a calm tide", "a wild tide")) if kind == "text" else ("size,label", (1, 2))
    data = table(tmp_path / "a.csv", header, [(row[0], "ebb"), (row[1], "flood")])
    options = ("--task", "text-classification") if kind == "text" else ()
    project, document = whole_cycle(tmp_path, data, *options)
    assert "no labelled test rows" in document["decision"]["reason"]
    refused = tidemill("predict", "a calm tide" if kind == "text" else "size=1", "-C", project).refusal()
    assert "no model has been promoted yet" in refused and "tidemill gate" in refused


def test_training_texts_that_are_all_empty(tmp_path: Path) -> None:
    table(tmp_path / "set" / "train.csv", "text,label", [("", ("ebb", "flood")[i % 2]) for i in range(40)])
    texts = [f"a {('calm', 'wild')[i % 2]} tide {i}" for i in range(30)]
    table(
        tmp_path / "set" / "test.csv", "text,label", [(text, ("ebb", "flood")[i % 2]) for i, text in enumerate(texts)]
    )
    refused = cycle(start(tmp_path / "project", tmp_path / "set", "--task", "text-classification")).refusal()
    assert "no row is left to learn from" in refused and "rows without any input were dropped: 40" in refused
