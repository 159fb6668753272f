"""What docs/roll-out.md tells people to type, typed, on a project with a champion and other models."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import tidemill
from tidemill.cli.main import main
from tidemill.config import Config
from tidemill.records import Model, Rollout

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "roll-out.md"


def typed() -> list[str]:
    text = PAGE.read_text(encoding="utf-8")
    return "".join(re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)).splitlines()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    shutil.copy(ROOT / "docs" / "quickstart" / "parcels.csv", tmp_path)
    recipes = {"exclude": ["lightgbm", "mlp"]}
    project = tidemill.init(tmp_path / "parcels", data=tmp_path / "parcels.csv", target="late", recipes=recipes)
    with contextlib.closing(project.store):
        project.cycle(max_trials=0)
    yield tmp_path / "parcels"


def test_every_command_of_the_page_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    project = tidemill.open(folder)
    champion = project.champion
    assert champion is not None
    other = next(model.id for model in project.store.find(Model) if model.id != champion["id"])
    said = {}
    for line in typed():
        name, *arguments = shlex.split(line.replace("model_…", other))
        assert name == "tidemill", line
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as left:
            main(arguments)
        assert not left.value.code, f"{line}\n{out.getvalue()}\n{err.getvalue()}"
        said[line] = out.getvalue()
    assert len(said) == 11
    statuses = [(r.status, r.phase, r.share, r.challenger_id) for r in project.store.find(Rollout)]
    assert statuses == [
        ("stopped", "canary", 0.5, other),
        ("stopped", "canary", 0.05, other),
        ("promoted", "canary", 0.1, other),
    ]
    assert project.model().id == other
    assert "no roll-out yet" in said["tidemill rollout"]
    project.store.close()


def test_the_defaults_on_the_page_are_those_of_the_program() -> None:
    text = PAGE.read_text(encoding="utf-8")
    policy = Config(task="t", data=("a.csv",), target="y").rollout
    assert (policy.policy, policy.share, policy.alpha, policy.max_for) == ("direct", 0.1, 0.05, "7d")
    for shown, value in {
        "After 1,000 of them (`shadow_rows`)": policy.shadow_rows == 1000,
        "The third such failure in one process (`max_faults`)": policy.max_faults == 3,
        "no more than 2 points (`margin`)": policy.margin == 0.02,
        "100 answers as a canary (`canary_rows`)": policy.canary_rows == 100,
        "after seven days (`max_for`)": policy.max_for == "7d",
        "fewer than 30 callers\n(`min_callers`)": policy.min_callers == 30,
        "5 % (`alpha`)": policy.alpha == 0.05,
    }.items():
        assert shown in text and value, shown
