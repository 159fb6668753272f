"""Sparse rows put together: one under the other, or side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tidemill.features._base import Sparse


def stacked(parts: Sequence[Sparse]) -> Sparse:
    """Rows of the same width, one part under the other."""
    if len(parts) == 1:
        return parts[0]
    ends = np.cumsum([0, *(len(part.indices) for part in parts)])
    offsets = [part.offsets[1:] - part.offsets[0] + end for part, end in zip(parts, ends, strict=False)]
    return Sparse(
        np.concatenate([part.indices for part in parts]),
        np.concatenate([part.values for part in parts]),
        np.concatenate([np.zeros(1, np.int64), *offsets]),
        parts[0].width,
    )


def beside(parts: Sequence[Sparse]) -> Sparse:
    """The same rows with the columns of all parts, in their order.

    >>> a = Sparse(np.array([1], np.int32), np.ones(1, np.float32), np.array([0, 0, 1]), 2)
    >>> beside([a, a]).to_scipy().toarray().tolist()
    [[0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 1.0]]
    """
    if len(parts) == 1:
        return parts[0]
    counts = np.stack([np.diff(part.offsets) for part in parts])
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts.sum(axis=0))])
    indices = np.empty(offsets[-1], np.int32)
    values = np.empty(offsets[-1], np.float32)
    starts, column = offsets[:-1].copy(), 0
    for part, count in zip(parts, counts, strict=True):
        places = np.arange(len(part.indices)) + np.repeat(starts - part.offsets[:-1], count)
        indices[places] = part.indices + column
        values[places] = part.values
        starts += count
        column += part.width
    return Sparse(indices, values, offsets, column)
