"""A process that runs trials for a :class:`tidemill.loop.crew.Crew`: it is told what to do, and says that it lives.

The two talk over a pair of sockets that only they hold, in pickles, as Python's own pools do. A worker opens no store
and writes no record: what it finds goes back to the one process that holds the cycle's lock. It ends when that one
does, whatever ended it: then the other end of the pipe is closed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

from tidemill.data.dataset import open_dataset
from tidemill.errors import TidemillError
from tidemill.learners import get_learner
from tidemill.loop.trial import Bench, Kept, run
from tidemill.records import Dataset, Recipe
from tidemill.stages.train import Aim, Fit

BEAT = 1.0
"""Seconds between two signs of life."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What a worker is told first; see :class:`tidemill.loop.trial.Bench`."""

    root: Path
    aim: Aim
    dataset: Dataset
    recipes: Mapping[str, Recipe]
    max_epochs: Mapping[str, int | None]
    seed: int
    threads: int


def work(fd: int) -> None:
    """Run the trials that come in over the socket *fd*, until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; who gave the orders decides
    line = _Line(fd)
    threading.Thread(target=line.beat, daemon=True).start()
    orders: Orders = line.receive()
    try:
        _work(line, orders)
    except TidemillError as error:
        line.send("error", error.to_process())


def _work(line: _Line, orders: Orders) -> None:
    bench = Bench(
        root=orders.root,
        aim=orders.aim,
        dataset=open_dataset(orders.root, orders.dataset),
        recipes=orders.recipes,
        max_epochs=orders.max_epochs,
        seed=orders.seed,
        threads=orders.threads,
    )
    kept = Kept()
    for recipe in orders.recipes.values():
        get_learner(recipe.learner)  # what it imports is no part of a trial
    line.send("ready", None)
    while True:
        asked, what = line.receive()
        if asked == "take":
            line.send("fit", packed(kept.take(what)))
            continue
        outcome, made = run(what, bench, orders.aim.selection, lambda e, m: line.send("epoch", (e, m)))
        if made is not None and what.part.share == 1:
            kept.offer(what.recipe, made)
        line.send("ended", outcome)


class _Line:
    """The worker's end of the line; several threads speak on it. Where nobody listens any more, the process ends."""

    def __init__(self, fd: int) -> None:
        self._connection: Connection[Any, Any] = Connection(fd)
        self._turn = threading.Lock()

    def receive(self) -> Any:
        try:
            return self._connection.recv()
        except (EOFError, OSError):
            os._exit(0)

    def send(self, what: str, content: Any) -> None:
        try:
            with self._turn:
                self._connection.send((what, content))
        except OSError:
            os._exit(0)

    def beat(self) -> None:
        pause = threading.Event()
        while True:
            self.send("beat", None)
            pause.wait(BEAT)


def packed(made: Fit | None) -> bytes | None:
    """A fit without its features, which lie in the cache; ``None`` where there is none, or it cannot be sent.

    What a user's own classes hold may be bound to this process.
    """
    if made is None:
        return None
    with contextlib.suppress(pickle.PicklingError, AttributeError, TypeError):
        # as multiprocessing sends them, networks would hold places in memory that only its own processes may open
        return pickle.dumps(dataclasses.replace(made, features=None))  # type: ignore[arg-type]
    return None


def unpacked(data: bytes | None) -> Fit | None:
    """The other way round; ``None`` where its classes are not known here. Its features are still missing.

    *data* comes from a process that this one started, over a line of their own, and from nowhere else.
    """
    if data is None:
        return None
    with contextlib.suppress(pickle.UnpicklingError, AttributeError, ImportError, TypeError):
        made: Fit = ForkingPickler.loads(data)
        return made
    return None
