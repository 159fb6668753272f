"""Threads that wait give up their core soon, whichever learner is imported first."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tidemill.learners.trees import growing

SAID = """
import os, sys, tidemill.learners
print(os.environ["GOMP_SPINCOUNT"], {"torch", "lightgbm"} & set(sys.modules))
"""


@pytest.mark.parametrize("given", [None, "7"])
def test_it_is_set_before_what_reads_it_is_imported_and_a_users_value_stands(given: str | None) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    if given is not None:
        environment["GOMP_SPINCOUNT"] = given
    said = subprocess.run([sys.executable, "-c", SAID], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.split() == [given or "2000", "set()"]


@pytest.mark.parametrize(
    ("cores", "load", "threads"),
    [(2, 0.0, 2), (2, 2.1, 2), (2, 2.9, 1), (2, 9.0, 1), (16, 12.0, 16), (16, 18.2, 14), (16, 40.0, 1)],
)
def test_trees_leave_cores_to_a_crowd(monkeypatch: pytest.MonkeyPatch, cores: int, load: float, threads: int) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    assert growing._free(cores) == threads
    assert growing._free(1) == 1
