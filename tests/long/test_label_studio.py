"""A real Label Studio takes our configurations and tasks, asks our service for pre-annotations, and gives answers back.

Its server lives in an environment of its own, ``benchmarks/.venv-label-studio``, made on first use.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import tidemill
from tidemill.annotation.studio import SUBJECT, results_of
from tidemill.annotation.studio_config import config_of
from tidemill.annotation.widgets import WIDGETS
from tidemill.data.schema import Field, Signature
from tidemill.project import desk, studio
from tidemill.records import Annotation, Feedback, Prediction, QueueItem, new_id
from tidemill.serving.access import INTERVAL

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "console"), str(ROOT / "benchmarks")]

from mill import running  # noqa: E402

from _common import environment  # noqa: E402

pytestmark = pytest.mark.long

TOKEN = "0123456789abcdef0123456789abcdef01234567"
LABELS = ("delivery", "payment")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Label Studio on loopback, with a person in it."""
    python = environment("label-studio", ["label-studio==1.23.2"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = tmp_path_factory.mktemp("label-studio")
    command = [
        str(python.parent / "label-studio"), "start", "--no-browser", "--internal-host", "127.0.0.1",
        "--port", str(port), "--username", "ann@example.org", "--password", "only-for-this-test",
        "--user-token", TOKEN, "--enable-legacy-api-token",
    ]  # fmt: skip
    given = {
        **os.environ,
        "LABEL_STUDIO_BASE_DATA_DIR": str(data),
        "COLLECT_ANALYTICS": "false",
        "SSRF_PROTECTION_ENABLED": "false",  # our service is on this machine, too
        "ML_BLOCK_LOCAL_IP": "false",
    }
    log = (data / "server.log").open("wb")
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=given)
    url = f"http://127.0.0.1:{port}"
    with httpx.Client(base_url=url, headers={"Authorization": f"Token {TOKEN}"}, timeout=60) as client:
        deadline = time.monotonic() + 240
        while True:
            assert process.poll() is None and time.monotonic() < deadline, (data / "server.log").read_text()[-3000:]
            try:
                if client.get("/api/projects/").status_code == 200:
                    break
            except httpx.TransportError:
                pass
            time.sleep(1)
        try:
            yield client
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            log.close()


def project_in(server: httpx.Client, config: str) -> int:
    made = server.post("/api/projects/", json={"title": "tide", "label_config": config})
    assert made.status_code == 201, made.text
    return int(made.json()["id"])


def exported(server: httpx.Client, project: int, path: Path) -> list[dict[str, Any]]:
    answer = server.get(f"/api/projects/{project}/export", params={"exportType": "JSON"})
    assert answer.status_code == 200, answer.text
    path.write_bytes(answer.content)
    found: list[dict[str, Any]] = answer.json()
    return found


@pytest.mark.parametrize("widget", WIDGETS)
def test_it_takes_the_configuration_and_an_answer_of_every_widget(server: httpx.Client, widget: Any) -> None:
    signature = Signature(
        inputs=(Field(name="the text", type="text"), Field(name="n", type="number")), target="y", kind="classification",
        labels=("a", "b & c"),
    )  # fmt: skip
    project = project_in(server, config_of(signature, widget, "Mind the tide"))
    data = {"the_text": "x", "n": 1.5, "left": "one", "right": "other"}
    assert server.post(f"/api/projects/{project}/import", json=[{"data": data}]).status_code == 201
    (task,) = server.get("/api/tasks/", params={"project": project}).json()["tasks"]
    label = {"class": "b & c", "several": ["a", "b & c"], "number": 2.5, "text": "words", "better": "left"}[widget]
    sent = {"result": results_of(widget, label)}
    assert server.post(f"/api/tasks/{task['id']}/annotations/", json=sent).status_code == 201


def grown(folder: Path, **settings: Any) -> tidemill.Project:
    """A small project after a cycle, with a champion and with questions."""
    rows = [
        f"{('late parcel', 'card charged')[i % 2]} {i},{'' if i % 5 == 4 else LABELS[i % 2]}" for i in range(100)
    ]  # fmt: skip
    (folder / "a.csv").write_text("text,topic\n" + "\n".join(rows) + "\n")
    project = tidemill.init(
        folder / "p",
        data=folder / "a.csv",
        target="topic",
        task="text-classification",
        recipes={"include": ["ridge"]},
        **settings,
    )
    project.cycle(max_trials=0, max_epochs=1)
    if project.champion is None:
        project.promote(project.models()[0]["id"], reason="for the test")
    return project


def test_questions_go_there_with_predictions_and_come_back_as_answers(server: httpx.Client, tmp_path: Path) -> None:
    project = grown(tmp_path)
    studio.write_config(project, tmp_path / "label.xml")
    count = studio.export_tasks(project, tmp_path / "tasks.json", 20)["tasks"]
    assert count > 5
    there = project_in(server, (tmp_path / "label.xml").read_text())
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    taken = server.post(f"/api/projects/{there}/import", json=tasks)
    assert taken.status_code == 201 and taken.json()["task_count"] == count, taken.text
    with running(tmp_path / "p") as served:
        token = project.new_token("label-studio", ["label"])["token"]
        time.sleep(3 * INTERVAL)
        assert served.client.get("/v1/label-studio/health").status_code == 401
        backend = {
            "url": f"{served.url}/v1/label-studio", "project": there, "title": "tidemill",
            "auth_method": "BASIC_AUTH", "basic_auth_user": "tidemill", "basic_auth_pass": token,
        }  # fmt: skip
        linked = server.post("/api/ml/", json=backend)
        assert linked.status_code == 201, linked.text
        asked = server.post(
            "/api/dm/actions/",
            params={"id": "retrieve_tasks_predictions", "project": there},
            json={"selectedItems": {"all": True, "excluded": []}},
        )
        assert asked.status_code == 200, asked.text
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            found = server.get("/api/predictions/", params={"project": there}).json()
            told = found if isinstance(found, list) else found["results"]
            if sum(one["model_version"] == project.champion["id"] for one in told if project.champion) >= count:
                break
            time.sleep(1)
        told = [one for one in told if one["result"]]
        assert len({one["task"] for one in told}) == count, told[:3]
    listed = server.get("/api/tasks/", params={"project": there, "page_size": 100}).json()["tasks"]
    for task in listed:
        label = LABELS["card" in task["data"]["text"]]
        sent = {"result": results_of("class", label)}
        assert server.post(f"/api/tasks/{task['id']}/annotations/", json=sent).status_code == 201
    exported(server, there, tmp_path / "export.json")
    done = studio.import_export(project, tmp_path / "export.json", author="me")
    assert done == {"answers": count, "already": 0, "replaced": 0, "skipped": 0, "disputed": 0}
    kept = project.store.find(Annotation, superseded_by=None)
    assert {a.author for a in kept} <= {"ann@example.org", "label-studio 1"} and len(kept) == count
    assert all(a.label in LABELS for a in kept)


def test_questions_that_some_have_answered_go_there(server: httpx.Client, tmp_path: Path) -> None:
    project = grown(tmp_path, annotation={"overlap": 2, "audit_share": 0.0})
    file = tmp_path / "tasks.json"
    studio.write_config(project, tmp_path / "label.xml")
    there = project_in(server, (tmp_path / "label.xml").read_text())

    def sent(**chosen: Any) -> httpx.Response:
        studio.export_tasks(project, file, 200, **chosen)
        return server.post(f"/api/projects/{there}/import", json=json.loads(file.read_text()))

    def comes_back() -> dict[str, Any]:
        exported(server, there, tmp_path / "export.json")
        found: dict[str, Any] = studio.import_export(project, tmp_path / "export.json", author="me")
        return found

    asked = [item for item in project.store.find(QueueItem, done=False) if item.need == 2]
    assert asked, "questions that two people answer"
    desk.answer(project, asked[0].subject, "delivery", author="ann")
    taken = sent()
    assert taken.status_code == 201, taken.text
    assert comes_back()["answers"] == 0  # what was answered here is nobody's over there
    (task,) = [
        t
        for t in server.get("/api/tasks/", params={"project": there, "page_size": 200}).json()["tasks"]
        if t["data"][SUBJECT] == asked[0].subject
    ]
    for label in ("payment", "delivery"):  # twice by one person
        made = {"result": results_of("class", label)}
        assert server.post(f"/api/tasks/{task['id']}/annotations/", json=made).status_code == 201
    for round_ in range(3):
        done = comes_back()
        assert (done["answers"], done["replaced"]) == (int(round_ == 0), 1)
    kept = {a.author: a.label for a in project.store.find(Annotation, subject=asked[0].subject, superseded_by=None)}
    assert set(kept.values()) == {"delivery"} and len(kept) == 2
    desk.answer(project, asked[1].subject, "delivery", author="ann@example.org")
    taken = sent(accounts=True)
    assert taken.status_code == 201, taken.text
    desk.answer(project, asked[2].subject, "delivery", author="nobody@example.org")
    assert "nobody@example.org" in sent(accounts=True).text


@pytest.mark.parametrize("widget", ["text", "better"])
def test_questions_asked_by_hand_go_there_and_come_back(server: httpx.Client, tmp_path: Path, widget: Any) -> None:
    project = grown(tmp_path)
    ids = sorted(new_id("pred") for _ in range(2))
    project.store.insert(
        *(
            Prediction(id=i, deployment="d", model_id="m", key=i, inputs={"text": "late"}, answer={"label": label})
            for i, label in zip(ids, LABELS, strict=True)
        )
    )
    desk.ask(project, ids if widget == "better" else ids[:1], widget=None if widget == "better" else widget)
    studio.write_config(project, tmp_path / "label.xml", widget)
    there = project_in(server, (tmp_path / "label.xml").read_text())
    assert studio.export_tasks(project, tmp_path / "tasks.json", 5, widget=widget)["tasks"] == 1
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    taken = server.post(f"/api/projects/{there}/import", json=tasks)
    assert taken.status_code == 201, taken.text
    (task,) = server.get("/api/tasks/", params={"project": there}).json()["tasks"]
    made = {"result": results_of(widget, "right" if widget == "better" else "words")}
    assert server.post(f"/api/tasks/{task['id']}/annotations/", json=made).status_code == 201
    for answers in (1, 0):
        exported(server, there, tmp_path / "export.json")
        assert studio.import_export(project, tmp_path / "export.json", author="me")["answers"] == answers
    if widget == "better":
        assert project.store.find(Feedback, kind="preference")[0].predictions == (ids[1], ids[0])
    else:
        assert project.store.find(Annotation, subject=ids[0])[0].note == "words"
