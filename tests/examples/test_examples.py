"""The examples run as they stand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest

from tidemill.tasks import task_names
from tidemill.testing import TaskConformance

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

SCRIPTS = sorted(EXAMPLES.glob("*/run.py"))
LONG = (
    *("image-classification", "image-multi-label", "news-recommender"),
    *("own-recipes", "tabular-regression", "text-classification", "text-multi-label"),
)
"""Fifteen seconds each. Every one follows a line that one of the others follows, and runs in `make test-long`."""


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(path, id=path.parent.name, marks=pytest.mark.long if path.parent.name in LONG else ())
        for path in SCRIPTS
    ],
)
def test_an_example_runs(script: Path) -> None:
    alone = {**os.environ, "TIDEMILL_THREADS": "1"}  # other tests run beside it
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=alone, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() and not done.stderr, done.stderr


def test_every_task_has_an_example() -> None:
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir()}
    assert set(task_names()) <= folders
    assert {path.parent.name for path in SCRIPTS} == folders > set(LONG)


def test_every_example_has_a_script_and_a_page() -> None:
    folders = [path for path in EXAMPLES.iterdir() if path.is_dir()]
    assert folders
    assert all((folder / "run.py").is_file() and (folder / "README.md").is_file() for folder in folders)
    index = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert all(f"({folder.name}/README.md)" in index for folder in folders)


class TestMachineFault(TaskConformance):
    task_name: ClassVar[str] = "machine-fault"
    files: ClassVar[tuple[Path, ...]] = (EXAMPLES / "own-task" / "tasks" / "machine_fault.py",)
