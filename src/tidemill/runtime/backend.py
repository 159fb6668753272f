"""What turns features into raw scores: ONNX Runtime, or torch."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from tidemill.features._base import Features


class Backend(Protocol):
    """What turns features into raw scores.

    Attributes:
        refusals: what it raises when it cannot.
    """

    refusals: tuple[type[Exception], ...]

    def scores(self, features: Features) -> npt.NDArray[np.float32]:
        """Raw scores, float32 ``[n, k]``."""
