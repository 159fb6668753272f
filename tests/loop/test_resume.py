"""A cycle killed with SIGKILL in any of its stages goes on to the very same result."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tidemill
from tidemill.records import Cycle, Decision, Model, Run, Step
from tidemill.tasks import get_task
from tidemill.testing.tasks import write_records

STAGES = ["feedback", "prepare", "tune", "train", "evaluate", "deploy", "annotate"]
KILLS = {stage: [(stage, "0"), (stage, "0.02")] for stage in STAGES}  # at its first word, and a moment into its work
KILLS["the race"] = [("tune@1", "0"), ("tune@3", "0.02"), ("tune@5", "0")]  # after so many of six trials
ALWAYS = ("train", "deploy", "the race")  # the others kill cycles for ten seconds each, and run in `make test-long`


def result(project: tidemill.Project) -> dict[str, Any]:
    """What must not depend on whether a cycle was killed: models bit for bit, scores, and the decision."""
    cycles = project.store.find(Cycle)
    assert [c.status for c in cycles] == ["done"], "one cycle, resumed, not two"
    decisions = project.store.find(Decision)
    models = project.store.find(Model)
    runs = {r.id: r for r in project.store.find(Run, kind=["train", "refit"])}
    names = {m.id: f"{runs[str(m.run_id)].kind} {m.recipe}" for m in models}
    assert len(models) == len(set(names.values())) == len(runs), "no model is made twice"
    return {
        "graphs": {names[m.id]: (project.store.root / m.path / "model.onnx").read_bytes() for m in models},
        "scores": {names[m.id]: m.metrics for m in models},
        "trials": [
            (t.recipe["name"], t.status, t.params, [e["validation_score"] for e in t.curve], t.metrics)
            for t in project.store.find(Run, kind="trial")
        ],
        "params": {f"{r.kind} {r.recipe['name']}": r.params for r in runs.values()},
        "decisions": [(d.outcome, d.reason, d.alpha) for d in decisions],
        "champion": project.champion["recipe"] if project.champion else None,
        "dataset": cycles[0].dataset_id,
        "steps": sorted(s.name for s in project.store.find(Step)),
    }


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resume")
    data = write_records(folder / "data", get_task("tabular-classification").sample_data(0, 600))
    tidemill.init(folder / "project", data=data, target="label").store.close()
    return folder


@pytest.fixture(scope="module")
def expected(fresh: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    whole = tmp_path_factory.mktemp("whole")
    shutil.copytree(fresh, whole, dirs_exist_ok=True)
    project = tidemill.open(whole / "project")
    project.cycle(max_trials=3, max_epochs=20, seed=1)
    found = result(project)
    assert [recipe for recipe, *_ in found["trials"][:2]] == ["lightgbm", "mlp"]
    assert sorted(recipe for recipe, *_ in found["trials"]) == ["lightgbm"] * 3 + ["mlp"] * 3
    return found


@pytest.mark.parametrize(
    "kills",
    [pytest.param(kills, id=name, marks=() if name in ALWAYS else pytest.mark.long) for name, kills in KILLS.items()],
)
def test_a_cycle_killed_in_a_stage_resumes_to_the_same_result(
    kills: list[tuple[str, str]], fresh: Path, expected: dict[str, Any], tmp_path: Path
) -> None:
    shutil.copytree(fresh, tmp_path, dirs_exist_ok=True)
    folder = tmp_path / "project"
    for stage, delay in kills:
        killed = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("_killed.py")), str(folder), stage, delay], check=False
        )
        assert killed.returncode in (-signal.SIGKILL, 0)
        if delay == "0":
            assert killed.returncode == -signal.SIGKILL
    project = tidemill.open(folder)
    if project.store.find(Cycle)[0].status != "done":
        project.cycle()  # no limits named: the plan that was journaled is followed
    assert result(project) == expected
