"""Ids, which processes make without asking each other."""

from __future__ import annotations

import os
import time

import pytest

from tidemill.records import new_id


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_processes_that_were_forked_make_different_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now)  # the child begins in the same millisecond
    parts = []
    for _ in range(5):
        reader, writer = os.pipe()
        new_id("run")
        pid = os.fork()
        made = [new_id("run") for _ in range(20)]
        if not pid:
            os.write(writer, "\n".join(made).encode())
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as told:
            parts += [made, told.read().split()]
        assert os.waitpid(pid, 0)[1] == 0
    ids = [one for part in parts for one in part]
    assert len(set(ids)) == len(ids) == 5 * 2 * 20
    assert all(part == sorted(part) for part in parts), "they increase within a process"
