"""Schemathesis: requests of every kind that the OpenAPI document describes or forbids, at a real server."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_project import Served, SmallProject, served

from _results import note
from tidemill.serving.tokens import make_token

FREE = {"address_rate": None, "rate": dict.fromkeys(("predict", "feedback", "label", "admin")), "max_rows": 20}
HERE = Path(__file__).parent
PHASES = "examples,coverage,fuzzing,stateful"


@pytest.fixture(params=["pictures", "table", "numbers"])
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SmallProject]:
    """A project with a champion: of images, of a table, and one that answers with numbers."""
    if request.param == "pictures":
        made = SmallProject.create(tmp_path, **FREE)
        made.deploy(made.add_model("naive-bayes"))
    else:
        kind: Any = {"table": "classification", "numbers": "regression"}[request.param]
        made = SmallProject.of_kind(tmp_path, kind, {}, **FREE)
    with contextlib.closing(made.store):
        yield made


PICTURES = """
# Which bytes are an image, JSON Schema cannot say.
[[operations]]
include-path = "/v1/predict"
[operations.checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", "401", "403", "404", "409", "422", "429", "5xx"]
"""


def asked(running: Served, folder: Path, cases: int, token: str | None, seed: int = 1) -> dict[str, Any]:
    """What Schemathesis found with at most *cases* an operation in each of its phases: no failure."""
    report, config = folder / "report.json", folder / "schemathesis.toml"
    images = any(field.type == "image" for field in running.project.signature.inputs)
    config.write_text((HERE / "schemathesis.toml").read_text() + (PICTURES if images else ""))
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run"]
    command += [f"{running.url}/openapi.json", "--checks", "all"]
    command += ["--phases", PHASES, "--max-examples", str(cases), "--seed", str(seed), "--workers", "1"]
    command += ["--report", "json", "--report-json-path", str(report), "--continue-on-failure", "--warnings", "off"]
    command += ["--suppress-health-check", "all", "--no-color", "--output-truncate", "false"]
    command += ["--header", f"Authorization: Bearer {token}"] if token else []
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(HERE)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-60_000:] + done.stderr[-2000:]
    told: dict[str, Any] = json.loads(report.read_text())
    return told


@pytest.mark.parametrize("project", ["table"], indirect=True)
def test_hundreds_of_requests(project: SmallProject, tmp_path: Path) -> None:
    with served(project) as running:
        told = asked(running, tmp_path, 1, None)
    assert told["test_cases"]["generated"] > 300


@pytest.mark.long
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("closed", [False, True], ids=["open", "closed"])
def test_thousands_of_requests(
    project: SmallProject, tmp_path: Path, closed: bool, request: pytest.FixtureRequest
) -> None:
    """Six times, which makes more than ten thousand."""
    token = make_token(project.store, "everything", ["admin"])[1] if closed else None
    with served(project) as running:
        told = asked(running, tmp_path, int(os.environ.get("TIDEMILL_TEST_CASES", "80")), token, seed=7)
    cases = told["test_cases"]
    note(f"schemathesis {request.node.callspec.id}", cases=cases["generated"], failures=cases["unique_failures"])
    assert cases["generated"] > 2000 and cases["unique_failures"] == 0
