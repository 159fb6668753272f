"""What docs/serving.md tells people to type, typed: at a shell and in Python, against the service that it starts."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import tidemill
from tidemill.cli.main import main
from tidemill.records import Feedback, Prediction

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "serving.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("parcels.csv", "later.csv"):
        shutil.copy(ROOT / "docs" / "quickstart" / name, tmp_path)
    project = tidemill.init(
        tmp_path / "p", data=tmp_path / "parcels.csv", target="late", recipes={"include": ["ridge"]}
    )
    with contextlib.closing(project.store):
        project.cycle(max_trials=0)
    shutil.copy(tmp_path / "later.csv", tmp_path / "p")
    return tmp_path / "p"


@contextlib.contextmanager
def service(command: str, folder: Path) -> Iterator[str]:
    """The service that the page starts, on a free port; its port."""
    program = [sys.executable, "-m", *shlex.split(command), "--port", "0", "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(program, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        yield next(found[1] for line in child.stdout if (found := re.search(r"http://127\.0\.0\.1:(\d+)", line)))
    finally:
        child.terminate()
        assert child.wait(timeout=30) == 0
        child.stdout.close()


def test_every_command_of_the_page_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    serve, *typed = "".join(blocks("sh")).splitlines()
    programs = blocks("python")
    answers: list[str] = []
    with service(serve, folder) as port:
        for line in (line.replace(":8321", f":{port}") for line in typed if line.startswith("curl ")):
            done = subprocess.run(
                [*shlex.split(line), "--silent", "--fail-with-body"], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
            answers.append(done.stdout)
        said = []
        for program in programs:
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(program.replace(":8321", f":{port}"), "a page", "exec"), {"__name__": "a page"})
            said.append(out.getvalue())
    predicted = [json.loads(answer) for answer in answers]
    assert len(predicted) == 7 and len(programs) == 2
    first, form, ready, metadata, inferred, once, again = predicted
    assert first["predictions"][0]["scores"] == form["predictions"][0]["scores"] and ready == {"ready": True}
    assert [tensor["name"] for tensor in metadata["inputs"]][:2] == ["distance_km", "weight_kg"]
    assert inferred["outputs"][0]["data"][0] == first["predictions"][0]["label"] and once == again
    assert said[0].split()[0] == first["predictions"][0]["label"] and "['" in said[1]
    for line in (line for line in typed if line.startswith("tidemill ")):
        with contextlib.redirect_stdout(io.StringIO()), pytest.raises(SystemExit) as left:
            main(shlex.split(line)[1:])
        assert not left.value.code, line
    with (folder / "answers.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with (folder / "later.csv").open(encoding="utf-8") as file:
        assert len(rows) == len(list(csv.DictReader(file))) and rows[0]["predicted_label"] in ("yes", "no")
    assert "predicted_score_yes" in pq.read_schema(folder / "answers.parquet").names
    assert {line.split()[0] for line in typed} == {"curl", "tidemill"}
    project = tidemill.open(folder)
    with contextlib.closing(project.store):
        assert (project.store.count(Prediction), project.store.count(Feedback)) == (8, 1)
