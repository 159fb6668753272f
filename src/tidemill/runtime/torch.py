"""The ``torch`` runtime: a network of this package rebuilt around ``model.safetensors``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file

from tidemill.errors import PackageError
from tidemill.features._base import FeatureInfo, Features
from tidemill.packages.weights import open_network


class TorchBackend:
    """Scores by a torch module, with torch's own number of threads.

    Raises:
        PackageError: the file is damaged, or the weights do not fit the network.
    """

    refusals: tuple[type[Exception], ...] = (RuntimeError, KeyError, IndexError, ValueError, TypeError)

    def __init__(self, path: Path, network: Mapping[str, Any], info: Mapping[str, FeatureInfo], classes: int) -> None:
        try:
            tensors = load_file(path)
        except (SafetensorError, ValueError) as error:
            raise PackageError(
                f"the weights cannot be read ({error})", where=str(path), mend="Export the model again."
            ) from error
        self._network = open_network(network, tensors, info, classes, where=str(path))

    def scores(self, features: Features) -> npt.NDArray[np.float32]:
        """Raw scores, float32 ``[n, k]``."""
        return self._network(features)
