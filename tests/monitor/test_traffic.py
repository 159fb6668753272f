"""Traffic against training data: what moved is named, what did not is left alone, and each state fires once."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np
import pytest
from traffic_project import ask, inputs

from tidemill.api.project import Project
from tidemill.features._base import Sparse
from tidemill.monitor.sketch import WIDTH, sketch
from tidemill.monitor.traffic import describe_training, recent_traffic, told_apart
from tidemill.monitor.triggers import Drift, Look
from tidemill.records import JSON

HOUR = 3600.0


class Run:
    def __init__(self, project: Project, **settings: Any) -> None:
        self.trigger = Drift(
            project.store, project.open_champion, **{"least": 200, "fires": True, "rest": HOUR, **settings}
        )
        self.memory: JSON = {}
        self.now = time.time()

    def look(self, later: float = 0.0) -> Look:
        self.now += later
        found = self.trigger.look(self.memory, self.now)
        self.memory = found.memory
        return found


def moved(look: Look) -> set[str]:
    return {line["column"] for line in look.found["columns"] if line["moved"]}


def test_the_same_traffic_does_not_move_and_little_of_it_is_waited_for(project: Project) -> None:
    run = Run(project)
    assert run.look().waiting == "0 of 200 new inputs"
    ask(project, inputs(84, seed=1))
    assert run.look().waiting == "84 of 200 new inputs"
    ask(project, inputs(300, seed=2))
    calm = run.look()
    assert calm.reason is None and calm.waiting.startswith("no column has moved (largest: ") and not moved(calm)
    compared = {(line["column"], line["type"]) for line in calm.found["columns"]}
    assert {("age", "number"), ("place", "category"), ("answer", "answer"), ("whole", "whole")} <= compared
    assert calm.found["rows"] == 384


def test_each_state_fires_once_and_the_next_one_after_a_rest(project: Project) -> None:
    run = Run(project)
    ask(project, inputs(300, seed=1, age=47))
    first = run.look()
    assert (
        first.reason is not None and "'age' is" in first.reason and "higher in traffic than in the data" in first.reason
    )
    assert {"age", "answer"} <= moved(first) and not {"place", "height"} & moved(first)
    ask(project, inputs(300, seed=2, age=47))
    again = run.look(2 * HOUR)
    assert again.reason is None and again.waiting.endswith("as when it fired")
    ask(project, inputs(1400, seed=3, age=60))
    ask(project, inputs(600, seed=4, age=60))
    further = run.look(-1.5 * HOUR)
    assert further.reason is None and further.waiting.endswith("but it rests")
    assert run.look(2 * HOUR).reason is not None, "it has moved on since it fired"
    ask(project, inputs(2000, seed=5))
    assert run.look(HOUR).waiting.startswith("no column has moved")
    ask(project, inputs(2000, seed=6, age=60))
    assert run.look(HOUR).reason is not None, "it was back, and moved again"


def test_what_a_cycle_has_seen_does_not_count(project: Project) -> None:
    run = Run(project)
    ask(project, inputs(300, seed=1, age=60))
    cycle = project.cycle(max_trials=0)
    assert cycle["decision"]["outcome"] == "refused"
    assert run.look().waiting == "0 of 200 new inputs"


def test_what_only_watches_says_so_and_fires_never(project: Project) -> None:
    ask(project, inputs(300, seed=1, age=60))
    look = Run(project, fires=False).look()
    assert look.reason is None and "'age' is" in look.waiting and "age" in moved(look)


def test_inputs_that_hang_together_otherwise_move_though_no_column_does(project: Project) -> None:
    ask(project, inputs(800, seed=1, together=-0.9))
    look = Run(project).look()
    assert moved(look) == {"whole"}
    assert look.reason is not None and look.reason.startswith("the whole of an input tells traffic from the data in ")


def test_one_row_counts_for_a_key_and_what_no_longer_fits_is_left_out(project: Project) -> None:
    given = ask(project, inputs(3, seed=1))
    again = [dataclasses.replace(given[0], id=f"pred_again{n}") for n in range(50)]
    strange = dataclasses.replace(given[0], id="pred_strange", key="f" * 16, inputs={"depth": 3})
    project.store.insert(*again, strange)
    _, predictor = project.open_champion()
    found = recent_traffic(project.store, predictor.signature)
    assert found.rows == 3 and len(found.columns["age"]) == 3


def test_without_the_data_or_a_champion_it_says_so(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(project, inputs(300, seed=1, age=60))
    model = project.model()
    project.store.update(dataclasses.replace(model, dataset_id=None))
    assert "data were removed" in Run(project).look().waiting
    monkeypatch.setattr(type(project.store), "champion", lambda _store: None)
    assert Run(project).look().waiting == "no model serves yet"


def test_nothing_is_said_of_answers_with_few_held_out_rows(project: Project) -> None:
    from tidemill.data.dataset import open_dataset

    assert project.dataset is not None
    _, predictor = project.open_champion()
    dataset = open_dataset(project.store.root, project.dataset)
    assert describe_training(predictor, dataset).answers is not None
    held = np.flatnonzero(dataset.split != 0)
    dataset.split = dataset.split.copy()
    dataset.split[held[50:]] = 255
    found = describe_training(predictor, dataset)
    assert found.answers is None and not len(found.features) and found.columns["age"]["rows"] > 0


def test_the_classifier_alarms_by_chance_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    found = [told_apart(rng.normal(size=(400, 12)), rng.normal(size=(200, 12)), seed=n)[1] for n in range(200)]
    assert np.mean(np.array(found) < 0.05) < 0.1 and np.mean(np.array(found) < 0.5) == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("change", ["shift", "spread", "correlation"])
def test_the_classifier_finds_each_kind_of_change(change: str) -> None:
    rng = np.random.default_rng(1)
    before, after = rng.normal(size=(1000, 6)), rng.normal(size=(1000, 6))
    if change == "shift":
        after[:, 2] += 0.6
    elif change == "spread":
        after[:, 2] *= 2
    else:
        after[:, 2] = 0.9 * after[:, 3] + 0.45 * after[:, 2]
    area, p = told_apart(before, after)
    assert area > 0.58 and p < 1e-4
    assert told_apart(np.ones((50, 3)), np.ones((50, 3))) == (0.5, 1.0)


def test_every_kind_of_feature_has_a_sketch() -> None:
    rng = np.random.default_rng(0)
    counts = Sparse(np.array([1, 5, 2**18, 7], np.int32), np.ones(4, np.float32), np.array([0, 2, 2, 4]), 2**18 + 1)
    features: dict[str, Any] = {
        "image": rng.integers(0, 255, (3, 40, 40, 3), np.uint8),
        "x": rng.normal(size=(3, 5)).astype(np.float32),
        "codes": np.array([[1, 2], [2, 1], [0, 0]]),
        "tokens": np.array([[4, 9, 0], [9, 4, 0], [0, 0, 0]], np.int32),
        "ngrams": counts,
    }
    found = sketch(features)
    assert found.shape == (3, 4 * WIDTH + 5) and np.isfinite(found).all()
    assert np.array_equal(found, sketch(features))
    alone = {name: sketch({name: feature}) for name, feature in features.items()}
    assert np.allclose(alone["tokens"][0], alone["tokens"][1]) and not np.allclose(alone["codes"][0], alone["codes"][1])
    assert not alone["tokens"][2].any() and not alone["ngrams"][1].any()
    huge = sketch({"x": np.full((2, 100), np.float32(3e38))})
    assert np.isfinite(huge).all()
