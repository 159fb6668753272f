"""Below every seam of ours, at the C library: fsync has returned before an acknowledgement, SQLite's included."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidemill.records import Feedback, Prediction
from tidemill.store import Store, fold, open_store

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None, reason="needs Linux and a C compiler for the shim"
)

PROGRAM = """
import os, pathlib, sys
from tidemill.errors import StoreError
from tidemill.records import Feedback, Prediction, new_id
from tidemill.store import FeedbackWriter, JournalWriter, new_prediction_id, open_store

root, fail = pathlib.Path(sys.argv[1]), pathlib.Path(os.environ["SYNC_FAIL"])
log = os.open(os.environ["SYNC_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
store = open_store(root)
journal, writer = JournalWriter(root), FeedbackWriter(store)

def prediction():
    made = Prediction(id=new_prediction_id(store.secret), deployment="d", model_id="m", key="00", inputs={}, answer={})
    return journal.submit(made)

def feedback():
    identifier = new_id("fb")
    return writer.submit(Feedback(id=identifier, subject="pred_1", kind="rating", value=1, key=identifier))

def note(text):
    os.write(log, (text + "\\n").encode())

for turn in range(30):
    for name, submit in (("prediction", prediction), ("feedback", feedback)):
        note("submit " + name)
        submit().result()
        note("acknowledged")

for name, submit in (("prediction", prediction), ("feedback", feedback)):
    for turn in range(3):
        fail.touch() if turn == 0 else fail.unlink(missing_ok=True)
        try:
            submit().result()
            note("acknowledged after a failed fsync")
        except StoreError as error:
            note(f"refused {name} {error.what}")
    fail.unlink(missing_ok=True)
note("end")
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    library = tmp_path_factory.mktemp("shim") / "sync_shim.so"
    source = Path(__file__).with_name("sync_shim.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True)
    yield library


@pytest.mark.parametrize("on", ["sqlite"])
def test_fsync_returns_before_every_acknowledgement_and_none_follows_a_failed_one(
    store: Store, shim: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    watch = {"LD_PRELOAD": str(shim), "SYNC_LOG": str(log), "SYNC_FAIL": str(tmp_path / "fail")}
    subprocess.run([sys.executable, "-c", PROGRAM, str(store.root)], env={**os.environ, **watch}, check=True)
    lines = log.read_text().splitlines()
    assert lines[-1] == "end"

    acknowledged = {"prediction": 0, "feedback": 0}
    waiting, synced = "", set()
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "submit":
            waiting, synced = rest, set()
        elif word == "sync":
            synced.add("prediction" if rest.endswith(".journal") else "feedback" if rest.endswith("db-wal") else rest)
        elif line == "acknowledged":
            assert waiting in synced, f"{waiting} was acknowledged before its fsync"
            acknowledged[waiting] += 1
    assert acknowledged == {"prediction": 30, "feedback": 30}

    refused = [line for line in lines if line.startswith("refused")]
    assert [line.split()[1] for line in refused] == ["prediction"] * 3 + ["feedback"] * 3
    assert "acknowledged after a failed fsync" not in lines
    assert all("nothing more is acknowledged" in line for line in refused[:3] + refused[4:])

    with open_store(
        store.root, store.database.url
    ) as reopened:  # a new process starts afresh, with all that was acknowledged
        fold(reopened)
        assert reopened.count(Prediction) >= 30 and reopened.count(Feedback) >= 30
