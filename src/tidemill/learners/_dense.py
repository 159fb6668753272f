"""Features as dense rows, in chunks: what the learners that are not networks read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from tidemill.errors import TrainingError
from tidemill.features._base import FeatureInfo, Features
from tidemill.features.pixel_vector import block, shrink

CHUNK = 4096
_CHUNK_VALUES = 1 << 21  # 16 MB of float64, of which a pass holds a few


def chunk_rows(width: int) -> int:
    """How many rows of *width* values are read at once: :data:`CHUNK`, or fewer of wide ones.

    >>> chunk_rows(64), chunk_rows(3072)
    (4096, 682)
    """
    return max(64, min(CHUNK, _CHUNK_VALUES // max(width, 1)))


def dense_width(info: Mapping[str, FeatureInfo], max_side: int | None) -> int:
    """The length of a dense row: pixels, then ``x``."""
    width = 0
    if "image" in info:
        height, wide, channels = info["image"].shape
        side = block(height, wide, max_side)
        width += -(-height // side) * -(-wide // side) * channels
    return width + (info["x"].shape[0] if "x" in info else 0)


def dense(features: Features, rows: slice, max_side: int | None) -> npt.NDArray[np.float32]:
    """Images (0 to 1, shrunk so that no side exceeds *max_side*) and ``x`` side by side, float32 ``[m, d]``."""
    parts = []
    if "image" in features:
        images = np.asarray(features["image"][rows])
        parts.append(shrink(images, max_side).reshape(len(images), -1) / np.float32(255))
    if "x" in features:
        parts.append(np.asarray(features["x"][rows], np.float32))
    if not parts:
        return np.zeros((len(range(*rows.indices(count(features)))), 0), np.float32)
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def chunks(start: int, stop: int, size: int = CHUNK) -> Iterator[slice]:
    """Slices that cover ``start:stop``."""
    for at in range(start, stop, size):
        yield slice(at, min(at + size, stop))


def count(features: Features) -> int:
    """How many rows there are."""
    return len(next(iter(features.values())))


def refuse_missing(rows: npt.NDArray[np.float32], learner: str) -> None:
    """Stop at NaN, which these learners cannot weigh.

    Raises:
        TrainingError: *rows* hold one.
    """
    if not np.isfinite(rows).all():
        raise TrainingError(
            "the features hold missing values, which this learner cannot take",
            where=f"learner {learner}",
            mend="Use the feature steps without raw: true, so that missing values are filled.",
        )
