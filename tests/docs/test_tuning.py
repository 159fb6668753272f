"""What docs/tuning.md tells people to type, typed; and its recipe, searched."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import tidemill
from tidemill.cli.main import main
from tidemill.loop.planning import check_space
from tidemill.records import Run

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tuning.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_commands_of_the_page_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (typed,) = blocks("sh")
    lines = typed.replace("cycle --budget 60s", "cycle --max-trials 2 --max-epochs 20").splitlines()
    assert len(lines) == 4
    for line in lines:
        command, _, folder = line.partition(" && cd ")
        with pytest.raises(SystemExit) as left:
            main(command.split()[1:])
        assert left.value.code in (0, None), command
        if folder:
            monkeypatch.chdir(tmp_path / folder)
    shown = capsys.readouterr().out
    assert "promoted" in shown and "better above" in shown
    journals = sorted(path.name for path in (Path.cwd() / ".tidemill" / "studies").glob("*.journal"))
    assert any(name.endswith("-lightgbm.journal") for name in journals), "as the page names it"


def test_the_recipe_of_the_page_is_searched(tmp_path: Path) -> None:
    (code,) = blocks("python")
    project = tidemill.init(tmp_path, data="sklearn:iris", target="target", recipes={"include": ["bushes"]})
    (tmp_path / "recipes.py").write_text(f"import tidemill\n\n\n{code}", encoding="utf-8")
    (mine,) = [recipe for recipe in project.recipes(project_signature(project)) if recipe.name == "bushes"]
    check_space(mine)
    done = project.cycle(max_trials=3, max_epochs=5)
    trials = project.store.find(Run, kind="trial", cycle_id=done["cycle"])
    assert len(trials) == 3 and set(trials[1].params) >= set(mine.space)


def project_signature(project: tidemill.Project) -> tidemill.data.schema.Signature:
    project.cycle(max_trials=0, max_epochs=2)
    return project.signature
