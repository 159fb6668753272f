"""What docs/operations.md tells people to type, typed, with a PostgreSQL server of default settings."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

import tidemill
from _postgres import Server
from tidemill.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "operations.md"
NOT_RUN = "pip install"
"""Installing takes minutes."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def tidemill_command(arguments: list[str], folder: Path) -> str:
    """A command of ours in *folder*, without two seconds of imports; what it printed."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.chdir(folder))
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        left = stack.enter_context(pytest.raises(SystemExit))
        main(arguments)
    assert not left.value.code, f"{arguments}\n{out.getvalue()}\n{err.getvalue()}"
    return out.getvalue()


@pytest.fixture
def server() -> Iterator[Server]:
    """It has what the page tells its administrator to type."""
    made = Server()
    with contextlib.closing(made):
        made.start()
        statements = "".join(blocks("sql")).strip().splitlines()
        assert len(statements) == 2
        with made.connect() as connection:
            for statement in [*statements, "CREATE DATABASE moved OWNER tidemill"]:
                connection.execute(statement)
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project that has lived a little; its data lie beside it, and beside the places where it is restored."""
    for place in ("home", "srv", "home/parcels"):
        (tmp_path / place).mkdir()
        shutil.copy(ROOT / "docs" / "quickstart" / "parcels.csv", tmp_path / place)
    folder = tmp_path / "home" / "parcels"
    recipes = {"exclude": ["lightgbm", "mlp"]}
    project = tidemill.init(folder, data=tmp_path / "home" / "parcels.csv", target="late", recipes=recipes)
    with contextlib.closing(project.store):
        project.cycle(max_trials=0)
    return folder


def test_every_command_of_the_page_runs(server: Server, folder: Path, tmp_path: Path) -> None:
    typed = "".join(blocks("sh")).splitlines()
    assert len(typed) >= 10 and len([line for line in typed if line.startswith(NOT_RUN)]) == 3
    said = {}
    for line in typed:
        if line.startswith((NOT_RUN, "OTEL_")):  # the latter goes on for ever, and is run below
            continue
        command = re.sub(r"postgresql://tidemill@db\.example/(\w+)", lambda m: database(server, m[1]), line)
        command = re.sub(r" /(var|srv)/", rf" {tmp_path}/\1/", command)
        name, *arguments = shlex.split(command)
        assert name == "tidemill", line
        said[line] = tidemill_command(arguments, folder)
    assert sum("whole" in text for line, text in said.items() if "--verify" in line) == 1
    restored = tidemill.open(tmp_path / "srv" / "parcels")
    moved = tidemill.open(tmp_path / "srv" / "moved")
    with contextlib.closing(restored.store), contextlib.closing(moved.store):
        assert restored.champion == moved.champion is not None
        assert restored.store.database.is_sqlite and not moved.store.database.is_sqlite
        assert moved.store.database.examine()[1] == [], "a server of default settings keeps what it acknowledged"


def database(server: Server, name: str) -> str:
    return server.url(name).replace("postgresql://postgres@", "postgresql://tidemill@")


def test_the_line_for_cron_says_what_the_program_does(folder: Path, tmp_path: Path) -> None:
    (line,) = re.findall(r"^10 3 .*", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    pattern = re.search(r"-name '(.*?)'", line)
    assert pattern is not None
    (tmp_path / "backups").mkdir()
    tidemill_command(["backup", "-C", str(folder), str(tmp_path / "backups")], tmp_path)
    assert len(list((tmp_path / "backups").glob(pattern[1]))) == 1


def test_the_line_for_traces_sends_them(folder: Path) -> None:
    (line,) = [line for line in "".join(blocks("sh")).splitlines() if line.startswith("OTEL_")]
    sent: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        command = line.replace("localhost:4318", f"127.0.0.1:{collector.server_address[1]}")
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        run: Any = {"cwd": folder, "env": environment, "stdout": subprocess.PIPE, "text": True}
        # In the place of the shell, so that the signal reaches it.
        command = f"export {command.replace(' tidemill', '; exec tidemill')} --port 0"
        with subprocess.Popen(["bash", "-c", command], **run) as up:
            assert up.stdout is not None
            url = up.stdout.readline().split()[1]
            assert httpx.get(f"{url}/v1/models", timeout=30).status_code == 200
            up.send_signal(signal.SIGINT)
            assert up.wait(timeout=60) == 0
        collector.shutdown()
    assert any(b"GET /v1/models" in body for body in sent)
