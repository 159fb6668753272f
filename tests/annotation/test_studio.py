"""Label Studio's JSON both ways, its configurations, and real exports of it, most of which are refused by name."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import tidemill
from _topics import topics_project
from tidemill.annotation.agreement import cohen, fleiss, krippendorff
from tidemill.annotation.studio import annotations_of, guess_of, label_of, results_of, task_of
from tidemill.annotation.studio_config import config_of, read_config
from tidemill.annotation.widgets import WIDGETS, Widget
from tidemill.api import Project
from tidemill.data.schema import Field, Signature
from tidemill.errors import InputError, NotFoundError
from tidemill.project import desk, studio
from tidemill.records import Annotation, Feedback, Prediction, QueueItem, new_id

ROOT = Path(__file__).resolve().parents[2]
EXPORTS = Path(os.environ.get("TIDEMILL_TEST_DATA", ROOT.parent / "shared" / "data")) / "label-studio-exports"
LABELS: dict[str, Any] = {"class": "a", "several": ["a", "b"], "number": 2.5, "text": "words", "better": "left"}


@pytest.mark.parametrize("widget", WIDGETS)
def test_every_widget_goes_there_and_back(widget: Widget) -> None:
    label = LABELS[widget]
    assert label_of(widget, results_of(widget, label), "here") == label
    signature = Signature(
        inputs=(Field(name="a b", type="text"), Field(name="n", type="number")), target="y", kind="classification",
        labels=("a", "b", "<b>&"),
    )  # fmt: skip
    text = config_of(signature, widget, "Mind <this>")
    found = read_config(text, "config")
    assert found[0] == widget and (found[2] == list(signature.labels)) == (widget in ("class", "several"))


def test_no_label_at_all_is_an_answer_where_several_may_be_right() -> None:
    assert label_of("several", results_of("several", []), "here") == []
    with pytest.raises(InputError, match="no answer"):
        label_of("class", [], "here")


def real(name: str) -> Any:
    if not EXPORTS.is_dir():
        pytest.skip("there are no exports of Label Studio")
    return json.loads((EXPORTS / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("test_export_yolo/data.json", "'rectanglelabels'"),
        ("test_export_yolo/data_obb.json", "'rectanglelabels'"),
        ("test_export_yolo/data_polygons.json", "'polygonlabels'"),
        ("test_export_json_min/data.json", "'polygonlabels'"),
        ("test_export_json_min/data_repeater.json", "'rectanglelabels'"),
    ],
)
def test_real_exports_of_boxes_and_polygons_are_refused_by_name(name: str, word: str) -> None:
    found = list(annotations_of(real(name), name))
    assert found
    for where, _, annotation in found:
        if annotation["result"]:
            with pytest.raises(InputError, match=word):
                label_of("class", annotation["result"], where)


def test_a_real_export_of_choices_is_read() -> None:
    (found,) = annotations_of(real("test_export_csv/csv_test2.json"), "csv_test2.json")
    where, task, annotation = found
    assert where == "csv_test2.json, task 4, annotation 9" and task["data"]
    assert label_of("class", annotation["result"], where) == 'Yes " "" \n \t \t а б в \n'


@pytest.mark.parametrize("name", ["label_config.xml", "label_config_obb.xml", "label_config_polygons.xml"])
def test_real_configurations_of_boxes_are_refused_by_their_tag(name: str) -> None:
    if not EXPORTS.is_dir():
        pytest.skip("there are no exports of Label Studio")
    text = (EXPORTS / "test_export_yolo" / name).read_text(encoding="utf-8")
    with pytest.raises(InputError, match=r"<(Rectangle|Polygon)Labels> is not supported yet"):
        read_config(text, name)


@pytest.mark.parametrize(
    ("tasks", "word"),
    [
        ({"a": 1}, "no list of tasks"),
        ([1], "no data"),
        ([{"data": {}, "annotations": 1}], "no list"),
        ([{"data": {}, "annotations": [{"result": None}]}], "no results"),
    ],
)
def test_what_is_no_export_is_told_by_its_place(tasks: Any, word: str) -> None:
    with pytest.raises(InputError, match=word):
        list(annotations_of(tasks, "a.json"))


def test_skipped_annotations_state_nothing_and_audits_suggest_nothing() -> None:
    assert not list(annotations_of([{"data": {}, "annotations": [{"result": [], "was_cancelled": True}]}], "a"))
    task = task_of("smp_1", {"a b": "x"}, "class", suggestion={"label": "a", "score": 0.7}, model="model_1")
    assert task["data"] == {"a_b": "x", "tidemill_subject": "smp_1"} and task["predictions"][0]["score"] == 0.7
    assert task_of("smp_1", {}, "class")["predictions"] == [] and guess_of("class", {"label": None}) is None


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studio")
    labels = ("delivery", "payment")
    rows = [f"{('late parcel', 'card charged')[i % 2]} {i},{'' if i % 5 == 4 else labels[i % 2]}" for i in range(80)]
    topics_project(folder, rows).store.close()
    return folder / "p"


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Project:
    shutil.copytree(made, tmp_path / "p")
    return tidemill.open(tmp_path / "p")


def answered(tasks: list[dict[str, Any]], choice: str = "delivery") -> list[dict[str, Any]]:
    """The tasks as Label Studio exports them when somebody has answered all."""
    result = [{"from_name": "label", "to_name": "input", "type": "choices", "value": {"choices": [choice]}}]
    made = {"completed_by": {"id": 1, "email": "ann@example.org"}, "was_cancelled": False, "result": result}
    return [{**task, "id": i, "annotations": [{"id": 10 + i, **made}]} for i, task in enumerate(tasks)]


def test_questions_go_there_and_come_back_once(project: Project, tmp_path: Path) -> None:
    out, back = tmp_path / "tasks.json", tmp_path / "export.json"
    count = studio.export_tasks(project, out, 50)["tasks"]
    tasks = json.loads(out.read_text())
    assert count == len(tasks) > 5
    back.write_text(json.dumps(answered(tasks)))
    done = studio.import_export(project, back, author="me")
    assert done == {"answers": count, "already": 0, "replaced": 0, "skipped": 0, "disputed": 0}
    assert {a.author for a in project.store.find(Annotation)} == {"ann@example.org"}
    assert studio.import_export(project, back, author="me")["already"] == count
    # Tasks of one's own are found by their content; what Ben says otherwise is settled by somebody else.
    plain = [{**task, "data": {"text": task["data"]["text"]}} for task in tasks]
    mine = answered(plain, "payment")
    for task in mine:
        task["annotations"][0]["completed_by"] = 7
    back.write_text(json.dumps(mine))
    assert studio.import_export(project, back, author="me")["disputed"] == count


@pytest.mark.parametrize(
    ("change", "error", "word"),
    [
        (lambda t: t[1]["data"].update(tidemill_subject="smp_" + "f" * 16), NotFoundError, "nobody asked"),
        (lambda t: t[1].update(data={"text": "never seen"}), NotFoundError, "no question"),
        (lambda t: t[1].update(data={"body": "x"}), InputError, "carries no subject"),
        (lambda t: t[1]["annotations"][0]["result"][0]["value"].update(choices=["rain"]), InputError, "rain"),
        (lambda t: t[1]["annotations"][0]["result"][0].update(type="taxonomy"), InputError, "'taxonomy'"),
        (lambda t: t[1]["annotations"][0]["result"][0]["value"].update(start=1), InputError, "part of the sample"),
    ],
)
def test_one_faulty_task_and_none_is_taken(
    project: Project, tmp_path: Path, change: Any, error: type[Exception], word: str
) -> None:
    out = tmp_path / "tasks.json"
    studio.export_tasks(project, out, 5)
    tasks = json.loads(json.dumps(answered(json.loads(out.read_text()))))
    change(tasks)
    out.write_text(json.dumps(tasks))
    with pytest.raises(error, match=word):
        studio.import_export(project, out, author="me")
    assert not project.store.find(Annotation)


def test_broken_json_and_no_file(project: Project, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[{")
    with pytest.raises(InputError, match="no JSON"):
        studio.import_export(project, tmp_path / "a.json", author="me")
    (tmp_path / "a.json").write_bytes(b"\xff\xfe[")
    with pytest.raises(InputError, match="UTF-8"):
        studio.import_export(project, tmp_path / "a.json", author="me")
    with pytest.raises(NotFoundError):
        studio.import_export(project, tmp_path / "none.json", author="me")


def one_answer(choice: str, moment: int, email: str = "ann@example.org") -> dict[str, Any]:
    """An annotation, last changed so many minutes after ten o'clock."""
    return {
        "id": moment,
        "completed_by": {"id": 1, "email": email},
        "was_cancelled": False,
        "updated_at": f"2024-01-01T10:{moment:02}:00.000000Z",
        "result": results_of("class", choice),
    }


