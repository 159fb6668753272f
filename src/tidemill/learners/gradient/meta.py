"""Reptile (Nichol, Achiam and Schulman, 2018, https://arxiv.org/abs/1803.02999): weights that soon learn new classes.

Each round learns one small problem of some classes from the weights so far, and moves these a little towards what came
of it. It needs what :mod:`tidemill.learners.gradient.state` offers and nothing else: an update of a state, and a merge.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tidemill.learners.gradient.state import State, merge
from tidemill.learners.gradient.trainer import Trainer

Draw = Callable[[np.random.Generator], dict[str, Any]]
"""Gives the arrays of one small problem: features by name, and ``target``."""


def reptile(
    trainer: Trainer,
    draw: Draw,
    *,
    rounds: int,
    steps: int,
    pace: float,
    batch_size: int,
    rng: np.random.Generator,
    heard: Callable[[int], None] = lambda _round: None,
) -> State:
    """The state after so many rounds, from where the trainer stands.

    Args:
        trainer: of a network with an output for each class of a small problem.
        draw: gives a small problem.
        rounds: how many are learned.
        steps: that each of them takes.
        pace: how far the first round moves the weights, from 0 to 1; the last one moves them hardly any more.
        batch_size: rows a step.
        rng: decides what is drawn.
        heard: told of each round.
    """
    start = state = trainer.state()
    for number in range(rounds):
        share = pace * (1 - number / rounds)
        found = trainer.local_update(state, draw(rng), steps, batch_size=batch_size, seed=int(rng.integers(2**31)))
        moved = merge([state, found], [1 - share, share]).tensors
        # a small problem begins without what the optimiser remembers of another one
        kept = {name: moved[name] if name.startswith("network/") else value for name, value in start.tensors.items()}
        state = State(kept, dict(start.counters))
        heard(number + 1)
    return state
