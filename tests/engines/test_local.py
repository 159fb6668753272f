"""The local engine: a real process, its result as JSON, its errors as they were raised, a clean end when asked."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tidemill.engines._base import resolve
from tidemill.engines.local import THREAD_VARIABLES, LocalEngine
from tidemill.errors import NotFoundError, StoreError


def test_it_runs_a_function_with_json_arguments() -> None:
    job = LocalEngine(threads=1).submit("json:dumps", {"obj": {"a": [1, 2]}})
    assert job.wait(timeout=60) == 0
    assert job.result() == '{"a": [1, 2]}'


def test_threads_and_priority_are_its_own() -> None:
    engine = LocalEngine(threads=3, nice=7)
    threads = engine.submit("os:getenv", {"key": THREAD_VARIABLES[0]})
    priority = engine.submit("os:nice", {"increment": 0}) if os.nice(0) == 0 else None
    assert threads.result() == "3"
    if priority is not None:
        with pytest.raises(StoreError):  # os.nice takes no keywords, so this job dies with a traceback
            priority.result()


def test_an_error_comes_back_as_it_was_raised() -> None:
    job = LocalEngine(threads=1).submit("tidemill.engines._base:resolve", {"target": "nowhere:at_all"})
    assert job.wait(timeout=60) == 2
    with pytest.raises(NotFoundError, match="nowhere:at_all"):
        job.result()


def test_a_killed_job_is_said_not_guessed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    job = LocalEngine(threads=1, log=log).submit("time:sleep", {"seconds": 60})
    os.kill(job.pid, signal.SIGKILL)
    with pytest.raises(StoreError, match="-9"):
        job.result()


@pytest.mark.parametrize("handler", [signal.default_int_handler, signal.SIG_IGN], ids=["a terminal", "a script"])
def test_stop_ends_it_like_ctrl_c(tmp_path: Path, handler: Any) -> None:
    """What a script starts in the background ignores SIGINT, and its jobs must not."""
    script = tmp_path / "napping.py"
    ready = tmp_path / "ready"
    script.write_text(
        f"import pathlib, time\ndef nap():\n    pathlib.Path({str(ready)!r}).touch()\n    time.sleep(60)\n",
        encoding="utf-8",
    )
    path = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(tmp_path)
    before = signal.signal(signal.SIGINT, handler)
    try:
        job = LocalEngine(threads=1).submit("napping:nap", {})
    finally:
        signal.signal(signal.SIGINT, before)
        if path is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = path
    while not ready.exists() and job.poll() is None:
        time.sleep(0.01)
    job.stop()
    assert job.wait(timeout=60) == 130


def test_resolve_names_what_is_missing() -> None:
    with pytest.raises(NotFoundError, match="math:nothing"):
        resolve("math:nothing")