def asked_of_many(project: Project, file: Path) -> dict[str, Any]:
    """The first task of an export, whose question goes on to wait however many answer it."""
    studio.export_tasks(project, file, 1, "useful")
    task: dict[str, Any] = json.loads(file.read_text())[0]
    (question,) = project.store.find(QueueItem, subject=task["data"]["tidemill_subject"])
    project.store.update(dataclasses.replace(question, need=9, rank=-1.0, purpose="useful"))
    return task


def labels_of(project: Project, subject: str) -> dict[str, Any]:
    return {a.author: a.label for a in project.store.find(Annotation, subject=subject, superseded_by=None)}


def test_what_was_imported_once_is_not_said_again(project: Project, tmp_path: Path) -> None:
    file = tmp_path / "tasks.json"
    task = asked_of_many(project, file)
    subject, ann = task["data"]["tidemill_subject"], "ann@example.org"

    def imported(*annotations: dict[str, Any]) -> dict[str, Any]:
        file.write_text(json.dumps([{**task, "annotations": annotations}]))
        found: dict[str, Any] = studio.import_export(project, file, author="me")
        return found

    both = one_answer("payment", 9), one_answer("delivery", 3)  # the newest stands first, as Label Studio lists them
    assert imported(*both) == {"answers": 1, "already": 0, "replaced": 1, "skipped": 0, "disputed": 0}
    for _ in range(2):
        assert imported(*both)["already"] == 1 and labels_of(project, subject) == {ann: "payment"}

    desk.answer(project, subject, "delivery", author=ann)  # corrected here, and the export still holds it
    assert imported(*both)["already"] == 1 and labels_of(project, subject) == {ann: "delivery"}
    desk.undo(project, author=ann)
    assert imported(*both)["already"] == 1 and labels_of(project, subject) == {ann: None}

    again = one_answer("payment", 9) | {"updated_at": "2999-01-01T00:00:00Z"}  # said again over there, after all that
    assert imported(again)["answers"] == 1 and labels_of(project, subject) == {ann: "payment"}
    assert imported(again, one_answer("delivery", 5, "ben@example.org"))["answers"] == 1
    assert labels_of(project, subject) == {ann: "payment", "ben@example.org": "delivery"}


