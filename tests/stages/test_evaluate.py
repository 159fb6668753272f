"""Evaluation goes the package's own way and reports what can be checked by hand."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tidemill.config import Config
from tidemill.data.dataset import DatasetArrays, open_dataset
from tidemill.data.settled import Settled
from tidemill.errors import NotReadyError
from tidemill.gate import Judged, Policy, judge
from tidemill.learners._base import Context
from tidemill.loop._base import Setting
from tidemill.metrics import prior_probabilities, row_scores
from tidemill.records import JSON, Dataset, Model, Report, new_id
from tidemill.runtime import Predictor, load
from tidemill.stages.evaluate import Evaluation, align, evaluate
from tidemill.stages.prepare import prepare
from tidemill.stages.train import fit, train
from tidemill.store import Store, create_store
from tidemill.tasks import Task, get_task


@dataclass(frozen=True)
class Bench:
    """A store with a real dataset version and the first baseline of its task, trained and packaged."""

    store: Store
    task: Task
    dataset: DatasetArrays
    model: Model
    predictor: Predictor

    @classmethod
    def of(cls, folder: Path, task: Task, target: str, source: str) -> Bench:
        store = create_store(folder / ".tidemill")
        config = Config.model_validate({"schema": 1, "task": task.name, "target": target, "data": [source]})
        dataset = open_dataset(store.root, store.get(Dataset, prepare(store, task, config, [source], Settled())))
        recipe = task.recipes(dataset.signature)[0]
        setting = Setting(store=store, task=task, config=config, sources=(source,),
                          recipes=lambda signature: tuple(task.recipes(signature)), threads=1)  # fmt: skip
        aim = setting.aim(dataset.signature)
        model_id = train(
            store, aim, dataset, recipe, lambda: fit(store, aim, dataset, recipe, {}, Context()),
            run_id=new_id("run"), cycle_id=None, seed=0,
        )  # fmt: skip
        model = store.get(Model, model_id)
        return cls(store, task, dataset, model, load(store.root / model.path))

    def evaluate(self, split: str, **more: object) -> Evaluation:
        return evaluate(
            self.store,
            self.dataset,
            self.predictor,
            split,
            model_id=self.model.id,
            task=self.task,
            metric=self.task.metric,
            **more,
        )  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench.of(tmp_path_factory.mktemp("digits"), get_task("image-classification"), "label", "sklearn:digits")


@pytest.fixture(scope="module")
def adult(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Bench:
    """The first 3,000 rows of a real, messy table: padded values, and ``?`` for missing."""
    folder = tmp_path_factory.mktemp("adult")
    lines = (data_dir / "adult-census" / "adult-train.csv").read_text(encoding="utf-8").splitlines()[:3000]
    names = ("age workclass fnlwgt education education-num marital-status occupation relationship race sex "
             "capital-gain capital-loss hours-per-week country income")  # fmt: skip
    (folder / "adult.csv").write_text("\n".join([",".join(names.split()), *lines]), encoding="utf-8")
    return Bench.of(folder, get_task("tabular-classification"), "income", str(folder / "adult.csv"))


def test_the_report_says_what_the_package_answers(digits: Bench) -> None:
    found = digits.evaluate("validation")
    content, rows = found.report.content, digits.dataset.rows("validation")
    answers = digits.predictor.predict([digits.dataset.show(int(row)) for row in rows])
    right = [
        a["label"] == digits.dataset.signature.labels[digits.dataset.target[r]]
        for a, r in zip(answers, rows, strict=True)
    ]
    assert content["metrics"]["accuracy"]["value"] == pytest.approx(np.mean(right))
    assert found.outcomes.scores.tolist() == [float(r) for r in right]
    assert 0.5 < np.mean(right) < 1
    low, high = content["metrics"]["accuracy"]["low"], content["metrics"]["accuracy"]["high"]
    assert low < np.mean(right) < high
    assert np.sum(content["confusion"]) == len(rows) == content["counts"]["rows"]
    assert [c["label"] for c in content["per_class"]] == [str(d) for d in range(10)]
    assert content["size_bytes"] == digits.model.size_bytes > 0
    json.dumps(content, allow_nan=False)


def test_latency_is_measured_unless_it_is_not_wanted(digits: Bench) -> None:
    single = digits.evaluate("validation").report.content["latency"]["single"]
    assert single["calls"] >= 50 and 0 < single["p50_ms"] <= single["p99_ms"]
    digits.store.delete(Report, [r.id for r in digits.store.find(Report, split="reference")])
    assert digits.evaluate("reference", latency=False).report.content["latency"] is None


def test_mistakes_are_shown_from_validation_only(digits: Bench) -> None:
    mistakes = digits.evaluate("validation").report.content["mistakes"]
    wrong = int((digits.evaluate("validation").outcomes.scores == 0).sum())
    assert len(mistakes) == min(wrong, 24) > 3
    losses = [m["loss"] for m in mistakes]
    assert losses == sorted(losses, reverse=True)
    for mistake in mistakes:
        assert mistake["answer"] != mistake["label"] and mistake["score"] > mistake["label_score"]
        assert digits.dataset.row_of(mistake["sample"]) in digits.dataset.rows("validation")
        (picture,) = mistake["inputs"].values()
        assert picture.startswith("data:image/png;base64,")
    assert digits.evaluate("reference").report.content["mistakes"] == []


def test_a_report_is_made_once_and_the_outcomes_always(digits: Bench) -> None:
    events: list[JSON] = []
    once = digits.evaluate("validation", on_event=events.append)
    again = digits.evaluate("validation")
    assert once.report == again.report
    assert digits.store.count(Report, model_id=digits.model.id, split="validation") == 1
    assert (once.outcomes.probabilities == again.outcomes.probabilities).all()
    assert events[-1]["stage"] == "evaluate" and events[-1]["done"] == events[-1]["total"] == len(once.outcomes.rows)


def test_an_empty_split_is_said(digits: Bench) -> None:
    with pytest.raises(NotReadyError, match="recent-test"):
        digits.evaluate("recent-test")


def test_slices_by_label_and_category(adult: Bench) -> None:
    found = adult.evaluate("validation")
    slices = {s["slice"]: s for s in found.report.content["slices"]}
    rows = found.outcomes.rows
    assert slices["sex=Male"]["rows"] + slices["sex=Female"]["rows"] == len(rows)
    assert "workclass=(missing)" in slices
    male = np.array([adult.dataset.show(int(row))["sex"] == "Male" for row in rows])
    correct = found.outcomes.probabilities.argmax(axis=1) == found.outcomes.target
    assert slices["sex=Male"]["value"] == pytest.approx(correct[male].mean())
    assert slices["sex=Male"]["low"] < slices["sex=Male"]["value"] < slices["sex=Male"]["high"]
    for code, label in enumerate(adult.dataset.signature.labels):
        recall = found.report.content["per_class"][code]["recall"]["value"]
        assert slices[f"label={label}"]["value"] == pytest.approx(recall)


def test_any_column_can_slice(adult: Bench) -> None:
    adult.store.delete(Report, [r.id for r in adult.store.find(Report, split="reference")])
    slices = adult.evaluate("reference", slices=["age"], latency=False).report.content["slices"]
    quarters = [s for s in slices if s["slice"].startswith("age=")]
    assert len(quarters) == 4 and sum(s["rows"] for s in quarters) == len(adult.dataset.rows("reference"))
    assert not any(s["slice"].startswith("sex=") for s in slices)


def test_a_label_that_the_model_does_not_know_has_probability_zero() -> None:
    p = np.array([[0.25, 0.75]])
    assert align(p, ["b", "a"], ["a", "b", "c"]).tolist() == [[0.75, 0.25, 0.0]]
    assert align(p, ["b", "gone"], ["b"]).tolist() == [[0.25]]


def test_outcomes_go_before_the_gate(digits: Bench) -> None:
    """The first deployment of a real baseline, and then its refusal when it meets itself."""
    outcomes = digits.evaluate("reference").outcomes
    training = digits.dataset.target[digits.dataset.rows("train")]
    prior = np.tile(prior_probabilities(training, 10), (len(outcomes.rows), 1))
    first = Judged(split="reference", keys=outcomes.keys, challenger=outcomes.scores, weights=outcomes.weights,
                   prior=row_scores("accuracy", outcomes.target, prior))  # fmt: skip
    assert judge(first, None, Policy()).outcome == "promoted"
    itself = Judged(split="reference", keys=outcomes.keys, challenger=outcomes.scores, champion=outcomes.scores)
    assert judge(itself, None, Policy()).outcome == "refused"
