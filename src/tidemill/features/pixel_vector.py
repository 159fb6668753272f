"""``pixel_vector``: images as rows of numbers, for learners that know nothing of pictures."""

# ruff: noqa: D102 - the base class says what each method does

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tidemill.data.arrays import Columns
from tidemill.data.schema import FieldType
from tidemill.features._base import FeatureInfo, FeatureStep, as_float32


class PixelVector(FeatureStep):
    """uint8 ``[n, h, w, c]`` to float32 ``x`` ``[n, h' · w' · c]`` between 0 and 1.

    Args:
        columns: image columns; several are laid side by side.
        max_side: larger images are averaged over square blocks of pixels until neither side exceeds it; ``None`` keeps
            every pixel.
    """

    name: ClassVar[str] = "pixel_vector"
    handles: ClassVar[tuple[FieldType, ...]] = ("image",)

    def __init__(self, columns: list[str], *, max_side: int | None = 32) -> None:
        super().__init__(columns)
        self._max_side = max_side
        self._width: int = 0

    def observe(self, chunk: Columns) -> None:
        if not self._width:
            self._width = self._vectors(chunk).shape[1]

    def transform(self, columns: Columns) -> dict[str, npt.NDArray[Any]]:
        return {"x": self._vectors(columns)}

    def _vectors(self, columns: Columns) -> npt.NDArray[np.float32]:
        parts = [shrink(np.asarray(columns[name]), self._max_side) for name in self.columns]
        return as_float32(np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1) / np.float32(255))

    def info(self) -> dict[str, FeatureInfo]:
        return {"x": FeatureInfo("float32", (self._width,))}

    def state(self) -> dict[str, Any]:
        return {"width": self._width}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._width = int(state["width"])


def block(height: int, width: int, max_side: int | None) -> int:
    """The side of the square of pixels that becomes one, so that neither side exceeds *max_side*.

    >>> block(28, 28, 32), block(64, 48, 32), block(28, 28, None)
    (1, 2, 1)
    """
    return 1 if max_side is None else max(1, -(-max(height, width) // max_side))


def shrink(images: npt.NDArray[np.uint8], max_side: int | None) -> npt.NDArray[np.float32]:
    """Images averaged over square blocks: uint8 ``[n, h, w, c]`` to float32 ``[n, h', w', c]`` on the same 0-255 scale.

    Edges that do not fill a block are repeated, so that no pixel is lost.
    """
    _, height, width, _ = images.shape
    side = block(height, width, max_side)
    if side == 1:
        return images.astype(np.float32)
    padded = np.pad(images, ((0, 0), (0, -height % side), (0, -width % side), (0, 0)), mode="edge")
    n, h, w, c = padded.shape
    return np.asarray(padded.reshape(n, h // side, side, w // side, side, c).mean(axis=(2, 4)), np.float32)
