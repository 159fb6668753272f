"""Rows as short vectors in which like rows lie close together, whatever features a model reads.

Nothing here is learned from labels: dense features are scaled, sparse ones condensed by their leading singular vectors
(latent semantic analysis; Deerwester et al., 1990), and wide ones projected at random.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.features._base import Feature, Features, Sparse

WIDTH = 64
"""Numbers of one vector."""
_MOST = 1 << 14

Vectors = npt.NDArray[np.float32]


def vectors_of(features: Features, seed: int = 0) -> Vectors:
    """Vectors of length 1, float32 ``[n, d]``, with *d* at most :data:`WIDTH` for each feature array.

    The directions are found in the rows themselves, so vectors of two calls do not compare: ask for all rows at once.
    """
    parts = [_part(feature, np.random.default_rng(seed)) for _, feature in sorted(features.items())]
    if not parts:
        return np.zeros((0, 1), np.float32)
    joined = np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]
    return unit(joined)


def unit(values: npt.NDArray[Any]) -> Vectors:
    """Each row with length 1; a row of zeros stays one."""
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return np.asarray(values / np.maximum(length, 1e-12), np.float32)


def _part(feature: Feature, rng: np.random.Generator) -> Vectors:
    if isinstance(feature, Sparse):
        return _condensed(feature, rng)
    flat = np.asarray(feature, np.float32).reshape(len(feature), -1)
    if feature.dtype.kind in "iu" and feature.dtype.itemsize >= 4:
        flat = _hashed(np.asarray(feature).reshape(len(feature), -1))  # ids of tokens or categories: no amounts
    flat = flat - flat.mean(axis=0)
    spread = float(flat.std()) or 1.0
    if flat.shape[1] > WIDTH:
        flat = flat @ rng.normal(0, WIDTH**-0.5, (flat.shape[1], WIDTH)).astype(np.float32)
    return unit(flat / np.float32(spread))


def _hashed(ids: npt.NDArray[Any]) -> Vectors:
    """How often each of some hash buckets occurs among the ids of a row; 0 is padding."""
    with np.errstate(over="ignore"):
        bucket = (ids.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(58)
    found = np.zeros((len(ids), WIDTH), np.float32)
    row, place = np.nonzero(ids)
    np.add.at(found, (row, bucket[row, place].astype(np.int64)), 1.0)
    return unit(found)


def _condensed(feature: Sparse, rng: np.random.Generator) -> Vectors:
    from sklearn.decomposition import TruncatedSVD

    matrix = feature.to_scipy()
    width = min(WIDTH, min(matrix.shape) - 1)
    if width < 1 or not matrix.nnz:
        return np.zeros((matrix.shape[0], 1), np.float32)
    seed = int(rng.integers(1 << 31))
    some = matrix if matrix.shape[0] <= _MOST else matrix[np.sort(rng.choice(matrix.shape[0], _MOST, replace=False))]
    svd = TruncatedSVD(width, algorithm="randomized", n_iter=2, n_oversamples=5, random_state=seed).fit(some)
    return unit(svd.transform(matrix))
