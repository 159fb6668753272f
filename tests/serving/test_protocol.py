"""The Open Inference Protocol as its clients speak it, with tensors in JSON and as bytes behind it."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from small_project import TIDES, Served, SmallProject, digit, digits, served
from test_forms import png

from tidemill.records import Feedback, Model, Prediction
from tidemill.serving.inference import outputs_of
from tidemill.serving.tokens import make_token

INFER = "/v2/models/default/infer"


@pytest.fixture(scope="module")
def tides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A model of a number, a category, a text and a date, which may abstain."""
    rule = {"min_precision": 0.9, "threshold": 0.6}
    project = SmallProject.of_kind(tmp_path_factory.mktemp("tides"), "classification", rule, max_rows=100)
    with served(project) as running:
        yield running
    project.store.close()


def tensor(name: str, datatype: str, shape: list[int], data: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def texts(*values: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


def triton(
    running: Served, arrays: dict[str, tuple[str, list[int], bytes]], path: str = INFER, **request: Any
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """As ``tritonclient.http`` sends an inference: no declared type, tensors behind the JSON, all outputs so too."""
    inputs = [
        {"name": n, "shape": shape, "datatype": kind, "parameters": {"binary_data_size": len(content)}}
        for n, (kind, shape, content) in arrays.items()
    ]
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}, **request}).encode()
    body = head + b"".join(content for _, _, content in arrays.values())
    answer = running.client.post(path, content=body, headers={"Inference-Header-Content-Length": str(len(head))})
    assert answer.status_code == 200, answer.text
    return unpacked(answer)


