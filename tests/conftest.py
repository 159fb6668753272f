"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


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
