"""The parallel engine: real processes that find one another, one result, and an end for all when one dies."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidemill.engines.parallel import ParallelEngine
from tidemill.errors import TrainingError

JOBS = """
import os, signal, time
import torch
import torch.distributed as dist
from tidemill.errors import TrainingError

def summed(folder):
    print("what a library prints is no result")
    dist.init_process_group("gloo", f"file://{folder}/meeting", rank=int(os.environ["RANK"]),
                            world_size=int(os.environ["WORLD_SIZE"]))
    value = torch.tensor([float(os.environ["RANK"]) + 1])
    dist.all_reduce(value)
    dist.destroy_process_group()
    return {"sum": value.item(), "rank": os.environ["RANK"], "threads": os.environ["OMP_NUM_THREADS"]}

def one_dies():
    if os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(3600)

def one_refuses():
    if os.environ["RANK"] == "1":
        raise TrainingError("no such thing", where="here", mend="Try another.")
    time.sleep(3600)
"""


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ParallelEngine:
    (tmp_path / "jobs_of_several.py").write_text(JOBS, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    return ParallelEngine(processes=2, threads=4, log=tmp_path / "log")


def test_processes_meet_share_the_threads_and_give_the_first_ones_result(
    engine: ParallelEngine, tmp_path: Path
) -> None:
    job = engine.submit("jobs_of_several:summed", {"folder": str(tmp_path)})
    assert job.result() == {"sum": 3.0, "rank": "0", "threads": "2"}, (tmp_path / "log").read_text()
    assert "no result" in (tmp_path / "log").read_text()


def test_one_that_dies_is_said_and_the_others_end(engine: ParallelEngine) -> None:
    with pytest.raises(TrainingError, match=r"process 2 of 2 was killed by signal 9 \(SIGKILL\)"):
        engine.submit("jobs_of_several:one_dies", {}).result()


def test_an_error_of_any_comes_back_as_it_was_raised(engine: ParallelEngine) -> None:
    with pytest.raises(TrainingError, match="no such thing") as raised:
        engine.submit("jobs_of_several:one_refuses", {}).result()
    assert (raised.value.where, raised.value.mend) == ("here", "Try another.")
