"""Triggers at work: cycles, rollbacks and long looks in processes of their own, by one of several that serve."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from traffic_project import answer, ask, inputs

import tidemill
from tidemill.api import watching
from tidemill.api.project import Project
from tidemill.api.watching import Watcher, look_job
from tidemill.cli.main import main
from tidemill.config import changed
from tidemill.engines.local import LocalEngine, LocalJob
from tidemill.errors import ConfigError, StoreError
from tidemill.monitor.triggers import Look
from tidemill.monitor.watches import SAVED_EVERY, Watches
from tidemill.records import Cycle, Dataset, Deployment, Rollout, Watch
from tidemill.store import Store, standing

PATIENCE = 60.0


@contextlib.contextmanager
def watcher(project: Project, **triggers: Any) -> Iterator[list[str]]:
    """A watcher at work on its thread; what it tells."""
    if triggers:
        settings = {"after_labels": None, "drift": "ignore", "every": "0.2s", **triggers}
        project.config = changed(project.config, "triggers", settings)
        (project.dir / "tidemill.yaml").write_text(tidemill.config.config_text(project.config), encoding="utf-8")
    said: list[str] = []
    stop = threading.Event()
    made = Watcher(project, LocalEngine(threads=1), lambda event: said.append(str(event["what"])))
    thread = threading.Thread(target=made.run, args=(stop,))
    thread.start()
    try:
        yield said
    finally:
        stop.set()
        thread.join()


def wait_for(what: Callable[[], Any]) -> Any:
    until = time.monotonic() + PATIENCE
    while not (found := what()):
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.05)
    return found


def watch_of(project: Project, trigger: str) -> Watch | None:
    return next(iter(project.store.find(Watch, trigger=trigger)), None)


def test_labels_start_a_cycle_and_status_tells(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    with watcher(project, after_labels=20) as said:
        wait_for(lambda: watch_of(project, "labels"))
        answer(project, ask(project, inputs(20, seed=1)), right=0.5)
        wait_for(lambda: [text for text in said if text.startswith(("promoted", "refused"))])
    assert said[0] == "starting a cycle: 20 new labels (after 20)"
    (_, second) = project.store.find(Cycle)
    assert second.trigger == "20 new labels (after 20)" and second.status == "done"
    kept = watch_of(project, "labels")
    assert kept is not None and kept.fired is not None and kept.reason == "20 new labels (after 20)"
    project.store.close()
    with pytest.raises(SystemExit):
        main(["status", "-C", str(project.dir)])
    shown = capsys.readouterr().out
    assert "0 of 20 labels, last fired" in shown and "nothing is known yet" not in shown


def test_quality_under_the_floor_puts_the_deployment_before_back(project: Project) -> None:
    before = project.model().id
    other = dataclasses.replace(project.model(), id="model_newer")
    project.store.insert(other)
    project.store.deploy(
        Deployment(id="deploy_newer", name="default", model_id=other.id, action="promote", reason="a test")
    )
    answer(project, ask(project, inputs(120, seed=1), audited=True), right=0.4)
    with watcher(project, quality=0.8, on_quality="rollback") as said:
        wait_for(lambda: project.champion_deployment().action == "rollback")
        wait_for(lambda: watch_of(project, "quality"))
    deployment = project.champion_deployment()
    assert deployment.model_id == before and deployment.reason.startswith("live accuracy 40.0 % (")
    assert said == [f"rolled back to {before}: {deployment.reason}"]
    (line,) = [t for t in project.status()["triggers"] if t["trigger"] == "quality"]
    assert line["found"]["value"] == pytest.approx(0.4) and line["fires"] and line["reason"] == deployment.reason


def test_what_was_found_of_a_model_that_no_longer_serves_is_dropped(project: Project) -> None:
    """A long look takes its time; meanwhile a better model is promoted, or a roll-out begins."""
    store, first = project.store, project.model()
    for name in ("bad", "better"):
        store.insert(dataclasses.replace(first, id=f"model_{name}"))
    made = Deployment(id="deploy_bad", name="default", model_id="model_bad", action="promote", reason="a test")
    store.deploy(made)
    answer(project, ask(project, inputs(120, seed=1), audited=True), right=0.4)
    settings = {"after_labels": None, "drift": "ignore", "every": "0.2s", "quality": 0.8, "on_quality": "rollback"}
    project.config = changed(project.config, "triggers", settings)
    (project.dir / "tidemill.yaml").write_text(tidemill.config.config_text(project.config), encoding="utf-8")
    said: list[str] = []
    watcher = Watcher(project, LocalEngine(threads=1), lambda event: said.append(str(event["what"])))
    watcher.step()
    found = watcher._long_look
    assert found is not None
    wait_for(lambda: found.poll() is not None)
    store.deploy(dataclasses.replace(made, id="deploy_better", model_id="model_better"))
    watcher.step()
    watcher.close()
    assert project.champion_deployment().model_id == "model_better" and said == []
    kept = watch_of(project, "quality")
    assert kept is not None and (kept.fired, kept.memory) == (None, {}), "the next look begins anew"

    stood, look = standing(store), Look(waiting="", reason="live accuracy 40.0 %", action="rollback")
    rollout = project.start_rollout("model_bad", reason="a test")
    assert watcher._roll_back(look, stood) is False, "it began between the look at it and the act"
    assert store.get(Rollout, rollout["id"]).status == "running"


def test_where_nothing_can_be_put_back_a_cycle_is_started(project: Project) -> None:
    answer(project, ask(project, inputs(120, seed=1), audited=True), right=0.4)
    with watcher(project, quality=0.8, on_quality="rollback") as said:
        wait_for(lambda: len(said) > 1)
    assert said[0].startswith("nothing was rolled back although live accuracy 40.0 % (")
    assert "there is no model before the champion" in said[0] and said[1].startswith("starting a cycle: live accuracy")


def test_a_trigger_that_cannot_look_keeps_no_other_from_looking(project: Project) -> None:
    ask(project, inputs(300, seed=1, age=60))
    answer(project, ask(project, inputs(60, seed=1), audited=True), right=0.9)
    (dataset,) = project.store.find(Dataset)
    project.store.update(dataclasses.replace(dataset, signature={}))
    path = project.store.root / dataset.path / "split.npy"
    path.write_bytes(path.read_bytes()[:100])
    found = look_job(str(project.dir), {}, time.time())
    assert set(found) == {"drift", "quality"} and set(found["drift"]) == {"fault"}
    assert found["quality"]["look"]["found"]["labels"] == 60
    path.unlink()
    assert "fault" in look_job(str(project.dir), {}, time.time())["drift"]


def test_what_a_trigger_raises_is_shown(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    watches = Watches(project.store)
    watches.failed("drift", "split.npy is damaged", time.time())
    watches.failed("drift", "split.npy is damaged", time.time())
    with pytest.raises(SystemExit):
        main(["status", "-C", str(project.dir)])
    assert "cannot look: split.npy is damaged, 0 s ago" in capsys.readouterr().out
    calm = Look(waiting="no column has moved", memory={"fired": 5.0})
    watches.looked("drift", calm, time.time(), acted=False, at_once=True)
    kept = watch_of(project, "drift")
    assert kept is not None and kept.fault is None and kept.memory == {"fired": 5.0}


def test_a_memory_counts_once_its_reason_was_acted_upon(project: Project) -> None:
    watches, now = Watches(project.store), time.time()
    look = Look(waiting="much", reason="much has moved", memory={"fired": now})
    watches.looked("drift", look, now, acted=False, at_once=True)
    assert watches.memory("drift") == {} and Watches(project.store).memory("drift") == {}
    watches.looked("drift", look, now, acted=True, at_once=False)
    kept = watch_of(project, "drift")
    assert kept is not None and (kept.memory, kept.fired, kept.reason) == ({"fired": now}, now, "much has moved")
    assert Watches(project.store).memory("drift") == {"fired": now}


def test_what_is_asked_several_times_a_second_is_written_once_a_minute(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    watches, written = Watches(project.store), []
    update = Store.update
    monkeypatch.setattr(Store, "update", lambda store, record: (written.append(record), update(store, record)))
    for step in range(400):
        watches.looked("labels", Look(waiting=f"{step} of 999"), 1000.0 + step / 4, acted=False, at_once=False)
    assert len(written) == int(99.75 // SAVED_EVERY)


def test_while_the_database_is_away_nothing_is_forgotten(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    watches = Watches(project.store)
    watches.looked("schedule", Look(waiting="", memory={"seen": 1}), 1.0, acted=False, at_once=True)

    def away(*_: object, **__: object) -> Any:
        raise StoreError("the database cannot be reached")

    fresh = Watches(project.store)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "find", away)
        patch.setattr(Store, "update", away)
        patch.setattr(Store, "transaction", away)
        fresh.failed("schedule", "away", 2.0)
        with pytest.raises(StoreError):
            fresh.memory("schedule")
        watches.looked("schedule", Look(waiting="", memory={"seen": 3}), 3.0, acted=False, at_once=False)
        assert watches.memory("schedule") == {"seen": 3}
    assert fresh.memory("schedule") == {"seen": 1}
    watches.looked("schedule", Look(waiting="", memory={"seen": 3}), 3.5, acted=False, at_once=False)
    assert Watches(project.store).memory("schedule") == {"seen": 3}


def test_of_several_that_serve_one_looks_and_another_takes_over(
    project: Project, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "STANDBY", 0.05)
    monkeypatch.setattr(watching, "POLL", 0.02)
    other = tidemill.open(folder)
    looks: list[str] = []
    step = Watcher.step

    def noted(self: Watcher) -> None:
        looks.append("first" if self._project is project else "second")
        step(self)

    monkeypatch.setattr(Watcher, "step", noted)
    with contextlib.closing(other.store):
        with watcher(project, after_labels=1000):
            wait_for(lambda: looks)
            with watcher(other) as said:
                wait_for(lambda: said)
                wait_for(lambda: len(looks) > 20)
                assert said == ["another process of this project starts the cycles"] and set(looks) == {"first"}
        with watcher(other):
            wait_for(lambda: "second" in looks)


def test_a_failed_cycle_is_followed_by_a_rest(project: Project) -> None:
    project.config = changed(project.config, "triggers", {"after_labels": 20, "drift": "ignore"})
    answer(project, ask(project, inputs(30, seed=1)), right=0.5)
    said: list[str] = []
    made = Watcher(project, LocalEngine(threads=1), lambda event: said.append(str(event["what"])))

    def step_until_it_failed() -> bool:
        made.step()
        return any(text.startswith("the cycle failed") for text in said)

    with project.store.lock("cycle"), contextlib.closing(made):
        wait_for(step_until_it_failed)
        for _ in range(20):
            made.step()
    assert [text.partition(":")[0] for text in said] == ["starting a cycle", "the cycle failed"]


def test_a_cycle_that_somebody_stops_is_not_begun_anew_at_once(project: Project) -> None:
    before = project.store.count(Cycle)
    with watcher(project, after_labels=20) as said:
        answer(project, ask(project, inputs(20, seed=3)), right=0.5)
        wait_for(lambda: project.store.count(Cycle) > before)
        os.kill(wait_for(lambda: project.store.holder("cycle")), signal.SIGINT)
        wait_for(lambda: [text for text in said if "stopped by somebody" in text])
        time.sleep(3 * watching.POLL)
    assert project.store.find(Cycle, newest_first=True, limit=1)[0].status == "stopped"
    assert sum(text.startswith("starting a cycle") for text in said) == 1


def test_a_look_that_never_ends_is_given_up_and_said(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stuck:
        def submit(self, target: str, arguments: dict[str, Any]) -> LocalJob:
            assert target.endswith(":look_job") and set(arguments["memories"]) == {"drift", "quality"}
            return LocalJob(subprocess.Popen(["sleep", "600"], stdout=subprocess.PIPE))

    monkeypatch.setattr(watching, "LONGEST", 0.0)
    made = Watcher(project, Stuck(), lambda _event: None)

    def step_until_it_is_said() -> bool:
        made.step()
        watch = watch_of(project, "drift")
        return watch is not None and watch.fault is not None

    wait_for(step_until_it_is_said)
    watch = watch_of(project, "quality")
    assert watch is not None and "process ended with status -2 and no result" in str(watch.fault)


@pytest.mark.parametrize("action", ["cycle", "rollback"])
def test_nothing_is_done_while_a_roll_out_decides_what_serves(project: Project, action: Any) -> None:
    said: list[str] = []
    made = Watcher(project, LocalEngine(threads=1), lambda event: said.append(str(event["what"])))
    model = project.model().id
    rolling = Rollout(
        id="roll_1", name="default", champion_id=model, challenger_id=model, phase="canary", share=0.1,
        status="running", reason="a test",
    )  # fmt: skip
    project.store.insert(rolling)
    look = Look(waiting="much", reason="much has moved", action=action)
    assert not made._act(look) and said == [] and project.champion_deployment().action == "promote"


def test_a_share_has_no_floor_above_one(project: Project) -> None:
    project.config = changed(project.config, "triggers", {"quality": 90})
    with pytest.raises(ConfigError, match="share of 1 at most"):
        project.status()
