"""The bulk door: statements a line each, committed while they arrive, answered in their order."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from small_project import Served, digit

from tidemill.records import Feedback, Member
from tidemill.serving.bulk import MAX_LINE
from tidemill.serving.describing import BULK

HEAD = {"content-type": "application/x-ndjson"}


@pytest.fixture(scope="module")
def predictions(service: Served) -> list[str]:
    answers = service.client.post("/v1/predict", json={"inputs": [digit(row) for row in range(40)]}).json()
    return [answer["id"] for answer in answers["predictions"]]


def lines_of(*statements: Any) -> bytes:
    return b"".join(s if isinstance(s, bytes) else json.dumps(s).encode() + b"\n" for s in statements)


def send(service: Served, body: Any, **headers: str) -> list[dict[str, Any]]:
    answer = service.client.post(BULK, content=body, headers=HEAD | headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.headers["x-content-type-options"] == "nosniff"
    return [json.loads(line) for line in answer.text.splitlines()]


def confirm(prediction: str, **fields: Any) -> dict[str, Any]:
    return {"prediction": prediction, "kind": "confirmation", **fields}


def test_every_line_is_answered_in_its_order_and_a_broken_one_stops_no_other(
    service: Served, predictions: list[str]
) -> None:
    one, two, three = predictions[:3]
    body = lines_of(
        confirm(one, author="ada", key="b1"),
        b"{not json\n",
        b"\n",
        [1, 2],
        {"prediction": two, "kind": "correction", "value": "99"},
        {"prediction": two, "kind": "preference", "value": {"over": three}},
        confirm(one, author="ada", key="b1"),
        confirm(two, author="ada", key="b1"),
        {"episode": "visit 1", "predictions": [one, two], "kind": "reward", "value": 0.5},
        b'{"prediction": "' + three.encode() + b'", "kind": "rating", "value": 4}',  # and no line break at the end
    )
    told = send(service, body)
    assert [t["line"] for t in told] == [1, 2, 4, 5, 6, 7, 8, 9, 10]
    statuses = [t["status"] for t in told]
    refused, accepted = ["refused"] * 3, ["accepted"]
    assert statuses == [*accepted, *refused, *accepted, "repeated", "conflict", *accepted * 2]
    assert told[1]["error"]["where"] == "line 2" and "JSON" in told[1]["error"]["what"]
    assert told[3]["error"]["where"] == "line 5.value" and told[3]["error"]["mend"]
    assert told[5]["feedback"] == told[0]["feedback"] and told[6]["error"]["code"] == "conflict"
    store = service.project.store
    assert store.get(Feedback, told[0]["feedback"]).author == "ada"
    pair, episode = store.get(Feedback, told[4]["feedback"]), store.get(Feedback, told[7]["feedback"])
    assert pair.subject.startswith("pair:") and episode.subject == "episode:visit 1"
    members = {(m.subject, m.prediction) for m in store.find(Member)}
    assert members == {(pair.subject, two), (pair.subject, three), (episode.subject, one), (episode.subject, two)}


def test_a_body_larger_than_any_other_may_be_is_taken_and_can_be_sent_again(
    service: Served, predictions: list[str]
) -> None:
    said = [
        {"prediction": predictions[n % 40], "kind": "comment", "value": f"number {n} " + "x" * 300, "author": f"u{n}"}
        for n in range(4000)
    ]
    body = lines_of(*said)
    assert len(body) > service.project.config.serve.max_body_mb * 1e6
    half = body[: body.index(b'"number 2500 ')]
    first = send(service, half[: half.rindex(b"\n") + 1], **{"idempotency-key": "upload 7"})
    assert {t["status"] for t in first} == {"accepted"} and len(first) == 2500
    again = send(service, body, **{"idempotency-key": "upload 7"})
    assert [t["status"] for t in again] == ["repeated"] * 2500 + ["accepted"] * 1500
    assert [t["feedback"] for t in again[:2500]] == [t["feedback"] for t in first]
    assert service.project.store.count(Feedback, kind="comment") == 4000


def test_who_reads_nothing_until_all_is_sent_is_answered_all_the_same(service: Served) -> None:
    """As most clients do. There are many times more answers than the buffers between the two can hold."""
    place = httpx.URL(service.url)
    with socket.socket() as wire:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        wire.settimeout(60)
        wire.connect((place.host, place.port or 0))
        body = b"x" * 200 + b"\n"
        head = f"POST {BULK} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
        wire.sendall(f"{head}Content-Length: {40_000 * len(body)}\r\n\r\n".encode())
        for _ in range(400):
            wire.sendall(body * 100)
        answer = http.client.HTTPResponse(wire)
        answer.begin()
        told = answer.read()
    assert len(told) > 6_000_000
    assert told.count(b'"status":"refused"') == 40_000 and told.splitlines()[-1].startswith(b'{"line":40000,')


@pytest.fixture
def open_wire(service: Served) -> Iterator[socket.socket]:
    """A connection whose request has begun, in chunks."""
    place = httpx.URL(service.url)
    with socket.create_connection((place.host, place.port or 0), timeout=20) as wire:
        head = f"POST {BULK} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
        wire.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        yield wire


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def test_a_line_is_answered_before_the_next_one_is_sent(open_wire: socket.socket, predictions: list[str]) -> None:
    heard = b""
    for number in (1, 2, 3):
        open_wire.sendall(chunk(lines_of(confirm(predictions[number], author="bob"))))
        while f'"line":{number},'.encode() not in heard:
            part = open_wire.recv(65536)
            assert part, heard
            heard += part
    open_wire.sendall(b"0\r\n\r\n")
    while not heard.endswith(b"0\r\n\r\n"):
        heard += open_wire.recv(65536)
    assert heard.count(b'"status":"accepted"') == 3


def test_who_goes_away_loses_only_what_was_not_answered(
    service: Served, open_wire: socket.socket, predictions: list[str]
) -> None:
    whole = lines_of(*(confirm(prediction, author="cem") for prediction in predictions[:10]))
    partly = lines_of(confirm(predictions[10], author="cem"))[:-1]  # as it stands it would be a statement
    open_wire.sendall(chunk(whole + partly))
    heard = b""
    while heard.count(b'"status":"accepted"') < 10:
        heard += open_wire.recv(65536)
    open_wire.close()
    send(service, lines_of(confirm(predictions[11], author="dora")))  # by now the other one has ended
    assert service.project.store.count(Feedback, author="cem") == 10


def test_a_line_without_end_takes_no_memory_and_is_refused_once(service: Served, predictions: list[str]) -> None:
    long = b'{"prediction": "' + b"x" * (3 * MAX_LINE)
    told = send(service, iter([long, b'"}\n', lines_of(confirm(predictions[12], author="eve")), b"y" * (2 * MAX_LINE)]))
    assert [(t["line"], t["status"]) for t in told] == [(1, "refused"), (2, "accepted"), (3, "refused")]
    assert told[0]["error"]["code"] == told[2]["error"]["code"] == "too_large"


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/x-www-form-urlencoded", ""])
def test_what_a_page_could_send_without_asking_is_refused(service: Served, kind: str) -> None:
    answer = service.client.post(BULK, content=b"{}\n", headers={"content-type": kind} if kind else {})
    assert answer.status_code == 415 and "application/x-ndjson" in answer.json()["error"]["mend"]


def test_nothing_at_all_is_no_mistake(service: Served) -> None:
    assert send(service, b"") == [] and send(service, b"\n \n") == []


def test_when_nothing_can_be_committed_the_caller_is_told_where_it_stopped(
    service: Served, open_wire: socket.socket, predictions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    comment = {"kind": "comment", "value": "hm", "author": "fay"}
    open_wire.sendall(chunk(lines_of({"prediction": predictions[0], **comment})))
    heard = b""
    while b'"status":"accepted"' not in heard:
        heard += open_wire.recv(65536)
    monkeypatch.setattr(service.project.store.database, "_failed", "fsync failed, so nothing more is acknowledged")
    open_wire.sendall(chunk(lines_of(*({"prediction": p, **comment} for p in predictions[1:4]))))
    while not heard.endswith(b"0\r\n\r\n"):
        part = open_wire.recv(65536)
        assert part, heard
        heard += part
    assert heard.count(b'"status":"refused","error":{"code":"store"') == 3 and b'{"line":4,' in heard
    monkeypatch.undo()
    assert service.project.store.count(Feedback, author="fay") == 1
