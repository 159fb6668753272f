"""What every task must do: go round the whole loop on its own sample data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tidemill.api import Project, init
from tidemill.data.schema import Signature
from tidemill.data.sources import open_source
from tidemill.packages import read_manifest
from tidemill.records import Feedback, Model, Prediction, new_id
from tidemill.runtime import load
from tidemill.tasks import Task, get_task


class TaskConformance:
    """Subclass it as ``Test…`` with ``task_name``, and ``files`` for a task in a file of your own.

    Attributes:
        task_name: the task under test.
        files: Python files that define it, when it is not part of Tidemill.
        target: the target column of its sample data.
        rows: how many rows a project gets; more where little is learned from each.
    """

    task_name: ClassVar[str]
    files: ClassVar[Sequence[Path]] = ()
    target: ClassVar[str] = "label"
    rows: ClassVar[int] = 400

    @property
    def task(self) -> Task:
        """The task under test."""
        return get_task(self.task_name, self.files)

    def project(self, folder: Path, rows: int | None = None) -> Project:
        """A project on the task's sample data."""
        folder.mkdir(parents=True, exist_ok=True)
        data = write_records(folder / "data", self.task.sample_data(0, rows or self.rows))
        return init(
            folder / "project",
            data=data,
            target=self.target,
            task=self.task_name,
            tasks=[str(file.resolve()) for file in self.files],
        )

    def test_it_has_a_name_a_summary_and_a_metric(self) -> None:
        """The words by which people and programs find it."""
        assert self.task.name == self.task_name
        assert self.task.summary and not self.task.summary.endswith(".")
        assert self.task.metric

    def test_sample_data_is_seeded(self) -> None:
        """The same seed gives the same records, another seed gives others."""
        first, again, other = (self.task.sample_data(seed, 40) for seed in (1, 1, 2))
        assert json.dumps(first) == json.dumps(again)
        assert json.dumps(first) != json.dumps(other)
        assert len(first) == 40 and all(self.target in record for record in first)

    def test_it_claims_its_own_sample_data(self, tmp_path: Path) -> None:
        """``init`` without ``--task`` can infer it, and says why."""
        source = open_source(write_records(tmp_path / "data", self.task.sample_data(0)))
        claim = self.task.claim(source.summary(), self.target)
        assert claim is not None
        assert 0 < claim.confidence <= 1 and claim.reason

    def test_baselines_come_first(self, tmp_path: Path) -> None:
        """At least one recipe is a baseline, and none stands behind a deeper one."""
        source = open_source(write_records(tmp_path / "data", self.task.sample_data(0)))
        labels = sorted({label for record in self.task.sample_data(0) for label in _labels(record[self.target])})
        flags = [r.baseline for r in self.task.recipes(self.task.signature(source.summary(), self.target, labels))]
        assert flags[0] and flags == sorted(flags, reverse=True)

    def test_the_whole_loop(self, tmp_path: Path) -> None:
        """A cycle promotes a model; it answers; what is said of its answers reaches the next cycle's data."""
        project = self.project(tmp_path)
        first = project.cycle(max_trials=1, max_epochs=3, seed=0)
        assert first["decision"]["outcome"] == "promoted", first["decision"]["reason"]
        records = [dict(record) for record in self.task.sample_data(7, 60)]
        truths = [record.pop(self.target) for record in records]
        asked = _asked(project.signature, records)
        answers = project.predict(asked)
        assert _quality(project.signature, answers, truths, records) > 0.2, "hardly better than knowing nothing"
        if project.signature.kind == "choice":
            self._rewards_become_labels(project, asked, answers)
        else:
            self._corrections_become_labels(project, asked, truths, answers)
        project.cycle(max_trials=1, max_epochs=3, seed=0)
        assert project.report()["reports"]["reference"]["metrics"]

    def test_its_package_stands_alone(self, tmp_path: Path) -> None:
        """The exported package answers the same with neither project nor task."""
        project = self.project(tmp_path)
        project.cycle(max_trials=1, max_epochs=1, seed=0)
        project.export(None, tmp_path / "package")
        records = _asked(project.signature, self.task.sample_data(3, 20))
        assert load(tmp_path / "package", threads=1).predict(records) == project.predict(records)
        model = project.store.get(Model, project.champion["id"]) if project.champion else None
        assert model is not None and read_manifest(tmp_path / "package").id == model.id

    def _corrections_become_labels(
        self, project: Project, records: list[dict[str, Any]], truths: list[Any], answers: list[Any]
    ) -> None:
        prediction = Prediction(
            id="pred_check",
            deployment="default",
            model_id="model_check",
            key="0" * 16,
            inputs=records[0],
            answer=answers[0],
        )
        confirmed = Feedback(id=new_id("fb"), subject=prediction.id, kind="confirmation", key="a")
        corrected = Feedback(id=new_id("fb"), subject=prediction.id, kind="correction", value=truths[0], key="b")
        comment = Feedback(id=new_id("fb"), subject=prediction.id, kind="comment", value="hm", key="c")
        assert project.task.label(confirmed, prediction) == _stated(answers[0])
        assert project.task.label(corrected, prediction) == truths[0]
        assert project.task.label(comment, prediction) is None

    def _rewards_become_labels(
        self, project: Project, records: list[dict[str, Any]], answers: list[dict[str, Any]]
    ) -> None:
        prediction = Prediction(
            id="pred_check",
            deployment="default",
            model_id="model_check",
            key="0" * 16,
            inputs=records[0],
            answer=answers[0],
        )
        rewarded = Feedback(id=new_id("fb"), subject=prediction.id, kind="reward", value=0.5, key="a")
        confirmed = Feedback(id=new_id("fb"), subject=prediction.id, kind="confirmation", key="b")
        assert project.task.label(rewarded, prediction) == 0.5
        assert project.task.label(confirmed, prediction) is None
        for answer in answers:
            shares = answer["propensities"]
            assert abs(sum(shares.values()) - 1) < 1e-9 and min(shares.values()) > 0
            assert answer["propensity"] == shares[answer["action"]]


