"""Makes ``pages.py``, which reads pages, and ``mill.py``, which serves a project, importable for the tests here."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from mill import Mill, grown, running


@pytest.fixture(scope="session")
def grown_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of digits after one cycle; tests serve copies of it."""
    return grown(tmp_path_factory.mktemp("grown") / "digits")


@pytest.fixture(scope="module")
def mill(grown_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mill]:
    """A copy of it, served with its console to whoever is on this machine."""
    folder = tmp_path_factory.mktemp("mill") / "digits"
    shutil.copytree(grown_project, folder)
    with running(folder) as served:
        yield served
