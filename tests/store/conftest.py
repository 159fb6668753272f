"""A real store in a fresh folder, and makers of the records that flow through it."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tidemill.records import Feedback, Prediction, new_id
from tidemill.store import Store, create_store, new_prediction_id, open_store


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store, made once: a copy of it takes a fraction of the time."""
    root = tmp_path_factory.mktemp("template") / ".tidemill"
    create_store(root).close()
    return root


@pytest.fixture
def store(tmp_path: Path, template: Path) -> Iterator[Store]:
    with open_store(shutil.copytree(template, tmp_path / ".tidemill")) as opened:
        yield opened


@pytest.fixture
def make_prediction(store: Store) -> Callable[..., Prediction]:
    numbers = itertools.count()

    def make(**fields: Any) -> Prediction:
        defaults: dict[str, Any] = {
            "id": new_prediction_id(store.secret),
            "deployment": "deploy_1",
            "model_id": "model_1",
            "key": f"{next(numbers):016x}",
            "inputs": {"width": 1.5, "colour": "blue", "note": "naïve ☃"},
            "answer": {"label": "a", "score": 0.75},
        }
        return Prediction(**{**defaults, **fields})

    return make


@pytest.fixture
def make_feedback() -> Callable[..., Feedback]:
    def make(**fields: Any) -> Feedback:
        identifier = new_id(Feedback.prefix)
        defaults: dict[str, Any] = {
            "id": identifier,
            "subject": "pred_1",
            "kind": "correction",
            "value": "b",
            "author": "ann",
            "key": identifier,
        }
        return Feedback(**{**defaults, **fields})

    return make
