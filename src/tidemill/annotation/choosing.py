"""The order in which unlabelled rows are asked about: what would teach most comes first, and no prefix repeats itself.

What speaks for a row: the champion is in doubt about it (margin sampling; Scheffer et al., 2001), models disagree on it
(query by committee; Seung et al., 1992), nothing like it has a label yet, and few rows have the label that the champion
would give. While there are few labels, doubts say little, and rows that stand for many others count instead
(Hacohen et al., *Active Learning on a Budget*, 2022). Rows are taken one by one, each judged by what those before it
leave open, so that a batch does not ask the same thing often.

What was tried and is not here: distance to what is asked as a factor throughout (it costs a fifth more labels on AG
News, where doubts lie where classes meet), and disagreement as the main signal (a committee is as good as its worst).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from tidemill.annotation.vectors import Vectors

Floats = npt.NDArray[np.float64]
Signal = Literal["uncertain", "disagreement", "novel", "balance", "typical"]

SHARPNESS = 5
"""How much a row's place among all by doubt counts: the power of the share of rows that are less doubtful."""
DISAGREEMENT, BALANCE = 0.1, 0.25
"""What disagreement of models and the rarity of a label weigh beside the champion's doubt."""
NEAR = 0.1
"""Rows that are closer to one that is asked or known already than this (one less their likeness) lose by it."""
COLD = 3.0
"""Labels a class at which doubts count as much as what is typical."""
_AT_ONCE, _NEIGHBOURS = 4096, 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Unlabelled rows that may be asked about.

    Attributes:
        doubt: float64 ``[n]``, 0 (the champion is sure) to 1 (it could not be less certain).
        vectors: float32 ``[n, d]`` of length 1: like rows lie close together.
        known: float32 ``[m, d]``: rows whose label is known, or a sample of these.
        labels: how many labels are known; ``len(known)`` may be fewer.
        disagreement: float64 ``[n]``, 0 (all models say the same) to 1, or ``None`` where there is one model.
        guess: int64 ``[n]``, the label that the champion would give, or ``None`` where labels are no classes.
        counts: int64 ``[k]``, known labels of each class, with *guess*.
    """

    doubt: Floats
    vectors: Vectors
    known: Vectors
    labels: int
    disagreement: Floats | None = None
    guess: npt.NDArray[np.int64] | None = None
    counts: npt.NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True)
class Pick:
    """A row of the pool in its place, and what spoke for it most."""

    row: int
    signal: Signal


def ordered(pool: Pool, most: int, rng: np.random.Generator) -> list[Pick]:
    """The *most* rows to ask about, in order.

    Args:
        pool: what may be asked.
        most: how many.
        rng: breaks ties.
    """
    n = len(pool.doubt)
    if not n or most < 1:
        return []
    parts = _parts(pool)
    value = np.asarray(np.sum(list(parts.values()), axis=0)) + 1e-9 * rng.random(n)
    signals = list(parts)
    leading = np.argmax(np.stack([parts[name] for name in signals]), axis=0)
    far = 1 - _nearest(pool.vectors, pool.known)
    picks: list[Pick] = []
    taken = np.zeros(n, bool)
    alone = far.copy()
    for _ in range(min(most, n)):
        worth = np.where(taken, -1.0, value * np.clip(alone / NEAR, 0.05, 1.0))
        row = int(worth.argmax())
        taken[row] = True
        novel = len(pool.known) > 0 and far[row] > 0.9 and pool.doubt[row] < 0.5
        picks.append(Pick(row, "novel" if novel else signals[leading[row]]))
        alone = np.minimum(alone, 1 - pool.vectors @ pool.vectors[row])
    return picks


def _parts(pool: Pool) -> dict[Signal, Floats]:
    """What speaks for each row, by what it is."""
    classes = 2 if pool.counts is None else max(2, len(pool.counts))
    cold = COLD * classes / (COLD * classes + pool.labels)
    warm = 1 - cold
    # By rank: how far apart a model's scores lie says little while it has few labels, and that depends on the learner.
    doubt = _ranks(pool.doubt) ** SHARPNESS
    parts: dict[Signal, Floats] = {"uncertain": warm * doubt}
    if pool.disagreement is not None:
        parts["disagreement"] = warm * DISAGREEMENT * _ranks(pool.disagreement) ** SHARPNESS
    if pool.guess is not None and pool.counts is not None and pool.counts.sum():
        share = pool.counts / pool.counts.max()
        parts["balance"] = warm * BALANCE * (1 - share)[pool.guess] * doubt
    if cold > 0.001:
        parts["typical"] = cold * _typical(pool.vectors) ** 2
    return parts


def _ranks(values: Floats) -> Floats:
    """The share of values that are smaller, 0 to 1; equal ones share the middle of their places."""
    _, place, many = np.unique(values, return_inverse=True, return_counts=True)
    middle = np.cumsum(many) - (many + 1) / 2
    return np.asarray(middle[place.reshape(-1)] / max(len(values) - 1, 1))


def _nearest(vectors: Vectors, known: Vectors) -> Floats:
    """How like each row is to the labelled row that is most like it: -1 to 1, and 0 where there is none."""
    if not len(known):
        return np.zeros(len(vectors))
    found = np.empty(len(vectors))
    for start in range(0, len(vectors), _AT_ONCE):
        part = vectors[start : start + _AT_ONCE]
        found[start : start + _AT_ONCE] = (part @ known.T).max(axis=1)
    return found


def _typical(vectors: Vectors) -> Floats:
    """How close each row lies to its nearest neighbours, 0 to 1 by its rank among all."""
    n = len(vectors)
    k = min(_NEIGHBOURS, n - 1)
    if k < 1:
        return np.ones(n)
    density = np.empty(n)
    for start in range(0, n, _AT_ONCE):
        like = vectors[start : start + _AT_ONCE] @ vectors.T
        density[start : start + _AT_ONCE] = np.partition(like, n - k - 1, axis=1)[:, n - k - 1 :].mean(axis=1)
    return _ranks(density)


def disagreement_of(probabilities: list[npt.NDArray[np.float32]]) -> Floats:
    """How far models differ on each row, 0 to 1: the entropy of their mean less their mean entropy, of that possible.

    Houlsby et al., *Bayesian Active Learning for Classification and Preference Learning* (2011).

    Args:
        probabilities: of each model, ``[n, k]``; they may be those of single labels, too.
    """
    stacked = np.clip(np.stack(probabilities).astype(np.float64), 1e-12, 1.0)
    mean = stacked.mean(axis=0)
    spread = -(mean * np.log(mean)).sum(axis=1) + (stacked * np.log(stacked)).sum(axis=2).mean(axis=0)
    most = np.log(min(len(probabilities), stacked.shape[2]))
    return np.asarray(np.clip(spread / max(most, 1e-12), 0.0, 1.0))
