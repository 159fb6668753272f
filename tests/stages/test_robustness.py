"""Robustness on real digits and a real table: what is said can be counted again, and test rows are left alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tidemill.config import Config
from tidemill.data.corruptions import corrupted
from tidemill.data.dataset import DatasetArrays, open_dataset
from tidemill.data.settled import Settled
from tidemill.learners._base import Context
from tidemill.records import Dataset, new_id
from tidemill.runtime import Predictor, load
from tidemill.stages.prepare import prepare
from tidemill.stages.robustness import FEWER, robustness
from tidemill.stages.train import Aim, fit, train
from tidemill.store import create_store
from tidemill.tasks import get_task


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[DatasetArrays, Predictor]:
    return made(tmp_path_factory.mktemp("digits"), "image-classification", "label", "sklearn:digits")


def made(folder: Path, name: str, target: str, source: str) -> tuple[DatasetArrays, Predictor]:
    """A dataset version and the first baseline of its task."""
    store, task = create_store(folder / ".tidemill"), get_task(name)
    config = Config.model_validate({"schema": 1, "task": name, "target": target, "data": [source]})
    dataset = open_dataset(store.root, store.get(Dataset, prepare(store, task, config, [source], Settled())))
    recipe = task.recipes(dataset.signature)[0]
    aim = Aim(task=name, answer=task.answer(dataset.signature), metric=task.metric, selection=task.metric)
    model_id = train(
        store, aim, dataset, recipe, lambda: fit(store, aim, dataset, recipe, {}, Context()),
        run_id=new_id("run"), cycle_id=None, seed=0,
    )  # fmt: skip
    return dataset, load(store.root / "models" / model_id)


def test_every_figure_is_the_accuracy_on_these_corrupted_validation_rows(
    digits: tuple[DatasetArrays, Predictor],
) -> None:
    dataset, predictor = digits
    asked: list[np.ndarray] = []
    whole = dataset.columns

    def columns(rows: np.ndarray) -> object:
        asked.append(rows)
        return whole(rows)

    dataset.columns = columns  # type: ignore[method-assign, assignment]
    try:
        events: list[dict[str, object]] = []
        found = robustness(dataset, predictor, "accuracy", seed=4, on_event=events.append)
    finally:
        dataset.columns = whole  # type: ignore[method-assign]
    assert found is not None and len(asked) == 1
    rows = asked[0]
    assert set(rows) <= set(dataset.rows("validation")) and found["rows"] == len(rows) > 100
    target = dataset.target[rows]

    def right(given: object) -> float:
        return float((predictor.scores(given).argmax(1) == target).mean())  # type: ignore[arg-type]

    assert found["clean"]["value"] == pytest.approx(right(whole(rows)))
    names = [entry["name"] for entry in found["corruptions"]]
    assert names[0] == "noise" and names[-1] == "JPEG" and len(names) == len(events) == 11
    for entry in (found["corruptions"][0], found["corruptions"][-1]):
        values = [value["value"] for value in entry["values"]]
        for strength in (1, 5):
            again = right(corrupted(whole(rows), dataset.signature, entry["name"], strength, 4))
            assert values[strength - 1] == pytest.approx(again)
        assert entry["mean"]["value"] == pytest.approx(np.mean(values))
        assert all(value["low"] <= value["value"] <= value["high"] for value in entry["values"])
    every = [value["value"] for entry in found["corruptions"] for value in entry["values"]]
    assert found["corrupted"]["value"] == pytest.approx(np.mean(every))
    assert found["corrupted"]["value"] < found["clean"]["value"] - 0.05
    assert robustness(dataset, predictor, "accuracy", seed=4) == found


def test_a_slow_model_is_looked_at_on_fewer_rows(digits: tuple[DatasetArrays, Predictor]) -> None:
    found = robustness(*digits, "accuracy", speed=100.0)
    assert found is not None and found["rows"] == FEWER


def test_tables_with_numbers_and_a_number_to_predict(tmp_path: Path) -> None:
    dataset, predictor = made(tmp_path, "tabular-regression", "target", "sklearn:diabetes")
    found = robustness(dataset, predictor, "r2")
    assert found is not None and [c["name"] for c in found["corruptions"]] == [
        "noise",
        "missing values",
        "slipped point",
    ]
    noise = [v["value"] for v in found["corruptions"][0]["values"]]
    assert noise[-1] < noise[0] < found["clean"]["value"] + 0.05
