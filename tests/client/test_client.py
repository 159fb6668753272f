"""The client against a real server: what it sends, what it gives back, and which errors it raises."""

from __future__ import annotations

import asyncio
import inspect
import io
import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_project import Served, SmallProject, digit, digits, served

import tidemill
from tidemill.client import Answer, AsyncClient, Client
from tidemill.client.calls import ROWS, STATEMENTS, encoded
from tidemill.client.retrying import Retries
from tidemill.errors import (
    AccessError,
    BusyError,
    ConflictError,
    InputError,
    NotFoundError,
    NotReadyError,
    ServiceError,
    StoreError,
    TidemillError,
    TooLargeError,
)
from tidemill.records import Feedback, Prediction
from tidemill.serving.tokens import make_token

ONCE = Retries(most=0)
QUICK = Retries(most=3, first=0.001, longest=0.002)


@pytest.fixture(scope="module")
def client(service: Served) -> Iterator[Client]:
    with Client(service.url) as made:
        yield made


def test_one_row_and_many(service: Served, client: Client) -> None:
    one = client.predict(digit(3), caller="pier", key="boat 7")
    assert isinstance(one, Answer)
    champion = service.project.store.champion()
    assert champion is not None
    assert (one.model, one.deployment) == (champion.model_id, champion.id)
    assert one.scores is not None and one.label is not None and one.score == one.scores[one.label]
    assert (one.labels, one.value, one.interval, one.abstained) == (None, None, None, False)
    many = client.predict(digit(row) for row in range(ROWS + 1))
    assert len(many) == ROWS + 1 and many[3].scores == one.scores
    assert client.predict([]) == []
    stored = client.trace(one.id)["prediction"]
    assert (stored["caller"], stored["id"]) == ("pier", one.id)
    assert client.models()[0]["champion"] and client.ready()


def test_an_image_in_every_form(client: Client, tmp_path: Path) -> None:
    pixels = digits()[0][5]
    file = io.BytesIO()
    picture = Image.fromarray(pixels[..., 0])
    picture.save(file, "PNG")
    (tmp_path / "five.png").write_bytes(file.getvalue())
    forms = [pixels, pixels[..., 0].T.T, np.asfortranarray(pixels[..., 0]), pixels[..., 0].tolist(), picture]
    forms += [file.getvalue(), memoryview(file.getvalue()), tmp_path / "five.png"]
    answers = client.predict({"image": form} for form in forms)
    assert len({str(answer.scores) for answer in answers}) == 1
    with pytest.raises(NotFoundError, match=r"nothing\.png"):
        client.predict({"image": tmp_path / "nothing.png"})
    with pytest.raises(InputError, match="a object cannot be sent"):
        client.predict({"image": object()})


