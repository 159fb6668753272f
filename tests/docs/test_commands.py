"""What README.md and docs/quickstart.md tell people to type, typed: every command, in order, with the real program."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^ *```(\w+)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
NOT_RUN = ("pip install", "make ")
"""Installing takes minutes and is what ``make`` did before these tests; that its targets exist is tested elsewhere."""
QUICKER = {
    "--budget 60s": "--max-trials 1 --max-epochs 30",
    'budget="60s"': "max_trials=1, max_epochs=30",
}


def blocks(page: Path, *languages: str) -> list[str]:
    return [text for language, text in FENCE.findall(page.read_text(encoding="utf-8")) if language in languages]


def commands(page: Path) -> list[str]:
    """The shell commands of a page, lines that go on joined, comments left out."""
    text = "".join(blocks(page, "sh")).replace("\\\n", " ")
    lines = [
        re.sub(r"\s+# .*$", "", line).strip() if "s/# " not in line else line.strip() for line in text.splitlines()
    ]
    return [line for line in lines if line and not line.startswith(NOT_RUN)]


class Terminal:
    """Runs commands as a person would: in a folder that ``cd`` changes, with ids copied from the answers before."""

    def __init__(self, folder: Path) -> None:
        self.folder = self.home = folder
        self.said = ""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = str(probe.getsockname()[1])
        self.service: subprocess.Popen[bytes] | None = None
        here = Path(sys.executable).parent
        self.environment = {
            **os.environ,
            "PATH": f"{here}:{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
            "BROWSER": "true",
            "NO_COLOR": "1",
        }

    def type(self, command: str) -> str:
        """Run one command; what it printed."""
        for long, quick in QUICKER.items():
            command = command.replace(long, quick)
        if command == "tidemill cycle":
            command += " --max-trials 1 --max-epochs 30"
        command = command.replace(":8321", f":{self.port}").replace("~/", f"{self.home}/")
        for kind in ("pred", "model"):
            if f"{kind}_…" in command:
                command = command.replace(f"{kind}_…", re.findall(rf"{kind}_[0-9a-z]{{26,}}", self.said)[-1])
        assert "…" not in command, command
        command, _, folder = command.partition(" && cd ")
        if folder:
            self.type(command)
            command = f"cd {folder}"
        if command.startswith("cd "):
            self.folder = self.folder / command.removeprefix("cd ")
            assert self.folder.is_dir(), command
            return ""
        if command == "tidemill serve":
            self.serve()
            return ""
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr and "Warning" not in done.stderr, done.stderr
        self.said += done.stdout
        return done.stdout

    def serve(self) -> None:
        """The second terminal."""
        self.service = subprocess.Popen(
            ["tidemill", "serve", "--port", self.port],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(600):
            assert self.service.poll() is None, "the service ended"
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        pytest.fail("the service was never ready")

    def close(self) -> None:
        """Ctrl-C in the second terminal; it ends cleanly."""
        if self.service is not None:
            self.service.terminate()
            assert self.service.wait(timeout=30) == 0


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    (tmp_path / "docs" / "quickstart").mkdir(parents=True)
    for file in (ROOT / "docs" / "quickstart").iterdir():
        if file.suffix in (".csv", ".py"):
            shutil.copy(file, tmp_path / "docs" / "quickstart")
    opened = Terminal(tmp_path)
    yield opened
    opened.close()


@pytest.mark.long  # a minute; the README's commands, which take the same way, run always
def test_the_quick_start_leads_to_a_better_model(terminal: Terminal) -> None:
    page = ROOT / "docs" / "quickstart.md"
    typed = commands(page)
    assert typed[0].startswith("mkdir ~/parcels-demo && cp docs/quickstart/*") and len(typed) > 15
    said = {n: terminal.type(command) for n, command in enumerate(typed)}
    outcomes = [said[n] for n, command in enumerate(typed) if command == "tidemill cycle"]
    assert len(outcomes) == 2 and all("promoted" in text for text in outcomes)
    assert "On recent" in outcomes[1]
    (users,) = [said[n] for n, command in enumerate(typed) if "users.py" in command]
    assert re.match(r"2000 answers, \d\d\.\d% right; \d+ statements", users)


def test_the_readme_commands_run(terminal: Terminal) -> None:
    typed = commands(ROOT / "README.md")
    assert any(command == "tidemill serve" for command in typed) and len(typed) >= 7
    for command in typed:
        terminal.type(command)
    assert '"accepted"' in terminal.said


def test_the_readme_python_runs(terminal: Terminal) -> None:
    (program,) = blocks(ROOT / "README.md", "python")
    for long, quick in QUICKER.items():
        program = program.replace(long, quick)
    script = terminal.folder / "program.py"
    script.write_text(program + "print(project.champion['recipe'])\n", encoding="utf-8")
    assert terminal.type(f"{sys.executable} program.py").strip()


def test_the_quick_start_data_are_what_its_script_makes(terminal: Terminal) -> None:
    terminal.type(f"{sys.executable} docs/quickstart/make.py")
    for name in ("parcels.csv", "later.csv"):
        assert (terminal.folder / "docs" / "quickstart" / name).read_bytes() == (
            ROOT / "docs" / "quickstart" / name
        ).read_bytes()
