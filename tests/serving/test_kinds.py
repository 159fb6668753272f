"""Every kind of answer over HTTP: as answered, as described, as fed back, and as shown on the page."""

from __future__ import annotations

import html
import json
import re
import shlex
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from small_project import TIDES, Served, SmallProject, served

from tidemill.data.schema import Kind
from tidemill.records import Feedback

RULES: dict[str, tuple[Kind, dict[str, Any]]] = {
    "classification": ("classification", {}),
    "abstaining": ("classification", {"min_precision": 0.9, "threshold": 0.6}),
    "costs": ("classification", {"costs": [[0, 1, 1], [9, 0, 1], [1, 1, 0]], "abstain_cost": 0.5}),
    "multilabel": ("multilabel", {"thresholds": [0.5, 0.9, 0.5]}),
    "regression": ("regression", {}),
    "interval": ("regression", {"interval": {"level": 0.9, "offset": 0.25}}),
}


@pytest.fixture(scope="module", params=RULES)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Served]]:
    kind, answer = RULES[request.param]
    project = SmallProject.of_kind(tmp_path_factory.mktemp(request.param), kind, answer, max_body_mb=5)
    with served(project) as service:
        yield request.param, service
    project.store.close()


def predict(service: Served, **inputs: Any) -> dict[str, Any]:
    answer = service.client.post("/v1/predict", json={"inputs": inputs})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["predictions"][0]
    assert set(found) >= {"id", "audit"}
    return found


EXPECTED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "classification": ({"label": "ebb"}, {"label": "ebb"}),
    "abstaining": ({"label": "ebb"}, {"label": None, "abstained": True, "guess": "ebb"}),
    "costs": ({"label": "ebb"}, {"label": None, "abstained": True}),
    "multilabel": ({"labels": ["ebb"]}, {"labels": ["ebb"]}),
    "regression": ({"value": 3.0}, {"value": 0.5}),
    "interval": ({"value": 3.0, "interval": [1.25, 6.25], "level": 0.9}, {"value": 0.5, "interval": [0.0, 1.25]}),
}
"""What is answered where the model is sure, and where it is not."""


def test_answers_of_every_kind(running: tuple[str, Served]) -> None:
    rule, service = running
    for size, expected in zip((3.0, 0.5), EXPECTED[rule], strict=True):
        found = predict(service, size=size, tide="neap", note="rising", day="2026-01-31")
        assert {key: found.get(key) for key in expected} == expected
        if "scores" in found:
            assert set(found["scores"]) == set(TIDES)
    if rule == "multilabel":
        assert predict(service, size=0)["labels"] == ["ebb", "slack"], "of equal chances those over their thresholds"
        assert predict(service, size=-3)["labels"] == ["slack"]


GOOD: dict[Kind, list[tuple[Any, Any]]] = {
    "classification": [("flood", "flood"), ("EBB", "ebb")],
    "multilabel": [(["slack", "ebb", "ebb"], ["ebb", "slack"]), ([], []), ("flood", ["flood"])],
    "regression": [(3.5, 3.5), (4, 4.0)],
}
BAD: dict[Kind, list[Any]] = {
    "classification": ["flod", ["ebb"], {"a": 1}, None],
    "multilabel": [["flod"], ["ebb", None], {"ebb": 1}, [["ebb"]], None],
    "regression": ["high", [1.5], True, None],
}


def test_corrections_of_every_kind(running: tuple[str, Served]) -> None:
    rule, service = running
    kind, _ = RULES[rule]
    subject = predict(service, size=1.0)["id"]
    for value, kept in GOOD[kind]:
        body = {"prediction": subject, "kind": "correction", "value": value, "author": "ada"}
        answer = service.client.post("/v1/feedback", json=body)
        assert answer.status_code == 201, answer.text
        assert service.project.store.get(Feedback, answer.json()["feedback"]).value == kept
    for value in BAD[kind]:
        body = {"prediction": subject, "kind": "correction", "value": value}
        answer = service.client.post("/v1/feedback", json=body)
        assert answer.status_code == 422, (value, answer.text)
        error = answer.json()["error"]
        assert "value" in error["where"] and error["mend"]


