"""Running the program in this process, and as a real one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tidemill.cli.main import main


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document of stdout."""
        return json.loads(self.out)


Run = Callable[..., Result]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """``tidemill ARGUMENTS`` in this process."""
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str | Path) -> Result:
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(a) for a in arguments])
        return Result(int(left.value.code or 0), *capfd.readouterr())

    return call


@pytest.fixture
def shell() -> Run:
    """``tidemill ARGUMENTS`` as a process of its own."""

    def call(*arguments: str | Path, stdin: str = "", cwd: Path | None = None, **environ: str) -> Result:
        done = subprocess.run(
            [sys.executable, "-c", "from tidemill.cli.main import main; main()", *map(str, arguments)],
            input=stdin,
            capture_output=True,
            text=True,
            cwd=cwd,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environ},
            timeout=120,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return call
