"""A service that loses answers, or is killed and started again: its callers get theirs, and nothing is stored twice."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import small_project
from small_project import Served, SmallProject, digit

from tidemill.client import Answer, Client
from tidemill.client.retrying import Retries
from tidemill.records import Feedback, Prediction
from tidemill.store import fold

PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from small_project import SmallProject
from tidemill.serving.server import serve
serve(SmallProject.open(Path(sys.argv[2])), port=int(sys.argv[3]), on_ready=lambda port: print(port, flush=True))
"""


@contextlib.contextmanager
def deaf(url: str, answers: int) -> Iterator[str]:
    """Something between, which hands requests on and loses the first *answers*."""
    port = int(url.rpartition(":")[2])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        lost = threading.Semaphore(answers)

        def carry(caller: socket.socket) -> None:
            with contextlib.suppress(OSError), caller, socket.create_connection(("127.0.0.1", port)) as service:
                while True:
                    for wire in select.select([caller, service], [], [])[0]:
                        said = wire.recv(1 << 20)
                        if not said or (wire is service and lost.acquire(blocking=False)):
                            return
                        (service if wire is caller else caller).sendall(said)

        def listen() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=carry, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=listen, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def test_a_lost_answer_is_given_again(service: Served) -> None:
    store = service.project.store
    before, said = store.count(Prediction), store.count(Feedback)
    with deaf(service.url, 3) as url, Client(url, retries=Retries(first=0.001)) as client:
        answer = client.predict(digit(7))
        receipt = client.correct(answer, 3)
    assert receipt.status in ("accepted", "repeated")
    with Client(service.url) as client:
        assert client.trace(answer.id)["prediction"]["answer"]["label"] == answer.label
    fold(store)
    assert (store.count(Prediction), store.count(Feedback)) == (before + 1, said + 1)


def start(folder: Path, port: int) -> subprocess.Popen[str]:
    here = str(Path(small_project.__file__).parent)
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, here, str(folder), str(port)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert child.stdout is not None
    assert int(child.stdout.readline()) == port
    return child


def test_callers_get_through_a_kill_and_a_restart(tmp_path: Path) -> None:
    project = SmallProject.create(tmp_path)
    project.deploy(project.add_model("ridge"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    child = start(tmp_path, port)
    answers: list[Answer] = []
    failures: list[BaseException] = []
    stop = threading.Event()

    def call(seed: int) -> None:
        try:
            with Client(f"http://127.0.0.1:{port}", retries=Retries(most=2000, longest=0.2, patience=100)) as client:
                row = seed
                while not stop.is_set():
                    answers.append(client.predict(digit(row)))
                    client.confirm(answers[-1])
                    row += 4
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=call, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    try:
        for again in (True, False):
            enough = len(answers) + 40
            while len(answers) < enough and not failures:
                time.sleep(0.01)
            if again:
                child.send_signal(signal.SIGKILL)
                child.wait()
                assert child.stdout is not None
                child.stdout.close()
                child = start(tmp_path, port)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        child.terminate()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()
    assert failures == []
    fold(project.store)
    stored = {p.id: p.answer["label"] for p in project.store.find(Prediction)}
    assert stored == {answer.id: answer.label for answer in answers}, (
        "each call made one prediction, the one it was told"
    )
    assert sorted(f.subject for f in project.store.find(Feedback)) == sorted(stored)
    project.store.close()