def resolved(schema: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    return found


def test_the_document_describes_this_projects_answers_and_nothing_else(running: tuple[str, Served]) -> None:
    rule, service = running
    kind, spec = RULES[rule]
    schemas = service.client.get("/openapi.json").json()["components"]["schemas"]
    items = schemas["Predictions"]["properties"]["predictions"]["items"]
    options = [resolved(option, schemas) for option in items.get("anyOf", [items])]
    names = {option["title"] for option in options}
    assert names == {
        "classification": {"Classified"}, "abstaining": {"Classified", "Abstained"},
        "costs": {"Classified", "Abstained"}, "multilabel": {"Labelled"}, "regression": {"Estimated"},
        "interval": {"Estimated"},
    }[rule]  # fmt: skip
    assert names == {"Classified", "Abstained", "Labelled", "Estimated"} & set(schemas)
    correction = schemas["Correction"]["properties"]["value"]
    if kind == "classification":
        assert options[0]["properties"]["label"]["enum"] == correction["enum"] == list(TIDES)
        assert options[0]["properties"]["scores"]["required"] == list(TIDES)
    elif kind == "multilabel":
        assert options[0]["properties"]["labels"]["items"]["enum"] == correction["items"]["enum"] == list(TIDES)
    else:
        assert correction["type"] == "number"
        assert ("interval" in options[0]["required"]) == ("interval" in spec)
        assert ("interval" in options[0]["properties"]) == ("interval" in spec)
    inputs = schemas["Inputs"]["properties"]
    assert inputs["size"]["type"] == "number" and inputs["note"]["type"] == ["string", "null"]
    assert "1 MB" in inputs["note"]["description"] and "ISO 8601" in inputs["day"]["description"]


def test_an_answer_that_was_none_cannot_be_confirmed(tmp_path: Path) -> None:
    kind, answer = RULES["abstaining"]
    project = SmallProject.of_kind(tmp_path, kind, answer, decision={"min_precision": 0.9})
    with served(project) as service:
        for size, status in ((3.0, 201), (0.5, 422)):
            subject = predict(service, size=size)["id"]
            service.client.get(f"/v1/trace/{subject}")  # which folds the journal into the tables
            told = service.client.post("/v1/feedback", json={"prediction": subject, "kind": "confirmation"})
            assert told.status_code == status, told.text
        assert "ebb" in told.json()["error"]["what"] and "correction" in told.json()["error"]["mend"]
        line = json.dumps({"prediction": subject, "kind": "confirmation"})
        head = {"content-type": "application/x-ndjson"}
        in_bulk = service.client.post("/v1/feedback/bulk", content=f"{line}\n", headers=head)
        assert '"status":"refused"' in in_bulk.text and "line 1.kind" in in_bulk.text
    project.store.close()


def test_a_database_that_hangs_holds_up_whoever_confirms_and_no_prediction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, answer = RULES["abstaining"]
    project = SmallProject.of_kind(tmp_path, kind, answer, decision={"min_precision": 0.9})
    entered, go, find = threading.Event(), threading.Event(), project.store.find

    def hanging(*arguments: Any, **equals: Any) -> Any:
        if threading.current_thread().name.startswith("tidemill-reader"):
            entered.set()
            assert go.wait(20)
        return find(*arguments, **equals)

    with served(project) as service, ThreadPoolExecutor(1) as pool:
        subject = predict(service, size=3.0)["id"]
        monkeypatch.setattr(project.store, "find", hanging)
        body = {"prediction": subject, "kind": "confirmation"}
        confirming = pool.submit(lambda: httpx.post(f"{service.url}/v1/feedback", json=body, timeout=30))
        assert entered.wait(20)
        assert predict(service, size=3.0)["label"] and not confirming.done()
        go.set()
        assert confirming.result().status_code == 201
    project.store.close()


JSON_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "number": (int, float), "integer": (int,),
    "boolean": (bool,), "null": (type(None),),
}  # fmt: skip


