"""Connections that dawdle, crowd, garble or smuggle: told so, closed, and no harm to anybody else."""

from __future__ import annotations

import contextlib
import gc
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from small_project import Served, SmallProject, digit, raw, rest_of, said_once, served
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from tidemill.records import Model
from tidemill.runtime import Predictor
from tidemill.serving import server
from tidemill.serving.connection import LARGEST_HEAD, MOST_HEADERS, Shelves

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
POST = b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"


class Hasty:
    """A server with little patience: its address, and its shelves."""

    def __init__(self, running: Served, shelves: Shelves) -> None:
        self.url, self.client, self.shelves = running.url, running.client, shelves
        self.place = (httpx.URL(running.url).host, httpx.URL(running.url).port or 0)

    def connect(self) -> socket.socket:
        return socket.create_connection(self.place, timeout=20)


@contextlib.contextmanager
def hasty(project: SmallProject, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Iterator[Hasty]:
    made: list[Shelves] = []

    def shelves(most: int) -> Shelves:
        made.append(Shelves(most, head_seconds=0.4, body_seconds=0.4, answer_seconds=0.4))
        return made[0]

    monkeypatch.setattr(server, "Shelves", shelves)
    serve = project.config.serve.model_copy(update=settings)
    with served(SmallProject(project.dir, project.config.model_copy(update={"serve": serve}), project.store)) as up:
        yield Hasty(up, made[0])


@pytest.fixture
def project(trained: SmallProject) -> SmallProject:
    if trained.store.champion() is None:
        trained.deploy(trained.store.find(Model)[0])
    return trained


def test_heads_and_bodies_that_dawdle_are_given_up(project: SmallProject, monkeypatch: pytest.MonkeyPatch) -> None:
    with hasty(project, monkeypatch) as at:
        for begun, what in ((b"", "head"), (b"GET /heal", "head"), (HEALTH[:-2] + b"X-Slow: ", "head")):
            status, headers, body = said_once(raw(at.url, begun))
            assert (status, headers["connection"]) == (408, "close")
            assert what in body["error"]["what"]
        for path in (b"/v1/predict", b"/v1/models", b"/v1/nothing"):
            head = POST.replace(b"/v1/predict", path) + b"Content-Length: 100\r\n\r\n"
            for begun in (head, head + b'{"inputs"'):
                answer = raw(at.url, begun)
                assert answer.count(b"HTTP/1.1 ") == 1
                assert answer[9:12] in (b"408", b"404", b"405")  # who does not read the body need not wait for it
        assert at.client.get("/healthz").status_code == 200


def test_a_byte_now_and_then_buys_no_time(project: SmallProject, monkeypatch: pytest.MonkeyPatch) -> None:
    with hasty(project, monkeypatch) as at:
        for first, drop in ((b"GET / HTTP/1.1\r\nX: ", b"x"), (HEALTH, b"\r\n"), (b"", b"\r\n")):
            with at.connect() as wire:
                wire.sendall(first)
                sent = 0
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    while sent < 400:
                        wire.sendall(drop)
                        sent += 1
                        time.sleep(0.02)
                assert sent < 400  # eight seconds of drops
        wait_for(lambda: not at.shelves.heads)


def test_who_dawdles_or_idles_makes_room_for_who_asks(project: SmallProject, monkeypatch: pytest.MonkeyPatch) -> None:
    with hasty(project, monkeypatch, max_connections=6) as at, contextlib.ExitStack() as stack:
        object.__setattr__(at.shelves, "head_seconds", 1000.0)
        for _ in range(30):
            wire = stack.enter_context(at.connect())
            wire.sendall(b"GET /healthz HTTP/1.1\r\nX-Slow: ")
            assert raw(at.url, HEALTH.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))[9:12] == b"200"
        assert len(at.shelves.heads) <= 6
        at.client.get("/healthz")
        assert len(at.shelves.idle) == 1


