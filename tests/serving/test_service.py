"""The service as its callers see it: good requests, bad requests, and what the store holds afterwards."""

from __future__ import annotations

import base64
import io
import json
import socket
import threading
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from small_project import Served, SmallProject, digit, digits, served

from tidemill.errors import BusyError, ConfigError
from tidemill.records import Feedback, LiveKey, Model, Prediction
from tidemill.serving.server import listen, serve
from tidemill.store import audit_draw


def predict(service: Served, *rows: int, **fields: Any) -> list[dict[str, Any]]:
    answer = service.client.post("/v1/predict", json={"inputs": [digit(row) for row in rows], **fields})
    assert answer.status_code == 200, answer.text
    predictions: list[dict[str, Any]] = answer.json()["predictions"]
    return predictions


def say(service: Served, body: Any, **headers: str) -> httpx.Response:
    return service.client.post("/v1/feedback", json=body, headers=headers)


def check_error(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"code", "what", "where", "mend"}
    assert error["what"]
    assert error["mend"]
    assert "Traceback" not in answer.text
    return error


def test_predictions_are_right_and_leave_their_record(service: Served) -> None:
    rows = range(1500, 1540)
    body = {"inputs": [digit(row) for row in rows], "caller": "harbour"}
    answer = service.client.post("/v1/predict", json=body).json()
    champion = service.project.store.champion()
    assert champion is not None
    assert (answer["model"], answer["deployment"]) == (champion.model_id, champion.id)
    given = answer["predictions"]
    right = [p["label"] == str(digits()[1][row]) for p, row in zip(given, rows, strict=True)]
    assert np.mean(right) > 0.7
    assert all(sum(p["scores"].values()) == pytest.approx(1, abs=1e-4) for p in given)

    trace = service.client.get(f"/v1/trace/{given[3]['id']}").json()  # folds the journal first
    stored = trace["prediction"]
    assert stored["inputs"] == digit(1503)
    assert stored["caller"] == "harbour"
    assert stored["answer"] == {k: v for k, v in given[3].items() if k not in ("id", "audit")}


def test_the_audit_draw_is_keyed_by_content_and_its_probability_is_stored(service: Served) -> None:
    rows = list(range(40))
    first, again = predict(service, *rows), predict(service, *rows)
    drawn = [p["audit"] for p in first]
    assert drawn == [p["audit"] for p in again]
    assert 0 < sum(drawn) < len(drawn)
    service.client.get(f"/v1/trace/{again[-1]['id']}")
    store = service.project.store
    predictions = [store.get(Prediction, p["id"]) for p in first]
    assert [p.audited for p in predictions] == drawn
    assert {p.audit_probability for p in predictions} == {0.3}
    for prediction in predictions:
        (live,) = store.find(LiveKey, key=prediction.key)
        assert live.split.startswith("recent") == prediction.audited
        assert prediction.audited == audit_draw(store.secret, 0, prediction.key, 0.3)


def test_a_callers_own_key_decides_the_draw_for_all_its_rows(service: Served) -> None:
    given = predict(service, 1, 2, 3, key="patient 7")
    assert len({p["audit"] for p in given}) == 1
    service.client.get(f"/v1/trace/{given[2]['id']}")
    keys = {service.project.store.get(Prediction, p["id"]).key for p in given}
    assert len(keys) == 1
    assert len(keys.pop()) == 16


def test_one_row_may_stand_alone_and_images_may_come_as_files(service: Served) -> None:
    alone = service.client.post("/v1/predict", json={"inputs": digit(5)}).json()["predictions"]
    file = io.BytesIO()
    Image.fromarray(np.array(digit(5)["image"], np.uint8)).save(file, "PNG")
    text = base64.b64encode(file.getvalue()).decode()
    coded = service.client.post("/v1/predict", json={"inputs": {"image": text}}).json()["predictions"]
    linked = service.client.post("/v1/predict", json={"inputs": {"image": f"data:image/png;base64,{text}"}}).json()
    assert alone[0]["scores"] == coded[0]["scores"] == linked["predictions"][0]["scores"]


