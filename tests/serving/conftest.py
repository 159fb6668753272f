"""A small real project, served by the real server on a loopback port."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # small_project.py is a program too, so it is in no package

from small_project import Served, SmallProject, served

from tidemill.records import Model


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallProject]:
    """A project with two models, of which none is deployed."""
    project = SmallProject.create(tmp_path_factory.mktemp("project"), max_rows=50, max_body_mb=1)
    project.add_model("naive-bayes")
    project.add_model("ridge")
    with contextlib.closing(project.store):
        yield project


@pytest.fixture(scope="module")
def service(trained: SmallProject) -> Iterator[Served]:
    """A server whose champion is the first model."""
    trained.deploy(trained.store.find(Model)[0])
    with served(trained) as running:
        yield running
