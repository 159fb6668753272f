"""A network from ``model.safetensors``: the weights are data, and only the networks of this package are rebuilt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tidemill.errors import PackageError, TidemillError
from tidemill.features._base import FeatureInfo, Features
from tidemill.networks import build_network
from tidemill.networks.inputs import network_inputs

Scorer = Callable[[Features], npt.NDArray[np.float32]]


def open_network(
    network: Mapping[str, Any],
    tensors: Mapping[str, Any],
    info: Mapping[str, FeatureInfo],
    classes: int,
    *,
    trusted: bool = False,
    where: str = "model.safetensors",
) -> Scorer:
    """A function from features to raw scores, float32 ``[n, classes]``.

    Args:
        network: the spec that :func:`tidemill.networks.build_network` takes.
        tensors: weights by name, NumPy arrays or tensors.
        info: what each feature is.
        classes: the number of scores a row.
        trusted: also run a user's own module; never set for what was read from a package.
        where: what an error names.

    Raises:
        PackageError: an unknown network, a user's module in an untrusted package, or weights that do not fit.
    """
    if network.get("name") == "module" and not trusted:
        raise PackageError(
            "its network is a user's own module, and code that a package names is never run",
            where=where,
            mend="Export the model with an ONNX graph.",
        )
    try:
        module = build_network(dict(network), info, classes)
        module.load_state_dict({k: torch.as_tensor(np.asarray(v)) for k, v in tensors.items()})
    except (TidemillError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise PackageError(
            f"the weights do not fit the network {network.get('name')!r} ({str(error).splitlines()[0][:200]})",
            where=where,
            mend="Export the model again.",
        ) from error
    module.eval()

    def scores(features: Features) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            inputs = network_inputs({name: features[name] for name in info}, slice(None))
            out: npt.NDArray[np.float32] = module(**inputs).float().numpy()
            return out

    return scores
