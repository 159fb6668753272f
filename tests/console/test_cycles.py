"""A cycle from the console: started, watched and stopped, and what takes long kept beside the store."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import time
from pathlib import Path

from mill import Mill, text

from tidemill.console.site.figures import Figures
from tidemill.console.site.tally import HOUR, Tally
from tidemill.project import progress
from tidemill.project.figures import fate, figures
from tidemill.records import Cycle, Feedback, Prediction, new_id
from tidemill.store.locks import held, holder


def test_a_cycle_is_started_watched_and_stopped(mill: Mill) -> None:
    store = mill.project.store
    before = store.count(Cycle)
    mill.post("/cycle/start", 422, budget="soon")
    mill.post("/cycle/stop", 503)
    mill.post("/cycle/start", reason="to see it run", budget="600s")
    mill.post("/cycle/start", 503)
    seen = set()
    until = time.monotonic() + 240
    while time.monotonic() < until:
        live = mill.get("/", part="live")
        seen |= set(re.findall(r'class="pill live">(\w+)', live))
        if store.count(Cycle) > before and 'class="steps"' in live:
            break
        time.sleep(0.2)
    assert "running" in seen
    assert "to see it run" in mill.get("/")
    mill.post("/cycle/stop")
    while store.holder("cycle") is not None and time.monotonic() < until:
        time.sleep(0.1)
    cycle = store.find(Cycle, newest_first=True, limit=1)[0]
    assert cycle.status == "stopped" and cycle.trigger == "asked by console in the console: to see it run"
    assert "stopped" in text(mill.get("/"))


def test_a_cycle_that_was_killed_does_not_run_whoever_has_its_number(mill: Mill) -> None:
    store = mill.project.store
    cycle = Cycle(id=new_id(Cycle.prefix), trigger="to be killed", status="running", seed=0, plan={})
    store.insert(cycle)
    with subprocess.Popen(["sleep", "600"]) as other:
        try:
            (store.root / "locks" / "cycle.lock").write_text(str(other.pid))
            assert "The cycle that runs" not in mill.get("/", part="live")
            mill.post("/cycle/stop", 503)
            store.update(dataclasses.replace(cycle, status="failed"))
            mill.post("/cycle/start", reason="after the kill")
            mill.post("/cycle/stop")
            assert other.poll() is None
        finally:
            other.kill()
    until = time.monotonic() + 60
    while "starting" in text(mill.get("/", part="live")) or store.holder("cycle", sure=True) is not None:
        assert time.monotonic() < until
        time.sleep(0.1)


def test_what_a_cycle_tells_can_be_read_from_elsewhere(mill: Mill, tmp_path: Path) -> None:
    told: list[dict[str, object]] = []
    keeps = progress.Progress(mill.project.store, told.append)
    for epoch in range(100):
        keeps({"stage": "train", "what": f"epoch {epoch}", "recipe": "cnn", "done": epoch, "total": 100})
    keeps({"stage": "train", "what": "epoch 99", "recipe": "cnn", "done": 100, "total": 100})
    found = progress.read(mill.project.store.root)
    assert found is not None and len(told) == 101 and found["pid"] == os.getpid()
    assert len(found["lines"]) == progress.LINES and found["lines"][-1]["what"] == "epoch 99"
    assert progress.read(tmp_path) is None
    progress.path_of(tmp_path).write_text("{")
    assert progress.read(tmp_path) is None
    progress.write(tmp_path / "gone" / "progress.json", {})  # nobody is kept from anything


def test_who_holds_a_lock_is_known_without_taking_it(tmp_path: Path) -> None:
    assert holder(tmp_path, "cycle") is None
    with held(tmp_path, "cycle"):
        assert holder(tmp_path, "cycle") == holder(tmp_path, "cycle", sure=True) == os.getpid()
    assert holder(tmp_path, "cycle") is None
    (tmp_path / "cycle.lock").write_text(str(os.getpid()))  # as after a kill, with a number that lives again
    assert holder(tmp_path, "cycle") == os.getpid() and holder(tmp_path, "cycle", sure=True) is None
    for text_ in ("", "4194305", "99999999999999999999", "me"):
        (tmp_path / "cycle.lock").write_text(text_)
        assert holder(tmp_path, "cycle") is None


def test_what_became_of_each_piece(mill: Mill) -> None:
    project, store = mill.project, mill.project.store
    first, second = mill.ask(11), mill.ask(12)
    mill.post("/try/say", prediction=first, kind="correction", value="1")
    mill.post("/try/say", prediction=first, kind="correction", value="2")
    mill.post("/try/say", prediction=second, kind="rating", value="2")
    found = figures(project)
    pieces = store.find(Feedback, subject=[first, second])
    about = {p.id: p for p in store.find(Prediction, id=[first, second])}
    fates = [fate(store, piece, about[piece.subject], found)[0] for piece in pieces]
    assert fates[0] == "replaced" and fates[2] == "kept"
    assert fates[1] in ("waits", "held", "volunteered")
    assert fate(store, pieces[1], None, found) == ("unknown", "") == fate(store, pieces[1], about[first], None)
    assert found["statements"] >= 1 and any(a["author"] == "console" for a in found["authors"])


def test_figures_are_found_anew_only_when_something_is_new(mill: Mill) -> None:
    kept = Figures(mill.project)
    first = kept.look()
    again = kept.look()
    assert first is not None and again is not None and again["at"] == first["at"]
    made = Prediction(id=new_id("pred"), deployment="d", model_id="model_x", key="0" * 16, inputs={}, answer={})
    mill.project.store.insert(made)
    mill.project.store.add_feedback(
        [Feedback(id=new_id("fb"), subject=made.id, kind="rating", value=1, author="wren", key="once")]
    )
    mill.project.forget(author="wren")
    assert not (mill.project.store.root / "console").exists()
    kept.close()


def test_records_are_counted_once_then_only_what_is_new(mill: Mill) -> None:
    store = mill.project.store
    tally = Tally(store)
    before = tally.count(Prediction)
    assert before == store.count(Prediction)
    model = store.find(Prediction, limit=1)[0].model_id if before else "model_x"
    store.insert(
        *(
            Prediction(id=new_id("pred"), deployment="d", model_id=model, key="0" * 16, inputs={}, answer={})
            for _ in range(7)
        )
    )
    assert tally.count(Prediction) == store.count(Prediction) == before + 7
    hours = tally.hours()
    assert len(hours) == 24 and hours[-1][1] >= 7 and all(begin % HOUR == 0 for begin, _ in hours)
    tally.close()
