"""A request that is sent again under its key gets the first answer, and makes no second prediction."""

from __future__ import annotations

import asyncio
import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_project import Served, SmallProject, digit, served

from tidemill.errors import ConflictError, NotReadyError
from tidemill.records import Model, Prediction
from tidemill.serving.answering import Answer
from tidemill.serving.repeats import Once, Repeats
from tidemill.serving.tokens import make_token
from tidemill.store import check_prediction_id, fold
from tidemill.store.secrets import repeated_prediction_id

ONCE = Once("key", "caller")


def test_a_repeated_request_gets_the_first_answer(service: Served) -> None:
    before = service.project.store.count(Prediction)
    body = {"inputs": [digit(0), digit(0), digit(1)]}
    key = {"Idempotency-Key": "order-1"}
    first = service.client.post("/v1/predict", json=body, headers=key)
    again = service.client.post("/v1/predict", json=body, headers={"Idempotency-Key": '"order-1"'})
    assert first.content == again.content
    assert "idempotent-replayed" not in first.headers and again.headers["idempotent-replayed"] == "true"
    ids = [p["id"] for p in first.json()["predictions"]]
    assert len(set(ids)) == 3 and all(check_prediction_id(service.project.store.secret, i) for i in ids)
    other = service.client.post("/v1/predict", json={"inputs": digit(1)}, headers=key)
    assert other.status_code == 409 and "order-1" in other.json()["error"]["what"]
    bad = service.client.post("/v1/predict", json=body, headers={"Idempotency-Key": "x" * 201})
    assert bad.status_code == 422
    tensors = {"inputs": [{"name": "image", "shape": [1, 8, 8], "datatype": "UINT8", "data": [digit(0)["image"]]}]}
    inferred = [service.client.post("/v2/models/default/infer", json=tensors, headers=key) for _ in range(2)]
    assert inferred[0].status_code == 200 and inferred[0].content == inferred[1].content
    service.client.get(f"/v1/trace/{ids[0]}")
    fold(service.project.store)
    assert service.project.store.count(Prediction) == before + 4


def test_a_form_is_the_same_whatever_its_boundary(service: Served) -> None:
    answers = []
    for boundary in ("a", "b", "b"):
        body = f'--{boundary}\r\nContent-Disposition: form-data; name="image"\r\n\r\n{png(9)}\r\n--{boundary}--\r\n'
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}", "Idempotency-Key": "order-5"}
        answers.append(service.client.post("/v1/predict", content=body, headers=headers))
    assert answers[0].status_code == 200 and len({answer.content for answer in answers}) == 1
    json = service.client.post(
        "/v1/predict", json={"inputs": {"image": png(9)}}, headers={"Idempotency-Key": "order-5"}
    )
    assert json.content == answers[0].content


