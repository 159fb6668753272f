"""``pixels``: an image as it is, with the mean and deviation that a network normalises by."""

# ruff: noqa: D102 - the base class says what each method does

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tidemill.data.arrays import Columns
from tidemill.data.schema import FieldType
from tidemill.errors import ConfigError
from tidemill.features._base import FeatureInfo, FeatureStep


class Pixels(FeatureStep):
    """uint8 ``[n, h, w, c]`` through to ``image``, untouched, so that nothing is copied at four times the size.

    ``meta["mean"]`` and ``meta["std"]`` are per channel, on the 0-255 scale, over the training rows. The sums are of
    whole numbers, so they are exact and do not depend on how the rows are cut into chunks.
    """

    name: ClassVar[str] = "pixels"
    handles: ClassVar[tuple[FieldType, ...]] = ("image",)

    def __init__(self, columns: list[str]) -> None:
        super().__init__(columns)
        if len(columns) != 1:
            raise ConfigError(
                f"step pixels takes one image column, not {len(columns)}: {', '.join(columns)}",
                mend="Name one of them under columns.",
            )
        self._shape: tuple[int, ...] = ()
        self._pixels = 0
        self._sums: list[int] = []
        self._squares: list[int] = []
        self._mean: list[float] = []
        self._std: list[float] = []

    def observe(self, chunk: Columns) -> None:
        images = np.asarray(chunk[self.columns[0]])
        channels = images.shape[3]
        if not self._shape:
            self._shape = images.shape[1:]
            self._sums, self._squares = [0] * channels, [0] * channels
        self._pixels += images.size // channels
        for channel in range(channels):
            plane = images[..., channel]
            self._sums[channel] += int(plane.sum(dtype=np.uint64))
            self._squares[channel] += int(np.multiply(plane, plane, dtype=np.uint16).sum(dtype=np.uint64))

    def finish(self) -> None:
        self._mean = [total / self._pixels for total in self._sums]
        variances = (q / self._pixels - m * m for q, m in zip(self._squares, self._mean, strict=True))
        # a channel that never varies keeps its scale instead of being divided by nothing
        self._std = [v**0.5 if v > 1e-6 else 1.0 for v in variances]

    def transform(self, columns: Columns) -> dict[str, npt.NDArray[Any]]:
        return {"image": np.asarray(columns[self.columns[0]])}

    def info(self) -> dict[str, FeatureInfo]:
        return {"image": FeatureInfo("uint8", self._shape, {"mean": list(self._mean), "std": list(self._std)})}

    def state(self) -> dict[str, Any]:
        return {"shape": list(self._shape), "mean": self._mean, "std": self._std}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._shape = tuple(state["shape"])
        self._mean, self._std = list(state["mean"]), list(state["std"])
