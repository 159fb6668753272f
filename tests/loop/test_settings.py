"""Which settings make an interrupted cycle another one, so that it is begun anew."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

import tidemill
from tidemill.api.running import setting_of
from tidemill.config import Config
from tidemill.loop import run_cycle
from tidemill.records import Cycle
from tidemill.tasks import get_task
from tidemill.testing.tasks import write_records


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> tidemill.Project:
    folder = tmp_path_factory.mktemp("settings")
    data = write_records(folder / "data", get_task("tabular-classification").sample_data(0, 120))
    return tidemill.init(folder / "project", data=data, target="label")


def stopped(project: tidemill.Project, config: Config) -> str:
    """Under *config*, stop a cycle in its first stage; its id."""

    def interrupt(event: dict[str, Any]) -> None:
        if event["stage"] == "feedback":
            raise KeyboardInterrupt

    setting = dataclasses.replace(setting_of(project), config=config)
    with pytest.raises(KeyboardInterrupt):
        run_cycle(setting, max_trials=0, on_event=interrupt)
    return project.store.find(Cycle, newest_first=True, limit=1)[0].id


@pytest.mark.parametrize(("change", "anew"), [
    ({"weight": "size"}, True),
    ({"decision": {"abstain_cost": 0.2}}, True),
    ({"audit": {"min_response": 0.9}}, True),
    ({"gate": {"alpha": 0.01}}, True),
    ({"serve": {"port": 1}}, False),
    ({"cycle": {"seed": 7}}, False),
    ({"keep": {"models": 3}}, False),
])  # fmt: skip
def test_what_a_cycle_does_is_fixed_by_its_settings(
    project: tidemill.Project, change: dict[str, Any], anew: bool
) -> None:
    first = stopped(project, project.config)
    changed = Config.model_validate(project.config.model_dump(by_alias=True) | change)
    assert changed != project.config
    assert (stopped(project, changed) != first) is anew
