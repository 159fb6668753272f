"""A real store in a fresh folder, on SQLite and on PostgreSQL, and makers of the records that flow through it."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from _postgres import Server
from tidemill.records import Feedback, Prediction, new_id
from tidemill.store import Store, create_store, new_prediction_id, open_store
from tidemill.store.tables import facts, metadata

BOTH = ("sqlite", "postgresql")


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store in SQLite, made once: a copy of it takes a fraction of the time."""
    root = tmp_path_factory.mktemp("template") / ".tidemill"
    create_store(root).close()
    return root


@pytest.fixture(scope="session")
def shared(postgres: Server, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A store in PostgreSQL, made once: its folder and URL."""
    root, url = tmp_path_factory.mktemp("shared") / ".tidemill", postgres.make()
    create_store(root, url).close()
    return root, url


@pytest.fixture(params=BOTH)
def on(request: pytest.FixtureRequest) -> str:
    """The database that a test runs on: each runs on both."""
    return str(request.param)


@pytest.fixture
def store(on: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Store]:
    """An empty store. That on PostgreSQL has the tables of the test before, emptied: leave them as they are."""
    if on == "sqlite":
        root, url = request.getfixturevalue("template"), None
    else:
        root, url = request.getfixturevalue("shared")
    with open_store(shutil.copytree(root, tmp_path / ".tidemill"), url) as opened:
        if url is not None:
            filled = [name for name in metadata.tables if name != facts.name]
            with opened.database.transaction() as connection:
                connection.exec_driver_sql("; ".join(f"DELETE FROM {name}" for name in filled))
        yield opened


@pytest.fixture
def new_url(on: str, request: pytest.FixtureRequest) -> Callable[[], str | None]:
    """Makes an empty database, for stores that a test makes itself; ``None`` means the file in the store's folder."""
    return (lambda: None) if on == "sqlite" else request.getfixturevalue("postgres").make


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
