"""HTTPS by two files; files that cannot be used are refused in one line before anything listens."""

from __future__ import annotations

import socket
import ssl
import subprocess
from pathlib import Path

import httpx
import pytest
from small_project import SmallProject, digit, served

from tidemill.errors import ConfigError
from tidemill.serving.server import serve
from tidemill.serving.tls import tls_context
from tidemill.serving.tokens import make_token


def openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate for this machine, its key, and keys that will not do."""
    folder = tmp_path_factory.mktemp("tls")
    for name in ("tide", "other"):
        openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem"),
        )
    openssl("pkey", "-in", folder / "tide.key", "-aes256", "-passout", "pass:sea", "-out", folder / "locked.key")
    (folder / "odd.pem").write_text("no certificate\n")
    (folder / "empty.pem").touch()
    return folder


def trusting(files: Path, name: str = "tide") -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(files / f"{name}.pem"))


@pytest.fixture
def project(tmp_path: Path, files: Path) -> SmallProject:
    for name in ("tide.pem", "tide.key"):
        (tmp_path / name).write_bytes((files / name).read_bytes())  # beside tidemill.yaml
    made = SmallProject.create(tmp_path, tls_certificate="tide.pem", tls_key="tide.key")
    made.deploy(made.add_model("ridge"))
    return made


def test_predictions_go_over_https_and_over_nothing_else(project: SmallProject, files: Path) -> None:
    _, text = make_token(project.store, "shop", ["predict"])
    with project.store, served(project, "0.0.0.0", verify=trusting(files)) as running:
        assert running.url.startswith("https://")
        answer = running.client.post(
            "/v1/predict", json={"inputs": digit(0)}, headers={"Authorization": f"Bearer {text}"}
        )
        assert (answer.status_code, answer.json()["predictions"][0]["label"]) == (200, "0")
        assert "max-age=" in answer.headers["strict-transport-security"]
        assert "strict-transport-security" in running.client.get("/nothing").headers
        with pytest.raises(httpx.ConnectError), httpx.Client(verify=trusting(files, "other")) as stranger:
            stranger.get(f"{running.url}/healthz")
        with pytest.raises(httpx.HTTPError):
            httpx.get(running.url.replace("https", "http") + "/healthz")


def test_old_protocols_and_callers_who_never_shake_hands_get_nowhere(project: SmallProject, files: Path) -> None:
    with project.store, served(project, verify=trusting(files)) as running:
        place = ("127.0.0.1", httpx.URL(running.url).port or 0)
        old = trusting(files)
        old.minimum_version = ssl.TLSVersion.TLSv1_2
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with (
            socket.create_connection(place, timeout=20) as wire,
            old.wrap_socket(wire, server_hostname="localhost") as s,
        ):
            assert s.version() == "TLSv1.2"
        for said in (b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n"):
            with socket.create_connection(place, timeout=20) as wire:
                wire.sendall(said)
        assert running.client.get("/healthz").status_code == 200
    context = tls_context(files / "tide.pem", files / "tide.key")
    assert context is not None and context.minimum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("certificate", "key", "said"),
    [
        ("tide.pem", None, "no key"),
        (None, "tide.key", "no certificate"),
        ("nowhere.pem", "tide.key", "cannot be read"),
        ("tide.pem", "nowhere.key", "cannot be read"),
        (".", "tide.key", "cannot be read"),
        ("tide.pem", "other.key", "does not belong"),
        ("tide.pem", "locked.key", "encrypted"),
        ("odd.pem", "tide.key", "cannot be used"),
        ("empty.pem", "tide.key", "cannot be used"),
        ("tide.pem", "tide.pem", "cannot be used"),
        ("tide.key", "tide.key", "cannot be used"),
    ],
)
def test_files_that_will_not_do_are_refused_in_one_line(
    files: Path, tmp_path: Path, certificate: str | None, key: str | None, said: str
) -> None:
    settings = {
        name: None if file is None else str(files / file)
        for name, file in (("tls_certificate", certificate), ("tls_key", key))
    }
    project = SmallProject.create(tmp_path, **settings)
    with project.store, pytest.raises(ConfigError, match=said) as refused:
        serve(project)
    assert "\n" not in str(refused.value)
    assert refused.value.where and refused.value.mend


def test_without_files_there_is_no_https() -> None:
    assert tls_context(None, None) is None
