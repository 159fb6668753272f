"""No decoder knows another way out than success and an error of ours, whatever a fuzzer finds out about it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from _results import note

HERE = Path(__file__).parent
PROGRAM = HERE / "fuzz.py"
FOUND = sorted(path for path in (HERE / "found").glob("*/*") if path.is_file())
LIMITS = {"image", "predict", "feedback", "form", "tensors", "csv", "jsonl", "idx", "npz", "zip", "tar", "parquet"}

REPLAY = """
import pathlib, sys
sys.path.insert(0, sys.argv[1])
import fuzz
known = fuzz.loaded(pathlib.Path(sys.argv[2]))
for path in map(pathlib.Path, sys.argv[3:]):
    print(path)
    fuzz.once(known[path.parent.name], path.read_bytes(), pathlib.Path(sys.argv[2]))
"""


@pytest.fixture
def _atheris() -> None:
    if importlib.util.find_spec("atheris") is None:
        if os.environ.get("TIDEMILL_REQUIRE_DATA") == "1":
            pytest.fail("there is no fuzzer: pip install atheris")
        pytest.skip("there is no fuzzer for this Python or machine")


def fuzzed(tmp_path: Path, *options: str) -> dict[str, Any]:
    """What the program says of each decoder."""
    command = [sys.executable, PROGRAM, *options, "--found", str(tmp_path / "found")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-20_000:]
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert set(told) >= LIMITS
    return told


@pytest.mark.usefixtures("_atheris")
def test_thousands_of_inputs(tmp_path: Path) -> None:
    told = fuzzed(tmp_path, "--quick")
    assert sum(one["inputs"] for one in told.values()) > 15_000
    assert all(one["inputs"] >= 80 and one["coverage"] > 0 for one in told.values()), told


@pytest.mark.long
@pytest.mark.timeout(3 * 3600)  # more than twenty decoders, one after the other
@pytest.mark.usefixtures("_atheris")
def test_minutes_each(tmp_path: Path) -> None:
    told = fuzzed(tmp_path, "--seconds", os.environ.get("TIDEMILL_TEST_FUZZ_SECONDS", "180"), "--seed", "0")
    note("fuzz", inputs=sum(one["inputs"] for one in told.values()), faults=0, decoders=told)
    assert all(one["inputs"] > 1000 for one in told.values()), told


def test_inputs_that_were_faults_once(tmp_path: Path) -> None:
    assert FOUND
    command = [sys.executable, "-c", REPLAY, HERE, tmp_path, *FOUND]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-5000:]
