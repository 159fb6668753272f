"""Forked processes: they start at once, their end is told, and nobody outlives who started them."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tidemill.engines.nursery import Nursery, can_fork

pytestmark = pytest.mark.skipif(not can_fork(), reason="processes may not fork here")

WORK = "tidemill.loop.working:work"
MAKER = """
import multiprocessing, sys, time
from pathlib import Path
from tidemill.engines.nursery import Nursery
here, there = multiprocessing.Pipe()
nursery = Nursery(threads=1, modules=[], log=Path(sys.argv[1]))
job = nursery.submit("tidemill.loop.working:work", {}, keep=[there.fileno()])
here.recv()
print(nursery.pid, job.pid, flush=True)
time.sleep(600)
"""


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_job_lives_until_its_line_is_closed_or_it_is_killed(tmp_path: Path) -> None:
    with contextlib.closing(Nursery(threads=1, modules=["tidemill.loop.working"], log=tmp_path / "log")) as nursery:
        ends = []
        for kill in (False, True):
            here, there = multiprocessing.Pipe()
            with there:
                job = nursery.submit(WORK, {"fd": there.fileno()}, keep=[there.fileno()])
            assert here.recv() == ("beat", None)
            if kill:
                job.kill()
            here.close()
            ends.append(job.wait())
        assert ends == [0, -signal.SIGKILL]
        assert job.wait() == -signal.SIGKILL  # what is known is not asked again
    assert not (tmp_path / "log").read_bytes()


def test_an_error_of_a_job_stands_in_the_log(tmp_path: Path) -> None:
    with contextlib.closing(Nursery(threads=1, modules=["no_such_module"], log=tmp_path / "log")) as nursery:
        here, there = multiprocessing.Pipe()
        with here, there:
            job = nursery.submit("os:no_such_function", {}, keep=[there.fileno()])
            assert job.wait() == 1
    assert "there is no function 'os:no_such_function'" in (tmp_path / "log").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_nobody_stays_when_the_maker_was_killed(tmp_path: Path) -> None:
    maker = subprocess.Popen([sys.executable, "-c", MAKER, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True)
    assert maker.stdout is not None
    pids = [int(word) for word in maker.stdout.readline().split()]
    assert len(pids) == 2 and not any(gone(pid) for pid in pids)
    os.kill(maker.pid, signal.SIGKILL)
    maker.wait()
    maker.stdout.close()
    while not all(gone(pid) for pid in pids):  # the test's own time limit ends this
        time.sleep(0.1)
