"""Drift of texts: a model that knows its training texts by heart is no sign of it, other news are."""

from __future__ import annotations

import contextlib
import csv
from pathlib import Path

import numpy as np
from traffic_project import ask

import tidemill
from tidemill.monitor.triggers import Drift

Rows = list[dict[str, str]]


def news(path: Path) -> Rows:
    with path.open(encoding="utf-8", newline="") as file:
        return [{"topic": f"t{row[0]}", "text": f"{row[1]}. {row[2]}"} for row in csv.reader(file)]


def test_texts_of_the_same_kind_stay_and_another_topic_moves(data_dir: Path, tmp_path: Path) -> None:
    rows = [row for row in news(data_dir / "ag-news" / "train.csv") if row["topic"] != "t2"]
    order = np.random.default_rng(0).permutation(len(rows)).tolist()
    known, fresh = ([rows[i] for i in part] for part in (order[:2500], order[2500:3300]))
    assert len(fresh) == 800
    with (tmp_path / "news.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["topic", "text"])
        writer.writeheader()
        writer.writerows(known)
    recipes = {"include": ["naive-bayes"]}
    project = tidemill.init(tmp_path / "p", data=tmp_path / "news.csv", target="topic", recipes=recipes)
    with contextlib.closing(project.store):
        project.cycle(max_trials=0)
        trigger = Drift(project.store, project.open_champion, least=200, fires=True, rest=1.0)
        ask(project, [{"text": row["text"]} for row in fresh])
        calm = trigger.look({}, 0.0)
        assert calm.reason is None and calm.waiting.startswith("no column has moved"), calm.waiting
        assert {line["column"] for line in calm.found["columns"]} == {"text", "answer", "whole"}
        sports = [row for row in news(data_dir / "ag-news" / "train.csv") if row["topic"] == "t2"]
        ask(project, [{"text": row["text"]} for row in sports[:1900]])
        look = trigger.look({}, 0.0)
    moved = {line["column"] for line in look.found["columns"] if line["moved"]}
    assert moved == {"text", "answer", "whole"} and look.reason is not None
    assert "'text' uses other words in traffic than in the data" in look.reason
