"""A column that says how much each sample counts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tidemill.data.settled import LiveSample, Settled
from tidemill.errors import SourceError
from tidemill.records import Prediction, new_id

Make = Callable[..., Any]


def table(path: Path, weights: list[str], inputs: list[str] | None = None) -> Path:
    inputs = inputs or [str(i) for i in range(len(weights))]
    lines = [f"{x},c{i % 3},{w},{'yn'[i % 2]}" for i, (x, w) in enumerate(zip(inputs, weights, strict=True))]
    path.write_text("size,kind,count,answer\n" + "\n".join(lines) + "\n")
    return path


def test_weights_are_read_repaired_and_said(make: Make, tmp_path: Path) -> None:
    weights = ["2.5"] * 60
    weights[10:17] = ["0", "", "NA", "-1", "inf", "many", " 7 "]
    done = make("tabular-classification", table(tmp_path / "a.csv", weights), "answer", weight="count")
    assert [f.name for f in done.data.signature.inputs] == ["size", "kind"]
    assert [done.data.weight[i] for i in (9, 10, 11, 12, 14, 15, 16)] == [2.5, 0.0, 1.0, 1.0, 1.0, 1.0, 7.0]
    assert done.splits()[13] == 255 and done.record.counts["dropped"] == 1
    assert done.actions["rows of a negative weight were left out"] == (1, ["a.csv, row 14"])
    assert done.actions["missing weights were taken for 1"][0] == 4
    assert done.actions["infinite numbers were taken for missing"] == (1, ["a.csv, row 15: count"])
    assert done.actions["text where a number belongs was taken for missing"][1] == ["a.csv, row 16: count = 'many'"]
    assert "samples count as 'count' says" in done.notes


def test_equal_rows_add_up_and_live_samples_count_once(make: Make, tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", ["3"] * 40)
    path.write_text(path.read_text() + "0,c0,4,y\n0,c0,0.5,n\n")
    said = Prediction(
        id=new_id("pred"), deployment="d", model_id="m", key="0" * 16, inputs={"size": 99, "kind": "c1"}, answer={}
    )
    live = Settled(live=[LiveSample(prediction=said, label="y", split="train", weight=1.0)])
    done = make("tabular-classification", path, "answer", live, weight="count")
    kept = np.flatnonzero(done.data.split < 5)
    assert done.data.weight[0] == 7.0 and done.data.weight[41] == 0.5 and done.splits()[40] == 255
    assert done.data.weight[kept[-1]] == 1.0 and done.data.show(int(kept[-1]))["size"] == 99


def test_another_weight_is_another_version(make: Make, tmp_path: Path) -> None:
    plain = make("tabular-classification", table(tmp_path / "a.csv", ["1"] * 30), "answer", ignore=["count"])
    weighted = make("tabular-classification", tmp_path / "a.csv", "answer", weight="count")
    assert plain.data.id == weighted.data.id  # a weight of 1 says nothing
    other = make("tabular-classification", table(tmp_path / "b.csv", ["2"] * 30), "answer", weight="count")
    assert other.data.id != plain.data.id


def test_all_labels_of_adult_weighted_by_the_census(make: Make, data_dir: Path) -> None:
    """The third column of Adult is how many people a row stands for."""
    done = make("tabular-classification", data_dir / "adult-census", "income", weight="column_3")
    assert "column_3" not in {f.name for f in done.data.signature.inputs}
    train = done.data.rows("train")
    assert done.data.weight[train].min() >= 12_285 and done.data.weight[train].mean() > 150_000


@pytest.mark.parametrize(("weight", "message"), [("cuont", "Did you mean 'count'"), ("answer", "its own weight")])
def test_a_weight_that_is_no_column(make: Make, tmp_path: Path, weight: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        make("tabular-classification", table(tmp_path / "a.csv", ["1"] * 30), "answer", weight=weight)
