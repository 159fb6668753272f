"""Estimates for several recipes: one after the other here, or side by side in processes that start at once."""

from __future__ import annotations

import contextlib
import math
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from tidemill import errors
from tidemill.data.schema import Signature
from tidemill.errors import TidemillError, TrainingError
from tidemill.learners import get_learner
from tidemill.loop.crew import Process, Starts, connected
from tidemill.loop.probing import Cost, Draws, estimate
from tidemill.records import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a recipe is asked about.

    Attributes:
        train: how many rows train.
        validation: how many validate.
        threads: of one fit.
        max_epochs: the most epochs of one fit; ``None``: as many as the learner takes.
        most: seconds from which on it does not matter how many there are; see :func:`tidemill.loop.probing.estimate`.
    """

    signature: Signature
    train: int
    validation: int
    threads: int
    max_epochs: int | None = None
    most: float = math.inf


def estimates(
    recipes: Sequence[Recipe], work: Work, starts: Starts | None = None, workers: int = 1
) -> Iterator[tuple[str, Cost | str]]:
    """Each recipe's name with what a fit of it costs, or with why that cannot be told: its attempt would fail as well.

    Args:
        starts: starts processes; without it they are probed here.
        workers: how many processes there are at a time.

    Raises:
        TidemillError: what is wrong with more than a recipe.
    """
    if starts is None:
        draws = Draws(work.signature, work.train, work.validation)
        for recipe in recipes:
            yield recipe.name, _estimated(recipe, work, draws)
        return
    waiting = list(recipes)  # the last ones are the dearest as a rule: they begin
    busy: dict[Connection[Any, Any], tuple[Recipe, Process]] = {}
    try:
        for _ in range(workers):
            busy |= _begun(waiting, work, starts)
        for name in dict.fromkeys(recipe.learner for recipe in recipes):
            get_learner(name)  # what the race needs is imported here meanwhile
        while busy:
            said = wait(list(busy))
            for line in [line for line in busy if line in said]:
                recipe, process = busy[line]
                yield recipe.name, _heard(line, process)
                line.close()
                process.wait()
                del busy[line]
                busy |= _begun(waiting, work, starts)
    finally:
        for line, (_, process) in busy.items():
            line.close()
            process.kill()


def answer(fd: int) -> None:
    """Probe the recipe that comes in over the socket *fd*, and say what was found."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; who asked decides
    line: Connection[Any, Any] = Connection(fd)
    with contextlib.suppress(EOFError, OSError):  # nobody waits for it any more
        recipe, work = line.recv()
        try:
            line.send(_estimated(recipe, work, Draws(work.signature, work.train, work.validation)))
        except TidemillError as error:
            line.send(error.to_process())


def _estimated(recipe: Recipe, work: Work, draws: Draws) -> Cost | str:
    try:
        return estimate(recipe, draws, threads=work.threads, max_epochs=work.max_epochs, most=work.most)
    except TrainingError as error:  # its attempt fails as well, and alone
        return str(error)


def _begun(waiting: list[Recipe], work: Work, starts: Starts) -> dict[Connection[Any, Any], tuple[Recipe, Process]]:
    """The process that probes the next recipe, if one is waiting."""
    if not waiting:
        return {}
    recipe = waiting.pop()
    process, here = connected(starts, "tidemill.loop.estimating:answer")
    with contextlib.suppress(OSError):  # its end is noticed where it is heard
        here.send((recipe, work))
    return {here: (recipe, process)}


def _heard(line: Connection[Any, Any], process: Process) -> Cost | str:
    """What the process found; one that died, of want of memory perhaps, leaves its recipe to an attempt."""
    try:
        said: Cost | str | Mapping[str, Any] = line.recv()
    except (EOFError, OSError):
        return f"the process that probed it ended with status {process.wait()}"
    if isinstance(said, Mapping):
        raise errors.from_process(said)
    return said
