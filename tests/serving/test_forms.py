"""Forms and bare images: the same answers as by JSON, and each fault named."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from small_project import Served, SmallProject, digit, served

from tidemill.errors import TidemillError, TooLargeError
from tidemill.records import Prediction
from tidemill.serving.forms import MOST_PARTS, parse_form


def png(row: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.array(digit(row)["image"], np.uint8)).save(file, "PNG")
    return file.getvalue()


def file(row: int) -> tuple[str, tuple[str, bytes, str]]:
    return ("image", ("digit.png", png(row), "image/png"))


@pytest.fixture(scope="module")
def tides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A model of a number, a category, a text and a date."""
    project = SmallProject.of_kind(tmp_path_factory.mktemp("tides"), "regression", {}, max_rows=3)
    with served(project) as running:
        yield running
    project.store.close()


def refused(answer: httpx.Response, status: int, *words: str) -> None:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["mend"]
    for word in words:
        assert word in f"{error['what']} {error['where']} {error['mend']}", answer.text


def scores(answer: httpx.Response) -> list[Any]:
    assert answer.status_code == 200, answer.text
    return [prediction["scores"] for prediction in answer.json()["predictions"]]


def test_a_form_with_files_is_answered_as_json_is(service: Served) -> None:
    expected = scores(service.client.post("/v1/predict", json={"inputs": [digit(3), digit(4)]}))
    form = service.client.post("/v1/predict", files=[file(3), file(4)], data={"caller": "pier", "key": "k"})
    assert scores(form) == expected
    service.client.get(f"/v1/trace/{form.json()['predictions'][1]['id']}")
    stored = service.project.store.get(Prediction, form.json()["predictions"][1]["id"])
    assert stored.caller == "pier" and stored.inputs == {"image": base64.b64encode(png(4)).decode()}
    typed = service.client.post("/v1/predict", files={"image": (None, base64.b64encode(png(3)).decode())})
    assert scores(typed) == expected[:1]


def test_a_bare_image_is_a_row(service: Served) -> None:
    expected = scores(service.client.post("/v1/predict", json={"inputs": digit(5)}))
    sent = service.client.post("/v1/predict", content=png(5), headers={"Content-Type": "image/png"})
    assert scores(sent) == expected
    refused(service.client.post("/v1/predict", content=b"x", headers={"Content-Type": "image/png"}), 422, "image")


def test_typed_fields_are_read_as_json_would_have_them(tides: Served) -> None:
    form = {"size": ["3", "-1.5e0"], "tide": ["neap", ""], "note": ["ebbt schon, früh", ""], "day": ["2026-01-31", ""]}
    answer = tides.client.post("/v1/predict", files=[(n, (None, v)) for n, all_ in form.items() for v in all_])
    assert [p["value"] for p in answer.json()["predictions"]] == [3.0, -1.5]
    tides.client.get(f"/v1/trace/{answer.json()['predictions'][0]['id']}")
    first, second = (tides.project.store.get(Prediction, p["id"]).inputs for p in answer.json()["predictions"])
    assert first == {"size": 3, "tide": "neap", "note": "ebbt schon, früh", "day": "2026-01-31"}
    assert second == {"size": -1.5, "tide": None, "note": None, "day": None}
    letter = {"size": (None, "1"), "note": ("letter.txt", "from a file ü".encode(), "text/plain")}
    assert tides.client.post("/v1/predict", files=letter).status_code == 200


BAD: dict[str, tuple[list[tuple[str, Any]], int, tuple[str, ...]]] = {
    "no number": ([("size", "old")], 422, ("'old'", "'size'")),
    "not finite": ([("size", "nan")], 422, ("'nan'", "'size'")),
    "with an underscore": ([("size", "1_0")], 422, ("no number",)),
    "in other digits": ([("size", "٣")], 422, ("no number",)),
    "too large a number": ([("size", "1e999")], 422, ("size", "finite")),
    "another name": ([("size", "1"), ("tidee", "x")], 422, ("'tidee'", "'tide'")),
    "the target": ([("size", "1"), ("y", "3")], 422, ("'y'",)),
    "a field too few": ([("note", "x")], 422, ("size", "missing")),
    "uneven": ([("size", "1"), ("size", "2"), ("tide", "x")], 422, ("2 rows", "'tide'")),
    "too many rows": ([("size", "1")] * 4, 413, ("4 rows",)),
    "a key twice": ([("size", "1"), ("key", "a"), ("key", "b")], 422, ("key", "twice")),
    "a long key": ([("size", "1"), ("key", "a" * 201)], 422, ("key",)),
    "nothing": ([("key", "a")], 422, ("no input", "size")),
    "no UTF-8": ([("size", "1"), ("note", b"\xff")], 422, ("UTF-8", "'note'")),
    "no name": ([("", "1")], 400, ("name",)),
}


