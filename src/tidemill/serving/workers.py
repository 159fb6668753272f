"""Several processes that answer on one socket: started, kept alive, and ended together.

They share the store and the socket and nothing else: each follows the deployments, writes journal segments of its own
and commits feedback itself, so one that dies takes only its unanswered requests with it. A worker hears of the end by
the closing of its standard input, which also closes when the parent is killed, and tells on its standard output, a line
of JSON each, that it is ready, what it took up, and why it cannot start.
"""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from tidemill import errors
from tidemill.config import Serve
from tidemill.records import Deployment, from_json
from tidemill.serving.following import OnSwap
from tidemill.serving.signals import handled

logger = logging.getLogger("tidemill.serving")

FIRST_DELAY, LAST_DELAY = 0.2, 10.0
"""Seconds before a worker that died is replaced: twice as many each time."""
HEALTHY = 30.0
"""Seconds after which a worker's death is no longer counted with the one before."""
END = 45.0
"""Seconds that all workers have to end in order."""
TICK = 0.05


class Workers:
    """The worker processes of one service.

    Args:
        command: starts one; its arguments follow as one JSON document.
        folder: the project's.
        listener: the listening socket, which every worker inherits.
        settings: what the service was asked for; each worker gets its share of the connections.
        host: the address that is listened on.
        on_ready: called once all of them answer.
        on_swap: told of each deployment when the first worker has taken it up.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        listener: socket.socket,
        settings: Serve,
        host: str,
        on_ready: Callable[[], None],
        on_swap: OnSwap | None,
    ) -> None:
        each = {"workers": 1, "max_connections": max(1, settings.max_connections // settings.workers)}
        arguments = {
            "folder": str(folder),
            "descriptor": listener.fileno(),
            "host": host,
            "settings": settings.model_dump(mode="json") | each,
        }
        self._command = [*command, json.dumps(arguments)]
        self._descriptor = listener.fileno()
        self._on_ready = on_ready
        self._on_swap = on_swap
        self._told: set[str] = set()
        self._words: queue.SimpleQueue[tuple[_Worker, dict[str, Any]]] = queue.SimpleQueue()
        self._workers = [_Worker(number) for number in range(1, settings.workers + 1)]
        self._waiting = set(self._workers)
        self._signals = 0

    def run(self, stop: threading.Event) -> None:
        """Keep them answering until SIGINT or SIGTERM (in the main thread), or until *stop* is set.

        Raises:
            TidemillError: a worker could not start at all, and said why.
        """
        try:
            with handled(self._signal):
                for worker in self._workers:
                    self._start(worker)
                while not (self._signals or stop.is_set()):
                    self._listen()
                    for worker in self._workers:
                        self._look_after(worker)
        finally:
            self._end()

    def _start(self, worker: _Worker) -> None:
        worker.process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=(self._descriptor,)
        )
        worker.since = time.monotonic()
        threading.Thread(target=self._read, args=(worker, worker.process), daemon=True).start()

    def _read(self, worker: _Worker, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._words.put((worker, json.loads(line)))

    def _listen(self) -> None:
        with contextlib.suppress(queue.Empty):
            worker, word = self._words.get(timeout=TICK)
            if "error" in word:
                self._failed(worker, word["error"])
            elif "swap" in word:
                self._swapped(from_json(Deployment, word["swap"]))
            elif worker in self._waiting:
                self._waiting.remove(worker)
                if not self._waiting:
                    self._on_ready()

    def _failed(self, worker: _Worker, fault: dict[str, Any]) -> None:
        error = errors.from_process(fault)
        if worker in self._waiting:  # it never answered: what keeps it from starting is for whoever started the service
            raise error
        logger.error("worker %d cannot start: %s", worker.number, error)

    def _swapped(self, deployment: Deployment) -> None:
        if self._on_swap is not None and deployment.id not in self._told:
            self._told.add(deployment.id)
            self._on_swap(deployment)

    def _look_after(self, worker: _Worker) -> None:
        process, now = worker.process, time.monotonic()
        if process is None:
            if now >= worker.due:
                self._start(worker)
        elif (status := process.poll()) is not None and self._words.empty():
            if now - worker.since > HEALTHY:
                worker.delay = FIRST_DELAY
            logger.error(
                "worker %d (process %d) ended with %d; another one follows", worker.number, process.pid, status
            )
            worker.process, worker.due = None, now + worker.delay
            worker.delay = min(2 * worker.delay, LAST_DELAY)

    def _end(self) -> None:
        living = [worker.process for worker in self._workers if worker.process is not None]
        for process in living:
            assert process.stdin is not None
            process.stdin.close()
        patience = time.monotonic() + END
        forced = self._signals > 1
        while any(process.poll() is None for process in living):
            if self._signals > 1 and not forced:
                forced = True
                for process in living:
                    process.send_signal(signal.SIGTERM)
            if time.monotonic() > patience:
                for process in living:
                    process.kill()
            time.sleep(TICK)

    def _signal(self, _number: int, _frame: FrameType | None) -> None:
        self._signals += 1


class _Worker:
    """One place among the workers, and the process that fills it now."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: subprocess.Popen[bytes] | None = None
        self.since = 0.0
        self.due = 0.0
        self.delay = FIRST_DELAY
