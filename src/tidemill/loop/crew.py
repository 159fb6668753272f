"""The processes that run trials: each with its share of the threads, watched by its signs of life.

A worker that died, or from which nothing came for a minute although it should, is ended and replaced, and its trial is
run once more: out of memory or killed by hand, it may do better. The second time it counts as failed, and the search
goes on without it.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

from tidemill import errors
from tidemill.engines.local import LocalEngine
from tidemill.engines.nursery import Nursery, can_fork
from tidemill.errors import StoreError
from tidemill.learners import place_of
from tidemill.loop.trial import Job, Outcome
from tidemill.loop.working import BEAT, Orders, unpacked
from tidemill.records import Recipe
from tidemill.stages.train import Fit

PATIENCE = 60.0
"""Seconds without a sign of life after which a worker counts as dead."""
MOST_DEATHS = 6
"""Deaths in a row, with no trial that ended between them, after which there is no use in starting another."""
_TRIES = 2

Heard = Callable[[Job, int, dict[str, float]], None]


def _unheard(_job: Job, _epoch: int, _metrics: dict[str, float]) -> None:
    """Nobody listens."""


class Process(Protocol):
    """A process that was started."""

    @property
    def pid(self) -> int:
        """Its id."""

    def wait(self) -> int:
        """Wait for the end; the exit status."""

    def kill(self) -> None:
        """End it at once."""


class Starts(Protocol):
    """Starts processes; see :class:`tidemill.engines.local.LocalEngine`."""

    @property
    def log(self) -> Path | None:
        """Where they write what libraries print."""

    def submit(self, target: str, arguments: dict[str, Any], *, keep: Sequence[int]) -> Process:
        """Start ``module:function``, which inherits the file descriptor in *keep*, as its argument ``fd`` says."""


@contextlib.contextmanager
def starter(recipes: Sequence[Recipe], threads: int, log: Path) -> Iterator[Starts]:
    """What starts workers; where processes may fork, one that begins at once to import what the recipes need.

    Args:
        recipes: whose trials they will run.
        threads: of each worker.
        log: the file to which they write what libraries print; it is removed if that was nothing.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        if not can_fork():
            yield LocalEngine(threads=threads, nice=0, log=log)
            return
        learners = dict.fromkeys(place_of(recipe.learner) for recipe in recipes)
        modules = ["tidemill.loop.working", *learners]
        with contextlib.closing(Nursery(threads=threads, modules=modules, log=log)) as nursery:
            yield nursery
    finally:
        if log.is_file() and not log.stat().st_size:
            log.unlink()


def connected(starts: Starts, target: str) -> tuple[Process, Connection[Any, Any]]:
    """A process that runs ``module:function``, and this end of the line on whose other end, ``fd``, it listens."""
    here, there = multiprocessing.Pipe()
    with there:
        return starts.submit(target, {"fd": there.fileno()}, keep=[there.fileno()]), here


@dataclass(slots=True, eq=False)
class _Worker:
    process: Process
    line: Connection[Any, Any]
    silent: float = 0.0
    awake: bool = False
    ready: bool = False
    job: Job | None = None


