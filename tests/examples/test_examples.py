"""The examples run as they stand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest

from tidemill.testing import TaskConformance

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("*/run.py")), ids=lambda path: path.parent.name)
def test_an_example_runs(script: Path) -> None:
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_every_example_has_a_script_and_a_page() -> None:
    folders = [path for path in EXAMPLES.iterdir() if path.is_dir()]
    assert folders
    assert all((folder / "run.py").is_file() and (folder / "README.md").is_file() for folder in folders)


class TestMachineFault(TaskConformance):
    task_name: ClassVar[str] = "machine-fault"
    files: ClassVar[tuple[Path, ...]] = (EXAMPLES / "own-task" / "tasks" / "machine_fault.py",)
