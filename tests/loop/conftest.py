"""A prepared project, and copies of it in which races are run."""

from __future__ import annotations

import csv
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tidemill

sys.path.insert(0, str(Path(__file__).parent))  # _scene.py is in no package

from _scene import Scene

ROWS = 1000


@pytest.fixture(scope="session")
def prepared(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a dataset version of California's housing: a thousand rows."""
    folder = tmp_path_factory.mktemp("housing")
    with (data_dir / "california-housing" / "housing.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    with (folder / "housing.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows[:: len(rows) // ROWS]])
    settings: dict[str, Any] = {"recipes": {"include": []}}
    project = tidemill.init(folder / "project", data=folder / "housing.csv", target="median_house_value", **settings)
    project.cycle(max_trials=0)
    project.store.close()
    return folder / "project"


@pytest.fixture
def scene(prepared: Path, tmp_path: Path) -> Iterator[Callable[[], Scene]]:
    made: list[Scene] = []

    def make() -> Scene:
        folder = tmp_path / f"copy-{len(made)}"
        shutil.copytree(prepared, folder)
        made.append(Scene(tidemill.open(folder)))
        return made[-1]

    yield make
    for one in made:
        one.project.store.close()