class Crew:
    """Processes that run trials.

    Args:
        orders: what they are all told first.
        workers: how many there are.
        starts: starts them, see :func:`starter`.
        patience: seconds without a sign of life after which one counts as dead.

    Attributes:
        workers: how many there are.
        deaths: how many died so far.
    """

    def __init__(self, orders: Orders, workers: int, starts: Starts, *, patience: float = PATIENCE) -> None:
        self.workers = workers
        self.deaths = 0
        self._orders = orders
        self._patience = patience
        self._starts = starts
        self._team: list[_Worker] = []
        self._waiting: collections.deque[Job] = collections.deque()
        self._tries: collections.Counter[tuple[str, int]] = collections.Counter()
        self._in_a_row = 0
        self._holders: dict[tuple[str, int], _Worker] = {}

    def open(self) -> None:
        """Start all processes, and wait until they have imported what they need: no trial is to count with that.

        Raises:
            StoreError: they die as soon as they are started.
        """
        while sum(worker.ready for worker in self._team) < self.workers:
            while len(self._team) < self.workers:
                self._begin()
            self._listen(_unheard)

    def start(self, job: Job) -> None:
        """Run a trial as soon as a process is free."""
        self._waiting.append(job)

    def wait(self, heard: Heard) -> list[tuple[Job, Outcome]]:
        """Wait until some trials have ended; *heard* is told of epochs meanwhile.

        Raises:
            StoreError: the processes die as soon as they are started.
            TidemillError: what a process met that ends the whole search, such as a full disk.
        """
        ended: list[tuple[Job, Outcome]] = []
        while not ended:
            self._hand_out()
            ended = self._listen(heard)
        return ended

    def _listen(self, heard: Heard) -> list[tuple[Job, Outcome]]:
        """Hear what the processes say, for a second at most; the trials that have ended."""
        ended: list[tuple[Job, Outcome]] = []
        before = time.monotonic()
        said = wait([worker.line for worker in self._team], timeout=BEAT)
        # a machine that slept meanwhile, or was asked too much, has not listened for so long
        passed = min(time.monotonic() - before, 2 * BEAT)
        for worker in list(self._team):
            if worker.line in said:
                worker.silent, worker.awake = 0.0, True
                ended += self._hear(worker, heard)
            else:
                worker.silent += passed
        for worker in list(self._team):
            patience = self._patience if worker.awake else max(self._patience, PATIENCE)  # it is still importing
            if worker.silent > patience:
                ended += self._lost(worker, f"nothing was heard of it for {patience:g} s")
        return ended

    def take(self, recipe: str, place: int, features: Callable[[], Any]) -> Fit | None:
        """The fit of a trial that has ended, with its *features*, if the process that made it still has it."""
        worker = self._holders.get((recipe, place))
        if worker is None or worker not in self._team or worker.job is not None:
            return None
        try:
            worker.line.send(("take", recipe))
            while worker.line.poll(self._patience):
                what, content = worker.line.recv()
                if what == "fit":
                    made = unpacked(content)
                    return None if made is None else dataclasses.replace(made, features=features())
        except (EOFError, OSError):
            pass  # it is fitted once more
        return None

    def close(self) -> None:
        """End all processes."""
        for worker in self._team:
            worker.line.close()
            worker.process.kill()
        for worker in self._team:
            worker.process.wait()
        self._team.clear()

    def _hand_out(self) -> None:
        while self._waiting:
            free = next((worker for worker in self._team if worker.job is None), None)
            if free is None and len(self._team) < self.workers:
                free = self._begin()
            if free is None:
                return
            job = self._waiting.popleft()
            free.job, free.silent = job, 0.0
            try:
                free.line.send(("trial", job))
            except OSError:
                continue  # its end is noticed where it is heard

    def _begin(self) -> _Worker:
        process, here = connected(self._starts, "tidemill.loop.working:work")
        worker = _Worker(process, here)
        self._team.append(worker)
        with contextlib.suppress(OSError):  # as above
            here.send(self._orders)
        return worker

    def _hear(self, worker: _Worker, heard: Heard) -> list[tuple[Job, Outcome]]:
        try:
            what, content = worker.line.recv()
        except (EOFError, OSError):
            return self._lost(worker, f"it ended with status {worker.process.wait()}")
        job = worker.job
        worker.ready = worker.ready or what == "ready"
        if what == "error":
            raise errors.from_process(content)
        if job is not None and what == "epoch":
            heard(job, *content)
        if job is None or what != "ended":
            return []
        worker.job = None
        self._in_a_row = 0
        del self._tries[job.recipe, job.place]
        self._holders[job.recipe, job.place] = worker
        return [(job, content)]

    def _lost(self, worker: _Worker, why: str) -> list[tuple[Job, Outcome]]:
        """A worker is dead: its trial waits to be run again, or has failed."""
        self._team.remove(worker)
        worker.line.close()
        worker.process.kill()
        worker.process.wait()
        self.deaths += 1
        self._in_a_row += 1
        if self._in_a_row >= MOST_DEATHS:
            raise StoreError(
                f"the processes that run trials die one after the other: {why}",
                where=str(self._starts.log),
                mend="Set tuning.workers to 1 in tidemill.yaml, so that this process runs them, or free some memory.",
            )
        job = worker.job
        if job is None:
            return []
        tries = self._tries[job.recipe, job.place] = self._tries[job.recipe, job.place] + 1
        if tries < _TRIES:  # it may do better beside others
            self._waiting.appendleft(job)
            return []
        said = f"its process died {tries} times: {why}"
        return [(job, Outcome(status="failed", error=said))]
