"""A server that tests may stop, freeze and kill, and a store on it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from _postgres import Server
from tidemill.store import Store, create_store


@pytest.fixture(scope="module")
def _server() -> Iterator[Server]:
    """It does not fsync, since the machine goes on; what fsync does is tested with a server of default settings."""
    made = Server("fsync=off", "full_page_writes=off", "shared_buffers=32MB")
    with contextlib.closing(made):
        made.start()
        yield made


@pytest.fixture
def server(_server: Server) -> Iterator[Server]:
    """The module's server; it runs again for the next test, whatever this one does to it."""
    yield _server
    _server.resume()
    _server.restart()


@pytest.fixture
def store(server: Server, tmp_path: Path) -> Iterator[Store]:
    with create_store(tmp_path / ".tidemill", server.make()) as made:
        yield made
