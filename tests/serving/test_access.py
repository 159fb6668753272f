"""The door: who comes in with which token, and who does not, whatever they try."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from small_project import Served, SmallProject, digit, raw, said_once, served

from tidemill.errors import ConfigError, StoreError
from tidemill.records import Model, Token
from tidemill.serving.access import INTERVAL, NEEDS, NEEDS_BELOW, Tokens, need_of, require_needs
from tidemill.serving.app import create_app
from tidemill.serving.server import serve
from tidemill.serving.tokens import make_token, new_text, revoke_token
from tidemill.store import open_store

BODY = {"inputs": digit(0)}


@pytest.fixture(scope="module")
def keys(trained: SmallProject) -> Iterator[dict[str, str]]:
    """Texts of tokens, by what they are; the project has none before and after."""
    store, texts = trained.store, {}
    if trained.store.champion() is None:
        trained.deploy(trained.store.find(Model)[0])
    for scope in ("predict", "feedback", "label", "admin"):
        _, texts[scope] = make_token(store, scope, [scope])
    _, texts["both"] = make_token(store, "both", ["predict", "feedback"])
    _, texts["expired"] = make_token(store, "expired", ["admin"], lifetime=0.001)
    _, texts["revoked"] = make_token(store, "revoked", ["admin"])
    revoke_token(store, "revoked")
    texts["unknown"] = new_text()
    yield texts
    store.delete(Token, store.ids(Token))


@pytest.fixture(scope="module")
def closed(trained: SmallProject, keys: dict[str, str]) -> Iterator[Served]:
    """A server that asks for tokens."""
    with served(trained) as running:
        yield running


def shown(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def error_of(answer: httpx.Response) -> dict[str, Any]:
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"code", "what", "where", "mend"}
    assert error["what"] and error["mend"]
    return error


PREDICT, FEEDBACK, MODELS = ("POST", "/v1/predict"), ("POST", "/v1/feedback"), ("GET", "/v1/models")
TRACE, NOWHERE = ("GET", "/v1/trace/run_1"), ("GET", "/v1/nothing")


@pytest.mark.parametrize(
    ("key", "opens"),
    [
        ("predict", {PREDICT, MODELS}),
        ("feedback", {FEEDBACK}),
        ("label", set()),
        ("both", {PREDICT, MODELS, FEEDBACK}),
        ("admin", {PREDICT, MODELS, FEEDBACK, TRACE}),
    ],
)
def test_a_token_opens_what_its_scopes_say_and_nothing_else(
    closed: Served, keys: dict[str, str], key: str, opens: set[tuple[str, str]]
) -> None:
    for method, path in (PREDICT, FEEDBACK, MODELS, TRACE):
        answer = closed.client.request(method, path, headers=shown(keys[key]), json=BODY if method == "POST" else None)
        if (method, path) in opens:
            assert answer.status_code == {PREDICT: 200, FEEDBACK: 422, MODELS: 200, TRACE: 404}[method, path]
            continue
        assert (answer.status_code, error_of(answer)["code"]) == (403, "forbidden")
        assert f'scope="{need_of(path)}"' in answer.headers["www-authenticate"]


def test_without_a_good_token_every_path_but_health_is_shut(closed: Served, keys: dict[str, str]) -> None:
    for path in ("/healthz", "/readyz", "/docs", "/openapi.json"):
        assert closed.client.get(path).status_code == 200  # this machine may read what the service is
    for method, path in (PREDICT, FEEDBACK, MODELS, TRACE, NOWHERE):
        answer = closed.client.request(method, path, json=BODY if method == "POST" else None)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert error_of(answer)["code"] == "unauthenticated"
    assert closed.client.get("/v1/nothing", headers=shown(keys["label"])).status_code == 404


def test_unknown_revoked_and_expired_tokens_are_answered_alike(closed: Served, keys: dict[str, str]) -> None:
    answers = [closed.client.get("/v1/models", headers=shown(keys[key])) for key in ("unknown", "revoked", "expired")]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.content for answer in answers}) == 1
    kept = [{k: v for k, v in answer.headers.items() if k != "date"} for answer in answers]
    assert kept[0] == kept[1] == kept[2]
    assert kept[0]["www-authenticate"] == 'Bearer error="invalid_token"'


def test_only_the_whole_token_as_a_bearer_is_one(closed: Served, keys: dict[str, str]) -> None:
    good = keys["predict"]
    for value in (f"bearer {good}", f"BEARER  {good}"):
        assert closed.client.get("/v1/models", headers={"Authorization": value}).status_code == 200
    wrong = [good, "", "Bearer", f"Basic {good}", f"Bearer {good}x", f"Bearer {good[:-1]}"]
    wrong += [f"Bearer {good.upper()}", f"Bearer {good}, Bearer {good}", f"Bearer{good}", "Bearer " + "x" * 5000]
    for value in wrong:
        answer = closed.client.get("/v1/models", headers={"Authorization": value})
        assert answer.status_code in (401, 429), value


def test_a_token_in_the_address_or_shown_twice_is_refused(closed: Served, keys: dict[str, str]) -> None:
    good = keys["admin"]
    for query in (f"access_token={good}", f"token={good}", f"a=b&token={good}", f"key={good}"):
        answer = closed.client.get(f"/v1/models?{query}", headers=shown(good))
        assert answer.status_code == 400
        assert "revoke" in error_of(answer)["mend"]
        assert good not in answer.text
    assert closed.client.get("/v1/models?page_token=7", headers=shown(good)).status_code == 200
    head = b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    twice = b"Authorization: Bearer %s\r\n" % good.encode()
    other = b"Authorization: Bearer %s\r\n" % keys["predict"].encode()
    for headers in (twice + twice, other + twice, b"Host: evil.example\r\n" + twice, b"Origin: null\r\nOrigin: x\r\n"):
        status, _, body = said_once(raw(closed.url, head + headers + b"\r\n"))
        assert (status, body["error"]["what"][:19]) == (400, "the request has two")


@pytest.mark.parametrize(
    "path",
    [
        b"/v1/%74race/run_1",
        b"/v1/trace%2frun_1",
        b"/v1/trace/../trace/run_1",
        b"/v1/models/../trace/run_1",
        b"/v1/predict/..%2ftrace%2frun_1",
        b"/v1/./trace/run_1",
        b"//v1/trace/run_1",
        b"/v1//trace/run_1",
        b"/v1/trace/run_1/",
        b"/V1/TRACE/run_1",
        b"/v1/trace;x/run_1",
        b"/healthz/../v1/trace/run_1",
        b"/healthz%00/v1/trace/run_1",
        b"http://127.0.0.1/v1/trace/run_1",
        b"/v1/trace/..%2f..%2f..%2fetc%2fpasswd",
    ],
)
def test_no_way_of_writing_a_path_leads_past_its_scope(closed: Served, keys: dict[str, str], path: bytes) -> None:
    for key, allowed in (("predict", (403, 404)), (None, (401,))):
        credentials = b"" if key is None else b"Authorization: Bearer %s\r\n" % keys[key].encode()
        head = b"GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n%s\r\n" % (path, credentials)
        status, _, body = said_once(raw(closed.url, head))
        assert status in allowed, body
        assert "root:" not in str(body) and "no record" not in str(body)


def test_no_header_changes_who_the_caller_is_or_what_is_asked(closed: Served, keys: dict[str, str]) -> None:
    tricks = {
        "X-Forwarded-For": "127.0.0.1",
        "X-Real-IP": "127.0.0.1",
        "Forwarded": "for=127.0.0.1",
        "X-Original-URL": "/healthz",
        "X-Rewrite-URL": "/healthz",
        "X-HTTP-Method-Override": "GET",
        "Cookie": f"token={keys['admin']}",
        "Proxy-Authorization": f"Bearer {keys['admin']}",
        "X-Api-Key": keys["admin"],
    }
    assert closed.client.get("/v1/models", headers=tricks).status_code == 401
    assert closed.client.get("/v1/trace/run_1", headers={**tricks, **shown(keys["predict"])}).status_code == 403


def test_guessing_is_slowed_down_and_does_not_shut_others_out(trained: SmallProject, keys: dict[str, str]) -> None:
    with served(trained) as running:
        answers = [running.client.get("/v1/models", headers=shown(new_text())) for _ in range(60)]
        seen = [answer.status_code for answer in answers]
        assert set(seen) == {401, 429}
        assert seen[:20] == [401] * 20
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers if answer.status_code == 429)
        assert running.client.get("/v1/models", headers=shown(keys["predict"])).status_code == 200


def test_new_and_revoked_tokens_are_known_to_every_process(trained: SmallProject, keys: dict[str, str]) -> None:
    assert INTERVAL <= 0.5
    with served(trained) as one, served(trained) as other:
        _, text = make_token(trained.store, "late", ["predict"])

        def statuses() -> list[int]:
            return [at.client.get("/v1/models", headers=shown(text)).status_code for at in (one, other)]

        wait_for(lambda: statuses() == [200, 200])
        revoke_token(trained.store, "late")
        wait_for(lambda: set(statuses()) <= {401, 429})
        assert one.client.get("/v1/models", headers=shown(keys["predict"])).status_code == 200


def test_the_door_stays_shut_when_the_last_token_is_revoked(tmp_path: Path) -> None:
    project = SmallProject.create(tmp_path)
    with served(project) as running:
        assert running.client.get("/v1/models").status_code == 200  # no token yet: this machine is welcome
        make_token(project.store, "only", ["admin"])
        wait_for(lambda: running.client.get("/v1/models").status_code == 401)
        revoke_token(project.store, "only")
        threading.Event().wait(3 * INTERVAL)
        assert running.client.get("/v1/models").status_code == 401
    with served(project) as again:
        assert again.client.get("/v1/models").status_code == 401
    with pytest.raises(ConfigError, match="no token"):
        serve(project, "0.0.0.0", 0)
    project.store.close()


def test_this_machine_may_be_let_in_by_the_configuration(trained: SmallProject, keys: dict[str, str]) -> None:
    with open_store(trained.dir / ".tidemill") as store:
        config = trained.config.model_copy(
            update={"serve": trained.config.serve.model_copy(update={"open_loopback": True})}
        )
        project = SmallProject(trained.dir, config, store)
        with served(project) as running:
            assert running.client.post("/v1/predict", json=BODY).status_code == 200
            assert running.client.get("/openapi.json").json()["components"].get("securitySchemes") is None
        with served(project, "0.0.0.0") as exposed:  # but not beside other machines
            assert exposed.client.post("/v1/predict", json=BODY).status_code == 401


def test_a_service_beyond_this_machine_asks_everybody(trained: SmallProject, keys: dict[str, str]) -> None:
    with served(trained, "0.0.0.0") as running:
        for path in ("/docs", "/openapi.json", "/v1/models"):
            assert running.client.get(path).status_code == 401
            assert running.client.get(path, headers=shown(keys["predict"])).status_code == 200
        assert running.client.get("/docs", headers=shown(keys["feedback"])).status_code == 200
        assert running.client.get("/healthz", headers={"Host": "192.0.2.7:8321"}).status_code == 200
        assert running.client.get("/healthz", headers={"Host": "evil.example"}).status_code == 403


def test_the_document_says_what_each_operation_needs(closed: Served, service: Served, keys: dict[str, str]) -> None:
    document = closed.client.get("/openapi.json").json()
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    said = {path: next(iter(ops.values())).get("security") for path, ops in document["paths"].items()}
    assert said == {
        "/v1/predict": [{"token": ["predict"]}],
        "/v1/annotation": [{"token": ["label"]}],
        "/v1/questions": [{"token": ["label"]}],
        **{f"/v1/answers{rest}": [{"token": ["label"]}] for rest in ("", "/pass", "/undo")},
        "/v1/feedback": [{"token": ["feedback"]}],
        "/v1/feedback/bulk": [{"token": ["feedback"]}],
        "/v1/models": [{"token": ["predict"]}],
        "/v1/trace/{identifier}": [{"token": ["admin"]}],
        "/metrics": [{"token": ["admin"]}],
        "/healthz": None,
        "/readyz": None,
        "/v2": [{"token": ["predict"]}],
        "/v2/health/live": None,
        "/v2/health/ready": None,
        "/v2/models/{name}": [{"token": ["predict"]}],
        "/v2/models/{name}/ready": [{"token": ["predict"]}],
        "/v2/models/{name}/infer": [{"token": ["predict"]}],
        "/v2/models/{name}/versions/{version}": [{"token": ["predict"]}],
        "/v2/models/{name}/versions/{version}/ready": [{"token": ["predict"]}],
        "/v2/models/{name}/versions/{version}/infer": [{"token": ["predict"]}],
    }
    page = closed.client.get("/docs").text
    assert "Authorization: Bearer tm_…" in page and "Needs a token with the scope <code>admin</code>" in page


def test_every_route_says_what_it_needs() -> None:
    require_needs([*NEEDS, "/v1/trace/{identifier}"])
    with pytest.raises(LookupError, match="/v1/forgotten"):
        require_needs(["/v1/predict", "/v1/forgotten"])
    assert all(start.endswith("/") for start, _ in NEEDS_BELOW)  # so that no other path begins like it


def test_another_server_is_told_apart_by_the_address_that_a_request_came_to(tmp_path: Path) -> None:
    project = SmallProject.create(tmp_path, hosts=["tide.example"])

    async def status(origin: str) -> int:
        transport = httpx.ASGITransport(create_app(project))
        async with httpx.AsyncClient(transport=transport, base_url=origin) as client:
            return (await client.get("/v1/models")).status_code

    assert asyncio.run(status("http://tide.example")) == 401
    assert asyncio.run(status("http://127.0.0.1")) == 503  # let in, to a service that has not been started
    project.store.close()


def test_tokens_last_read_stay_good_while_the_store_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    project = SmallProject.create(tmp_path)
    _, text = make_token(project.store, "one", ["predict"])
    tokens = Tokens(project.store, interval=0.01)
    with contextlib.closing(tokens), project.store:
        tokens.start()
        away = threading.Event()

        def count(*_: object, **__: object) -> int:
            away.set()
            raise StoreError("the database is away")

        monkeypatch.setattr(project.store, "count", count)
        assert away.wait(10)
        wait_for(lambda: "the tokens cannot be read" in caplog.text)
        threading.Event().wait(0.1)
        assert tokens.find(b"Bearer " + text.encode()) is not None
        assert caplog.text.count("the tokens cannot be read") == 1  # said once, not every time


def test_a_token_expires_without_a_look_at_the_store(tmp_path: Path) -> None:
    project = SmallProject.create(tmp_path)
    token, text = make_token(project.store, "short", ["predict"], lifetime=3600)
    tokens = Tokens(project.store)
    tokens.look()
    assert tokens.find(b"Bearer " + text.encode()) == token
    project.store.update(dataclasses.replace(token, expires=time.time() - 1))
    fresh = Tokens(project.store)
    fresh.look()
    assert fresh.find(b"Bearer " + text.encode()) is None
    project.store.close()


def wait_for(true: Any) -> None:
    for _ in range(200):
        if true():
            return
        threading.Event().wait(0.05)
    pytest.fail("it did not happen within ten seconds")
