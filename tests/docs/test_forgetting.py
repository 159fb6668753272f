"""What docs/forgetting.md tells people to type, typed, in a project that a person has used."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import shutil
from pathlib import Path

import pytest

import tidemill
from tidemill.cli.main import main
from tidemill.data.dataset import open_dataset
from tidemill.records import Prediction
from tidemill.store import new_prediction_id

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "forgetting.md"


def typed(line: str, folder: Path) -> str:
    """A command of ours in *folder*; what it printed."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        left = stack.enter_context(pytest.raises(SystemExit))
        main([*shlex.split(line)[1:], "-C", str(folder)])
    assert not left.value.code, f"{line}\n{out.getvalue()}\n{err.getvalue()}"
    return out.getvalue()


def test_every_command_of_the_page_runs(tmp_path: Path) -> None:
    shutil.copy(ROOT / "docs" / "quickstart" / "parcels.csv", tmp_path)
    folder = tmp_path / "parcels"
    project = tidemill.init(folder, data=tmp_path / "parcels.csv", target="late", recipes={"include": []})
    with contextlib.closing(project.store) as store:
        project.cycle(max_trials=0)
        arrays = open_dataset(store.root, project.dataset)  # type: ignore[arg-type]
        row = int(arrays.rows("train")[0])
        model, sample = project.champion_deployment().model_id, arrays.sample_id(row)
        made = Prediction(
            id=new_prediction_id(store.secret),
            deployment="default",
            model_id=model,
            key="0" * 16,
            inputs=arrays.show(row),
            answer={},
            caller="ann",
        )
        store.insert(made)
    lines = "".join(re.findall(r"^```sh\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)).splitlines()
    assert [line.split()[1] for line in lines] == ["forget", "forget", "forget", "cycle", "promote"]
    said = []
    for line in lines:
        command = line.replace("smp_…", sample).replace("model_…", model)
        command += " --max-trials 0" if command == "tidemill cycle" else ""
        said.append(typed(command, folder))
    assert "would erase  1 prediction" in said[0] and "erased   1 prediction" in re.sub(" {2,}", "   ", said[1])
    assert "parcels.csv, row" in said[2] and "the champion" in said[2]