def noise(side: int, seed: int = 0) -> bytes:
    """A picture that takes as many bytes as it has pixels."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side), np.uint8)).save(file, "PNG")
    return file.getvalue()


def test_any_number_of_rows_whatever_the_service_takes_at_once(tmp_path: Path) -> None:
    """By rows, by bytes and by pixels; sent again under its key all of it is the same."""
    project = SmallProject.create(tmp_path, max_rows=100, max_body_mb=9, max_megapixels=5)
    limits = project.config.limits.model_copy(update={"image_megapixels": 4.0})
    project.config = project.config.model_copy(update={"limits": limits})
    project.deploy(project.add_model("ridge"))
    many = [digit(row) for row in range(260)]
    large = [{"image": noise(1400, seed)} for seed in range(4)]  # 2 MP and 2.6 MB in base64 each
    with project.store, served(project) as running, Client(running.url) as client:
        sent: list[str] = []
        client._http.event_hooks["request"] = [lambda request: sent.append(request.headers["idempotency-key"])]
        singly = [client.predict(row) for row in (many[0], many[259], large[0], large[3])]
        assert [answer.label for answer in singly[2:]] == [client.predict(large)[i].label for i in (0, 3)]
        sent.clear()
        first = client.predict(many, idempotency_key="order")
        assert sent == ["order", "order#0.0", "order#0.0.0", "order#0.0.1", "order#0.1", "order#0.1.0", "order#0.1.1"]
        assert [first[0].label, first[259].label] == [answer.label for answer in singly[:2]] and len(first) == 260
        assert len({answer.id for answer in first}) == 260
        sent.clear()
        pictures = client.predict(large, idempotency_key="photos")
        assert sent == ["photos", "photos#0.0", "photos#0.1", "photos#1"], "three are 8 MB, and two are 5 megapixels"
        again = asyncio.run(_asked(running.url, many, large))
        assert [[answer.id for answer in part] for part in again] == [
            [answer.id for answer in part] for part in (first, pictures)
        ]
        with pytest.raises(TooLargeError) as refused:
            client.predict([*many[:3], {"image": noise(2100)}])
        assert str(refused.value.where).startswith("row 4")
    project.store.close()


async def _asked(url: str, many: list[Any], large: list[Any]) -> list[list[Answer]]:
    async with AsyncClient(url) as client:
        return [
            await client.predict(many, idempotency_key="order"),
            await client.predict(large, idempotency_key="photos"),
        ]


def test_numbers_dates_and_other_values_are_written_as_json() -> None:
    import datetime

    row = {"a": np.float32(1.5), "b": np.int64(2), "c": datetime.date(2026, 1, 31), "d": float("nan"), "e": None}
    assert json.loads(encoded(row)) == {"a": 1.5, "b": 2, "c": "2026-01-31", "d": None, "e": None}


def test_feedback_of_every_kind(service: Served, client: Client) -> None:
    wrong, fine = client.predict([digit(10), digit(11)])
    first = client.correct(wrong, 3, author="ada", asked=True)
    assert first.status == "accepted" and first.feedback is not None
    stored = service.project.store.get(Feedback, first.feedback)
    assert (stored.subject, stored.value, stored.author, stored.asked) == (wrong.id, "3", "ada", True)
    assert client.confirm(wrong.id, author="ada").superseded == first.feedback
    receipts = [
        client.rate(fine, 4, author="bo"),
        client.reward(fine, 0.5),
        client.comment(fine, "blurred"),
        client.prefer(fine, over=wrong),
        client.feedback(fine, "7", key="k-1"),
    ]
    kinds = [service.project.store.get(Feedback, str(receipt.feedback)).kind for receipt in receipts]
    assert kinds == ["rating", "reward", "comment", "preference", "correction"]
    again = client.feedback(fine, "7", key="k-1")
    assert (again.status, again.feedback) == ("repeated", receipts[-1].feedback)
    with pytest.raises(ConflictError, match="k-1"):
        client.feedback(fine, "8", key="k-1")
    with pytest.raises(InputError, match="33"):
        client.correct(fine, "33")


def test_much_feedback(service: Served, client: Client) -> None:
    given = client.predict(digit(row) for row in range(20))
    before = service.project.store.count(Feedback)
    many = STATEMENTS + 20
    said = ({"prediction": given[n % 20].id, "kind": "comment", "value": str(n)} for n in range(many))
    receipts = list(client.feedback_many(said))
    assert [receipt.status for receipt in receipts] == ["accepted"] * many
    assert len({receipt.feedback for receipt in receipts}) == many
    assert service.project.store.count(Feedback) == before + many
    assert list(client.feedback_many([])) == []
    odd = {"prediction": given[0].id, "kind": "correction", "value": "elephant"}
    good = {"prediction": given[0].id, "kind": "correction", "value": "3", "key": "bulk"}
    refused, accepted, repeated, conflict = client.feedback_many([odd, good, good, {**good, "value": "4"}])
    assert refused.feedback is None and refused.error is not None and "elephant" in refused.error["what"]
    assert [r.status for r in (refused, accepted, repeated, conflict)] == [
        "refused",
        "accepted",
        "repeated",
        "conflict",
    ]
    assert accepted.feedback == repeated.feedback and conflict.error is not None


def test_what_the_service_refuses_is_raised_as_what_it_is(client: Client) -> None:
    with pytest.raises(InputError, match="imag") as refused:
        client.predict([digit(0), {"imag": 1}])
    assert refused.value.where == "row 2" and "image" in str(refused.value.mend)
    with pytest.raises(TooLargeError):
        client.predict({"image": b"x" * 20_000_000})
    with pytest.raises(NotFoundError, match="pred_"):
        client.confirm("pred_01k00000000000000000000000000000")
    with pytest.raises(NotFoundError):
        client.trace("run/../../1 ?")
    with pytest.raises(ConflictError, match="order"):
        client.predict(digit(1), idempotency_key="order")
        client.predict(digit(2), idempotency_key="order")
    assert client.predict(digit(1), idempotency_key="order").id == client.predict(digit(1), idempotency_key="order").id


def test_tokens_by_argument_and_by_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = SmallProject.create(tmp_path)
    _, text = make_token(project.store, "shop", ["predict"])
    with served(project) as empty:
        with Client(empty.url) as stranger, pytest.raises(AccessError, match="needs a token") as refused:
            stranger.predict(digit(0))
        assert text not in str(refused.value)
        with Client(empty.url, text, retries=ONCE) as known:
            with pytest.raises(NotReadyError, match="promoted"):
                known.predict(digit(0))
            with pytest.raises(AccessError, match="admin"):
                known.trace("run_1")
            assert not known.ready()
        monkeypatch.setenv("TIDEMILL_TOKEN", text)
        with Client(empty.url, retries=ONCE) as by_environment:
            assert by_environment.models() == []
        with Client(empty.url, "tm_wrong", retries=ONCE) as wrong, pytest.raises(AccessError, match="not known"):
            wrong.models()
    project.store.close()


def test_a_certificate_of_ones_own(tmp_path: Path) -> None:
    making = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    files = "-addext subjectAltName=IP:127.0.0.1 -keyout tide.key -out tide.pem"
    subprocess.run([*making.split(), *files.split()], check=True, capture_output=True, cwd=tmp_path)
    project = SmallProject.create(tmp_path, tls_certificate="tide.pem", tls_key="tide.key")
    with served(project, verify=False) as running:
        with Client(running.url, ca=tmp_path / "tide.pem") as trusting:
            assert trusting.models() == []
        with Client(running.url, retries=ONCE) as careful, pytest.raises(ServiceError, match="certificate"):
            careful.models()
    project.store.close()
    (tmp_path / "odd.pem").write_text("no certificate\n")
    for file, kind in (("nothing.pem", NotFoundError), ("odd.pem", InputError)):
        with pytest.raises(kind, match=file):
            Client(ca=tmp_path / file)


@pytest.mark.parametrize(("url", "token"), [("localhost:8321", None), ("ftp://x", None), ("http://x", "two words")])
def test_what_is_no_address_or_token(url: str, token: str | None) -> None:
    with pytest.raises(InputError) as refused:
        Client(url, token)
    assert refused.value.mend


class _Moody(BaseHTTPRequestHandler):
    """Answers as told, and notes what was asked."""

    answers: list[tuple[int, dict[str, str], bytes]]
    seen: list[tuple[str | None, bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.seen.append((self.headers["idempotency-key"], body))
        status, headers, content = self.answers.pop(0)
        self.send_response(status)
        for name, value in {"content-length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


GOOD = (200, {}, json.dumps({"model": "m", "deployment": "d", "predictions": [{"id": "p", "audit": False}]}).encode())


@contextmanager
def moody(*answers: tuple[int, dict[str, str], bytes]) -> Iterator[tuple[str, list[tuple[str | None, bytes]]]]:
    handler = type("Handler", (_Moody,), {"answers": list(answers), "seen": []})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", handler.seen  # type: ignore[attr-defined]
        finally:
            server.shutdown()
            thread.join()


def busy(status: int, code: str = "overloaded", **headers: str) -> tuple[int, dict[str, str], bytes]:
    said = {"error": {"code": code, "what": "low tide", "where": None, "mend": None}}
    return status, headers, json.dumps(said).encode()


def test_it_comes_back_after_answers_that_ask_for_patience() -> None:
    cut = (200, {"content-length": "999"}, b"{")  # the connection is closed in the middle of the answer
    moods = (busy(503), busy(429, **{"retry-after": "0"}), (502, {}, b"<html>"), cut, GOOD)
    with moody(*moods) as (url, seen), Client(url, retries=Retries(most=4, first=0.001)) as client:
        assert client.predict({"a": 1}).id == "p"
    assert len(seen) == 5 and len(set(seen)) == 1, "each try is the same, under the same key"
    assert seen[0][0] is not None and seen[0][0].startswith("call_")


@pytest.mark.parametrize(
    ("answers", "kind", "tries"),
    [
        ([busy(503)] * 5, BusyError, 4),
        ([busy(503, "not_ready")] * 5, NotReadyError, 4),
        ([busy(429, "rate")] * 5, BusyError, 4),
        ([busy(503, **{"retry-after": "60"})] * 2, BusyError, 1),
        ([busy(500, "internal")] * 2, ServiceError, 1),
        ([busy(418, "teapot")] * 2, InputError, 1),
        ([(504, {}, b"<html>")] * 5, ServiceError, 4),
        ([(200, {}, b"<html>")] * 2, ServiceError, 1),
        ([(302, {"location": "http://evil.example/"}, b"")] * 2, InputError, 1),
    ],
)
def test_what_it_gives_up_on(
    answers: list[tuple[int, dict[str, str], bytes]], kind: type[TidemillError], tries: int
) -> None:
    with moody(*answers) as (url, seen), Client(url, retries=QUICK) as client:
        with pytest.raises(kind) as refused:
            client.predict({"a": 1})
        assert type(refused.value) is kind and len(seen) == tries


def test_lines_that_break_off_are_sent_again() -> None:
    good = b'{"line":1,"feedback":"fb_1","status":"accepted"}\n{"line":2,"feedback":"fb_2","status":"repeated"}\n'
    full = (
        b'{"line":1,"status":"refused","error":{"code":"store","what":"the disk is full","where":null,"mend":null}}\n'
    )
    said = [{"prediction": "p", "kind": "confirmation"}] * 2
    moods: list[tuple[int, dict[str, str], bytes]] = [(200, {}, text) for text in (good[:48], full, b"", good)]
    with moody(*moods) as (url, seen), Client(url, retries=QUICK) as client:
        assert [receipt.feedback for receipt in client.feedback_many(said)] == ["fb_1", "fb_2"]
    assert len(seen) == 4 and len(set(seen)) == 1 and seen[0][1].count(b'"key":"call_') == 2
    full_disk = pytest.raises(StoreError, match="disk is full")
    with moody((200, {}, full)) as (url, _), Client(url, retries=ONCE) as client, full_disk:
        list(client.feedback_many(said))


def test_nobody_there() -> None:
    with Client("http://127.0.0.1:9", retries=QUICK) as client, pytest.raises(ServiceError, match="4 tries") as refused:
        client.predict({"a": 1})
    assert refused.value.where == "http://127.0.0.1:9" and refused.value.__cause__ is not None


def test_pauses_grow_differ_and_obey() -> None:
    pauses = [[Retries().pause(made, 0.0, None) or 0.0 for _ in range(50)] for made in range(1, 7)]
    assert [max(some) <= 0.1 * 2**n for n, some in enumerate(pauses)] == [True] * 6
    assert len({pause for some in pauses for pause in some}) == 300
    assert max(pauses[5]) > max(pauses[0])
    told = Retries().pause(1, 0.0, "3")
    assert told is not None and 3 <= told <= 3.1
    assert Retries().pause(1, 29.0, "3") is None and Retries().pause(7, 0.0, None) is None


def test_the_other_client_does_the_same(service: Served) -> None:
    async def run() -> None:
        async with AsyncClient(service.url) as client:
            one, many = await asyncio.gather(client.predict(digit(3)), client.predict([digit(3), digit(4)]))
            assert isinstance(one, Answer) and isinstance(many, list) and one.scores == many[0].scores
            assert (await client.correct(one, 3, author="eve")).status == "accepted"
            for receipt in (
                await client.confirm(one), await client.rate(one, 1), await client.reward(one, 1),
                await client.comment(one, "x"), await client.prefer(one, over=many[0]), await client.feedback(one, 3),
            ):  # fmt: skip
                assert receipt.status == "accepted"
            said = [{"prediction": one.id, "kind": "comment", "value": "late"}] * 2
            assert [receipt.status async for receipt in client.feedback_many(said)] == ["accepted"] * 2
            assert (await client.trace(one.id))["prediction"]["id"] == one.id
            assert await client.models() and await client.ready()
            with pytest.raises(InputError, match="imag"):
                await client.predict({"imag": 1})
        with moody(busy(503), GOOD) as (url, seen):
            async with AsyncClient(url, retries=QUICK) as client:
                assert (await client.predict({"a": 1})).id == "p"
            assert len(set(seen)) == 1 and len(seen) == 2

    asyncio.run(run())
    for name, method in inspect.getmembers(Client, inspect.isfunction):
        if not name.startswith("__") or name == "__init__":
            other = getattr(AsyncClient, name)
            assert list(inspect.signature(other).parameters.values()) == list(
                inspect.signature(method).parameters.values()
            )


def test_the_package_offers_both() -> None:
    assert (tidemill.Client, tidemill.AsyncClient) == (Client, AsyncClient)
    assert set(Prediction.__dataclass_fields__)  # the records are all that a client knows of the house
