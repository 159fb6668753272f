"""Fixtures that every test may use."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # _postgres.py is in no package

from _checkpoints import Checkpoints
from _postgres import Server


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data sets: ``TIDEMILL_TEST_DATA``, or ``shared/data`` beside the checkout."""
    root = Path(__file__).resolve().parent.parent
    folder = Path(os.environ.get("TIDEMILL_TEST_DATA", root.parent / "shared" / "data"))
    if folder.is_dir():
        return folder
    reason = f"no data sets at {folder}; set TIDEMILL_TEST_DATA (docs/benchmark-data.md)"
    if os.environ.get("TIDEMILL_REQUIRE_DATA") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    """Small random checkpoints: ``checkpoints("bert")`` is a folder, ``checkpoints.reference("bert")`` names it."""
    return Checkpoints(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server that this test process has to itself. Killing it belongs in tests with one of their own.

    It does not fsync: these tests end with it, and whether a server of default settings does is tested elsewhere.
    """
    server = Server("fsync=off", "full_page_writes=off", "shared_buffers=32MB", "autovacuum=off")
    with contextlib.closing(server):
        server.start()
        yield server
