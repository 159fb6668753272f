"""Who may see and do what in the console: tokens, scopes, sessions, forged forms, foreign pages."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from mill import Mill, running, text

from tidemill.console.site import places
from tidemill.console.site.session import Sessions
from tidemill.records import Deployment
from tidemill.serving.access import INTERVAL

SCOPES = ("predict", "feedback", "label", "admin")


@pytest.fixture(scope="module")
def closed(grown_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mill]:
    """A console that asks for tokens."""
    folder = tmp_path_factory.mktemp("closed") / "digits"
    shutil.copytree(grown_project, folder)
    with running(folder) as served:
        yield served


@pytest.fixture(scope="module")
def keys(closed: Mill) -> dict[str, str]:
    """A token of each scope."""
    texts = {scope: closed.project.new_token(scope, [scope])["token"] for scope in SCOPES}
    await_tokens()
    return texts


def signed_in(closed: Mill, token: str, to: str = "/") -> Mill:
    visitor = closed.visitor()
    answer = visitor.post("/sign-in", token=token, to=to)
    assert answer.headers["location"] == to
    return visitor


def test_a_stranger_is_asked_to_sign_in_everywhere(closed: Mill, keys: dict[str, str]) -> None:
    visitor = closed.visitor()
    for place in places.ALL:
        path = place.path.replace("{id}", "model_1").replace("{name}", "site.css")
        answer = visitor.client.request(place.method, path)
        if place.need == "open":
            continue
        assert answer.status_code == 303 and answer.headers["location"].startswith("/sign-in"), place
    assert visitor.client.get("/models?before=3").headers["location"] == "/sign-in?to=%2Fmodels%3Fbefore%3D3"
    page = visitor.get("/sign-in")
    assert "digits" not in text(page).replace("digits", "", 1) or "cnn" not in page
    assert visitor.client.get("/v1/models").status_code == 401


@pytest.mark.parametrize("scope", SCOPES)
def test_a_token_opens_the_pages_of_its_scope_and_no_other(closed: Mill, keys: dict[str, str], scope: str) -> None:
    visitor = signed_in(closed, keys[scope])
    for place in places.ALL:
        if place.method != "GET" or place.need in ("open", "any") or "{" in place.path:
            continue
        opens = scope == "admin" or place.need == scope
        status = visitor.client.get(place.path).status_code
        assert status in ((200, 204, 422) if opens else (403,)), place
    home = visitor.get("/")
    assert ("/feedback" in home) == (scope == "admin") and ("Start a cycle" in home) == (scope == "admin")
    if scope != "admin":
        answer = visitor.post("/cycle/start", 403)
        assert "does not have the scope admin" in text(answer.text)


def test_a_wrong_token_is_refused_and_nothing_of_it_is_shown(closed: Mill, keys: dict[str, str]) -> None:
    visitor = closed.visitor()
    answer = visitor.post("/sign-in", 401, token="tm_" + "a" * 52)
    assert 'role="alert"' in answer.text and "tm_aaa" not in answer.text
    visitor.post("/sign-in", 401)
    assert visitor.client.get("/", params={"token": keys["admin"]}).status_code == 400


def test_the_cookie_is_closed_to_scripts_and_other_sites(closed: Mill, keys: dict[str, str]) -> None:
    visitor = closed.visitor()
    answer = visitor.post("/sign-in", token=keys["admin"], to="//evil.example/x")
    assert answer.headers["location"] == "/"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and keys["admin"] not in cookie
    # it opens pages, and nothing that programs use: their door would take it from any page that can send requests
    assert visitor.client.get("/v1/models").status_code == 401
    visitor.post("/sign-out")
    assert visitor.client.get("/").status_code == 303


def test_a_revoked_token_closes_its_sessions(closed: Mill, keys: dict[str, str]) -> None:
    token = closed.project.new_token("short", ["admin"])["token"]
    await_tokens()
    visitor = signed_in(closed, token)
    visitor.get("/feedback")
    told = visitor.client.get("/sign-in/code").json()
    assert told == {"code": visitor.code(), "visitor": "short"}
    closed.project.revoke_token("short")
    await_tokens()
    assert visitor.client.get("/feedback").status_code == 303
    answer = visitor.client.post("/label", data={"act": "skip"}, headers={"x-part": "1"})  # a script follows nowhere
    assert answer.status_code == 401 and 'href="/sign-in"' in answer.text


def await_tokens() -> None:
    """Let the service read the tokens again."""
    time.sleep(3 * INTERVAL)


def test_a_forged_form_changes_nothing(closed: Mill, keys: dict[str, str]) -> None:
    visitor = signed_in(closed, keys["admin"])
    model = closed.project.models()[0]["id"]
    path, before = f"/models/{model}/promote", closed.project.store.count(Deployment)
    good = {"code": visitor.code(), "reason": "forged"}
    other = signed_in(closed, keys["admin"])
    foreign: list[tuple[dict[str, str], dict[str, str]]] = [
        ({**good, "code": ""}, {}),
        ({**good, "code": other.code()}, {}),
        (good, {"origin": "https://evil.example"}),
        (good, {"origin": "http://localhost:1"}),
        (good, {"origin": "null"}),
        (good, {"sec-fetch-site": "cross-site"}),
        (good, {"sec-fetch-site": "same-site"}),
    ]
    for fields, headers in foreign:
        answer = visitor.client.post(path, data=fields, headers=headers)
        assert answer.status_code == 403, (fields, headers)
    assert httpx.post(f"{closed.url}{path}", data=good).status_code == 303  # to the sign-in
    assert closed.project.store.count(Deployment) == before


def test_what_is_done_bears_the_name_of_the_token(closed: Mill, keys: dict[str, str]) -> None:
    visitor = signed_in(closed, keys["admin"])
    champion = closed.project.champion
    assert champion is not None
    other = next(m["id"] for m in closed.project.models() if m["id"] != champion["id"])
    visitor.post(f"/models/{other}/promote", reason="by name")
    deployed = closed.project.store.champion()
    assert deployed is not None and deployed.author == "admin"
    visitor.client.headers["origin"] = closed.url
    visitor.post("/models/rollback", reason="and back")


def test_language_and_colours_are_kept(closed: Mill, keys: dict[str, str]) -> None:
    visitor = closed.visitor()
    visitor.post("/look", language="zh", to="/sign-in")
    visitor.post("/look", theme="dark", to="/sign-in")
    page = visitor.get("/sign-in")
    assert 'lang="zh-Hans"' in page and 'data-theme="dark"' in page and "登录" in page


def test_sessions_are_not_forged() -> None:
    ours, theirs = Sessions(b"a" * 32), Sessions(b"b" * 32)
    session = ours.new("tok_1")
    cookie = ours.written(session, secure=True).split(";")[0].partition("=")[2]
    assert ours.read(cookie) == session and theirs.read(cookie) is None and ours.cookie != theirs.cookie
    assert "Secure" in ours.written(session, secure=True) and "Secure" not in ours.written(session, secure=False)
    nonce, token, expires, mac = cookie.split(".")
    for forged in (
        f"{nonce}.tok_2.{expires}.{mac}", f"{nonce}.{token}.{int(expires) + 1}.{mac}", f"{nonce}.{token}.{expires}",
        "", "....", cookie + "x", f"{nonce}.{token}.{expires}.ÄÖ",
    ):  # fmt: skip
        assert ours.read(forged) is None
    over = ours.written(type(session)(session.nonce, "tok_1", int(time.time()) - 1), secure=False)
    assert ours.read(over.split(";")[0].partition("=")[2]) is None
