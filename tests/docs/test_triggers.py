"""What docs/triggers.md tells people to write and to type, written and typed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml

import tidemill
from tidemill.config import Triggers, config_text, make_config

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "triggers.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_up_looks_at_what_the_page_sets_and_status_shows_it(tmp_path: Path) -> None:
    (settings,) = blocks("yaml")
    own = {"task": "tabular-classification", "data": "sklearn:iris", "target": "target", "serve": {"port": 0}}
    config = make_config(**own, **yaml.safe_load(settings))
    (tmp_path / "tidemill.yaml").write_text(config_text(config), encoding="utf-8")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    up, status = (line.split() for line in "".join(blocks("sh")).splitlines())
    with subprocess.Popen(up, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None and service.stdout.readline().startswith("serving  http://127.0.0.1:")
        project = tidemill.open(tmp_path)
        until = time.monotonic() + 60
        while any(trigger["looked"] is None for trigger in project.status()["triggers"]):
            assert time.monotonic() < until
            time.sleep(0.2)
        project.store.close()
        shown = subprocess.run(status, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
        service.send_signal(signal.SIGINT)
        assert service.wait(timeout=30) == 0
    (example,) = blocks("text")
    said = dict(re.findall(r"^trigger (\w+) +(.*?) *$", shown, re.MULTILINE))
    assert list(said) == re.findall(r"^trigger (\w+)", example, re.MULTILINE)
    assert said["labels"] == "0 of 200 labels"
    assert re.match(r"next at \d{4}-\d\d-\d\d 03:30 Europe/Berlin", said["schedule"])
    assert said["drift"].startswith("no model serves yet, looked") and said["quality"].startswith(
        "no model serves yet, looked"
    )


def test_the_defaults_that_the_page_tells_are_those_of_the_program() -> None:
    defaults = Triggers()
    assert f"after {defaults.after_labels}" in PAGE and defaults.schedule is None and defaults.quality is None
    assert defaults.drift == "watch" and (defaults.every, defaults.rest) == ("10m", "6h")
    for told in (
        f"Below {defaults.drift_inputs} inputs",
        f"with {defaults.quality_labels} labels",
        "Every ten minutes",
    ):
        assert told in PAGE
