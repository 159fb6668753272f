"""A disk that is full, at whatever a command happens to be writing."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from newcomer import HEADER, Outcome, cycle, quick, rows, state, tidemill

from _disk import disk

PROGRAM = (sys.executable, "-c", "from tidemill.cli.main import main; main()")


def process(*arguments: str | Path, largest_file: int | None = None) -> Outcome:
    """``tidemill ARGUMENTS --json`` as a process of its own: a full disk can end one without a word (SIGBUS)."""

    def limit() -> None:
        if largest_file is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    done = subprocess.run(
        [*PROGRAM, *map(str, arguments), "--json"],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=limit,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "tides.csv"
    path.write_text(HEADER + rows(4000), "utf-8")
    return path


@pytest.mark.parametrize("size", ["64k", "400k"])
def test_init_leaves_no_project(size: str, data: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    with disk(tmp_path / "disk", size) as enlarge:
        project = tmp_path / "disk" / "project"
        message = tidemill("init", project, "--data", data).refusal()
        assert "full" in message or "No space left" in message
        assert not (project / "tidemill.yaml").exists()
        enlarge()
        assert tidemill("init", project, "--data", data).code == 0


@pytest.mark.parametrize("size", ["850k", "1200k"])
def test_a_cycle_says_so_and_the_next_one_succeeds(size: str, data: Path, tmp_path: Path) -> None:
    """With 850 kB the mapped arrays find no room, with 1200 kB the database."""
    (tmp_path / "disk").mkdir()
    with disk(tmp_path / "disk", size) as enlarge:
        project = tmp_path / "disk" / "project"
        assert tidemill("init", project, "--data", data).code == 0
        quick(project)
        message = process("cycle", "-C", project, "--max-trials", "0").refusal()
        assert "No space left" in message or "full" in message
        assert state(project)["champion"] is None
        enlarge()
        assert cycle(project).document["decision"]["outcome"] == "promoted"


def test_files_that_cannot_grow(data: Path, tmp_path: Path) -> None:
    """The same without mounting: the limit on the size of a file."""
    project = tmp_path / "project"
    assert tidemill("init", project, "--data", data).code == 0
    quick(project)
    message = process("cycle", "-C", project, "--max-trials", "0", largest_file=300_000).refusal()
    assert "space" in message
    assert cycle(project).document["decision"]["outcome"] == "promoted"
