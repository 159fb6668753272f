"""One small trained project, copied for each test that writes down traffic for it."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # traffic_project.py is in no package

from traffic_project import make

import tidemill
from tidemill.api.project import Project


@pytest.fixture(scope="session")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("traffic")
    make(folder)
    return folder


@pytest.fixture
def folder(_made: Path, tmp_path: Path) -> Path:
    """The project's folder, a copy for this test alone."""
    shutil.copytree(_made, tmp_path / "copy")
    return tmp_path / "copy" / "p"


@pytest.fixture
def project(folder: Path) -> Iterator[Project]:
    opened = tidemill.open(folder)
    with contextlib.closing(opened.store):
        yield opened
