"""Classes told apart by the means of a few samples each (Snell, Swersky and Zemel, 2017, https://arxiv.org/abs/1703.05175).

What is learned of many samples of other classes is how rows of one class vary: along those directions distances count
less. That is within-class covariance normalisation (Hatch, Kajarekar and Stolcke, 2006), with some of the identity
mixed in, and it holds for classes never seen as well. Rows are then brought to length 1, as in SimpleShot (Wang et
al., 2019, https://arxiv.org/abs/1911.04623).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.runtime.classes import unit

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int64]

SHRINKAGES = (0.3, 0.1, 1.0, 0.03, 0.01)
"""Shares of the identity that are tried, the likely ones first; 1 leaves distances as they are."""
_EQUAL = 0.003
"""Shares of right answers that differ by less count as equal: episodes are few."""
MOST_ROWS = 6000
"""Rows that the covariance is estimated on."""
_WIDEST = 1024


@dataclass(frozen=True, slots=True)
class Space:
    """Where prototypes are compared.

    Attributes:
        centre: float32 ``[d]``, the mean of the classes' means.
        matrix: float32 ``[d, r]``, whitens what is left.
        shrinkage: the share of the identity in it.
    """

    centre: Floats
    matrix: Floats
    shrinkage: float

    def placed(self, rows: Floats) -> Floats:
        """Rows ``[n, d]`` as ``[n, r]`` of length 1."""
        return unit((rows - self.centre) @ self.matrix)


def fit_space(rows: Floats, codes: Codes, shrinkage: float) -> Space:
    """The space in which what varies within the classes of *rows* counts less.

    Args:
        rows: float32 ``[n, d]``; at most :data:`MOST_ROWS` of them are looked at.
        codes: their classes ``[n]``; of a class with one row nothing is learned.
        shrinkage: share of the identity, from 0 to 1.
    """
    few = np.linspace(0, len(rows) - 1, min(len(rows), MOST_ROWS)).astype(np.int64)
    wide, codes = np.asarray(rows[few], np.float64), codes[few]
    classes = np.unique(codes)
    means = np.stack([wide[codes == code].mean(axis=0) for code in classes])
    centre = means.mean(axis=0)
    left = wide - means[np.searchsorted(classes, codes)]
    basis = _basis(wide - centre)
    inside = left @ basis
    covariance = inside.T @ inside / max(len(wide) - len(classes), 1)
    scale = max(float(np.trace(covariance)) / len(covariance), 1e-12)
    mixed = (1 - shrinkage) * covariance + shrinkage * scale * np.eye(len(covariance))
    values, vectors = np.linalg.eigh(mixed)
    whitening = (vectors / np.sqrt(np.maximum(values, 1e-9 * scale))) @ vectors.T
    return Space(centre.astype(np.float32), (basis @ whitening).astype(np.float32), shrinkage)


def _basis(centred: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Orthonormal directions in which the rows lie, at most :data:`_WIDEST`; the identity where all are used."""
    n, d = centred.shape
    if d <= min(n, _WIDEST):
        return np.eye(d)
    _, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    kept = min(int((sizes > 1e-6 * max(sizes[0], 1e-30)).sum()), _WIDEST)
    return np.asarray(directions[: max(kept, 1)].T)


def prototypes(placed: Floats, codes: Codes, classes: int) -> Floats:
    """The direction of the mean of each class, float32 ``[classes, r]``; zero for a class without rows.

    >>> prototypes(np.array([[3.0, 0.0], [0.0, 3.0], [0.0, 1.0]], np.float32), np.array([0, 1, 1]), 2).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    sums = np.zeros((classes, placed.shape[1]), np.float64)
    np.add.at(sums, codes, placed)
    return unit(sums)


@dataclass(frozen=True, slots=True)
class Episode:
    """A small problem of some classes: which rows are known, and which are asked about.

    Attributes:
        support, query: rows.
        support_codes, query_codes: their classes, from 0.
    """

    support: Codes
    support_codes: Codes
    query: Codes
    query_codes: Codes


def episodes(
    codes: Codes, *, ways: int, shots: int, count: int, rng: np.random.Generator, queries: int = 10
) -> Iterator[Episode]:
    """Episodes of *ways* classes with *shots* known rows each; classes with too few rows take no part."""
    rows = {int(code): np.flatnonzero(codes == code) for code in np.unique(codes)}
    fit = [code for code, found in rows.items() if len(found) > shots]
    ways = min(ways, len(fit))
    if ways < 2:
        return
    for _ in range(count):
        chosen = rng.permutation(fit)[:ways]
        drawn = [rng.permutation(rows[int(code)])[: shots + queries] for code in chosen]
        yield Episode(
            np.concatenate([d[:shots] for d in drawn]),
            np.repeat(np.arange(ways), shots),
            np.concatenate([d[shots:] for d in drawn]),
            np.concatenate([np.full(len(d) - shots, i) for i, d in enumerate(drawn)]),
        )


def accuracy(placed: Floats, parts: Sequence[Episode]) -> float:
    """The mean share of queries nearest to their class's prototype."""
    return float(np.mean([_right(placed, part) for part in parts])) if parts else 0.0


def _right(placed: Floats, part: Episode) -> float:
    known = prototypes(placed[part.support], part.support_codes, int(part.support_codes.max()) + 1)
    return float(((placed[part.query] @ known.T).argmax(axis=1) == part.query_codes).mean())


def best_space(rows: Floats, codes: Codes, *, shots: int, seed: int, ways: int = 5, folds: int = 4) -> Space:
    """The space whose shrinkage does best on classes that it has not seen, by episodes over held-out classes.

    With fewer than four classes there is nothing to hold out, and the first one is taken.
    """
    rng = np.random.default_rng(seed)
    classes = rng.permutation(np.unique(codes))
    if len(classes) < 4:
        return fit_space(rows, codes, SHRINKAGES[0])
    groups = [group for group in np.array_split(classes, min(folds, len(classes) // 2)) if len(group) >= 2]
    scores = dict.fromkeys(SHRINKAGES, 0.0)
    for group in groups:
        out = np.isin(codes, group)
        inner: Any = codes[out]
        parts = list(episodes(inner, ways=ways, shots=shots, count=30, rng=rng))
        for shrinkage in SHRINKAGES:
            scores[shrinkage] += accuracy(fit_space(rows[~out], codes[~out], shrinkage).placed(rows[out]), parts)
    enough = max(scores.values()) - _EQUAL * len(groups)
    return fit_space(rows, codes, next(s for s in SHRINKAGES if scores[s] >= enough))