def test_when_all_are_being_answered_a_newcomer_is_told_to_come_back(
    project: SmallProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, release = threading.Event(), threading.Event()
    scores = Predictor.scores

    def slow(predictor: Predictor, columns: Any) -> Any:
        reached.set()
        assert release.wait(30)
        return scores(predictor, columns)

    monkeypatch.setattr(Predictor, "scores", slow)
    body = json.dumps({"inputs": digit(0)}).encode()
    request = POST + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body
    with hasty(project, monkeypatch, max_connections=2) as at, contextlib.ExitStack() as stack:
        callers = [stack.enter_context(at.connect()) for _ in range(2)]
        for caller in callers:
            caller.sendall(request)
        assert reached.wait(30)
        wait_for(lambda: not at.shelves.heads and not at.shelves.bodies)
        status, headers, told = said_once(raw(at.url, b""))
        assert (status, headers["retry-after"]) == (503, "1")
        assert "connections" in told["error"]["what"]
        release.set()
        for caller in callers:
            assert said_once(rest_of(caller))[0] == 200


def test_who_does_not_read_its_answers_is_sent_away(project: SmallProject, monkeypatch: pytest.MonkeyPatch) -> None:
    with hasty(project, monkeypatch) as at, socket.socket() as wire:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.settimeout(20)
        wire.connect(at.place)
        wire.sendall(HEALTH.replace(b"/healthz", b"/openapi.json") * 400)  # 8 MB of answers
        wait_for(lambda: at.shelves.slow)
        wait_for(lambda: not at.shelves.slow)
        assert len(rest_of(wire)) < 6_000_000
        assert at.client.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    "head",
    [
        b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Large: " + b"x" * 40_000,
        b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Large: " + b"x" * 200_000,
        b"GET /healthz?" + b"x" * 40_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X: y\r\n" * MOST_HEADERS,
        b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X: y\r\n" * 5000,
    ],
)
@pytest.mark.parametrize("pieces", [1, 7])
def test_large_heads_are_refused(service: Served, head: bytes, pieces: int) -> None:
    whole = head + b"\r\n\r\n"
    size = len(whole) // pieces + 1
    with contextlib.suppress(ConnectionError):  # the server may close while we are still talking
        answer = raw(service.url, *(whole[i : i + size] for i in range(0, len(whole), size)))
        assert answer == b"" or answer[9:12] == b"431", answer
    assert service.client.get("/healthz").status_code == 200


def test_heads_within_the_limit_are_read(service: Served) -> None:
    large = {"X-Large": "x" * (LARGEST_HEAD - 2000)}
    assert service.client.get("/healthz", headers=large).status_code == 200
    many = {f"X-{i}": "y" for i in range(MOST_HEADERS - 10)}
    assert service.client.get("/healthz", headers=many).status_code == 200


