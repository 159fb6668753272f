"""A line a request when asked for, without tokens or inputs; and nothing when not."""

from __future__ import annotations

import io
import json
import logging
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from small_project import SmallProject, digit, served

from tidemill.records import Feedback, Model, Prediction
from tidemill.serving.logs import MOST_IDS, JsonLines, TextLines, _ids, logged_to
from tidemill.serving.tokens import make_token


@pytest.fixture
def project(tmp_path: Path) -> Any:
    made = SmallProject.create(tmp_path, log="json")
    made.deploy(made.add_model("ridge"))
    with made.store:
        yield made


def test_each_request_leaves_one_line_with_the_ids_that_it_made(
    project: SmallProject, capfd: pytest.CaptureFixture[str]
) -> None:
    token, text = make_token(project.store, "shop", ["predict", "feedback"])
    shown = {"Authorization": f"Bearer {text}", "X-Request-Id": "order-7"}
    secret = "the sea is deep"
    with served(project) as running:
        answers: list[httpx.Response] = []

        def post(path: str, body: Any, headers: dict[str, str] = shown) -> Any:
            answers.append(running.client.post(path, json=body, headers=headers))
            return answers[-1].json()

        made = post("/v1/predict", {"inputs": [digit(row) for row in range(MOST_IDS + 1)], "caller": secret})
        (one,) = post("/v1/predict", {"inputs": digit(0), "key": secret})["predictions"]
        statement = {"prediction": one["id"], "kind": "comment", "value": secret, "author": secret}
        said = post("/v1/feedback", statement)
        both = post("/v1/feedback", {"feedback": [statement, {**statement, "author": "Ada"}]})
        post("/v1/predict", {"inputs": secret}, {**shown, "X-Request-Id": "forged line " * 20 + "."})
        answers.append(running.client.get(f"/v1/trace/x%0Aforged?query={secret}", headers={"Authorization": text}))
    assert [answer.status_code for answer in answers] == [200, 200, 201, 201, 422, 401]
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    requests = [line for line in lines if line["logger"] == "tidemill.requests"]
    assert [line["status"] for line in requests] == [answer.status_code for answer in answers]
    assert [line["request"] for line in requests] == [answer.headers["x-request-id"] for answer in answers]
    assert requests[0]["request"] == "order-7" and requests[4]["request"].startswith("req_")
    ids = [prediction["id"] for prediction in made["predictions"]]
    assert (requests[0]["predictions"], requests[0]["rows"]) == (ids[:MOST_IDS], MOST_IDS + 1)
    assert requests[1]["predictions"] == [one["id"]] and requests[1]["model"] == made["model"]
    assert project.store.get(Prediction, one["id"]).caller is None
    assert requests[2]["feedback"] == [said["feedback"]]
    assert requests[3]["feedback"] == [outcome["feedback"] for outcome in both["feedback"]]
    assert project.store.exists(Feedback, said["feedback"])
    assert {line.get("token") for line in requests[:5]} == {token.id} and "token" not in requests[5]
    assert all(line["ms"] > 0 and line["address"] == "127.0.0.1" for line in requests)
    everything = json.dumps(lines)
    assert text not in everything and secret not in everything and "forged" not in requests[4]["request"]
    assert requests[5]["path"] == "/v1/trace/x\nforged"  # which JSON keeps on one line