def test_feedback_is_in_the_tables_when_its_answer_arrives(service: Served) -> None:
    wrong, fine = predict(service, 10, 11)
    # the prediction is not folded yet: its keyed id is enough
    answer = say(service, {"prediction": wrong["id"], "kind": "correction", "value": 3, "author": "Ada"})
    assert answer.status_code == 201
    stored = service.project.store.get(Feedback, answer.json()["feedback"])
    assert (stored.subject, stored.value, stored.author) == (wrong["id"], "3", "Ada")

    newer = say(service, {"prediction": wrong["id"], "kind": "confirmation", "author": "Ada"}).json()
    assert newer["superseded"] == stored.id
    assert service.project.store.get(Feedback, stored.id).superseded_by == newer["feedback"]
    for kind, value in [("rating", 4), ("comment", "blurred"), ("preference", {"over": wrong["id"]}), ("reward", 0.5)]:
        assert say(service, {"prediction": fine["id"], "kind": kind, "value": value}).status_code == 201


def test_a_repeated_key_gets_the_first_result_and_another_body_a_conflict(service: Served) -> None:
    (given,) = predict(service, 12)
    body = {"prediction": given["id"], "kind": "correction", "value": "4"}
    first = say(service, body, **{"Idempotency-Key": "k-1"})
    again = say(service, {**body, "key": "k-1"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == {**first.json(), "status": "repeated"}
    error = check_error(say(service, {**body, "value": "5", "key": "k-1"}), 409)
    assert "k-1" in error["what"]
    check_error(say(service, {**body, "key": "k-1"}, **{"Idempotency-Key": "k-2"}), 409)
    assert len(service.project.store.find(Feedback, subject=given["id"])) == 1


def test_a_key_used_by_many_at_once_is_accepted_once(service: Served) -> None:
    (given,) = predict(service, 13)
    answers: list[httpx.Response] = []
    start = threading.Barrier(16)

    def send(n: int) -> None:
        with httpx.Client(base_url=service.url, timeout=30) as client:
            start.wait()
            body = {"prediction": given["id"], "kind": "correction", "value": str(n % 2), "key": "race"}
            answers.append(client.post("/v1/feedback", json=body))

    threads = [threading.Thread(target=send, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [200] * 7 + [201] + [409] * 8
    assert len({answer.json()["feedback"] for answer in answers if answer.status_code != 409}) == 1
    assert len(service.project.store.find(Feedback, key="race")) == 1


def test_a_list_of_feedback_is_checked_whole_and_answered_one_by_one(service: Served) -> None:
    given = predict(service, 20, 21)
    good = [{"prediction": p["id"], "kind": "correction", "value": "7"} for p in given]
    bad = [*good, {"prediction": given[0]["id"], "kind": "correction", "value": "eleven"}]
    error = check_error(say(service, {"feedback": bad}), 422)
    assert error["where"] == "feedback[2].value"
    assert service.project.store.find(Feedback, subject=[p["id"] for p in given]) == []

    first = say(service, {"feedback": good}, **{"Idempotency-Key": "bulk"})
    again = say(service, {"feedback": good}, **{"Idempotency-Key": "bulk"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert [f["feedback"] for f in first.json()["feedback"]] == [f["feedback"] for f in again.json()["feedback"]]
    changed = [good[0], {**good[1], "value": "8"}]
    conflict = say(service, {"feedback": changed}, **{"Idempotency-Key": "bulk"})
    check_error(conflict, 409)
    assert [f["status"] for f in conflict.json()["feedback"]] == ["repeated", "conflict"]


def png(size: tuple[int, int]) -> str:
    file = io.BytesIO()
    Image.new("1", size).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


NOISE = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)


def truncated_png() -> str:
    file = io.BytesIO()
    Image.fromarray(NOISE).save(file, "PNG")
    return base64.b64encode(file.getvalue()[:2000]).decode()


BAD_INPUTS: list[tuple[Any, int, str]] = [
    ({"imag": [[0]]}, 422, "imag"),
    ({}, 422, "image"),
    ({"image": [[0]], "colour": 3}, 422, "colour"),
    ({"image": None}, 422, "image"),
    ({"image": 3}, 422, "image"),
    ({"image": "no image at all"}, 422, "image"),
    ({"image": ""}, 422, "image"),
    ({"image": [[0, 1], [2]]}, 422, "image"),
    ({"image": [[0, "a"]]}, 422, "image"),
    ({"image": [[0, 256]]}, 422, "image"),
    ({"image": [[0, -1]]}, 422, "image"),
    ({"image": {"url": "file:///etc/passwd"}}, 422, "image"),
    ({"image": "file:///etc/passwd"}, 422, "image"),
    ({"image": truncated_png()}, 422, "image"),
    ({"image": png((10_000, 10_000))}, 413, "image"),
]


@pytest.mark.parametrize(("row", "status", "named"), BAD_INPUTS)
def test_inputs_that_do_not_fit_are_refused_by_row_and_field(
    service: Served, row: dict[str, Any], status: int, named: str
) -> None:
    error = check_error(service.client.post("/v1/predict", json={"inputs": [digit(0), row]}), status)
    assert named in f"{error['what']} {error['where']}"
    assert "row 2" in (error["where"] or "")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b'{"inputs": {"image": [[NaN]]}}', 400),
        (b'{"inputs": {"image": [[1e999]]}}', 400),
        (b"\xff\xfe", 400),
        (b"[" * 100_000, 400),
        (b"[]", 400),
        (b'{"inputs": []}', 422),
        (b'{"inputs": 5}', 422),
        (b'{"rows": {}}', 422),
        (json.dumps({"inputs": [digit(0)] * 51}).encode(), 413),
        (b" " * 1_000_001, 413),
    ],
)
def test_bodies_that_are_wrong_are_refused(service: Served, body: bytes, status: int) -> None:
    check_error(service.client.post("/v1/predict", content=body, headers={"Content-Type": "application/json"}), status)


def test_a_streamed_body_over_the_limit_is_refused(service: Served) -> None:
    def endless() -> Any:
        for _ in range(40):
            yield b" " * 50_000

    headers = {"Content-Type": "application/json"}
    try:
        answer = service.client.post("/v1/predict", content=endless(), headers=headers)
    except httpx.WriteError:  # the server closed the door while we were still talking
        return
    check_error(answer, 413)


def test_foreign_hosts_and_pages_and_other_types_are_refused(service: Served) -> None:
    body = json.dumps({"inputs": digit(0)})
    kind = {"Content-Type": "application/json"}
    post = service.client.post
    check_error(post("/v1/predict", content=body, headers={**kind, "Host": "rebound.example.com"}), 403)
    check_error(post("/v1/predict", content=body, headers={**kind, "Origin": "https://evil.example.com"}), 403)
    check_error(service.client.get("/v1/models", headers={"Host": "rebound.example.com"}), 403)
    check_error(service.client.get("/docs", headers={"Origin": "null"}), 403)
    check_error(post("/v1/predict", content=body, headers={"Content-Type": "text/plain"}), 415)
    assert post("/v1/predict", content=body, headers={**kind, "Origin": service.url}).status_code == 200


def test_unknown_ids_paths_and_methods_are_answered_helpfully(service: Served) -> None:
    (given,) = predict(service, 30)
    forged = given["id"][:-1] + ("0" if given["id"][-1] != "0" else "1")
    check_error(say(service, {"prediction": forged, "kind": "confirmation"}), 404)
    check_error(service.client.get(f"/v1/trace/{forged}"), 404)
    check_error(service.client.get("/v1/trace/nothing"), 404)
    error = check_error(service.client.get("/v1/model"), 404)
    assert "/v1/models" in error["what"]
    answer = service.client.get("/v1/predict")
    check_error(answer, 405)
    assert answer.headers["allow"] == "POST"
    check_error(service.client.delete("/v1/models"), 405)


def test_a_wrong_label_is_answered_with_the_nearest(service: Served) -> None:
    (given,) = predict(service, 31)
    error = check_error(say(service, {"prediction": given["id"], "kind": "correction", "value": "33"}), 422)
    assert "'3'" in error["mend"]
    assert error["where"] == "body.value"


def test_health_models_and_description(service: Served) -> None:
    assert service.client.get("/healthz").json() == {"status": "ok"}
    ready = service.client.get("/readyz")
    assert (ready.status_code, ready.json()["detail"]) == (200, None)
    listed = service.client.get("/v1/models").json()
    assert listed["object"] == "list"
    assert [m["id"] for m in listed["data"]] == [m.id for m in service.project.store.find(Model, newest_first=True)]
    assert [m["champion"] for m in listed["data"]] == [False, True]
    assert {(m["object"], m["owned_by"], type(m["created"])) for m in listed["data"]} == {("model", "tidemill", int)}

    document = service.client.get("/openapi.json").json()
    assert set(document["paths"]) == {
        "/v1/predict", "/v1/feedback", "/v1/feedback/bulk", "/v1/models", "/v1/trace/{identifier}", "/healthz",
        "/v1/questions", "/v1/annotation", "/v1/answers", "/v1/answers/pass", "/v1/answers/undo",
        "/readyz", "/metrics", "/v2", "/v2/health/live", "/v2/health/ready",
        *(f"/v2/models/{{name}}{version}{what}" for version in ("", "/versions/{version}")
          for what in ("", "/ready", "/infer")),
    }  # fmt: skip
    schemas = document["components"]["schemas"]
    assert schemas["Inputs"]["required"] == ["image"]
    references = {ref for ref in find_references(document) if ref.removeprefix("#/components/schemas/") not in schemas}
    assert not references
    page = service.client.get("/docs")
    assert "/v1/predict" in page.text
    assert "<script" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_the_document_is_made_once_for_each_model(service: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    first = service.client.get("/openapi.json")

    def again(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr("tidemill.serving.routes.describe", again)
    assert service.client.get("/openapi.json").content == first.content
    assert service.client.get("/docs").status_code == 200


def find_references(node: Any) -> set[str]:
    if isinstance(node, dict):
        here = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return here.union(*(find_references(value) for value in node.values()))
    return set().union(*(find_references(value) for value in node)) if isinstance(node, list) else set()


def test_a_fault_of_ours_gets_an_id_that_is_in_the_log(
    service: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("the sea is empty")

    monkeypatch.setattr(service.project, "trace", broken)
    answers = [service.client.get("/v1/trace/run_1")]
    monkeypatch.setattr("tidemill.serving.hot.parse_predict", broken)
    answers.append(service.client.post("/v1/predict", json={"inputs": digit(0)}))
    for answer in answers:
        error = check_error(answer, 500)
        assert "sea" not in answer.text
        assert error["where"] in caplog.text
    assert caplog.text.count("ZeroDivisionError: the sea is empty") == 2


def test_without_a_champion_it_is_alive_but_not_ready(tmp_path: Any) -> None:
    project = SmallProject.create(tmp_path)
    model = project.add_model("ridge")
    with served(project) as empty:
        assert empty.client.get("/healthz").status_code == 200
        ready = empty.client.get("/readyz")
        check_error(ready, 503)
        assert "retry-after" in ready.headers
        check_error(empty.client.post("/v1/predict", json={"inputs": digit(0)}), 503)
        project.deploy(model)
        wait_for(lambda: empty.client.get("/readyz").status_code == 200)
        assert predict(empty, 0)[0]["label"] == "0"
    project.store.close()


def wait_for(true: Any) -> None:
    for _ in range(200):
        if true():
            return
        threading.Event().wait(0.05)
    pytest.fail("it did not happen within ten seconds")


def test_pages_of_configured_origins_may_read_the_answers(tmp_path: Any) -> None:
    shop = "https://shop.example"
    project = SmallProject.create(tmp_path, origins=[shop], hosts=["tide.example"])
    with served(project) as running:
        answer = running.client.get("/healthz", headers={"Origin": shop, "Host": "tide.example"})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, shop)
        asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
        assert running.client.options("/v1/predict", headers={"Origin": shop, **asked}).status_code == 200
        refused = running.client.options("/v1/predict", headers={"Origin": "https://evil.example", **asked})
        assert refused.status_code >= 400
        assert "access-control-allow-origin" not in refused.headers
    project.store.close()


def test_when_too_much_waits_callers_are_asked_to_come_back(service: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidemill.serving.batcher.QUEUE_ROWS", 3)
    assert len(predict(service, 0, 1, 2)) == 3
    answer = service.client.post("/v1/predict", json={"inputs": [digit(row) for row in range(4)]})
    check_error(answer, 503)
    assert answer.headers["retry-after"] == "1"


def test_one_wrong_request_does_not_harm_those_it_was_batched_with(service: Served) -> None:
    answers: dict[int, httpx.Response] = {}
    start = threading.Barrier(12)

    def send(n: int) -> None:
        row = digit(n) if n % 3 else {"image": "nothing"}
        with httpx.Client(base_url=service.url, timeout=30) as client:
            start.wait()
            answers[n] = client.post("/v1/predict", json={"inputs": row})

    threads = [threading.Thread(target=send, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answers[n].status_code for n in range(12)] == [422 if n % 3 == 0 else 200 for n in range(12)]


def test_only_this_machine_is_served_without_a_token(service: Served) -> None:
    for host in ("0.0.0.0", "::", "192.168.1.2", "example.org", ""):
        with pytest.raises(ConfigError, match="other machines") as refused:
            serve(service.project, host, 0)
        assert "tidemill token new" in (refused.value.mend or "")
    with pytest.raises(ConfigError, match="cannot be listened on"):
        listen("192.0.2.7", 0)
    with listen("localhost", 0) as first, pytest.raises(BusyError, match="taken"):
        listen("127.0.0.1", first.getsockname()[1])
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(BusyError):
        listen("127.0.0.1", other.getsockname()[1])
