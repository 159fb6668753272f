"""What a feature step is: fitted in one pass over the training rows, then a pure vectorised transform.

A recipe's features are a list of step specs, ``{"step": "numbers", "columns": ["age", "hours"]}``. Each step reads
raw columns and writes named arrays. Recipes and learners agree on these names:

=========  ==========================  =====================================================================
output     dtype and shape             meaning
=========  ==========================  =====================================================================
``image``  uint8 ``[n, h, w, c]``      pixels; ``meta["mean"]``, ``meta["std"]`` per channel on the 0-255 scale
``x``      float32 ``[n, d]``          dense numbers, standardised unless the spec says otherwise
``codes``  int64 ``[n, k]``            category codes, 0 for missing or unseen; ``meta["cardinalities"]`` ``[k]``
=========  ==========================  =====================================================================

Several steps may write ``x`` or ``codes``: they are concatenated in the order of the recipe.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tidemill.data.arrays import Columns
from tidemill.data.schema import FieldType

Features = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class FeatureInfo:
    """What a learner must know of one output: its shape without the batch axis, and what it means."""

    dtype: str
    shape: tuple[int, ...]
    meta: dict[str, Any] = field(default_factory=dict)


class FeatureStep(ABC):
    """One step; subclasses stand one a file in :mod:`tidemill.features` and are found by ``name``.

    Life: ``Step(columns, **options)``, ``observe(chunk)`` for every chunk of training rows, ``finish()``,
    ``transform``. ``state()`` is JSON; ``restore(state)`` makes a fresh step equal to the fitted one.
    """

    name: ClassVar[str]
    handles: ClassVar[tuple[FieldType, ...]]
    """The types of column it reads; a spec without ``columns`` means every input of these types."""

    def __init__(self, columns: list[str]) -> None:
        self.columns = columns

    @abstractmethod
    def observe(self, chunk: Columns) -> None:
        """Take in one chunk of the training rows."""

    def finish(self) -> None:  # noqa: B027 - most steps have nothing left to do
        """Turn what was observed into state."""

    @abstractmethod
    def transform(self, columns: Columns) -> dict[str, npt.NDArray[Any]]:
        """The step's outputs for any rows, fitted or new."""

    @abstractmethod
    def info(self) -> dict[str, FeatureInfo]:
        """What :meth:`transform` writes, by name."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """The fitted state as JSON."""

    @abstractmethod
    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over a state that :meth:`state` wrote."""


def as_float32(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Contiguous float32, the one dense type that learners and ONNX graphs take."""
    return np.ascontiguousarray(values, dtype=np.float32)