def png(row: int) -> str:
    file = io.BytesIO()
    Image.fromarray(np.array(digit(row)["image"], np.uint8)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_what_is_nested_deeply_is_refused_as_without_a_key(service: Served) -> None:
    """It can be read as JSON, and not be written again."""
    body = b'{"inputs": {"image": %s}}' % (b"[" * 300 + b"]" * 300)
    for headers in ({}, {"Idempotency-Key": "order-6"}):
        sent = {"Content-Type": "application/json", **headers}
        assert service.client.post("/v1/predict", content=body, headers=sent).status_code == 422


def test_a_refusal_is_not_remembered(service: Served) -> None:
    key = {"Idempotency-Key": "order-2"}
    assert service.client.post("/v1/predict", json={"inputs": {"image": 3}}, headers=key).status_code == 422
    assert service.client.post("/v1/predict", json={"inputs": digit(0)}, headers=key).status_code == 200


def test_after_a_restart_the_same_request_makes_the_same_prediction(tmp_path: Path) -> None:
    project = SmallProject.create(tmp_path)
    first, second = project.add_model("ridge"), project.add_model("naive-bayes")
    project.deploy(first)
    answers: list[Any] = []

    def send(running: Served) -> None:
        answer = running.client.post("/v1/predict", json={"inputs": digit(7)}, headers={"Idempotency-Key": "order-3"})
        answers.append(answer.json()["predictions"][0])

    for _ in range(2):
        with served(project) as running:
            send(running)
    assert answers[0] == answers[1]
    assert [p.id for p in project.store.find(Prediction)] == [answers[0]["id"]]
    project.deploy(second)  # whose answer is another one, to be spoken of by another id
    with served(project) as running:
        send(running)
    assert answers[2]["id"] != answers[0]["id"]
    assert {p.id: p.model_id for p in project.store.find(Prediction)} == {
        answers[0]["id"]: first.id,
        answers[2]["id"]: second.id,
    }
    assert project.store.count(Model) == 2
    project.store.close()


def test_nobody_reads_what_another_was_answered(tmp_path: Path) -> None:
    project = SmallProject.create(tmp_path)
    project.deploy(project.add_model("ridge"))
    texts = [make_token(project.store, name, ["predict"])[1] for name in ("ann", "bob")]
    with served(project) as running:
        ids = []
        for text in texts:
            shown = {"Authorization": f"Bearer {text}", "Idempotency-Key": "order-4"}
            answer = running.client.post("/v1/predict", json={"inputs": digit(len(ids))}, headers=shown)
            ids.append(answer.json()["predictions"][0]["id"])
    assert len(set(ids)) == 2
    project.store.close()


def test_ids_in_the_order_of_keys_that_tell_their_time() -> None:
    made = [repeated_prediction_id(b"k" * 32, f"call_01k7{x:022x}", "caller") for x in (1, 1 << 80, 1 << 84)]
    assert made == sorted(made) and made[0][5:15] == "01k7000000"
    plain = repeated_prediction_id(b"k" * 32, "order 7", "caller")
    assert len(plain) == len(made[0]) and plain != repeated_prediction_id(b"x" * 32, "order 7", "caller")


def test_those_who_come_meanwhile_wait_and_share_its_fate() -> None:
    async def run() -> None:
        repeats, calls = Repeats(), 0
        go = asyncio.Event()

        async def make() -> Answer:
            nonlocal calls
            calls += 1
            await go.wait()
            await asyncio.sleep(0)
            if calls == 2:
                raise NotReadyError("low tide")
            return Answer(200, b"1")

        waiting = [asyncio.create_task(repeats.answer(ONCE, b"body", make)) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(ConflictError):
            await repeats.answer(ONCE, b"other", make)
        go.set()
        assert [(await task).body for task in waiting] == [b"1"] * 3 and calls == 1
        other = Once("other", "caller")
        failing = [asyncio.create_task(repeats.answer(other, b"body", make)) for _ in range(2)]
        results = await asyncio.gather(*failing, return_exceptions=True)
        assert [type(result) for result in results] == [NotReadyError] * 2 and calls == 2
        assert (await repeats.answer(other, b"new body", make)).body == b"1", "what failed is forgotten"

    asyncio.run(run())


def test_answers_are_forgotten_by_time_and_by_size() -> None:
    async def run() -> None:
        now, calls = 0.0, 0

        async def make() -> Answer:
            nonlocal calls
            calls += 1
            return Answer(200, b"x" * 1000)

        async def send(key: int) -> int:
            await repeats.answer(Once(str(key), ""), b"", make)
            return calls

        repeats = Repeats(seconds=10, most_bytes=10_000, clock=lambda: now)
        assert [await send(key) for key in (1, 2, 1, 2)] == [1, 2, 2, 2]
        now = 11.0
        assert [await send(key) for key in (1, 2)] == [3, 4]
        for key in range(100, 110):
            await send(key)
        calls = 0
        assert await send(109) == 0 and await send(1) == 1, "the newest is still known, and the oldest is not"

    asyncio.run(run())
