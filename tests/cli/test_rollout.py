"""A roll-out as people meet it: a cycle begins it, commands show and steer it, and other commands mind it."""

from __future__ import annotations

import contextlib
import csv
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tidemill
from tidemill.errors import ConflictError
from tidemill.records import Deployment, Model, Rollout


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose champion, by hand, is the naive Bayes, on data that it cannot learn: the ridge can."""
    folder = tmp_path_factory.mktemp("rollout")
    rng = np.random.default_rng(0)
    a = rng.normal(size=900)
    b = a + 0.1 * rng.normal(size=900)
    with (folder / "data.csv").open("w", newline="") as file:
        rows = ((x, y, "up" if y > x else "down") for x, y in zip(a.tolist(), b.tolist(), strict=True))
        csv.writer(file).writerows([("a", "b", "y"), *rows])
    project = tidemill.init(
        folder / "home",
        data=folder / "data.csv",
        target="y",
        recipes={"exclude": ["lightgbm", "mlp"]},
        rollout={"policy": "shadow"},
        keep={"models": 1},
    )
    with contextlib.closing(project.store):
        first = project.cycle(max_trials=0)
        assert first["rollout"] is None and project.store.count(Rollout) == 0, "nothing serves that it could replace"
        weak = project.store.find(Model, recipe="naive-bayes")[0]
        assert project.champion["recipe"] == "ridge"  # type: ignore[index]
        told = project.promote(weak.id, reason="for a test")
        assert told["rollout"] is None and told["model_id"] == weak.id
    return folder


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Iterator[tidemill.Project]:
    shutil.copytree(made, tmp_path / "copy")
    opened = tidemill.open(tmp_path / "copy" / "home")
    with contextlib.closing(opened.store):
        yield opened


def test_a_cycle_begins_a_rollout_and_the_next_one_waits(project: tidemill.Project, run: Any) -> None:
    champion = project.champion
    told = run("cycle", "-C", project.dir, "--max-trials", "0")
    assert told.code == 0 and "promoted to a roll-out, which begins as a shadow" in told.out
    assert "tidemill rollout" in told.out
    (rollout,) = project.store.find(Rollout)
    assert (rollout.status, rollout.phase, rollout.champion_id) == ("running", "shadow", champion["id"])  # type: ignore[index]
    assert rollout.evidence["judge"]["metric"] == "accuracy" and rollout.decision_id is not None
    assert project.champion == champion, "which goes on serving"

    refused = run("cycle", "-C", project.dir, "--json")
    assert refused.code == 2 and "is under way" in refused.json["error"]["what"]
    status = run("status", "-C", project.dir)
    assert f"{rollout.challenger_id}  shadow, since" in status.out and "shows how the challenger does" in status.out
    shown = run("rollout", "-C", project.dir)
    assert shown.code == 0 and "No audited answer has a label that was asked for yet" in shown.out
    assert run("rollout", "--json", "-C", project.dir).json["challenger"]["id"] == rollout.challenger_id
    traced = project.trace(rollout.id)
    assert (traced["challenger"]["record"]["id"], traced["champion"]["record"]["recipe"]) == (
        rollout.challenger_id, "naive-bayes",
    )  # fmt: skip

    back = run("rollback", "-C", project.dir, "--reason", "the depot complains")
    assert back.code == 0 and "stopped, of" in back.out and "the depot complains" in back.out
    assert project.champion == champion and project.store.get(Rollout, rollout.id).status == "stopped"
    assert project.store.count(Deployment) == 2, "a challenger that never served leaves no deployment"
    again = project.cycle(max_trials=0)
    assert again["rollout"]["phase"] == "shadow", "and the next cycle may begin another one"
    promoted = project.promote(again["decision"]["challenger_id"], reason="seen enough")
    assert promoted["rollout"]["status"] == "promoted"
    assert promoted["decision_id"] == again["decision"]["id"]
    assert project.rollback()["model_id"] == champion["id"]  # type: ignore[index]


def test_steering_by_commands(project: tidemill.Project, run: Any) -> None:
    other = project.store.find(Model, recipe="ridge")[0].id
    place = ("-C", str(project.dir))
    assert "no roll-out yet" in run("rollout", *place).out and run("rollout", "--json", *place).json is None
    assert "no roll-out yet" in run("rollout", "list", *place).out
    for command in ("advance", "stop"):
        refused = run("rollout", command, "--json", *place)
        assert refused.code == 2 and "no roll-out is under way" in refused.json["error"]["what"]
    started = run("rollout", "start", other, "--reason", "by chance", "--json", *place).json
    assert (started["status"], started["phase"], started["share"], started["author"]) == (
        "running", "shadow", 0.1, started["author"],
    )  # fmt: skip
    assert started["author"] and started["policy"]["margin"] == 0.02
    twice = run("rollout", "start", other, "--json", *place)
    assert twice.code == 2 and "is still under way" in twice.json["error"]["what"]
    canary = run("rollout", "advance", "--share", "0.25", *place)
    assert canary.code == 0 and "25 % of the callers" in canary.out
    assert run("rollout", "advance", *place).code == 2
    assert run("rollout", "advance", "--share", "0", *place).code == 2
    ended = run("rollout", "stop", "--reason", "it is late", *place)
    assert ended.code == 0 and "it is late" in ended.out and "stopped" in ended.out
    listed = run("rollout", "list", "--json", *place).json
    assert [(r["status"], r["challenger"]) for r in listed] == [("stopped", other)]
    assert other in run("rollout", "list", *place).out
    # What is said before the command counts, too.
    assert run("rollout", *place, "--json", "list").json == listed
    both = run("rollout", "start", other, "--shadow", "--canary", *place)
    assert both.code == 2 and "exclude each other" in both.err
    serving = run("rollout", "start", "champion", "--json", *place)
    assert serving.code == 2 and "serves already" in serving.json["error"]["what"]
    assert run("rollout", "start", "model_nothing", *place).code == 2


def test_clean_up_and_backups_mind_the_challenger(project: tidemill.Project, tmp_path: Path) -> None:
    project.cycle(max_trials=0)
    project.stop_rollout()
    served = {deployment.model_id for deployment in project.store.find(Deployment)}
    spare = [model for model in project.store.find(Model) if model.id not in served]
    older = spare[0]
    assert len(spare) > 1
    project.start_rollout(older.id, phase="canary", share=0.5)
    project.gc()
    assert (project.store.root / older.path).is_dir()
    project.backup(tmp_path / "kept.tar.zst")
    project.stop_rollout(reason="enough")
    project.gc()
    assert not (project.store.root / older.path).exists()
    restored = tidemill.restore(tmp_path / "kept.tar.zst", tmp_path / "again")
    with contextlib.closing(restored.store):
        shown = restored.rollout()
        assert shown is not None and (shown["status"], shown["challenger"]["id"]) == ("running", older.id)
        assert (restored.store.root / older.path).is_dir()
        assert restored.promote(older.id, reason="moved")["rollout"]["status"] == "promoted"


def test_a_rollout_cannot_start_before_anything_serves(tmp_path: Path) -> None:
    project = tidemill.init(tmp_path / "new", data="sklearn:iris", target="target")
    with contextlib.closing(project.store), pytest.raises(tidemill.errors.TidemillError):
        project.start_rollout("model_x")


def test_a_cycle_that_was_interrupted_goes_on_during_a_rollout(project: tidemill.Project) -> None:
    def stop(event: dict[str, Any]) -> None:
        if event["stage"] == "evaluate":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        project.cycle(max_trials=0, on_event=stop)
    other = project.store.find(Model, recipe="ridge")[0].id
    project.start_rollout(other)
    decision = project.cycle(max_trials=0)["decision"]
    assert decision["outcome"] == "refused" and "is still under way" in decision["reason"]
    with pytest.raises(ConflictError, match="the next cycle starts when it has ended"):
        project.cycle(max_trials=0)
