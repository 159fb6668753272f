"""The doors of annotators and of Label Studio over a real project: who may, what comes back, what is refused."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from _topics import topics_project
from tidemill.api import Project
from tidemill.records import Annotation, QueueItem, Token, Turn, new_id
from tidemill.serving.app import Application

LABELS = ("delivery", "payment")
CONFIG = (
    '<View><Text name="t" value="$text"/><Choices name="topic" toName="t">'
    '<Choice value="delivery"/><Choice value="payment"/></Choices></View>'
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("api")
    rows = [f"{'late parcel' if i % 2 else 'card charged'} {i},{LABELS[1 - i % 2]}" for i in range(60)]
    made = topics_project(folder, rows)
    if made.champion is None:  # so few rows prove nothing
        made.promote(made.models()[0]["id"], reason="for the test")
    return made


@pytest.fixture
def client(project: Project) -> Iterator[TestClient]:
    for kind in (QueueItem, Turn, Annotation):
        project.store.delete(kind, project.store.ids(kind))
    project.store.insert(
        *(
            QueueItem(
                id=new_id("ask"), subject=f"smp_{i:016x}", purpose="useful", rank=float(i), reason="r",
                inputs={"text": f"t {i}"},
            )
            for i in range(3)
        )
    )  # fmt: skip
    with TestClient(Application(project), base_url="http://127.0.0.1") as opened:
        yield opened


def test_questions_and_answers(client: TestClient, project: Project) -> None:
    told = client.post("/v1/questions", json={"n": 2, "author": "ann"}).json()
    assert told["waiting"] == {"audit": 0, "settle": 0, "useful": 3}
    first, second = told["questions"]
    assert first["widget"] == "class" and first["subject"] == "smp_" + "0" * 16
    (third,) = client.post("/v1/questions", json={"n": 5, "author": "ben"}).json()["questions"]
    answers = [{"subject": one["subject"], "label": "Payment", "note": "n"} for one in (first, second)]
    kept = client.post("/v1/answers", json={"answers": answers, "author": "ann"}).json()["answers"]
    assert [one["label"] for one in kept] == ["payment", "payment"]
    passed = client.post("/v1/answers/pass", json={"question": third["id"], "unsure": True, "author": "ben"})
    assert passed.json()["state"] == "unsure"
    back = client.post("/v1/answers/undo", json={"author": "ann", "subject": second["subject"]}).json()
    assert back["label"] == "payment" and back["question"]["id"] == second["id"]
    told = client.get("/v1/annotation").json()
    assert told["labels"] == list(LABELS) and told["waiting"]["useful"] == 2
    assert [a["answered"] for a in told["authors"]] == [1, 0]


def test_one_faulty_answer_of_several_and_none_is_kept(client: TestClient, project: Project) -> None:
    answers = [
        {"subject": "smp_" + "0" * 16, "label": "payment"},
        {"subject": "smp_" + "0" * 15 + "1", "label": "rain"},
    ]
    refused = client.post("/v1/answers", json={"answers": answers})
    assert refused.status_code == 422 and refused.json()["error"]["where"] == "answers[1]"
    assert not project.store.find(Annotation)
    for body in (b"{", b"\xff$C"):  # no JSON, and no text either
        assert client.post("/v1/answers", content=body, headers={"content-type": "application/json"}).status_code == 422
    assert client.post("/v1/answers", json={"answers": []}).status_code == 422
    unknown = client.post("/v1/answers", json={"answers": [{"subject": "smp_f", "label": "payment"}]})
    assert unknown.status_code == 404
    assert client.post("/v1/questions", json={"purpose": "all"}).status_code == 422
    assert client.post("/v1/answers/undo", json={"author": "nobody"}).status_code == 404


def test_a_token_is_who_answers_and_needs_the_scope(client: TestClient, project: Project) -> None:
    good, bad = (project.new_token(name, [scope]) for name, scope in (("ann", "label"), ("bot", "predict")))
    try:
        deadline = time.monotonic() + 10
        while client.get("/v1/annotation").status_code == 200 and time.monotonic() < deadline:
            time.sleep(0.05)
        body = {"answers": [{"subject": "smp_" + "0" * 16, "label": "payment"}], "author": "somebody else"}
        assert client.post("/v1/answers", json=body).status_code == 401
        mine, others = ({"authorization": f"Bearer {one['token']}"} for one in (good, bad))
        assert client.post("/v1/answers", json=body, headers=others).status_code == 403
        assert client.post("/v1/answers", json=body, headers=mine).status_code == 200
        assert [a.author for a in project.store.find(Annotation)] == ["ann"]
        # Label Studio can show a name and a password only, so the token may be the latter, and there alone.
        health = "/v1/label-studio/health"
        named, wrong, foreign = (("mill", text) for text in (good["token"], good["token"][:-1], bad["token"]))
        assert client.get(health, auth=named).status_code == 200
        assert [client.get(health, auth=one).status_code for one in (wrong, foreign)] == [401, 403]
        assert client.get("/v1/annotation", auth=named).status_code == 401
        assert client.get(health, headers={"authorization": "Basic %%%"}).status_code == 401
    finally:
        project.store.delete(Token, [good["id"], bad["id"]])


def test_label_studio_is_answered_with_what_the_champion_says(client: TestClient) -> None:
    champion = client.get("/v1/label-studio/health").json()["model_class"]
    assert client.post("/v1/label-studio/setup", json={"project": "1.2", "schema": CONFIG}).json() == {
        "model_version": champion
    }
    body: dict[str, Any] = {"tasks": [{"id": 1, "data": {"text": "late parcel"}}], "label_config": CONFIG}
    told = client.post("/v1/label-studio/predict", json=body).json()
    (result,) = told["results"]
    assert result["model_version"] == champion and 0.5 < result["score"] <= 1
    assert result["result"] == [
        {"from_name": "topic", "to_name": "t", "type": "choices", "value": {"choices": ["delivery"]}}
    ]
    assert client.post("/v1/label-studio/webhook", json={"action": "ANNOTATION_CREATED"}).status_code == 200


@pytest.mark.parametrize(
    ("config", "word"),
    [
        (CONFIG.replace("Choices", "RectangleLabels").replace("Choice ", "Label "), "RectangleLabels"),
        ('<View><Text name="t" value="$t"/><Number name="n" toName="t"/></View>', "'number'"),
        ("<View", "no XML"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><View/>', "no labelling configuration"),
    ],
)
def test_projects_that_ask_for_something_else_are_refused_by_name(client: TestClient, config: str, word: str) -> None:
    body = {"tasks": [{"data": {"text": "a"}}], "label_config": config}
    refused = client.post("/v1/label-studio/predict", json=body)
    assert refused.status_code == 422 and word in refused.text.replace("\\u0027", "'")
