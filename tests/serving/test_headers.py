"""Every answer tells browsers and caches what it is, whoever of the service's parts gave it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from small_project import Served, SmallProject, digit, raw, said_once, served

from tidemill.serving.answering import SECURE
from tidemill.serving.tokens import make_token

JSON = {"Content-Type": "application/json"}
ASKED: dict[str, tuple[int, Callable[[httpx.Client], httpx.Response]]] = {
    "a prediction": (200, lambda c: c.post("/v1/predict", json={"inputs": digit(0)})),
    "a list": (200, lambda c: c.get("/v1/models")),
    "health": (200, lambda c: c.get("/healthz")),
    "the page": (200, lambda c: c.get("/docs")),
    "the document": (200, lambda c: c.get("/openapi.json")),
    "no JSON": (400, lambda c: c.post("/v1/predict", content=b"{", headers=JSON)),
    "a foreign host": (403, lambda c: c.get("/v1/models", headers={"Host": "evil.example"})),
    "no record": (404, lambda c: c.get("/v1/trace/run_1")),
    "no path": (404, lambda c: c.get("/nothing")),
    "no such method": (405, lambda c: c.delete("/v1/models")),
    "too large": (413, lambda c: c.post("/v1/predict", content=b" " * 1_000_001, headers=JSON)),
    "not declared": (415, lambda c: c.post("/v1/predict", content=b"{}")),
    "wrong": (422, lambda c: c.post("/v1/predict", json={"inputs": {}})),
    "a large head": (431, lambda c: c.get("/healthz", headers={"X": "x" * 40_000})),
}


def check(headers: Any) -> None:
    for name, value in SECURE:
        if name == b"content-security-policy":
            assert "default-src 'none'" in headers["content-security-policy"]
            assert "frame-ancestors 'none'" in headers["content-security-policy"]
            assert "script-src" not in headers["content-security-policy"]
        else:
            assert headers[name.decode()] == value.decode()  # once: httpx joins repeated ones
    assert "server" not in headers and "x-powered-by" not in headers
    assert "strict-transport-security" not in headers  # which only HTTPS may promise


@pytest.mark.parametrize("what", ASKED)
def test_every_answer_has_them_once(service: Served, what: str) -> None:
    status, ask = ASKED[what]
    answer = ask(service.client)
    assert answer.status_code == status
    check(answer.headers)
    assert len(answer.headers.get_list("content-security-policy")) == 1


def test_what_is_no_http_too(service: Served) -> None:
    status, headers, _ = said_once(raw(service.url, b"garbage\r\n\r\n"))
    assert status == 400
    check(headers)


def test_a_fault_too(service: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(service.project, "trace", broken)
    monkeypatch.setattr("tidemill.serving.hot.parse_predict", broken)
    for answer in (service.client.get("/v1/trace/run_1"), service.client.post("/v1/predict", json={})):
        assert answer.status_code == 500
        check(answer.headers)


def test_where_tokens_are_asked_for_and_pages_of_other_origins_may_ask(tmp_path: Path) -> None:
    shop = "https://shop.example"
    project = SmallProject.create(tmp_path, origins=[shop], rate={"predict": 0.001})
    _, text = make_token(project.store, "shop", ["predict"])
    with project.store, served(project) as running:
        asked = {"Origin": shop, "Access-Control-Request-Method": "POST"}
        wanted = {"Access-Control-Request-Headers": "authorization, content-type, idempotency-key"}
        before = running.client.options("/v1/predict", headers={**asked, **wanted})
        assert before.status_code == 200  # browsers ask without the token
        shown = {"Origin": shop, "Authorization": f"Bearer {text}"}
        answers = [
            before,
            running.client.options("/v1/predict", headers={**asked, "Origin": "https://evil.example"}),
            running.client.get("/v1/models", headers={"Origin": shop}),
            running.client.get("/v1/trace/run_1", headers=shown),
            running.client.get("/v1/models", headers=shown),
            running.client.get("/v1/models", headers=shown),
        ]
        assert [answer.status_code for answer in answers] == [200, 400, 401, 403, 200, 429]
        for answer in answers:
            check(answer.headers)
        assert "Retry-After" in answers[-1].headers["access-control-expose-headers"]
