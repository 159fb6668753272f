"""Requests that cannot be answered: each gets one JSON error, and nothing is journaled or stored."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from newcomer import HEADER, cycle, rows, start, state

MAX_BODY_MB = 0.1


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, httpx.Client]]:
    """A project behind ``tidemill serve``, as a process of its own."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "tides.csv").write_text(HEADER + rows(120), "utf-8")
    project = start(folder / "project", folder / "tides.csv")
    assert cycle(project).code == 0
    config = project / "tidemill.yaml"
    text = config.read_text("utf-8").replace("\nserve:", f"\nserve:\n  max_body_mb: {MAX_BODY_MB}\n  max_rows: 20")
    config.write_text(text, "utf-8")
    program = [sys.executable, "-c", "from tidemill.cli.main import main; main()"]
    process = subprocess.Popen(
        [*program, "serve", "--port", "0", "--json", "-C", str(project)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        assert process.stdout is not None
        text = ""
        for line in process.stdout:  # one document over several lines
            text += line
            with contextlib.suppress(ValueError):
                ready = json.loads(text)
                break
        with httpx.Client(base_url=ready["url"], timeout=30) as client:
            yield project, client
    finally:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Traceback" not in err


GOOD: dict[str, Any] = {"size": 1.5, "tide": "neap"}
JSON = {"content-type": "application/json"}


def body(**fields: Any) -> bytes:
    return json.dumps({"inputs": {**GOOD, **fields}}).encode()


PREDICT: dict[str, tuple[bytes, int, tuple[str, ...]]] = {
    "NaN": (b'{"inputs": {"size": NaN, "tide": "neap"}}', 400, ("NaN",)),
    "Infinity": (b'{"inputs": {"size": -Infinity, "tide": "neap"}}', 400, ("nfinity",)),
    "1e999": (b'{"inputs": {"size": 1e999, "tide": "neap"}}', 400, ()),
    "a wrong field": (body(siez=1), 422, ("siez", "size")),
    "the target": (body(label="ebb"), 422, ("label", "Leave it out")),
    "a missing field": (b'{"inputs": {"size": 1}}', 422, ("missing", "tide")),
    "a null": (body(size=None), 422, ("no value", "size")),
    "text for a number": (body(size="big"), 422, ("size", "number")),
    "a number for text": (body(tide={"a": 1}), 422, ("tide",)),
    "a bad second row": (json.dumps({"inputs": [GOOD, {"size": [], "tide": "x"}]}).encode(), 422, ("row 2", "size")),
    "half a character": (b'{"inputs": {"size": 1, "tide": "\\ud800"}}', 400, ()),
    "no rows": (b'{"inputs": []}', 422, ("inputs",)),
    "too many rows": (json.dumps({"inputs": [GOOD] * 21}).encode(), 413, ("21 rows", "serve.max_rows")),
    "too large": (body(tide="x" * 200_000), 413, ("serve.max_body_mb",)),
    "a list": (b"[1, 2]", 400, ("object",)),
    "no JSON": (b"size=1", 400, ("JSON",)),
    "nothing": (b"", 400, ("JSON",)),
    "wrong encoding": ("{'größe': 1}".encode("latin-1"), 400, ("",)),
    "nested": (b"[" * 50_000, 400, ("",)),
    "an unknown key": (b'{"input": {}}', 422, ("input", "inputs")),
}  # fmt: skip


@pytest.mark.parametrize("what", PREDICT)
def test_a_prediction_that_cannot_be_made(what: str, served: tuple[Path, httpx.Client]) -> None:
    project, client = served
    content, status, said = PREDICT[what]
    before = state(project)
    answer = client.post("/v1/predict", content=content, headers=JSON)
    assert answer.status_code in (400, 422) if status in (400, 422) else answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["what"], error
    assert error["mend"], error
    assert all(words in answer.text for words in said), answer.text
    assert state(project) == before


def test_an_unseen_category_is_answered_and_nobody_is_harmed(served: tuple[Path, httpx.Client]) -> None:
    _, client = served
    for value in ("tsunami", "潮", "x" * 5000, " neap "):
        answer = client.post("/v1/predict", json={"inputs": [{**GOOD, "tide": value}, GOOD]})
        assert answer.status_code == 200, answer.text
        first, second = answer.json()["predictions"]
        assert first["label"] in ("ebb", "flood")
        assert second["label"] == client.post("/v1/predict", json={"inputs": GOOD}).json()["predictions"][0]["label"]


FEEDBACK: dict[str, tuple[dict[str, Any], int, tuple[str, ...]]] = {
    "an unknown id": ({"prediction": "pred_01k0000000000000000000000000aaaaaa"}, 404, ("pred_01k", "/v1/predict")),
    "an id with a slip": ({"prediction": "SLIP"}, 404, ("/v1/predict",)),
    "a number for an id": ({"prediction": 7}, 422, ("prediction",)),
    "no id": ({}, 422, ("prediction",)),
    "an unknown label": ({"kind": "correction", "value": "flod"}, 422, ("flod", "flood")),
    "no label": ({"kind": "correction"}, 422, ("value",)),
    "an unknown kind": ({"kind": "corection", "value": "ebb"}, 422, ("corection", "correction")),
    "a wrong field": ({"kind": "confirmation", "autor": "Ada"}, 422, ("autor", "author")),
    "a rating in words": ({"kind": "rating", "value": "good"}, 422, ("rating",)),
}


@pytest.mark.parametrize("what", FEEDBACK)
def test_feedback_that_cannot_be_taken(what: str, served: tuple[Path, httpx.Client]) -> None:
    project, client = served
    fields, status, said = FEEDBACK[what]
    identifier = client.post("/v1/predict", json={"inputs": GOOD}).json()["predictions"][0]["id"]
    slip = identifier[:-1] + ("a" if identifier[-1] != "a" else "b")
    content = {"prediction": identifier, "kind": "confirmation", **fields}
    if not fields:
        del content["prediction"]
    if content.get("prediction") == "SLIP":
        content["prediction"] = slip
    before = state(project)["Feedback"]
    answer = client.post("/v1/feedback", json=content)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["mend"]
    assert all(words in answer.text for words in said), answer.text
    assert state(project)["Feedback"] == before


def test_one_faulty_statement_keeps_the_whole_list_out(served: tuple[Path, httpx.Client]) -> None:
    project, client = served
    ids = [p["id"] for p in client.post("/v1/predict", json={"inputs": [GOOD] * 2}).json()["predictions"]]
    statements = [{"prediction": i, "kind": "correction", "value": "ebb"} for i in ids]
    statements.append({**statements[0], "value": "slack"})
    before = state(project)["Feedback"]
    answer = client.post("/v1/feedback", json={"feedback": statements})
    assert answer.status_code == 422
    assert answer.json()["error"]["where"].startswith("feedback[2]")
    assert state(project)["Feedback"] == before


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/v1/predict", {}, 405),
        ("POST", "/v1/predcit", {}, 404),
        ("GET", "/v1/trace/pred_nothing", {}, 404),
        ("GET", "/v1/trace/../../etc/passwd", {}, 404),
        ("POST", "/v1/predict", {"content-type": "text/plain"}, 415),
        ("POST", "/v1/predict", {"host": "evil.example"}, 403),
        ("POST", "/v1/predict", {"origin": "https://evil.example"}, 403),
    ],
)
def test_requests_of_the_wrong_form(
    method: str, path: str, headers: dict[str, str], status: int, served: tuple[Path, httpx.Client]
) -> None:
    _, client = served
    content = body() if method == "POST" else None
    answer = client.request(method, path, headers={**(JSON if content else {}), **headers}, content=content)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["mend"]
