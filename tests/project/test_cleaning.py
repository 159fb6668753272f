"""gc removes what nothing needs, and never what labels are settled from."""

from __future__ import annotations

import time

import pyarrow.parquet as pq
import pytest

import tidemill
from tidemill.data.settled import settled_labels
from tidemill.errors import StoreError
from tidemill.project import cleaning
from tidemill.records import Dataset, Feedback, Model, Prediction
from tidemill.store import new_prediction_id
from tidemill.tasks import get_task
from tidemill.testing.tasks import write_records

YEAR = 365 * 86_400


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> tidemill.Project:
    folder = tmp_path_factory.mktemp("gc")
    data = write_records(folder / "data", get_task("tabular-classification").sample_data(0, 600))
    project = tidemill.init(folder / "project", data=data, keep={"models": 1}, recipes={"exclude": ["lightgbm"]})
    project.cycle(max_trials=1)
    project.cycle(max_trials=1)
    return project


def predicted(project: tidemill.Project, age: float) -> Prediction:
    prediction = Prediction(
        id=new_prediction_id(project.store.secret),
        created=time.time() - age,
        deployment="default",
        model_id=project.champion_deployment().model_id,
        key=f"{int(age):016x}",
        inputs={"size": 1.0, "kind": "ebb"},
        answer={"label": "yes"},
    )
    project.store.insert(prediction)
    return prediction


def test_old_predictions_age_into_parquet_but_not_those_somebody_spoke_of(project: tidemill.Project) -> None:
    silent, spoken, young = predicted(project, YEAR), predicted(project, YEAR + 1), predicted(project, 1)
    project.feedback(spoken.id, "no", author="ann")
    assert project.gc()["predictions"] == 1
    assert {p.id for p in project.store.find(Prediction)} == {spoken.id, young.id}
    (archive,) = (project.store.root / "archive").glob("*.parquet")
    (row,) = pq.read_table(archive).to_pylist()
    assert row["id"] == silent.id and row["inputs"] == '{"size":1.0,"kind":"ebb"}'
    assert [s.label for s in settled_labels(project.store, project.task.label).live] == ["no"]


def test_models_that_serve_or_served_stay(project: tidemill.Project) -> None:
    served = project.champion_deployment().model_id
    before = {m.id for m in project.store.find(Model) if (project.store.root / m.path).is_dir()}
    dry = project.gc(dry_run=True)
    assert before == {m.id for m in project.store.find(Model) if (project.store.root / m.path).is_dir()}
    done = project.gc()
    assert done["removed"] == dry["removed"] and done["bytes"] == dry["bytes"]
    left = {m.id for m in project.store.find(Model) if (project.store.root / m.path).is_dir()}
    assert served in left and len(left) <= 2
    assert project.predict({"size": 1.0, "kind": "ebb"})
    assert project.cycle(max_trials=1)["candidates"]


def test_the_data_that_the_champion_was_trained_on_stay(
    project: tidemill.Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleaning, "VERSIONS", 0)
    dataset = project.store.get(Dataset, str(project.model().dataset_id))
    removed = project.gc(dry_run=True)["removed"]
    assert removed and dataset.path not in removed
    monkeypatch.setattr(type(project.store), "champion", lambda _store: None)
    assert dataset.path in project.gc(dry_run=True)["removed"]


def test_a_project_over_its_quota_says_so_before_it_works(project: tidemill.Project) -> None:
    tight = replace_limits(project, quota_gb=1e-6)
    with pytest.raises(StoreError, match="tidemill gc"):
        tight.cycle()
    assert tight.gc(dry_run=True)["over_quota"]


def replace_limits(project: tidemill.Project, **limits: float) -> tidemill.Project:
    opened = tidemill.open(project.dir)
    opened.config = opened.config.model_copy(update={"limits": opened.config.limits.model_copy(update=limits)})
    return opened


def test_feedback_is_never_collected(project: tidemill.Project) -> None:
    before = project.store.count(Feedback)
    project.gc()
    assert project.store.count(Feedback) == before > 0
