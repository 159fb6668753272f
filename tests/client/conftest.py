"""The small project of the tests of serving, served for a client."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "serving"))

from small_project import Served, SmallProject, served


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server of a model of images."""
    project = SmallProject.create(tmp_path_factory.mktemp("project"))
    project.deploy(project.add_model("ridge"))
    with served(project) as running:
        yield running
    project.store.close()
