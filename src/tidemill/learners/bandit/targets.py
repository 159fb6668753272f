"""What heads learn from logged choices: of the chosen actions alone, or of all of them by doubly robust targets."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tidemill.data.logged import Logged
from tidemill.runtime.heads import Codes, Floats, Heads

METHODS = ("dr", "iw", "direct")


def fit_heads(
    actions: Sequence[str],
    z: Floats,
    logged: Logged,
    reward: Floats,
    weight: Floats | None,
    *,
    method: str,
    clip: float,
    ridge: float,
    folds: int,
    shared: bool,
    seed: int,
) -> Heads:
    """Heads over representations ``[n, d]``, from the rewards ``[n]`` of what was chosen.

    ``direct`` learns each action from the choices of it. Where these were made in other contexts than the policy will
    meet, ``iw`` weighs each by one over its propensity, so that they stand for all contexts. ``dr`` lets each head
    learn from every row: of what was not chosen from what other rows say, and of what was chosen from that and what
    the reward adds to it, over the propensity (Dudík, Langford and Li, ICML 2011). What a row is told of itself comes
    from heads that have not seen it. How unsure a head is follows in each case from the rewards that it truly saw.

    Args:
        clip: the largest factor by which a row counts, or a target is corrected.
        folds: for ``dr``.
        shared: one head reads the features of each action; ``dr`` is ``iw`` there.
        seed: of the folds.
    """
    base = np.ones(len(z)) if weight is None else np.asarray(weight, np.float64)
    factor = np.minimum(1.0 / logged.propensity, clip)
    if method == "direct":
        return Heads.fitted(actions, z, logged.action, reward, base, ridge=ridge, shared=shared)
    if method == "iw" or shared:
        counted = base * factor
        counted *= base.sum() / max(float(counted.sum()), 1e-12)  # as many rewards in all as there are
        return Heads.fitted(actions, z, logged.action, reward, counted, ridge=ridge, shared=shared)
    seen = Heads.fitted(actions, z, logged.action, reward, base, ridge=ridge)
    targets = doubly_robust(actions, z, logged.action, reward, base, factor, ridge=ridge, folds=folds, seed=seed)
    mean = seen.mean.copy()
    for head in range(len(actions)):
        rows = slice(None) if logged.offered is None else np.flatnonzero(logged.offered[:, head])
        if not len(z[rows]):
            continue
        x, w = z[rows], base[rows]
        precision = ridge * np.eye(z.shape[1]) + (x * w[:, None]).T @ x
        mean[head] = np.linalg.solve(precision, x.T @ (w * targets[rows, head]))
    return dataclasses.replace(seen, mean=mean)


def doubly_robust(
    actions: Sequence[str],
    z: Floats,
    action: Codes,
    reward: Floats,
    weight: Floats,
    factor: Floats,
    *,
    ridge: float,
    folds: int,
    seed: int,
) -> npt.NDArray[np.float64]:
    """What every action would have earned in every row, float64 ``[n, actions]``, without bias where *factor* is one
    over the propensity.
    """
    n = len(z)
    expected = np.zeros((n, len(actions)))
    fold = np.random.default_rng(seed).permutation(n) % max(2, folds)
    for number in range(max(2, folds)):
        others, own = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        heads = Heads.fitted(actions, z[others], action[others], reward[others], weight[others], ridge=ridge)
        expected[own] = heads.expected(z[own])
    every = np.arange(n)
    expected[every, action] += factor * (reward - expected[every, action])
    return expected
