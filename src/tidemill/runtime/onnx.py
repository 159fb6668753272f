"""The ``onnx`` runtime: ONNX Runtime over ``model.onnx``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tidemill.features._base import FeatureInfo, Features
from tidemill.packages.graph import REFUSALS, open_graph, tensors


class OnnxBackend:
    """Scores by a graph; safe to call from several threads at once.

    Raises:
        PackageError: the graph cannot be opened, or asks for features that are not there.
    """

    refusals: tuple[type[Exception], ...] = (*REFUSALS, KeyError, ValueError, TypeError)

    def __init__(self, path: Path, info: Mapping[str, FeatureInfo], threads: int) -> None:
        session = open_graph(path.read_bytes(), info, threads=threads, where=str(path))
        self._run = session.run
        self._inputs = [node.name for node in session.get_inputs()]
        self._outputs = ["scores"]

    def scores(self, features: Features) -> npt.NDArray[np.float32]:
        """Raw scores, float32 ``[n, k]``."""
        out: npt.NDArray[np.float32] = self._run(self._outputs, tensors(features, self._inputs))[0]
        return out
