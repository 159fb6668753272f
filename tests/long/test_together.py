"""Several processes that train together, stopped and orphaned: they leave a checkpoint, and nobody stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import tidemill
from tidemill.engines.parallel import ParallelEngine
from tidemill.learners._base import Context, Problem, RecipeView
from tidemill.learners.gradient.together import train_together
from tidemill.records import Run

HERE = Path(__file__).resolve()
LEARNERS = HERE.parents[1] / "learners"
sys.path.insert(0, str(LEARNERS))  # _problems.py is in no package

from _problems import digits  # noqa: E402

pytestmark = pytest.mark.long

VIEW = RecipeView(
    network={"name": "cnn", "dropout": 0.2},
    params={"epochs": 4, "batch_size": 64, "precision": "float32", "mixup": 0.2, "checkpoint_seconds": 3600},
)
PARENT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from _problems import digits
from tidemill.engines.parallel import ParallelEngine
from tidemill.learners._base import Context, RecipeView
from tidemill.learners.gradient.together import train_together
said = lambda epoch, metrics: print(epoch, flush=True)
view = RecipeView(network={"name": "cnn"}, params={"epochs": 5000, "batch_size": 64})
train_together(digits(400, 500), view, Context(device="cpu", report=said, workdir=Path(sys.argv[2])),
               ParallelEngine(processes=2, threads=2, log=Path(sys.argv[2]) / "log"), 2)
"""


def fit(problem: Problem, folder: Path, stop_at: int | None = None) -> dict[str, torch.Tensor]:
    def report(epoch: int, _metrics: dict[str, float]) -> None:
        if epoch == stop_at:
            raise KeyboardInterrupt

    context = Context(max_epochs=4, device="cpu", workdir=folder, report=report)
    model = train_together(problem, VIEW, context, ParallelEngine(processes=2, threads=2, log=folder.parent / "log"), 2)
    return {name: tensor.clone() for name, tensor in model.network.state_dict().items()}


def test_stopped_processes_leave_a_checkpoint_and_go_on_to_the_same_bits(tmp_path: Path) -> None:
    problem = digits(400, 500)
    whole = fit(problem, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(problem, tmp_path / "stopped", stop_at=1)
    assert (tmp_path / "stopped" / "checkpoint.safetensors").is_file()
    assert not list((tmp_path / "stopped").glob("together-*"))
    again = fit(problem, tmp_path / "stopped")
    assert whole.keys() == again.keys()
    for name, tensor in whole.items():
        # a checkpoint holds the mean of what batch normalisation has seen in each process, and means are rounded
        same = torch.allclose(tensor, again[name]) if "running" in name else torch.equal(tensor, again[name])
        assert same, name


def members(folder: Path) -> list[int]:
    """The processes that were started for a training in *folder*."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:  # it ended meanwhile
                continue
            if str(folder).encode() in command and b"tidemill.engines" in command:
                found.append(int(entry.name))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_nobody_trains_on_when_the_cycle_was_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT, encoding="utf-8")
    work = tmp_path / "work"
    work.mkdir()
    parent = subprocess.Popen([sys.executable, script, LEARNERS, work], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None and parent.stdout.readline().strip().isdigit()
    assert len(members(work)) == 3  # the launcher and both that train
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    while members(work):  # the test's own time limit ends this
        time.sleep(0.2)


RECIPES = """
import tidemill


@tidemill.recipe(
    "shared", learner="gradient", features=[{"step": "pixels"}], network={"name": "cnn"}, batch_size=640, epochs=6
)
def shared() -> None:
    '''Steps that are long enough to be shared.'''
"""


def test_a_cycle_whose_networks_two_processes_train(tmp_path: Path) -> None:
    project = tidemill.init(
        tmp_path / "project",
        data="sklearn:digits",
        recipes={"include": ["shared"]},
        training={"processes": 2, "robustness": False},
    )
    (tmp_path / "project" / "recipes.py").write_text(RECIPES, encoding="utf-8")
    done = project.cycle(seed=1)
    found = {candidate["recipe"]: candidate for candidate in done["candidates"]}
    assert found["shared"]["validation"] > 0.9
    runs = {run.kind: run for run in project.store.find(Run) if run.recipe["name"] == "shared"}
    assert {kind: run.metrics["processes"] for kind, run in runs.items()} == {"train": 2, "refit": 2}
    assert done["decision"]["outcome"] == "promoted" and done["decision"]["challenger_id"] == runs["refit"].model_id
    assert not members(tmp_path)
