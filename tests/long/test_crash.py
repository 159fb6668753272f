"""A cycle with networks on images, killed with SIGKILL at random moments, goes on to the very same result."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tidemill
from tidemill.records import Cycle, Decision, Model, Run

pytestmark = pytest.mark.long

KILLS = 10


def ran(folder: Path, killed_after: float | None = None) -> tuple[int, float]:
    """Run, or go on with, the cycle in a process of its own; its status, and its seconds from the first word on.

    Args:
        folder: the project.
        killed_after: seconds from the first word to the SIGKILL; not killed unless given.
    """
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("_cycle.py")), str(folder)],
        stdout=subprocess.PIPE,
        env=os.environ | {"TIDEMILL_THREADS": "1"},
    )
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        begun = time.perf_counter()
        if killed_after is not None:
            time.sleep(killed_after)
            process.kill()
        return process.wait(), time.perf_counter() - begun


def result(folder: Path) -> dict[str, Any]:
    """Models bit for bit, scores, learning curves, parameters, and the decision."""
    project = tidemill.open(folder)
    cycles, decisions = project.store.find(Cycle), project.store.find(Decision)
    assert [c.status for c in cycles] == ["done"], "one cycle, resumed, not two"
    assert len(decisions) == 1
    models = project.store.find(Model)
    trained = [run for run in project.store.find(Run) if run.kind in ("train", "refit")]
    names = {run.model_id: f"{run.recipe['name']}, {run.kind}" for run in trained}
    assert len(models) == len(set(names.values())) == len(trained)
    files = {names[m.id]: sorted((project.store.root / m.path).glob("model.*")) for m in models}
    return {
        "models": {name: {f.name: f.read_bytes() for f in found} for name, found in files.items()},
        "scores": {names[m.id]: m.metrics for m in models},
        "curves": {names[r.model_id]: r.curve for r in trained},
        "params": {names[r.model_id]: r.params for r in trained},
        "decision": (decisions[0].outcome, decisions[0].reason),
        "dataset": cycles[0].dataset_id,
    }


def test_a_cycle_killed_again_and_again_comes_to_the_same_result(tmp_path: Path) -> None:
    fresh = tmp_path / "fresh"
    tidemill.init(fresh, data="sklearn:digits", target="label").store.close()
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        shutil.copytree(fresh, folder)

    status, seconds = ran(whole)
    assert status == 0
    moments = np.random.default_rng(0)
    deaths = 0
    while deaths < KILLS and (status := ran(killed, moments.uniform(0, seconds / 4))[0]) != 0:
        assert status == -signal.SIGKILL
        deaths += 1
    if status != 0:
        assert ran(killed)[0] == 0
    assert deaths > 0
    assert {"cnn, train", "cnn-small, train"} <= set(result(whole)["models"])
    assert result(killed) == result(whole)