START = b"POST /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"
INNER = b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@pytest.mark.parametrize(
    "request_",
    [
        START + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        START + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        START + b"Content-Length: 0\r\nContent-Length: 44\r\n\r\n",
        START + b"Content-Length: 0, 44\r\n\r\n",
        START + b"Content-Length: +0\r\n\r\n",
        START + b"Content-Length : 44\r\n\r\n",
        START + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        START + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        START + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
        START + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\n",
        START + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: a\x00b\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX\x00: a\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET /heal thz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_what_two_parsers_could_read_differently_gets_no_second_answer(service: Served, request_: bytes) -> None:
    answer = raw(service.url, request_ + INNER)
    status, headers, body = said_once(answer)
    assert (status, headers["connection"]) == (400, "close")
    assert body["error"]["mend"]
    assert b"owned_by" not in answer


def test_a_good_request_before_a_garbled_one_gets_its_own_answer(service: Served) -> None:
    body = json.dumps({"inputs": digit(0)}).encode()
    good = POST + b"Content-Length: %d\r\n\r\n" % len(body) + body
    status, _, told = said_once(raw(service.url, good + b"\x00\x01garbage\r\n\r\n" + INNER))
    assert status == 200
    assert told["predictions"][0]["label"] == "0"


def test_requests_in_a_row_are_answered_in_their_order_up_to_the_garbled_one(service: Served) -> None:
    rows = [json.dumps({"inputs": [digit(row), digit(row)]}).encode() for row in range(3)]
    good = b"".join(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body for body in rows)
    broken = POST + b"Transfer-Encoding: chunked\r\n\r\nnothing\r\n"
    answer = raw(service.url, good + broken + INNER)
    assert 1 <= answer.count(b"HTTP/1.1 200") <= 3
    labels = [part.partition(b'"label":"')[2][:1] for part in answer.split(b"HTTP/1.1 200")[1:]]
    assert labels == [b"0", b"1", b"2"][: len(labels)]
    assert b"owned_by" not in answer


@pytest.mark.parametrize(
    "asks_for_it", [b"POST /v1/predict HTTP/1.0", b"POST /v1/predict HTTP/1.1\r\nConnection: close"]
)
def test_whoever_asks_for_one_answer_gets_it_whole_and_is_let_go(service: Served, asks_for_it: bytes) -> None:
    body = json.dumps({"inputs": digit(0)}).encode()
    head = POST.replace(b"POST /v1/predict HTTP/1.1", asks_for_it) + b"Content-Length: %d\r\n\r\n" % len(body)
    status, headers, told = said_once(raw(service.url, head + body))
    assert (status, headers["connection"], told["predictions"][0]["label"]) == (200, "close", "0")
    kept = service.client.post("/v1/predict", json={"inputs": digit(0)})
    assert {name for name in headers if name != "connection"} == {name.lower() for name in kept.headers}
    assert kept.headers["x-content-type-options"] == "nosniff"


def test_the_answer_to_head_has_the_length_of_a_body_and_none(service: Served) -> None:
    foreign = b"HEAD /v1/models HTTP/1.1\r\nHost: elsewhere.example\r\nConnection: close\r\n\r\n"
    head, _, body = raw(service.url, foreign).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 403")
    assert body == b""
    length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
    assert int(length.partition(b":")[2]) > 0


def test_requests_that_were_answered_leave_nothing_to_the_collector(service: Served) -> None:
    gc.collect()
    gc.disable()  # whose passes over everything would hold up all answers under way
    try:
        for _ in range(50):
            assert service.client.post("/v1/predict", json={"inputs": digit(0)}).status_code == 200
        assert sum(isinstance(one, RequestResponseCycle) for one in gc.get_objects()) < 10
    finally:
        gc.enable()


def test_who_asks_several_times_and_goes_away_leaves_nothing_in_the_log(
    project: SmallProject, caplog: pytest.LogCaptureFixture
) -> None:
    body = json.dumps({"inputs": [digit(0)] * 50}).encode()
    asked = POST + b"Content-Length: %d\r\n\r\n" % len(body) + body
    with served(project) as running:
        place = (httpx.URL(running.url).host, httpx.URL(running.url).port or 0)
        for row in range(20):
            with socket.create_connection(place, timeout=20) as wire:
                wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # as one that crashes
                wire.sendall(asked * 3 if row % 2 else HEALTH.replace(b"/healthz", b"/openapi.json") * 3)
        assert running.client.get("/healthz").status_code == 200
    assert caplog.text == ""


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"TLS/1.0"])
def test_another_protocol_is_not_spoken(service: Served, protocol: bytes, caplog: pytest.LogCaptureFixture) -> None:
    head = HEALTH[:-2] + b"Connection: Upgrade\r\nUpgrade: %s\r\nSec-WebSocket-Key: eA==\r\n\r\n" % protocol
    status, headers, _ = said_once(raw(service.url, head + INNER))
    assert (status, headers["connection"]) == (200, "close")
    assert "WebSocket" not in caplog.text


def test_many_connections_that_break_off_leave_nothing_behind(
    project: SmallProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hasty(project, monkeypatch) as at:
        for piece in (b"", b"GET", HEALTH, POST + b"Content-Length: 9\r\n\r\n{", b"\xff"):
            for _ in range(20):
                with at.connect() as wire:
                    wire.sendall(piece)
        shelves = at.shelves
        wait_for(lambda: not any((shelves.heads, shelves.bodies, shelves.idle, shelves.slow)))


def wait_for(true: Any) -> None:
    for _ in range(200):
        if true():
            return
        time.sleep(0.05)
    pytest.fail("it did not happen within ten seconds")
