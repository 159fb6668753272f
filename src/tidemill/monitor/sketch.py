"""Sketches: a few numbers for each row of whatever features a model sees, by fixed random projections.

Distances and inner products survive such projections (Johnson and Lindenstrauss, 1984; for counts of many kinds of
things, Weinberger and others, *ICML* 2009), so what a classifier can tell of the features it can mostly tell of these.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tidemill.data.keys import mix
from tidemill.features._base import Feature, Features, Sparse

WIDTH = 48
"""Numbers for each output of the features."""
_WIDEST = 4096
_IDS = 1 << 20
_FAR = 1e30
"""Squares of what lies within it are still finite."""

Floats = npt.NDArray[np.float64]


def sketch(features: Features) -> Floats:
    """One short vector a row, float64 ``[n, d]``; the same projection at each call.

    >>> sketch({"x": np.ones((2, 3), np.float32)}).shape
    (2, 3)
    """
    return np.hstack([_one(name, features[name]) for name in sorted(features)])


def _one(name: str, feature: Feature) -> Floats:
    if isinstance(feature, Sparse):
        return _counted(feature.rows(), feature.indices, feature.values, len(feature))
    rows = len(feature)
    if name in ("codes", "tokens"):
        ids = feature.astype(np.int64)
        row, place = np.nonzero(ids >= 0) if name == "codes" else np.nonzero(ids)
        # A code means something in its column alone, a token the same wherever it stands.
        kinds = ids[row, place] + (place * _IDS if name == "codes" else 0)
        return _counted(row, kinds, np.ones(len(row)), rows)
    return _projected(feature.reshape(rows, -1))


def _counted(
    row: npt.NDArray[np.integer], kinds: npt.NDArray[np.integer], values: npt.NDArray[np.generic], rows: int
) -> Floats:
    """Weights of many kinds of things in few places with random signs; each row of length one."""
    hashed = mix(kinds.astype(np.uint64))
    place = (hashed % np.uint64(WIDTH)).astype(np.int64)
    signed = values.astype(np.float64) * np.where(hashed >> np.uint64(63), 1.0, -1.0)
    found = np.bincount(row * WIDTH + place, signed, rows * WIDTH).reshape(rows, WIDTH)
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    return np.asarray(found / np.where(lengths > 0, lengths, 1.0), np.float64)


def _projected(values: npt.NDArray[np.generic]) -> Floats:
    width = values.shape[1]
    rng = np.random.default_rng(width)
    if width > _WIDEST:
        values = values[:, np.sort(rng.choice(width, _WIDEST, replace=False))]
    found: Floats = np.clip(np.nan_to_num(values.astype(np.float64)), -_FAR, _FAR)
    if width <= WIDTH:
        return found
    return np.asarray(found @ (rng.standard_normal((found.shape[1], WIDTH)) / found.shape[1] ** 0.5), np.float64)
