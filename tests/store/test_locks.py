"""A lock is held by a living process only."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from tidemill.errors import BusyError
from tidemill.store import Store


@pytest.fixture
def on() -> str:
    return "sqlite"  # no table has a part in it


HOLDER = """
import pathlib, sys, time
from tidemill.store.locks import held
with held(pathlib.Path(sys.argv[1]), "cycle"):
    print("held", flush=True)
    time.sleep(600)
"""


def holder(store: Store) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLDER, str(store.root / "locks")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_a_living_holder_is_named_and_a_dead_one_does_not_block(store: Store) -> None:
    with holder(store) as process:
        with (
            pytest.raises(BusyError, match=rf"process {process.pid} is busy with 'cycle'.*Wait until"),
            store.lock("cycle"),
        ):
            pytest.fail("held twice")
        with store.lock("other"):
            pass
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with store.lock("cycle"):
            assert (store.root / "locks" / "cycle.lock").read_text() == str(os.getpid())


def test_threads_of_one_process_exclude_each_other_too(store: Store) -> None:
    with store.lock("cycle"), pytest.raises(BusyError, match=f"process {os.getpid()}"), store.lock("cycle"):
        pytest.fail("held twice")
    with store.lock("cycle"):
        pass


def test_waiting_ends_when_the_holder_lets_go(store: Store) -> None:
    holds, order = threading.Event(), []

    def first() -> None:
        with store.lock("cycle"):
            holds.set()
            threading.Event().wait(0.1)
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    assert holds.wait(20)
    with store.lock("cycle", wait=20):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]


def test_what_fails_inside_lets_go(store: Store) -> None:
    with pytest.raises(KeyError), store.lock("cycle"):
        raise KeyError
    with store.lock("cycle"):
        pass
