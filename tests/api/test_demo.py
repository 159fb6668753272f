"""The demo: what the README promises of it, and that every other command works on what it leaves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tidemill
from tidemill.api.demo import run
from tidemill.errors import ConflictError


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run(tmp_path_factory.mktemp("demo") / "digits")


def test_two_models_go_live_and_the_third_is_refused(demo: dict[str, Any]) -> None:
    first, second, third = demo["cycles"]
    assert [c["outcome"] for c in demo["cycles"]] == ["promoted", "promoted", "refused"]
    assert first["recent"] is None and first["reference"]["value"] > 0.85
    assert second["reference"]["value"] > first["reference"]["value"] + 0.02
    assert second["recent"]["low"] > 0.9
    assert third["reference"]["value"] < 0.5 and "loss" in third["reason"]
    for cycle in demo["cycles"]:
        assert set(cycle["recipes"]) == {"naive-bayes", "ridge", "cnn-small", "cnn"}
        assert cycle["latency_ms"] > 0 and cycle["size_bytes"] > 0


def test_corrections_and_confirmations_reached_training(demo: dict[str, Any]) -> None:
    project = tidemill.open(demo["folder"])
    status = project.status()
    assert status["live"]["predictions"] > 1200
    assert status["live"]["answered"] == status["live"]["audited"] > 300
    assert status["dataset"]["counts"]["train"] > 200


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["status"], 0),
        (["plan"], 0),
        (["runs"], 0),
        (["models"], 0),
        (["report"], 0),
        (["gate"], 1),
        (["label", "--list"], 0),
        (["gc", "--dry-run"], 0),
        (["doctor"], 0),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_every_command_works_on_what_it_leaves(demo: dict[str, Any], arguments: list[str], code: int) -> None:
    command = [sys.executable, "-m", "tidemill", "-C", demo["folder"], "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert json.loads(done.stdout)


def test_it_does_not_write_over_anything(demo: dict[str, Any]) -> None:
    with pytest.raises(ConflictError):
        run(Path(demo["folder"]))


@pytest.mark.long
def test_it_is_seeded(demo: dict[str, Any], tmp_path: Path) -> None:
    again = run(tmp_path / "again")
    for before, after in zip(demo["cycles"], again["cycles"], strict=True):
        assert (before["recipe"], before["outcome"]) == (after["recipe"], after["outcome"])
        assert before["reference"]["value"] == pytest.approx(after["reference"]["value"], abs=0.02)
