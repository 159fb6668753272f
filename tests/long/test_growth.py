"""Anonymous memory stays flat while the data grow tenfold, for what streams."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tidemill.learners import get_learner

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[2]
PROMISE_MB = 300
FLAT_MB = 100
"""What a tenfold set may add; its arrays would add 360 MB."""


@pytest.mark.parametrize("kind", ["images", "table"])
def test_memory_stays_flat_up_to_400_megabytes(kind: str, tmp_path: Path) -> None:
    report = tmp_path / "growth.json"
    recipes = {"images": ["naive-bayes", "ridge", "cnn"], "table": ["naive-bayes", "ridge"]}[kind]
    command = [sys.executable, str(ROOT / "benchmarks" / "growth.py"), "--kinds", kind, "--recipes", *recipes]
    command += ["--sizes", "0.04", "0.4", "--json", str(report), "--dir", str(tmp_path)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"TIDEMILL_THREADS": "1"})
    found: list[dict[str, Any]] = json.loads(report.read_text())
    assert {one["stage"] for one in found} == {"prepare", *recipes, "evaluate"}
    for name in ("prepare", *recipes, "evaluate"):
        small, large = (one["anonymous_mb"] for one in found if one["stage"] == name)
        assert large < PROMISE_MB, f"{name} takes {large} MB for 400 MB of {kind}"
        assert large - small < FLAT_MB, f"{name} grew from {small} to {large} MB"


def test_learners_say_whether_they_stream() -> None:
    assert {name: get_learner(name).streams for name in ("closed_form", "gradient", "trees")} == {
        "closed_form": True,
        "gradient": True,
        "trees": False,
    }
