"""The door: who may send requests, of what kind, and how much of them is read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tidemill.errors import TidemillError, TooLargeError
from tidemill.serving.answering import RequestError, error_answer
from tidemill.serving.asgi import Message
from tidemill.serving.guard import Guard, RequestHead

GUARD = Guard(hosts=["tide.example.org"], origins=["https://label.example.org"], max_body=100, patience=0.2)


def status(head: RequestHead) -> int:
    with pytest.raises(TidemillError) as refused:
        GUARD.check(head)
    answer = error_answer(refused.value)
    assert refused.value.what
    assert refused.value.mend
    return answer.status


@pytest.mark.parametrize(
    "host",
    [
        b"127.0.0.1",
        b"127.0.0.1:8321",
        b"localhost:1",
        b"LOCALHOST",
        b"[::1]:8321",
        b"a.localhost",
        b"tide.example.org:80",
    ],
)
def test_names_of_this_machine_and_configured_ones_are_answered(host: bytes) -> None:
    GUARD.check(RequestHead(host=host))


@pytest.mark.parametrize(
    "host",
    [
        b"evil.example.com",
        b"evil.example.com:8321",
        b"127.0.0.1.evil.example.com",
        b"localhost.evil.example.com",
        b"evil-localhost",
        b"10.0.0.7",
        b"0.0.0.0",
        b"[::ffff:10.0.0.7]",
        b"[::1",
        b"127.0.0.1@evil.example.com",
        b"127.0.0.1:80:80",
        b"",
        b"\xff\xfe",
    ],
)
def test_any_other_host_is_refused(host: bytes) -> None:
    assert status(RequestHead(host=host)) == 403


def test_a_request_without_host_is_refused() -> None:
    assert status(RequestHead()) == 400


@pytest.mark.parametrize("origin", [b"http://localhost:3000", b"http://127.0.0.1:8321", b"https://label.example.org"])
def test_pages_of_this_machine_and_configured_ones_may_ask(origin: bytes) -> None:
    GUARD.check(RequestHead(host=b"localhost", origin=origin))


@pytest.mark.parametrize(
    "origin",
    [
        b"null",
        b"",
        b"https://evil.example.com",
        b"http://label.example.org",
        b"https://label.example.org.evil.com",
        b"http://localhost.evil.com",
        b"file://localhost",
        b"http://[::1",
    ],
)
def test_pages_of_other_sites_may_not(origin: bytes) -> None:
    assert status(RequestHead(host=b"localhost", origin=origin)) == 403


@pytest.mark.parametrize(("length", "expected"), [(b"101", 413), (b"1" * 400, 413), (b"-1", 400), (b"ten", 400)])
def test_an_announced_body_over_the_limit_is_refused_before_it_is_read(length: bytes, expected: int) -> None:
    assert status(RequestHead(host=b"localhost", content_length=length)) == expected


@pytest.mark.parametrize("kind", [None, b"text/plain", b"application/x-www-form-urlencoded", b"application/jsonx"])
def test_only_json_is_read(kind: bytes | None) -> None:
    with pytest.raises(RequestError) as refused:
        GUARD.require_json(RequestHead(content_type=kind))
    assert refused.value.http_status == 415
    GUARD.require_json(RequestHead(content_type=b"Application/JSON; charset=utf-8"))


def test_a_service_on_all_addresses_answers_to_each_of_them_and_to_no_other_name() -> None:
    everywhere = Guard(hosts=["[2001:db8::7]"], max_body=100, addresses=True)
    for host in (b"192.0.2.7", b"10.0.0.7:8321", b"[2001:db8::8]:8321", b"[2001:db8::7]"):
        everywhere.check(RequestHead(host=host))
    for host in (b"evil.example.com", b"10.0.0.7.evil.example.com", b"10.0.0", b"0x7f.1", b"[::1"):
        with pytest.raises(RequestError):
            everywhere.check(RequestHead(host=host))
    Guard(hosts=["[2001:db8::7]"], max_body=100).check(RequestHead(host=b"[2001:db8::7]:80"))


@pytest.mark.parametrize("name", [b"host", b"authorization", b"origin"])
def test_what_is_said_twice_is_refused(name: bytes) -> None:
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"x", b"1"), (b"x", b"2")]
    assert RequestHead.of({"headers": headers}).host == b"localhost"
    with pytest.raises(RequestError) as refused:
        RequestHead.of({"headers": [*headers, (name, b"localhost"), (name, b"localhost")]})
    assert refused.value.http_status == 400


def sending(*messages: Message) -> Callable[[], Awaitable[Message]]:
    waiting = list(messages)

    async def receive() -> Message:
        if not waiting:
            await asyncio.sleep(60)
        return waiting.pop(0)

    return receive


def part(body: bytes, *, more: bool) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


def test_a_streamed_body_is_read_up_to_the_limit_and_no_further() -> None:
    whole = asyncio.run(GUARD.read_body(sending(part(b"a" * 60, more=True), part(b"b" * 40, more=False))))
    assert whole == b"a" * 60 + b"b" * 40
    taken = []

    async def endless() -> Message:
        taken.append(1)
        return part(b"x" * 30, more=True)

    with pytest.raises(TooLargeError):
        asyncio.run(GUARD.read_body(endless))
    assert len(taken) == 4  # 120 bytes: the first part that goes over is the last one asked for


def test_a_body_that_dawdles_or_breaks_off_is_given_up() -> None:
    with pytest.raises(RequestError) as slow:
        asyncio.run(GUARD.read_body(sending(part(b"a", more=True))))
    assert slow.value.http_status == 408
    with pytest.raises(RequestError) as gone:
        asyncio.run(GUARD.read_body(sending(part(b"a", more=True), {"type": "http.disconnect"})))
    assert gone.value.http_status == 400


def test_routes_that_read_for_themselves_are_limited_too() -> None:
    async def read() -> None:
        receive = GUARD.limited(sending(part(b"a" * 60, more=True), part(b"b" * 60, more=False)))
        await receive()
        with pytest.raises(TooLargeError):
            await receive()
        slow = GUARD.limited(sending(part(b"a", more=True)))
        await slow()
        with pytest.raises(RequestError) as refused:
            await slow()
        assert refused.value.http_status == 408
        whole = GUARD.limited(sending(part(b"a", more=False), {"type": "http.disconnect"}))
        await whole()
        await asyncio.sleep(0.3)
        assert (await whole())["type"] == "http.disconnect"  # for which one may wait as long as one likes

    asyncio.run(read())