def test_a_preflight_leaves_a_line_too(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Its answer is no JSON."""
    project = SmallProject.create(tmp_path, log="json", origins=["https://shop.example"])
    asks = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}
    paths = ["/v1/predict", "/v1/feedback", "/v1/answers"]
    with project.store, served(project) as running:
        assert [running.client.options(path, headers=asks).status_code for path in paths] == [200] * 3
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    requests = [line for line in lines if line["logger"] == "tidemill.requests"]
    assert [(line["method"], line["path"], line["status"]) for line in requests] == [
        ("OPTIONS", path, 200) for path in paths
    ]
    assert not [line for line in lines if line["level"] == "error"]


def test_an_answer_that_cannot_be_read_leaves_a_line_without_ids() -> None:
    assert _ids("POST", "/v1/predict", 200, b"OK") == _ids("POST", "/v1/feedback", 200, b"{}") == {}


def test_an_inference_leaves_its_ids_too(project: SmallProject, capfd: pytest.CaptureFixture[str]) -> None:
    image = {"name": "image", "shape": [2, 8, 8], "datatype": "UINT8", "data": [0] * 128}
    trap = {"id": '","predictions":"pred_forged"}', "inputs": [image], "parameters": {"binary_data_output": True}}
    with served(project) as running:
        answers = [running.client.post("/v2/models/default/infer", json=body) for body in ({"inputs": [image]}, trap)]
    made = [answer.content.split(b'"predictions":"')[-1].split(b'"')[0].decode().split(",") for answer in answers]
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    requests = [line for line in lines if line["logger"] == "tidemill.requests"]
    assert [line["predictions"] for line in requests] == made and [line["rows"] for line in requests] == [2, 2]
    assert {line["model"] for line in requests} == {project.store.find(Model)[0].id}


def test_a_fault_is_one_line_with_its_traceback(
    project: SmallProject, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    with served(project) as running:
        monkeypatch.setattr("tidemill.serving.hot.parse_predict", broken)
        fault = running.client.post("/v1/predict", json={}).json()["error"]["where"]
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    (told,) = [line for line in lines if fault in line["message"]]
    assert told["level"] == "error" and "ZeroDivisionError" in told["error"]
    (request,) = [line for line in lines if line["logger"] == "tidemill.requests"]
    assert (request["status"], request["level"]) == (500, "warning")


def test_nothing_is_said_unless_it_is_asked_for(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    project = SmallProject.create(tmp_path)
    with project.store, served(project) as running:
        answer = running.client.get("/v1/models", headers={"X-Request-Id": "order-7"})
        running.client.get("/nothing")
        assert "x-request-id" not in answer.headers
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")


def test_only_a_proxy_that_is_named_is_believed(project: SmallProject, capfd: pytest.CaptureFixture[str]) -> None:
    said = {"X-Forwarded-For": "198.51.100.1, 203.0.113.9"}
    for proxies in ((), ("192.0.2.1",), ("127.0.0.1",), ("127.0.0.1", "203.0.113.9")):
        serve = project.config.serve.model_copy(update={"proxies": proxies})
        config = project.config.model_copy(update={"serve": serve})
        with served(SmallProject(project.dir, config, project.store)) as running:
            running.client.get("/healthz", headers=said)
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    seen = [line["address"] for line in lines if line["logger"] == "tidemill.requests"]
    assert seen == ["127.0.0.1", "127.0.0.1", "203.0.113.9", "198.51.100.1"]


def record(message: str, **fields: Any) -> logging.LogRecord:
    made = logging.LogRecord("tidemill.requests", logging.INFO, __file__, 1, message, None, None)
    made.fields = fields
    return made


def test_text_keeps_a_line_a_line_and_shows_what_would_steer_a_terminal() -> None:
    line = TextLines().format(record("request", path="/a\x1b[31m\nb", status=200, predictions=["pred_1", "pred_2"]))
    assert "\n" not in line and "\x1b" not in line
    assert line.endswith(r"request path='/a\x1b[31m\nb' status=200 predictions=pred_1,pred_2")
    assert json.loads(JsonLines().format(record("request", path="/潮\n")))["path"] == "/潮\n"


def test_a_reader_that_stands_still_holds_up_nothing() -> None:
    blocked, release = threading.Event(), threading.Event()

    class Still(io.StringIO):
        def write(self, text: str) -> int:
            blocked.set()
            assert release.wait(30)
            return super().write(text)

    stream = Still()
    with logged_to(stream, "text"):
        logger = logging.getLogger("tidemill.requests")
        for _ in range(20_000):
            logger.info("request")  # twice as many as are kept
        assert blocked.wait(30)
        release.set()
    assert 10_000 <= stream.getvalue().count("request") < 20_000
    assert not logging.getLogger("tidemill").handlers