def test_who_has_no_account_over_there_is_named_in_the_data_alone(project: Project, tmp_path: Path) -> None:
    file = tmp_path / "tasks.json"
    subject = asked_of_many(project, file)["data"]["tidemill_subject"]
    desk.answer(project, subject, "delivery", author="ann")
    desk.answer(project, subject, "delivery", author="ben@example.org")
    said = [{"author": who, "answer": "delivery"} for who in ("ann", "ben@example.org")]
    for accounts, named in ((False, []), (True, ["ben@example.org"])):
        studio.export_tasks(project, file, 1, "useful", accounts=accounts)
        (task,) = json.loads(file.read_text())
        assert task["data"]["tidemill_subject"] == subject and task["data"]["tidemill_answers"] == said
        assert [a["completed_by"]["email"] for a in task["annotations"]] == named
        assert studio.import_export(project, file, author="me")["already"] == len(named)


@pytest.mark.parametrize(("widget", "said"), [("better", "right"), ("text", "It is about\nmoney.")])
def test_questions_asked_by_hand_go_there_and_come_back(
    project: Project, tmp_path: Path, widget: Widget, said: str
) -> None:
    store, file = project.store, tmp_path / "tasks.json"
    ids = sorted(new_id("pred") for _ in range(2))
    answers = ({"label": "delivery"}, {"label": "payment"})
    store.insert(
        *(
            Prediction(id=i, deployment="d", model_id="m", key=i, inputs={"text": "late"}, answer=answer)
            for i, answer in zip(ids, answers, strict=True)
        )
    )
    subject = desk.ask(project, ids if widget == "better" else ids[:1], widget=None if widget == "better" else "text")
    plain = studio.export_tasks(project, file, 3)
    assert plain["widget"] == "class" and plain["tasks"] == 3 and plain["others"] == {widget: 1}  # no fewer than asked
    done = studio.export_tasks(project, file, 3, widget=widget)
    assert done["tasks"] == 1 and done["others"]["class"] > 3
    (task,) = json.loads(file.read_text())
    sides = {"left": "delivery", "right": "payment"} if widget == "better" else {}
    assert task["data"] == {"text": "late", "tidemill_subject": subject["subject"], **sides}
    assert studio.write_config(project, tmp_path / "label.xml", widget)["widget"] == widget
    config = (tmp_path / "label.xml").read_text()
    assert read_config(config, "label.xml")[0] == widget
    assert all(f"${name}" in config for name in ("text", *sides))

    annotation = {"id": 4, "completed_by": 1, "was_cancelled": False, "result": results_of(widget, said)}
    file.write_text(json.dumps([{**task, "annotations": [annotation]}]))
    for answered_now in (1, 0):
        assert studio.import_export(project, file, author="me")["answers"] == answered_now
    if widget == "better":
        (kept,) = store.find(Feedback, kind="preference")
        assert kept.predictions == (ids[1], ids[0]) and kept.author == "label-studio 1"
    else:
        assert [a.note for a in store.find(Annotation, subject=ids[0])] == [said]
    store.update(dataclasses.replace(store.find(QueueItem, subject=subject["subject"])[0], done=False))
    studio.export_tasks(project, file, 3, widget=widget)
    (task,) = json.loads(file.read_text())
    assert task["data"]["tidemill_answers"] == [{"author": "label-studio 1", "answer": said}]


def test_a_widget_that_the_project_does_not_ask_with_is_refused(project: Project, tmp_path: Path) -> None:
    for refused in (studio.write_config, lambda p, path, w: studio.export_tasks(p, path, 3, widget=w)):
        with pytest.raises(InputError, match="answered by 'number'"):
            refused(project, tmp_path / "a", "number")
    assert not (tmp_path / "a").exists()


def test_agreement_of_nobody_and_of_those_who_always_say_the_same() -> None:
    alike = {str(i): {"ann": "a", "ben": "a"} for i in range(3)}
    for found in (cohen(alike, "ann", "ben"), fleiss(alike), krippendorff(alike)):
        assert found is None
    assert cohen({}, "ann", "ben") is None and fleiss({}) is None and krippendorff({"1": {"ann": "a"}}) is None
    full = {str(i): {"ann": i % 2, "ben": i % 2, "cem": i % 2} for i in range(6)}
    assert cohen(full, "ann", "ben") == fleiss(full) == krippendorff(full) == krippendorff(full, "interval") == 1.0