def fits(value: Any, schema: Any, schemas: dict[str, Any]) -> bool:
    """Whether a value is as a schema says, as far as this document uses JSON Schema."""
    schema = resolved(schema, schemas)
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            return any(fits(value, option, schemas) for option in schema[choice])
    kinds = schema.get("type", list(JSON_TYPES))
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if not any(isinstance(value, JSON_TYPES[k]) and (k == "boolean" or not isinstance(value, bool)) for k in kinds):
        return False
    if ("const" in schema and value != schema["const"]) or ("enum" in schema and value not in schema["enum"]):
        return False
    if isinstance(value, list):
        few, many = schema.get("minItems", 0), schema.get("maxItems", len(value))
        return few <= len(value) <= many and all(fits(item, schema.get("items", {}), schemas) for item in value)
    if isinstance(value, dict):
        known, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        if set(schema.get("required", ())) - set(value) or (others is False and set(value) - set(known)):
            return False
        rest = {} if isinstance(others, bool) else others
        return all(fits(item, known.get(name, rest), schemas) for name, item in value.items())
    return True


def test_every_answer_and_every_example_fits_its_description(running: tuple[str, Served]) -> None:
    _, service = running
    document = service.client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    for size in (-3.0, 0.0, 0.5, 3.0):
        answer = service.client.post("/v1/predict", json={"inputs": {"size": size}}).json()
        assert fits(answer, schemas["Predictions"], schemas), answer
        assert not fits(
            {**answer, "predictions": [{**answer["predictions"][0], "id": 7}]}, schemas["Predictions"], schemas
        )
    for path in ("/v1/predict", "/v1/feedback"):
        content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        assert fits(content["example"], content["schema"], schemas), content["example"]
    shown = document["paths"]["/v1/predict"]["post"]["responses"]["200"]["content"]["application/json"]["example"]
    assert fits(shown, schemas["Predictions"], schemas), shown


def test_the_page_shows_a_line_that_works(running: tuple[str, Served]) -> None:
    _, service = running
    page = html.unescape(service.client.get("/docs").text)
    line = re.search(r"<pre>(curl [^<]*/v1/predict.*?)</pre>", page, re.DOTALL)
    assert line is not None
    words = shlex.split(line[1])
    assert words[1] == f"{service.url}/v1/predict"
    sent = json.loads(words[words.index("-d") + 1])
    assert set(sent["inputs"]) == {"size", "tide", "note", "day"}
    answer = httpx.post(words[1], json=sent)
    assert answer.status_code == 200, answer.text


def test_texts_have_a_limit_and_any_script_is_welcome(running: tuple[str, Served]) -> None:
    _, service = running
    for text in ("", "🌊🌊🌊", "潮汐表", "\u0000\u0007", "x" * 999_999, "e\u0301" * 1000, "\ufeff מים"):
        predict(service, size=1.0, note=text)
    for inputs, place in (
        ({"size": 1.0, "note": "潮" * 400_000}, "field 'note'"),
        ([{"size": 1.0}, {"size": 1.0, "tide": "x" * 1_000_001}], "row 2, field 'tide'"),
    ):
        answer = service.client.post("/v1/predict", json={"inputs": inputs})
        assert answer.status_code == 413, answer.text
        error = answer.json()["error"]
        assert error["where"] == place and "limits.text_mb" in error["mend"]


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("size", "3.5", "no number"),
        ("size", True, "no number"),
        ("note", ["a"], "no text"),
        ("note", {"a": 1}, "no text"),
        ("day", "31.13.2026", "no date"),
        ("day", "yesterday", "no date"),
    ],
)
def test_values_of_the_wrong_type(running: tuple[str, Served], field: str, value: Any, said: str) -> None:
    _, service = running
    answer = service.client.post("/v1/predict", json={"inputs": {"size": 1.0, field: value}})
    assert answer.status_code == 422, answer.text
    error = answer.json()["error"]
    assert said in error["what"] and error["where"] == f"field {field!r}" and error["mend"]
