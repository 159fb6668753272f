"""The service under half of full load with cycles beside it, short of the hour that benchmarks/soak.py takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from _results import note

ROOT = Path(__file__).resolve().parents[2]
FLAT = 0.05
"""How much higher memory may lie at the end."""


def soaked(tmp_path: Path, *options: str) -> dict[str, Any]:
    report = tmp_path / "soak.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "soak.py"), *options, "--json", str(report)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    print(done.stdout)
    told: dict[str, Any] = json.loads(report.read_text())
    assert told["failed"] == told["feedback_failed"] == told["cycles_failed"] == 0
    assert told["feedback"] > 0 and told["cycles"] > 0
    assert all(point["rate"] > 0 for point in told["curve"])
    return told


def test_a_few_seconds(tmp_path: Path) -> None:
    told = soaked(tmp_path, "--seconds", "6", "--slice", "1", "--budget", "0", "--warm-up", "2")
    points = [point["anonymous_mb"] for point in told["curve"]]
    assert points[-1] < 1.25 * points[0], "the caches fill, and nothing else"


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_an_hour(tmp_path: Path) -> None:
    told = soaked(tmp_path, "--seconds", os.environ.get("TIDEMILL_TEST_SOAK_SECONDS", "3600"))
    note("soak", **told)
    assert told["growth"] < FLAT, told["growth"]
