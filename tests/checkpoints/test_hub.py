"""The hub: a small one of our own on this machine, that answers, refuses, breaks off or stays silent."""

from __future__ import annotations

import http.server
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest

from _checkpoints import Checkpoints
from tidemill.checkpoints import hub, open_checkpoint
from tidemill.checkpoints.hub import Rules, fetch
from tidemill.errors import ConfigError, NotFoundError, ServiceError, TrainingError

ANY = Rules(None, 1e9)
UNWANTED = (".gitattributes", "pytorch_model.bin", "onnx/model.onnx")  # as most repositories have them, too
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub's protocol as a checkpoint takes: what there is, and its files."""

    folder: Path
    files: tuple[str, ...]
    asked: list[str]
    cut = False
    portal = False

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        self.asked.append(path)
        name = path.rpartition("/")[2]
        if self.portal:
            self._send(b"<html>Please log in to this network</html>", {"Content-Type": "text/html"}, body=body)
        elif path.startswith(f"/api/models/owner/name/tree/{COMMIT}"):
            sizes = {f: (self.folder / f).stat().st_size for f in self.files} | dict.fromkeys(UNWANTED, 1000)
            tree = [{"type": "file", "path": f, "size": n, "oid": f} for f, n in sizes.items()]
            self._send(json.dumps(tree).encode(), {"Content-Type": "application/json"}, body=body)
        elif path.startswith("/api/models/owner/name"):
            siblings = [{"rfilename": f, "size": (self.folder / f).stat().st_size} for f in self.files]
            siblings += [{"rfilename": f, "size": 1000} for f in UNWANTED]
            told = {"id": "owner/name", "sha": COMMIT, "siblings": siblings, "tags": ["license:mit"], "private": False}
            self._send(json.dumps(told).encode(), {"Content-Type": "application/json"}, body=body)
        elif path.startswith(f"/owner/name/resolve/{COMMIT}/") and name in self.files:
            data = (self.folder / name).read_bytes()
            self._send(data, {"ETag": f'"{name}"', "X-Repo-Commit": COMMIT}, body=body)
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def _send(self, data: bytes, headers: dict[str, str], *, body: bool) -> None:
        self.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data[: len(data) // 2] if self.cut and len(data) > 10_000 else data)
            self.close_connection = self.cut

    def log_message(self, *_: Any) -> None:
        """Nobody reads it."""


@contextmanager
def served(folder: Path, files: tuple[str, ...], **more: bool) -> Iterator[type[Hub]]:
    handler = type("Served", (Hub,), {"folder": folder, "files": files, "asked": [], **more})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        handler.address = f"http://127.0.0.1:{server.server_address[1]}"  # type: ignore[attr-defined]
        try:
            yield handler
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "HUB_SECONDS", 0.5)


def at(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


def files_of(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(path.name for path in folder.iterdir()))


def test_a_checkpoint_is_fetched_once(checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = checkpoints("bert")
    reference = f"hub:owner/name@{COMMIT}"
    with pytest.raises(ServiceError, match="not on this machine yet"):
        open_checkpoint(reference)
    with served(folder, files_of(folder)) as handler:
        at(monkeypatch, handler.address)  # type: ignore[attr-defined]
        place = fetch("owner/name", COMMIT, ANY)
        assert (place / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
        assert not any(path.endswith(UNWANTED) for path in handler.asked)
        asked = len(handler.asked)
        assert fetch("owner/name", COMMIT, ANY) == place and len(handler.asked) == asked
    at(monkeypatch, "http://127.0.0.1:9")
    assert open_checkpoint(reference).digest == open_checkpoint(checkpoints.reference("bert")).digest


def test_rules_are_asked_before_weights(checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = checkpoints("bert")
    with served(folder, files_of(folder)) as handler:
        at(monkeypatch, handler.address)  # type: ignore[attr-defined]
        with pytest.raises(ConfigError, match=r"licence mit, and transfer\.licences allows apache-2\.0"):
            fetch("owner/name", COMMIT, Rules(("apache-2.0",), 1e9))
        with pytest.raises(ConfigError, match="MB"):
            fetch("owner/name", COMMIT, Rules(None, 1e3))
        assert not any("safetensors" in path for path in handler.asked)


def test_what_the_hub_does_not_have(checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = checkpoints("bert")
    with served(folder, ("config.json", "README.md")) as handler:
        at(monkeypatch, handler.address)  # type: ignore[attr-defined]
        with pytest.raises(TrainingError, match="no safetensors"):
            fetch("owner/name", COMMIT, ANY)
        with pytest.raises(NotFoundError, match="no such checkpoint"):
            fetch("owner/other", COMMIT, ANY)


def test_a_silent_hub_is_no_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        at(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}")
        begun = time.monotonic()
        with pytest.raises(ServiceError, match=r"does not answer.*Checkpoints in folders need no network"):
            fetch("owner/name", COMMIT, ANY)
        assert time.monotonic() - begun < 60  # half a second each time it asks; not for ever


@pytest.mark.parametrize("how", ["cut", "portal"])
def test_a_hub_that_breaks_off_or_is_none(
    checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch, how: str, tmp_path: Path
) -> None:
    folder = checkpoints("bert")
    with served(folder, files_of(folder), **{how: True}) as handler:
        at(monkeypatch, handler.address)  # type: ignore[attr-defined]
        with pytest.raises(ServiceError, match="does not answer"):
            fetch("owner/name", COMMIT, ANY)
    with pytest.raises(ServiceError, match="not on this machine yet"):  # what came of it is not taken for all of it
        open_checkpoint(f"hub:owner/name@{COMMIT}")


def test_no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = f"http://127.0.0.1:{gone.getsockname()[1]}"
    at(monkeypatch, address)
    with pytest.raises(ServiceError, match="does not answer"):
        fetch("owner/name", COMMIT, ANY)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ServiceError, match="HF_HUB_OFFLINE is set"):
        fetch("owner/name", COMMIT, ANY)
