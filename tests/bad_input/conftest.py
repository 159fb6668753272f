"""One small trained project, and a copy of it for each test that breaks something."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # newcomer.py is in no package

from newcomer import HEADER, cycle, rows, start


@pytest.fixture(scope="session")
def _trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tides.csv").write_text(HEADER + rows(120), "utf-8")
    done = cycle(start(folder / "project", folder / "tides.csv"))
    assert done.document["decision"]["outcome"] == "promoted", done.out
    return folder


@pytest.fixture(scope="session")
def kept(_trained: Path) -> Path:
    """A project with a champion that tests share, for refusals, which change nothing; its data: ``../tides.csv``."""
    return _trained / "project"


@pytest.fixture
def trained(_trained: Path, tmp_path: Path) -> Path:
    """A project of its own with a champion; its data is ``../tides.csv``."""
    shutil.copytree(_trained, tmp_path / "trained")
    return tmp_path / "trained" / "project"


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_THREADS", "1")
