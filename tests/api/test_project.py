"""The facade on one small project: every verb, in the order in which people meet them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import tidemill
from tidemill.errors import BusyError, ConflictError, InputError, NotFoundError, NotReadyError, SourceError
from tidemill.records import Cycle, Deployment, Feedback, Prediction
from tidemill.store import new_prediction_id
from tidemill.tasks import get_task
from tidemill.testing.tasks import write_records

TABLE = get_task("tabular-classification")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tidemill.Project]:
    folder = tmp_path_factory.mktemp("facade")
    data = write_records(folder / "data", TABLE.sample_data(0, 600))
    project = tidemill.init(folder / "project", data=data, target="label", recipes={"exclude": []})
    project.cycle(max_trials=1, max_epochs=20, seed=0)
    yield project
    project.store.close()


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[tidemill.Project]:
    data = write_records(tmp_path / "data", TABLE.sample_data(0, 60))
    project = tidemill.init(tmp_path / "project", data=data)
    yield project
    project.store.close()


def predicted(project: tidemill.Project) -> str:
    """A prediction as the service would have journaled it."""
    inputs = {"size": 1.0, "kind": "ebb"}
    prediction = Prediction(
        id=new_prediction_id(project.store.secret),
        deployment="default",
        model_id=project.champion_deployment().model_id,
        key="0123456789abcdef",
        inputs=inputs,
        answer=project.predict(inputs)[0],
    )
    project.store.insert(prediction)
    return prediction.id


def test_the_task_is_inferred_and_the_file_explains_itself(trained: tidemill.Project) -> None:
    text = (trained.dir / "tidemill.yaml").read_text(encoding="utf-8")
    assert trained.config.task == "tabular-classification"
    assert "task: tabular-classification" in text and text.count("#") > 20


def test_a_first_cycle_promotes_the_best_on_validation(trained: tidemill.Project) -> None:
    (cycle,) = trained.cycles()
    assert cycle["status"] == "done" and cycle["decision"]["outcome"] == "promoted"
    assert trained.champion is not None
    offered = {"naive-bayes", "ridge", "lightgbm", "mlp"}
    tried = {m["recipe"]: m["metrics"]["validation"] for m in trained.models() if "validation" in m["metrics"]}
    assert set(tried) == offered and all(set(trained.metrics) <= set(means) for means in tried.values())
    best = max(tried, key=lambda name: tried[name][trained.metrics[-1]])
    refits = [r["recipe"] for r in trained.runs() if r["kind"] == "refit"]
    assert best in refits and trained.model().recipe in refits


def test_status_says_what_to_do_next(trained: tidemill.Project, empty: tidemill.Project) -> None:
    assert trained.status()["champion"]["recipe"] in {"naive-bayes", "ridge", "lightgbm", "mlp"}
    assert any("serve" in step for step in trained.status()["next"])
    assert empty.status()["champion"] is None
    assert empty.status()["next"][0].startswith("tidemill cycle")


def test_predict_takes_one_or_many_and_refuses_strangers(trained: tidemill.Project) -> None:
    assert trained.predict({"size": 2.0, "kind": "flood"})[0]["label"] == "yes"
    assert len(trained.predict([{"size": -2.0, "kind": "ebb"}, {"size": None, "kind": "slack"}])) == 2
    with pytest.raises(InputError, match="size"):
        trained.predict({"siez": 1.0, "kind": "ebb"})


def test_before_the_first_cycle_everything_says_so(empty: tidemill.Project) -> None:
    for verb in (lambda: empty.predict({"size": 1}), empty.gate, empty.report, empty.rollback):
        with pytest.raises(NotReadyError):
            verb()


def test_the_gate_replays_its_decision(trained: tidemill.Project) -> None:
    replayed = trained.gate()
    assert replayed["outcome"] == "promoted" and replayed["replayed"] is True


def test_plan_changes_nothing(empty: tidemill.Project) -> None:
    before = sorted(path for path in empty.dir.rglob("*") if path.is_file() and "store.db" not in path.name)
    planned = empty.plan(budget="1h")
    assert [r["name"] for r in planned["recipes"]] == ["naive-bayes", "ridge", "lightgbm", "mlp"]
    assert planned["recipes"][0]["features"] == ["numbers", "categories"]
    assert all(r["seconds"] > 0 for r in planned["recipes"])
    assert planned["recipes"][2]["trials"] > 1
    assert planned["disk_bytes"] > 0 and planned["memory_bytes"] > 0
    after = sorted(path for path in empty.dir.rglob("*") if path.is_file() and "store.db" not in path.name)
    assert before == after


def test_the_report_is_one_page(trained: tidemill.Project, tmp_path: Path) -> None:
    report = trained.report()
    assert {"validation", "reference"} <= set(report["reports"])
    page = trained.report_html(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<html" in page and not re.search(r"(?:src|href)=.https?:", page)


def test_feedback_is_checked_and_idempotent(trained: tidemill.Project) -> None:
    subject = predicted(trained)
    first = trained.feedback(subject, "yes", author="ann", key="k1")
    again = trained.feedback(subject, "yes", author="ann", key="k1")
    assert (first["status"], again["status"]) == ("accepted", "repeated")
    assert trained.feedback(subject, "no", author="ann", key="k1")["status"] == "conflict"
    with pytest.raises(InputError, match="yes"):
        trained.feedback(subject, "yess", author="ann")
    with pytest.raises(NotFoundError):
        trained.feedback("pred_00000000000000000000000000000000", "yes")


def test_feedback_files_go_both_ways_whole_or_not_at_all(trained: tidemill.Project, tmp_path: Path) -> None:
    subject, count = predicted(trained), trained.store.count(Feedback)
    lines = tmp_path / "in.jsonl"
    good = {"prediction": subject, "kind": "correction", "value": "no", "author": "bob", "key": "f1"}
    lines.write_text(json.dumps(good) + "\n" + json.dumps({**good, "value": "maybe", "key": "f2"}) + "\n")
    with pytest.raises(InputError, match=r"in\.jsonl:2"):
        trained.feedback_import(lines)
    assert trained.store.count(Feedback) == count
    lines.write_text(json.dumps(good) + "\n")
    done = trained.feedback_import(lines)
    assert done == {"accepted": 1, "repeated": 0, "conflict": 0, "refused": 0, "faults": []}
    assert trained.feedback_export(tmp_path / "out.jsonl")["rows"] == count + 1
    assert json.loads((tmp_path / "out.jsonl").read_text().splitlines()[-1])["author"] == "bob"


def test_trace_shows_the_whole_line(trained: tidemill.Project) -> None:
    subject = predicted(trained)
    trained.feedback(subject, "no", author="eve")
    line = trained.trace(subject)
    assert line["feedback"][0]["author"] == "eve"
    assert line["model"]["run"]["recipe"] == line["model"]["record"]["recipe"]
    assert line["model"]["dataset"]["record"]["counts"]["train"] > 0
    assert line["model"]["decisions"][0]["outcome"] == "promoted"
    with pytest.raises(NotFoundError, match="run_"):
        trained.trace("thing_1")


def test_an_export_opens_without_the_project(trained: tidemill.Project, tmp_path: Path) -> None:
    trained.export(None, tmp_path / "package")
    inputs = {"size": 0.3, "kind": "flood"}
    assert tidemill.load(tmp_path / "package").predict([inputs]) == trained.predict(inputs)
    with pytest.raises(ConflictError):
        trained.export(None, tmp_path / "package")


def test_promotion_by_hand_and_rollback(trained: tidemill.Project) -> None:
    champion = trained.champion_deployment().model_id
    other = next(m["id"] for m in trained.models() if m["id"] != champion)
    trained.promote(other, reason="a try", author="ann")
    assert trained.champion_deployment().model_id == other
    trained.rollback()
    assert trained.champion_deployment().model_id == champion
    with pytest.raises(NotReadyError):
        trained.rollback()
    history = trained.store.find(Deployment)
    assert [d.action for d in history] == ["promote", "promote", "rollback"]
    assert history[1].reason == "a try" and history[1].author == "ann"


def test_labelling_comes_first_when_there_are_no_labels(tmp_path: Path) -> None:
    records = [{**r, "label": None} for r in TABLE.sample_data(0, 120)]
    truths = {json.dumps([r["size"], r["kind"]]): r["label"] for r in TABLE.sample_data(0, 120)}
    data = write_records(tmp_path / "data", records)
    project = tidemill.init(tmp_path / "project", data=data, labels=["yes", "no"])
    done = project.cycle(max_trials=1)
    assert done["needs_labels"] and done["decision"] is None
    assert done["questions"]["useful"] > 50 and done["questions"]["audit"] > 10
    for question in project.questions(200):
        inputs = question["inputs"]
        project.answer(question["subject"], truths[json.dumps([inputs["size"], inputs["kind"]])], author="ann")
    done = project.cycle(max_trials=1, max_epochs=20)
    assert done["decision"]["outcome"] in {"promoted", "refused"} and done["candidates"]
    counts = done["dataset"]["counts"]
    assert counts["unlabelled"] == 0 and min(counts["train"], counts["validation"], counts["reference"]) > 0


def test_answers_are_checked(trained: tidemill.Project) -> None:
    with pytest.raises(NotFoundError):
        trained.answer("smp_nobody", "yes", author="ann")
    with pytest.raises(InputError):
        trained.answer(predicted(trained), "perhaps", author="ann")


def test_a_second_cycle_at_once_is_refused(trained: tidemill.Project) -> None:
    with trained.store.lock("cycle"), pytest.raises(BusyError, match=str(os.getpid())):
        trained.cycle(max_trials=1)
    assert len(trained.store.find(Cycle)) == 1


def test_gc_keeps_what_serves(trained: tidemill.Project) -> None:
    champion = trained.champion_deployment().model_id
    dry = trained.gc(dry_run=True)
    assert dry["dry_run"] and not dry["over_quota"]
    trained.gc()
    assert trained.open_champion()[1].predict([{"size": 1.0, "kind": "ebb"}])
    assert any(m["id"] == champion for m in trained.models())


def test_doctor_finds_a_broken_champion(trained: tidemill.Project) -> None:
    assert all(check["ok"] for check in trained.doctor())
    graph = trained.store.root / trained.model().path / "model.onnx"
    whole = graph.read_bytes()
    try:
        graph.write_bytes(whole[: len(whole) // 2])
        faults = [check for check in trained.doctor() if not check["ok"]]
        assert faults[0]["check"] == "champion" and "rollback" in faults[0]["mend"]
    finally:
        graph.write_bytes(whole)


def test_a_missing_target_names_the_nearest(tmp_path: Path) -> None:
    data = write_records(tmp_path / "data", TABLE.sample_data(0, 40))
    with pytest.raises(SourceError, match="'label'"):
        tidemill.init(tmp_path / "project", data=data, target="lable")
    assert not (tmp_path / "project").exists()


def test_there_is_one_project_a_folder(empty: tidemill.Project) -> None:
    with pytest.raises(ConflictError):
        tidemill.init(empty.dir, data="sklearn:iris")
    assert tidemill.open(empty.dir / ".tidemill").dir == empty.dir
    with pytest.raises(NotFoundError):
        tidemill.open("/")