def _asked(signature: Signature, records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What a caller may send of each record."""
    names = {field.name for field in signature.asked}
    return [{name: value for name, value in record.items() if name in names} for record in records]


def _labels(stated: Any) -> list[str]:
    return [str(label) for label in stated] if isinstance(stated, list) else [str(stated)]


def _stated(answer: Mapping[str, Any]) -> Any:
    """What an answer says, as a label would be stated."""
    if "labels" in answer:
        return sorted(answer["labels"])
    return answer["value"] if "value" in answer else answer["label"]


def _quality(
    signature: Signature,
    answers: Sequence[Mapping[str, Any]],
    truths: Sequence[Any],
    records: Sequence[Mapping[str, Any]],
) -> float:
    """0 for what can be said without the inputs, 1 when every answer is right.

    Of choices: 0 for what the logged ones earned, 1 for the greatest reward, by those that are chosen alike.
    """
    if signature.kind == "choice":
        alike = [
            truth
            for answer, truth, record in zip(answers, truths, records, strict=True)
            if answer["action"] == record["action"]
        ]
        usual = float(np.mean(truths))
        return (float(np.mean(alike)) - usual) / (float(max(truths)) - usual)
    said = [_stated(answer) for answer in answers]
    if signature.kind == "regression":
        values = np.array(truths, np.float64)
        return float(1 - np.square(np.array(said) - values).mean() / values.var())
    if signature.kind == "multilabel":
        right = [
            (label in given) == (label in truth)
            for given, truth in zip(said, truths, strict=True)
            for label in signature.labels
        ]
        shares = [np.mean([label in truth for truth in truths]) for label in signature.labels]
        known = float(np.mean([max(share, 1 - share) for share in shares]))
    else:
        right = [given == str(truth) for given, truth in zip(said, truths, strict=True)]
        known = 1 / len(signature.labels)
    return (float(np.mean(right)) - known) / (1 - known)


def write_records(path: Path, records: Sequence[Mapping[str, Any]]) -> Path:
    """Records as a file that a source reads: ``.npz`` when a value is an array of numbers, JSONL otherwise."""
    if any(isinstance(value, list) and value and isinstance(value[0], list) for value in records[0].values()):
        file = path.with_suffix(".npz")
        arrays: dict[str, Any] = {k: _array([r[k] for r in records]) for k in records[0]}
        np.savez(file, **arrays)
        return file
    file = path.with_suffix(".jsonl")
    file.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return file


def _array(values: list[Any]) -> np.ndarray[Any, np.dtype[Any]]:
    if isinstance(values[0], list) and not any(isinstance(part, list) for value in values for part in value):
        values = ["|".join(value) or "|" for value in values]  # several labels a row; the bar alone says none
    array: np.ndarray[Any, np.dtype[Any]] = np.array(values)
    return array.astype(np.uint8) if array.ndim > 1 else array
