"""``tidemill token``: made, listed and taken back; the text is shown once and kept nowhere."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

from tidemill.api import Project
from tidemill.records import Token


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import tidemill

    made = tmp_path_factory.mktemp("tokens") / "project"
    tidemill.init(made, data="sklearn:iris", target="target").store.close()
    return made


def test_a_token_is_shown_once_and_kept_as_a_digest(run: Any, folder: Path) -> None:
    made = run("token", "new", "shop", "-C", folder, "--expires", "90d", "--json").json
    text = made["token"]
    assert re.fullmatch(r"tm_[a-z2-7]{52}", text)
    assert made["scopes"] == ["predict", "feedback"] and "digest" not in made
    assert made["expires"] - made["created"] == pytest.approx(90 * 86400, abs=5)
    with Project(folder).store as store:
        assert store.get(Token, made["id"]).digest == hashlib.sha256(text.encode()).hexdigest()
    for path in (folder / ".tidemill").rglob("*"):
        assert not path.is_file() or text.encode() not in path.read_bytes(), path
    listed = run("token", "list", "-C", folder)
    assert "shop" in listed.out and "valid" in listed.out and text not in listed.out


def test_people_see_the_text_and_what_to_do_with_it(run: Any, folder: Path) -> None:
    said = run("token", "new", "me", "--scope", "admin", "--scope", "label", "-C", folder)
    assert re.search(r"tm_[a-z2-7]{52}", said.out)
    assert "label, admin" in said.out and "Authorization: Bearer" in said.out
    assert "not shown again" in said.err


def test_a_token_is_revoked_by_name_or_id_and_its_name_is_free_again(run: Any, folder: Path) -> None:
    first = run("token", "new", "lab", "-C", folder, "--json").json
    again = run("token", "new", "lab", "-C", folder, "--json")
    assert again.code == 2 and again.json["error"]["code"] == "conflict"
    assert run("token", "revoke", "lab", "-C", folder, "--json").json["id"] == first["id"]
    second = run("token", "new", "lab", "-C", folder, "--json").json
    assert run("token", "revoke", second["id"], "-C", folder, "--json").json["state"] == "revoked"
    for which in ("lab", second["id"], "tok_nothing"):
        refused = run("token", "revoke", which, "-C", folder, "--json")
        assert refused.code == 2 and refused.json["error"]["code"] == "not_found"
    states = {t["id"]: t["state"] for t in run("token", "list", "-C", folder, "--json").json}
    assert states[first["id"]] == states[second["id"]] == "revoked"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("", "--json"), "no name"),
        (("a\nb",), "no name"),
        (("x" * 101,), "no name"),
        (("late", "--expires", "soon"), "length of time"),
        (("late", "--expires", "0s"), "length of time"),
        (("root", "--scope", "root"), "root"),
    ],
)
def test_what_makes_no_sense_is_refused(run: Any, folder: Path, arguments: tuple[str, ...], said: str) -> None:
    before = run("token", "list", "-C", folder, "--json").json
    refused = run("token", "new", *arguments, "-C", folder, "--json")
    assert refused.code == 2 and said in refused.out + refused.err
    assert run("token", "list", "-C", folder, "--json").json == before