@pytest.mark.parametrize("what", BAD)
def test_forms_that_do_not_fit_are_refused(tides: Served, what: str) -> None:
    parts, status, words = BAD[what]
    refused(tides.client.post("/v1/predict", files=[(n, (None, v)) for n, v in parts]), status, *words)


def form(*parts: bytes, end: bytes = b"--X--\r\n") -> bytes:
    return b"".join(b"--X\r\n" + part + b"\r\n" for part in parts) + end


SIZE = b'Content-Disposition: form-data; name="size"\r\n\r\n1'


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", b"multipart/form-data; boundary=X"),
        (b"no form at all", b"multipart/form-data; boundary=X"),
        (form(SIZE), b"multipart/form-data"),
        (form(SIZE), b"multipart/form-data; boundary=" + b"X" * 300),
        (form(SIZE, end=b""), b"multipart/form-data; boundary=X"),
        (form(SIZE, end=b"--X"), b"multipart/form-data; boundary=X"),
        (form(b"A: " + b"x" * 9000 + b"\r\n\r\n1"), b"multipart/form-data; boundary=X"),
        (form(b"A: b\r\n" * 20 + SIZE), b"multipart/form-data; boundary=X"),
        (form(b"without a header"), b"multipart/form-data; boundary=X"),
    ],
)
def test_what_is_no_whole_form_is_refused(
    tides: Served, body: bytes, kind: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    answer = tides.client.post("/v1/predict", content=body, headers={b"Content-Type": kind})
    refused(answer, 400, "multipart form")
    assert capfd.readouterr().err == ""


def test_a_form_of_many_parts_is_refused_before_it_is_read(tides: Served) -> None:
    many = form(*[SIZE] * (MOST_PARTS + 1))
    with pytest.raises(TooLargeError, match=str(MOST_PARTS)):
        parse_form(many, b"multipart/form-data; boundary=X", tides.project.signature, 10_000)
    assert (
        len(parse_form(form(*[SIZE] * MOST_PARTS), b"a/b; boundary=X", tides.project.signature, 5000).records) == 1000
    )
    with pytest.raises(TidemillError, match="1000 rows"):
        parse_form(form(*[SIZE] * MOST_PARTS), b"a/b; boundary=X", tides.project.signature, 999)


def test_other_types_and_foreign_pages_are_refused(tides: Served) -> None:
    refused(tides.client.post("/v1/predict", content=b"size=1", headers={"Content-Type": "text/plain"}), 415, "form")
    refused(tides.client.post("/v1/predict", content=b"{}"), 415, "declared")
    refused(tides.client.post("/v1/predict", content=b"x", headers={"Content-Type": "image/png"}), 422, "size")
    foreign = {"Origin": "https://evil.example"}
    refused(tides.client.post("/v1/predict", files={"size": (None, "1")}, headers=foreign), 403, "evil")
    refused(tides.client.post("/v1/feedback", files={"prediction": (None, "x")}), 415)


def test_the_document_says_so(service: Served, tides: Served) -> None:
    def content(running: Served) -> dict[str, Any]:
        document = running.client.get("/openapi.json").json()
        found: dict[str, Any] = document["paths"]["/v1/predict"]["post"]["requestBody"]["content"]
        return found

    pictures, table = content(service), content(tides)
    assert set(pictures) == {"application/json", "multipart/form-data", "image/*"}
    assert set(table) == {"application/json", "multipart/form-data"}
    schema = table["multipart/form-data"]["schema"]
    assert set(schema["properties"]) == {"size", "tide", "note", "day", "key", "caller"} and schema["required"] == [
        "size"
    ]