def unpacked(answer: httpx.Response) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The JSON of an answer, and what stands behind it, by output."""
    length = int(answer.headers.get("inference-header-content-length", len(answer.content)))
    said, rest = json.loads(answer.content[:length]), answer.content[length:]
    behind: dict[str, bytes] = {}
    for output in said["outputs"]:
        if (size := output.get("parameters", {}).get("binary_data_size")) is not None:
            behind[output["name"]], rest = rest[:size], rest[size:]
    assert rest == b""
    return said, behind


def refused(answer: httpx.Response, status: int, *words: str) -> None:
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}
    for word in words:
        assert word in answer.json()["error"]


def test_health_and_metadata(service: Served) -> None:
    client, champion = service.client, service.project.store.champion()
    assert champion is not None
    assert client.get("/v2").json()["extensions"] == ["binary_tensor_data"]
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    for name in ("default", service.project.dir.name):
        for path in (f"/v2/models/{name}", f"/v2/models/{name}/versions/{champion.model_id}"):
            assert client.get(f"{path}/ready").json() == {"name": name, "ready": True}
            said = client.get(path).json()
            assert (said["name"], said["versions"], said["platform"]) == (name, [champion.model_id], "tidemill_onnx")
    (image,) = said["inputs"]
    assert (image["name"], image["datatype"], image["shape"]) == ("image", "UINT8", [-1, 8, 8, 1])
    outputs = {output["name"]: (output["datatype"], output["shape"]) for output in said["outputs"]}
    assert outputs["scores"] == ("FP32", [-1, 10]) and outputs["prediction"] == ("BYTES", [-1])
    assert said["outputs"][2]["parameters"]["labels"] == list("0123456789")


def test_json_tensors_are_answered_as_rows_are(service: Served) -> None:
    rows = [digit(row) for row in (3, 4, 5)]
    expected = service.client.post("/v1/predict", json={"inputs": rows}).json()["predictions"]
    nested = [row["image"] for row in rows]
    for shape, data in (
        ([3, 8, 8], nested),
        ([3, 8, 8, 1], np.ravel(nested).tolist()),
        ([3, 8, 8], np.ravel(nested).tolist()),
    ):
        body = {"id": "42", "inputs": [tensor("image", "UINT8", shape, data)], "parameters": {"caller": "pier"}}
        said, behind = unpacked(service.client.post(INFER, json=body))
        assert (said["id"], said["model_name"], behind) == ("42", "default", {})
        found = {output["name"]: output["data"] for output in said["outputs"]}
        assert found["label"] == [p["label"] for p in expected]
        assert found["score"] == [p["score"] for p in expected]
        assert found["scores"] == [score for p in expected for score in p["scores"].values()]
        assert found["audit"] == [p["audit"] for p in expected]
        assert found["prediction"] == said["parameters"]["predictions"].split(",")
        shapes = {output["name"]: output["shape"] for output in said["outputs"]}
        assert shapes["scores"] == [3, 10] and shapes["label"] == [3]


def test_an_inference_is_a_prediction_to_give_feedback_on(service: Served) -> None:
    said, _ = triton(service, {"image": ("UINT8", [1, 8, 8], digits()[0][7].tobytes())}, outputs=[{"name": "label"}])
    identifier = said["parameters"]["predictions"]
    body = {"prediction": identifier, "kind": "correction", "value": "3"}
    answer = service.client.post("/v1/feedback", json=body)
    assert answer.status_code == 201
    assert service.project.store.get(Feedback, answer.json()["feedback"]).subject == identifier
    service.client.get(f"/v1/trace/{identifier}")
    stored = service.project.store.get(Prediction, identifier)
    assert stored.inputs == digit(7) and stored.model_id == said["model_version"]


def test_tensors_as_bytes_come_and_go_as_bytes(service: Served) -> None:
    pixels = digits()[0][:2]
    expected = service.client.post("/v1/predict", json={"inputs": [digit(0), digit(1)]}).json()["predictions"]
    sent = {
        "as it is": ("UINT8", [2, 8, 8, 1], pixels.tobytes()),
        "wider": ("INT64", [2, 8, 8], pixels.astype("<i8").tobytes()),
        "floats": ("FP32", [2, 8, 8, 1], pixels.astype("<f4").tobytes()),
        "half floats": ("FP16", [2, 8, 8, 1], pixels.astype("<f2").tobytes()),
        "files": ("BYTES", [2], texts(png(0), png(1))),
        "files in a column": ("BYTES", [2, 1], texts(png(0), png(1))),
    }
    for image in sent.values():
        said, behind = triton(service, {"image": image})
        assert set(behind) == {output["name"] for output in said["outputs"]}
        scores = np.frombuffer(behind["scores"], "<f4").reshape(2, 10)
        assert scores.tolist() == [list(p["scores"].values()) for p in expected]
        assert behind["label"] == texts(*(p["label"].encode() for p in expected))
        assert behind["audit"] == bytes(p["audit"] for p in expected)
        assert behind["prediction"] == texts(*(p.encode() for p in said["parameters"]["predictions"].split(",")))


def test_outputs_are_given_as_they_were_asked_for(service: Served) -> None:
    image = ("UINT8", [1, 8, 8], digits()[0][2].tobytes())
    wanted = [{"name": "scores", "parameters": {"binary_data": False}}, {"name": "label"}]
    said, behind = triton(service, {"image": image}, outputs=wanted)
    assert [output["name"] for output in said["outputs"]] == ["scores", "label"]
    assert len(said["outputs"][0]["data"]) == 10 and set(behind) == {"label"}
    body = {"inputs": [tensor("image", "UINT8", [1, 8, 8], digits()[0][2].ravel().tolist())]}
    mixed = [{"name": "score", "parameters": {"binary_data": True}}, {"name": "label"}]
    said, behind = unpacked(service.client.post(INFER, json={**body, "outputs": mixed}))
    assert len(behind["score"]) == 4 and said["outputs"][1]["data"]


def test_tables_and_answers_that_abstain(tides: Served) -> None:
    inputs = [
        tensor("size", "FP64", [3, 1], [[3.0], [0.5], [-3.0]]),
        tensor("tide", "BYTES", [3], ["neap", "spring", ""]),
        tensor("note", "BYTES", [3, 1], [["ebbt schon, früh"], [""], ["x"]]),
        tensor("day", "INT64", [3], [0, 1, 2]),
    ]
    said, _ = unpacked(tides.client.post(INFER, json={"inputs": inputs}))
    found = {output["name"]: output["data"] for output in said["outputs"]}
    assert found["label"] == ["ebb", "", "slack"] and found["abstained"] == [False, True, False]
    assert found["guess"] == ["ebb", "ebb", "slack"]
    tides.client.get(f"/v1/trace/{found['prediction'][0]}")
    first = tides.project.store.get(Prediction, found["prediction"][0])
    assert first.inputs == {"size": 3.0, "tide": "neap", "note": "ebbt schon, früh", "day": 0}
    as_bytes = {"size": ("FP32", [2], np.array([3, 0.5], "<f4").tobytes()), "tide": ("BYTES", [2], texts(b"neap", b""))}
    said, behind = triton(tides, as_bytes)
    assert behind["label"] == texts(b"ebb", b"") and behind["abstained"] == b"\0\1"
    said, _ = unpacked(tides.client.post(INFER, json={"inputs": [tensor("size", "FP32", [2], [1, 2.5])]}))
    assert len(said["parameters"]["predictions"].split(",")) == 2


IMAGE = tensor("image", "UINT8", [1, 8, 8], [0] * 64)
SIZE = tensor("size", "FP64", [1], [1])
BAD: dict[str, tuple[Any, int, tuple[str, ...]]] = {
    "no inputs": ({}, 422, ("inputs",)),
    "empty inputs": ({"inputs": []}, 422, ("inputs",)),
    "inputs of another form": ({"inputs": {"size": 1}}, 422, ("inputs",)),
    "an input without a name": ({"inputs": [{"data": [1]}]}, 422, ("inputs[0]", "name")),
    "another name": ({"inputs": [{**SIZE, "name": "siz"}]}, 422, ("'siz'", "'size'")),
    "a name twice": ({"inputs": [SIZE, SIZE]}, 422, ("'size'", "twice")),
    "no datatype": ({"inputs": [{**SIZE, "datatype": None}]}, 422, ("'size'", "FP64")),
    "another datatype": ({"inputs": [{**SIZE, "datatype": "fp64"}]}, 422, ("'fp64'", "Did you mean 'FP64'")),
    "no shape": ({"inputs": [{**SIZE, "shape": None}]}, 422, ("'size'", "shape")),
    "a shape of 0": ({"inputs": [{**SIZE, "shape": [0], "data": []}]}, 422, ("'size'", "shape")),
    "a negative shape": ({"inputs": [{**SIZE, "shape": [-1]}]}, 422, ("'size'", "shape")),
    "a shape of truths": ({"inputs": [{**SIZE, "shape": [True]}]}, 422, ("'size'", "shape")),
    "a wide shape": ({"inputs": [{**SIZE, "shape": [1, 2], "data": [1, 2]}]}, 422, ("'size'", "[1, 2]", "one value")),
    "too few values": ({"inputs": [{**SIZE, "shape": [2]}]}, 422, ("'size'", "1 values", "2")),
    "too many rows": ({"inputs": [{**SIZE, "shape": [101], "data": [1] * 101}]}, 413, ("'size'", "101")),
    "no data": ({"inputs": [{"name": "size", "datatype": "FP64", "shape": [1]}]}, 422, ("'size'", "data")),
    "data that is none": ({"inputs": [{**SIZE, "data": 1}]}, 422, ("'size'", "data")),
    "texts for numbers": ({"inputs": [{**SIZE, "data": ["1"]}]}, 422, ("'size'", "texts")),
    "objects": ({"inputs": [{**SIZE, "data": [{}]}]}, 422, ("'size'", "something else")),
    "truths for numbers": ({"inputs": [{**SIZE, "data": [True]}]}, 422, ("'size'", "true or false")),
    "fractions for whole": ({"inputs": [{**SIZE, "datatype": "INT32", "data": [1.5]}]}, 422, ("'size'", "fractions")),
    "out of range": ({"inputs": [{**SIZE, "datatype": "INT8", "data": [200]}]}, 422, ("'size'", "200", "-128 to 127")),
    "BOOL": ({"inputs": [{**SIZE, "datatype": "BOOL", "data": [True]}]}, 422, ("'size'", "BOOL is no number")),
    "uneven": ({"inputs": [{**SIZE, "shape": [2, 1], "data": [[1], [1, 2]]}]}, 422, ("'size'", "unevenly")),
    "nested otherwise": ({"inputs": [{**SIZE, "shape": [4, 1], "data": [[1, 2], [3, 4]]}]}, 422, ("'size'", "nested")),
    "missing": ({"inputs": [tensor("note", "BYTES", [1], ["x"])]}, 422, ("'size'", "missing")),
    "no value": ({"inputs": [{**SIZE, "data": [None]}]}, 422, ("'size'", "no value")),
    "numbers for texts": ({"inputs": [SIZE, tensor("note", "BYTES", [1], [7])]}, 422, ("'note'", "a number")),
    "rows that differ": ({"inputs": [SIZE, tensor("note", "BYTES", [2], ["a", "b"])]}, 422, ("'note'", "2 rows", "1")),
    "many texts a row": ({"inputs": [tensor("note", "BYTES", [1, 2], ["a", "b"])]}, 422, ("'note'", "one text a row")),
    "a size without bytes": (
        {"inputs": [{"name": "size", "datatype": "FP64", "shape": [1], "parameters": {"binary_data_size": 8}}]},
        422,
        ("'size'", "0 bytes are left"),
    ),
    "both": ({"inputs": [{**SIZE, "parameters": {"binary_data_size": 0}}]}, 422, ("'size'", "both")),
    "another output": ({"inputs": [SIZE], "outputs": [{"name": "scors"}]}, 422, ("'scors'", "'scores'")),
    "outputs of another form": ({"inputs": [SIZE], "outputs": "label"}, 422, ("outputs",)),
    "an odd flag": ({"inputs": [SIZE], "parameters": {"binary_data_output": 1}}, 422, ("binary_data_output",)),
    "an odd id": ({"inputs": [SIZE], "id": 7}, 422, ("id",)),
    "an odd caller": ({"inputs": [SIZE], "parameters": {"caller": 7}}, 422, ("caller",)),
    "a list": ([], 400, ("body",)),
}


@pytest.mark.parametrize("what", BAD)
def test_requests_that_do_not_fit_are_refused_by_name(tides: Served, what: str) -> None:
    body, status, words = BAD[what]
    refused(tides.client.post(INFER, json=body), status, *words)


BAD_IMAGES: dict[str, tuple[tuple[str, list[int], bytes], str]] = {
    "too few bytes": (("UINT8", [1, 8, 8], b"\0" * 63), "63 bytes"),
    "channels first": (("UINT8", [1, 1, 8, 8], b"\0" * 64), "[1, 8, 8, 1]"),
    "no rows": (("UINT8", [8, 8], b"\0" * 64), "[8, 8, 8, 1]"),
    "truths": (("BOOL", [1, 8, 8], b"\0" * 64), "BOOL"),
    "scaled": (("FP32", [1, 8, 8], np.full(64, 0.5, "<f4").tobytes()), "0-1"),
    "not finite": (("FP32", [1, 8, 8], np.full(64, np.nan, "<f4").tobytes()), "NaN"),
    "negative": (("INT8", [1, 8, 8], b"\xff" * 64), "-1"),
    "no file": (("BYTES", [1], texts(b"no image")), "no image"),
    "a cut text": (("BYTES", [1], texts(b"abc")[:-1]), "within a text"),
    "a cut length": (("BYTES", [1], b"\1\0"), "within a text"),
    "more texts": (("BYTES", [1], texts(b"", b"")), "2 values"),
}


@pytest.mark.parametrize("what", BAD_IMAGES)
def test_bytes_that_are_no_images_are_refused(service: Served, what: str) -> None:
    (kind, shape, content), word = BAD_IMAGES[what]
    size = {"binary_data_size": len(content)}
    head = json.dumps({"inputs": [{"name": "image", "datatype": kind, "shape": shape, "parameters": size}]}).encode()
    length = {"Inference-Header-Content-Length": str(len(head))}
    refused(service.client.post(INFER, content=head + content, headers=length), 422, "'image'", word)
    refused(service.client.post(INFER, content=head + content + b"x", headers=length), 422)


def test_names_versions_and_types_that_are_not_served(service: Served) -> None:
    client, body = service.client, {"inputs": [IMAGE]}
    champion, other = service.project.store.champion(), service.project.store.find(Model)[1]
    assert champion is not None
    assert client.post(f"/v2/models/default/versions/{champion.model_id}/infer", json=body).status_code == 200
    for answer in (
        client.get("/v2/models/defualt"),
        client.get("/v2/models/defualt/ready"),
        client.post("/v2/models/defualt/infer", json=body),
    ):
        refused(answer, 404, "'defualt'", "Did you mean 'default'")
    for answer in (
        client.get(f"/v2/models/default/versions/{other.id}"),
        client.get(f"/v2/models/default/versions/{other.id}/ready"),
        client.post(f"/v2/models/default/versions/{other.id}/infer", json=body),
    ):
        refused(answer, 404, other.id, champion.model_id)
    refused(client.post("/v2/models/a/b/infer", json=body), 404)
    refused(client.get("/v2/nothing"), 404, "/v2")
    refused(client.get(INFER), 405, "GET")
    assert client.get(INFER).headers["allow"] == "POST"
    refused(client.post(INFER, content=b"{}", headers={"Content-Type": "text/plain"}), 415, "text/plain")
    refused(client.post(INFER, content=b"{", headers={"Content-Type": "application/json"}), 400, "JSON")
    refused(client.post(INFER, content=b"{}", headers={"Inference-Header-Content-Length": "-1"}), 400, "Content-Length")
    refused(client.post(INFER, content=b"{}", headers={"Inference-Header-Content-Length": "3"}), 422, "3 bytes")
    refused(client.post(INFER, json=body, headers={"Origin": "https://evil.example"}), 403, "evil")
    refused(client.post(INFER, content=b" " * 1_000_001), 413, "1 MB")
    refused(client.get("/v2", headers={"Host": "rebound.example"}), 403, "rebound")


def test_a_fault_of_ours_has_the_protocols_shape(service: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("the sea is empty")

    monkeypatch.setattr("tidemill.serving.hot.parse_inference", broken)
    refused(service.client.post(INFER, json={"inputs": [IMAGE]}), 500, "fault_")
    monkeypatch.setattr(service.project, "dir", None)
    refused(service.client.get("/v2/models/default"), 500, "fault_")


def test_what_it_needs(tmp_path: Path) -> None:
    project = SmallProject.create(tmp_path)
    _, text = make_token(project.store, "shop", ["predict"])
    _, other = make_token(project.store, "panel", ["feedback"])
    good, bad = {"Authorization": f"Bearer {text}"}, {"Authorization": f"Bearer {other}"}
    with served(project) as empty:
        client = empty.client
        assert client.get("/v2/health/live").status_code == 200
        refused(client.get("/v2/health/ready"), 503, "promoted")
        for path in ("/v2", "/v2/models/default", "/v2/models/default/ready"):
            refused(client.get(path), 401, "token")
            refused(client.get(path, headers=bad), 403, "predict")
        assert client.get("/v2", headers=good).status_code == 200
        refused(client.post(INFER, json={}), 401, "token")
        refused(client.post(INFER, json={"inputs": [IMAGE]}, headers=good), 503, "promoted")
        refused(client.get("/v2/models/default", headers=good), 503, "promoted")
    project.store.close()


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ({"kind": "classification", "labels": list(TIDES)}, ["label", "score", "scores"]),
        ({"kind": "multilabel", "labels": list(TIDES)}, ["labels", "scores"]),
        ({"kind": "regression", "interval": {"level": 0.9, "offset": 0.25}}, ["value", "interval"]),
    ],
)
def test_every_kind_gives_its_outputs(tmp_path: Path, spec: dict[str, Any], named: list[str]) -> None:
    assert [output.name for output in outputs_of(spec)] == [*named, "prediction", "audit"]
    project = SmallProject.of_kind(
        tmp_path, spec["kind"], {k: v for k, v in spec.items() if k not in ("kind", "labels")}
    )
    with served(project) as running:
        row = running.client.post("/v1/predict", json={"inputs": {"size": 3.0}}).json()["predictions"][0]
        said, _ = unpacked(running.client.post(INFER, json={"inputs": [tensor("size", "FP64", [1], [3.0])]}))
        _, behind = triton(running, {"size": ("FP64", [1], struct.pack("<d", 3.0))})
    found = {output["name"]: output["data"] for output in said["outputs"]}
    if spec["kind"] == "multilabel":
        assert found["labels"] == [label in row["labels"] for label in TIDES]
        assert behind["labels"] == bytes(found["labels"])
    elif spec["kind"] == "regression":
        assert found["value"] == [row["value"]] and found["interval"] == row["interval"]
        assert np.frombuffer(behind["interval"], "<f4").tolist() == row["interval"]
    else:
        assert found["scores"] == list(row["scores"].values())
    project.store.close()
