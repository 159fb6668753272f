"""What docs/security.md tells people to type, typed; and what SECURITY.md points at, there."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tidemill
from tidemill.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "security.md"


def commands() -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return "".join(blocks).splitlines()


class Terminal:
    """Runs commands in a project; a service that one of them starts goes on until the next one starts, or the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.token = ""
        self.said = (folder / "said.txt").open("wb")
        self.service: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = str(probe.getsockname()[1])
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "NO_COLOR": "1",
        }

    def type(self, command: str) -> str:
        command = command.replace(":8321", f":{self.port}").replace("tm_…", self.token)
        if command.startswith("tidemill "):
            return self._in_process(shlex.split(command)[1:])
        if command.startswith("curl "):
            command = command.replace("curl ", "curl --silent --show-error --write-out ' %{http_code}' ")
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def _in_process(self, arguments: list[str]) -> str:
        """A command of ours without two seconds of imports."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.redirect_stdout(out))
            stack.enter_context(contextlib.redirect_stderr(err))
            left = stack.enter_context(pytest.raises(SystemExit))
            main([*arguments, "-C", str(self.folder)])
        assert not left.value.code, err.getvalue()
        if found := re.search(r"tm_[a-z2-7]{52}", out.getvalue()):
            self.token = found[0]
        return out.getvalue()

    def serve(self, command: str) -> None:
        self.stop()
        self.service = subprocess.Popen(
            [*command.split(), "--port", self.port],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=self.said,
        )
        for _ in range(600):
            assert self.service.poll() is None, "the service ended"
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", int(self.port))) == 0:
                    return
            time.sleep(0.1)
        pytest.fail("the service was never ready")

    def stop(self) -> None:
        if self.service is not None:
            self.service.send_signal(signal.SIGTERM)
            assert self.service.wait(timeout=30) == 0
            self.service = None
        self.said.flush()


def test_the_commands_of_the_page_work_in_its_order(tmp_path: Path) -> None:
    tidemill.init(tmp_path / "p", data="sklearn:iris", target="target").store.close()
    terminal = Terminal(tmp_path / "p")
    typed = commands()
    (making,) = [line for line in typed if line.startswith("openssl ")]
    terminal.type(making)
    terminal.serve("tidemill serve --log-json")
    answers = []
    for line in typed:
        if line.startswith("tidemill serve"):
            terminal.type("tidemill token new again")
            terminal.serve(line)
        elif line != making:
            said = terminal.type(line)
            answers += [said] if line.startswith("curl") else []
    terminal.stop()
    terminal.said.close()
    lines = (terminal.folder / "said.txt").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["path"] for line in lines] == ["/v1/models"]  # and nothing else is said
    assert [answer[-3:] for answer in answers] == ["200", "200"]
    assert all('"object":"list"' in answer for answer in answers)
    assert {line.split()[1] for line in typed if line.startswith("tidemill")} == {"token", "serve"}


def test_what_the_threat_model_points_at_exists() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ") and "tests/" in line]
    assert len(rows) > 10
    for row in rows:
        folder = ROOT
        for path in re.findall(r"`((?:tests/)?[\w/]+(?:\.py|/))`", row):
            where = ROOT / path if path.startswith("tests/") else folder / path
            assert where.exists(), path
            folder = where.parent
