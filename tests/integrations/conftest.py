"""A small project, and MLflow itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import tidemill

NewProject = Callable[..., tidemill.Project]


@pytest.fixture(scope="module")
def new_project(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A project on irises with a champion; its MLflow as told."""
    made: list[tidemill.Project] = []

    def make(uri: str, name: str = "irises") -> tidemill.Project:
        folder = tmp_path_factory.mktemp("mlflow") / name
        recipes = {"include": ["naive-bayes", "ridge"]}
        project = tidemill.init(
            folder, data="sklearn:iris", target="target", recipes=recipes, mlflow={"uri": uri, "timeout_s": 1}
        )
        made.append(project)
        project.cycle(max_epochs=1, seed=0)
        return project

    yield make
    for project in made:
        project.store.close()
