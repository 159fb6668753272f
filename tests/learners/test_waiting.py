"""Threads that wait give up their core soon, whichever learner is imported first."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

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
