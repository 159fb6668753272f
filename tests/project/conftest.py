"""One small trained project for tests of backups, copied for those that change it."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # _person.py is a program too, so it is in no package

import tidemill
from tidemill.records import Model, Prediction
from tidemill.store import new_prediction_id
from tidemill.tasks import get_task
from tidemill.testing.tasks import write_records

TABULAR = "tabular-classification"


@pytest.fixture(scope="session")
def _lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two promotions, predictions, and what was said about them."""
    folder = tmp_path_factory.mktemp("lived")
    data = write_records(folder / "data", get_task(TABULAR).sample_data(0, 300))
    project = tidemill.init(
        folder / "parcels", data=data, recipes={"exclude": ["lightgbm", "mlp"], "files": ["own/recipes.py"]}
    )
    (folder / "parcels" / "own").mkdir()
    (folder / "parcels" / "own" / "recipes.py").write_text("# none yet\n", encoding="utf-8")
    with contextlib.closing(project.store):
        champion = project.cycle(max_trials=1)["decision"]["challenger_id"]
        project.promote(next(m.id for m in project.store.find(Model) if m.id != champion), reason="a test", author="é")
        for number in range(20):
            made = Prediction(
                id=new_prediction_id(project.store.secret),
                deployment="default",
                model_id=champion,
                key=f"{number:016x}",
                inputs={"size": number / 7, "kind": "naïve ☃ \0"},
                answer={"label": "yes", "scores": [0.1, 1e-300]},
            )
            project.store.insert(made)
            project.feedback(made.id, "no", author=f"someone {number % 3}")
        project.store.blobs.put(bytes(range(256)) * 100)
    return folder


@pytest.fixture
def lived(_lived: Path, tmp_path: Path) -> Iterator[tidemill.Project]:
    """A copy of that project; its data lies beside it."""
    shutil.copytree(_lived, tmp_path / "home")
    project = tidemill.open(tmp_path / "home" / "parcels")
    with contextlib.closing(project.store):
        yield project
