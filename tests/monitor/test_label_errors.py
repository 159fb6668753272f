"""Suspected label errors: labels that were flipped on purpose are found, and few others are suspected."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cleanlab.filter import find_label_issues
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from tidemill.config import make_config
from tidemill.data.dataset import open_dataset
from tidemill.data.settled import Settled
from tidemill.errors import NotReadyError
from tidemill.monitor.label_errors import label_errors_path, open_label_errors, quick_recipe, suspect_labels
from tidemill.monitor.label_quality import label_quality
from tidemill.records import JSON, Dataset
from tidemill.stages.prepare import prepare
from tidemill.store import Store, create_store
from tidemill.tasks import get_task

Rng = np.random.Generator


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with create_store(tmp_path / ".tidemill") as store:
        yield store


@pytest.fixture
def rng() -> Rng:
    return np.random.default_rng(0)


def prepared(store: Store, task: str, source: Path, target: str, **more: Any) -> Dataset:
    config = make_config(task=task, data=str(source), target=target, **more)
    return store.get(Dataset, prepare(store, get_task(task), config, [str(source)], Settled()))


def found_in(store: Store, task: str, source: Path, target: str) -> JSON:
    record = prepared(store, task, source, target)
    return suspect_labels(store, get_task(task), open_dataset(store.root, record))


def row_of(issue: JSON) -> int:
    """The row in the source, from 0: origins end in its number, from 1."""
    return int(issue["origin"].rsplit(" ", 1)[1]) - 1


def hits(found: JSON, flipped: set[int]) -> tuple[float, float]:
    """Of the suspected rows, the share that was flipped; and of the flipped rows the share that is suspected."""
    rows = [row_of(issue) for issue in found["issues"]]
    right = sum(row in flipped for row in rows)
    return right / max(len(rows), 1), right / len(flipped)


def table(path: Path, head: list[str], rows: list[list[Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    return path


def test_flipped_digits_are_found(store: Store, tmp_path: Path, rng: Rng) -> None:
    images, labels = load_digits().images[:900], load_digits().target[:900].copy()
    flipped = set(rng.choice(900, 45, replace=False).tolist())
    for row in flipped:
        labels[row] = (labels[row] + rng.integers(1, 10)) % 10
    np.savez(tmp_path / "digits.npz", images=(images * 15.9).astype(np.uint8), labels=labels)
    found = found_in(store, "image-classification", tmp_path / "digits.npz", "label")
    judged = flipped & _judged(store, found)
    precise, complete = hits(found, judged)
    assert precise > 0.7 and complete > 0.6  # chance alone: 5 % of either
    assert found["by"]["recipe"] == "ridge" and found["by"]["folds"] == 5 and found["by"]["value"] > 0.8
    assert found["suspected"] == len(found["issues"]) == sum(line["suspected"] for line in found["labels"])
    qualities = [issue["quality"] for issue in found["issues"]]
    assert qualities == sorted(qualities)
    first = found["issues"][0]
    assert first["inputs"]["image"].startswith("data:image/png") and first["split"] in ("train", "validation")
    assert first["score"] > 4 * first["label_score"] and first["suggestion"] != first["label"]


def _judged(store: Store, found: JSON) -> set[int]:
    """The rows, from 0, that train or validate: test rows are never judged here."""
    data = open_dataset(store.root, store.find(Dataset)[0])
    rows = np.concatenate([data.rows("train"), data.rows("validation")])
    assert len(rows) == found["rows"] == found["of"]
    return set(rows.tolist())


def test_flipped_messages_are_found(store: Store, data_dir: Path, tmp_path: Path, rng: Rng) -> None:
    lines = (data_dir / "sms-spam" / "SMSSpamCollection").read_text("utf-8").split("\n")[:1500]
    rows = [line.split("\t", 1) for line in lines]
    flipped = set(rng.choice(len(rows), 60, replace=False).tolist())
    rows = [[("spam" if r[0] == "ham" else "ham") if i in flipped else r[0], r[1]] for i, r in enumerate(rows)]
    found = found_in(store, "text-classification", table(tmp_path / "sms.csv", ["label", "text"], rows), "label")
    judged = flipped & _judged(store, found)
    precise, complete = hits(found, judged)
    assert precise > 0.6 and complete > 0.6  # chance alone: 4 % of either


def test_flipped_incomes_are_found_above_chance(store: Store, data_dir: Path, tmp_path: Path, rng: Rng) -> None:
    with (data_dir / "adult-census" / "adult-train.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.reader(file) if len(row) == 15][:2500]
    flipped = set(rng.choice(len(rows), 125, replace=False).tolist())
    for i in flipped:
        rows[i][14] = " <=50K" if ">" in rows[i][14] else " >50K"
    head = [*(f"x{i}" for i in range(14)), "income"]
    found = found_in(store, "tabular-classification", table(tmp_path / "adult.csv", head, rows), "income")
    judged = flipped & _judged(store, found)
    precise, complete = hits(found, judged)
    assert found["by"]["recipe"] == "lightgbm"
    assert precise > 0.25 and complete > 0.2  # chance alone: 5 % of the suspected, 3 % of the flipped


def test_labels_that_were_taken_away_or_added_are_found(store: Store, tmp_path: Path, rng: Rng) -> None:
    words = {"sea": "waves salt harbour tide", "hill": "slope summit goat stones", "town": "street market tram bells"}
    filler = ["the", "a", "was", "near", "with", "old", "again", "today", "some", "quiet"]
    texts, labels = [], []
    for _ in range(700):
        stated = [name for name in words if rng.random() < 0.4]
        chosen = [str(w) for name in stated for w in rng.choice(words[name].split(" "), 2)]
        text = [*chosen, *map(str, rng.choice(filler, 6))]
        texts.append(" ".join(rng.permutation(text)))
        labels.append(stated)
    flipped = set(rng.choice(700, 35, replace=False).tolist())
    what = {i: str(rng.choice(list(words))) for i in flipped}
    for i, name in what.items():
        labels[i] = sorted({*labels[i]} ^ {name})
    pq.write_table(pa.table({"text": texts, "about": labels}), tmp_path / "places.parquet")
    found = found_in(store, "text-multi-label", tmp_path / "places.parquet", "about")
    judged = flipped & _judged(store, found)
    precise, complete = hits(found, judged)
    assert precise > 0.7 and complete > 0.7  # chance alone: 5 % of either
    changed = [
        {*issue["label"]} ^ {*issue["suggestion"]} == {what[row]}
        for issue in found["issues"]
        if (row := row_of(issue)) in judged
    ]
    assert sum(changed) > 0.8 * len(changed) > 0  # and it is the label that was touched
    assert sum(line["suspected"] + line["missing"] for line in found["labels"]) >= found["suspected"]


def test_prices_in_another_unit_are_found(store: Store, data_dir: Path, tmp_path: Path, rng: Rng) -> None:
    head, *lines = (data_dir / "california-housing" / "housing.csv").read_text("utf-8").splitlines()
    rows = [line.split(",") for line in lines[:2000]]
    flipped = {int(i) for i in rng.choice(2000, 40, replace=False) if 100_000 < float(rows[i][8]) < 400_000}
    for i in flipped:
        rows[i][8] = str(float(rows[i][8]) + 400_000)
    source = table(tmp_path / "housing.csv", head.split(","), rows)
    found = found_in(store, "tabular-regression", source, "median_house_value")
    judged = flipped & _judged(store, found)
    precise, complete = hits(found, judged)
    assert complete > 0.95 and precise > 0.2  # chance alone: 2 % of the suspected
    assert found["labels"] == [] and found["by"]["metric"] == "r2"
    worst = found["issues"][0]
    assert worst["label"] - worst["suggestion"] > 200_000 and worst["score"] is None


def test_it_is_looked_for_once(store: Store, tmp_path: Path) -> None:
    source = table(tmp_path / "t.csv", ["x", "y"], [[i, "ab"[i % 2]] for i in range(200)])
    record = prepared(store, "tabular-classification", source, "y")
    first = open_label_errors(store, get_task("tabular-classification"), record)
    path = label_errors_path(store.root, record)
    assert json.loads(path.read_text("utf-8")) == first
    path.write_text(json.dumps({**first, "suspected": -1}), "utf-8")
    assert open_label_errors(store, get_task("tabular-classification"), record)["suspected"] == -1


def test_too_few_labels_say_so(store: Store, tmp_path: Path) -> None:
    rows = [[i, "ab"[i % 2] if i < 6 else ""] for i in range(60)]
    record = prepared(store, "tabular-classification", table(tmp_path / "t.csv", ["x", "y"], rows), "y")
    with pytest.raises(NotReadyError, match="too few labelled rows"):
        suspect_labels(store, get_task("tabular-classification"), open_dataset(store.root, record))


@pytest.mark.parametrize(
    ("task", "recipe"),
    [("tabular-classification", "lightgbm"), ("tabular-regression", "lightgbm"), ("text-classification", "linear")],
)
def test_a_quick_recipe_is_chosen(task: str, recipe: str, store: Store, tmp_path: Path) -> None:
    house = get_task(task)
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in house.sample_data(0, 60)), "utf-8")
    target = next(iter(set(house.sample_data(0, 1)[0]) & {"label", "target", "y", "value"}))
    signature = open_dataset(store.root, prepared(store, task, path, target)).signature
    assert quick_recipe(house, signature).name == recipe


def test_a_model_that_learned_nothing_suspects_nothing(rng: Rng) -> None:
    """Confident learning alone would doubt a good part of each of these."""
    rare = np.clip(0.03 + rng.normal(0, 0.005, 2000), 0.001, 1)
    p = np.stack([rare, 1 - rare], axis=1)
    codes = (rng.random(2000) > 0.03).astype(np.int64)
    assert find_label_issues(codes, p, n_jobs=1).sum() > 20
    assert not label_quality("classification", codes, p)[1].any()
    chances = np.array([0.5, 0.2, 0.05, 0.01])
    several = (rng.random((1000, 4)) < chances).astype(np.int8)
    flat = np.clip(chances + rng.normal(0, 0.003, (1000, 4)), 0.001, 0.999)
    assert not label_quality("multilabel", several, flat)[1].any()


def test_quality_ranks_what_was_flipped_last(rng: Rng) -> None:
    truth = rng.integers(0, 3, 1500)
    p = rng.dirichlet(np.ones(3), 1500) * 0.3
    p[np.arange(1500), truth] += 0.7
    flipped = rng.random(1500) < 0.1
    codes = np.where(flipped, (truth + 1) % 3, truth)
    quality, suspected = label_quality("classification", codes, p)
    assert roc_auc_score(~flipped, quality) > 0.97 and (suspected == flipped).mean() > 0.95


@pytest.mark.parametrize("kind", ["classification", "multilabel", "regression"])
def test_nothing_to_judge(kind: Any) -> None:
    target = np.empty((0, 2), np.int8) if kind == "multilabel" else np.empty(0)
    quality, suspected = label_quality(kind, target, np.empty((0, 2)))
    assert len(quality) == len(suspected) == 0


def test_one_class_and_one_value_are_never_suspected() -> None:
    p = np.tile([0.2, 0.8], (30, 1))
    assert not label_quality("classification", np.zeros(30, np.int64), p)[1].any()
    assert not label_quality("regression", np.full(30, 7.0), np.full((30, 1), 7.0))[1].any()
    assert not label_quality("multilabel", np.zeros((30, 2), np.int8), p)[1].any()
