"""Neural networks: raw features in, logits out, normalisation inside.

A network is an ``nn.Module`` whose ``forward`` takes the feature arrays as keyword tensors (``image=`` uint8
``[n, h, w, c]``, ``x=`` float32 ``[n, d]``, ``codes=`` int64 ``[n, k]``, ``tokens=`` int32 ``[n, length]``; a sparse
feature as ``NAME=``, ``NAME_values=``, ``NAME_offsets=``) and returns float ``[n, classes]``. What it
subtracts and divides by is part of it, so that the exported graph takes the same raw features.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tidemill.errors import TrainingError
from tidemill.features._base import FeatureInfo

if TYPE_CHECKING:
    from torch import nn

NETWORKS = ("cnn", "cnn-small", "mlp", "ngram", "transformer", "pretrained", "module")
"""The names that a recipe's ``network["name"]`` may take; ``module`` is a user's own, found by ``ref``."""


def build_network(spec: Mapping[str, Any], info: Mapping[str, FeatureInfo], classes: int) -> nn.Module:
    """A fresh network with random weights drawn from torch's global generator.

    Args:
        spec: ``{"name": NAME, ...arguments}``; for a user's own ``{"name": "module", "ref": "FILE.py:FACTORY",
            ...arguments}``. The key ``output``, ``{"mean": m, "std": s, "interval": true}``, scales what comes out
            (regression), and makes it three columns: value, low, high.
        info: the features that it will be given.
        classes: how many logits it returns; 1 for regression.

    Raises:
        TrainingError: an unknown name or argument, or features that the network cannot take.

    >>> image = FeatureInfo("uint8", (28, 28, 1), {"mean": [33.0], "std": [78.0]})
    >>> network = build_network({"name": "cnn-small"}, {"image": image}, 10)
    >>> sum(p.numel() for p in network.parameters())
    347146
    """
    arguments = dict(spec)
    name = arguments.pop("name", None)
    output = arguments.pop("output", None)
    if name not in NETWORKS:
        near = difflib.get_close_matches(str(name), NETWORKS, 1)
        raise TrainingError(
            f"there is no network named {name!r}",
            where="network",
            mend=f"Use {near[0]!r}." if near else "Use one of " + ", ".join(NETWORKS) + ".",
        )
    interval = output is not None and bool(output.get("interval"))
    if interval:
        classes = 3
    try:
        network = _build(name, arguments, info, classes)
    except TypeError as error:
        raise TrainingError(
            f"the network {name!r} does not take these arguments: {error}",
            where="network",
            mend="Correct the arguments of the recipe's network.",
        ) from error
    if output is None:
        return network
    from tidemill.networks._base import Scaled

    return Scaled(network, float(output["mean"]), float(output["std"]), interval=interval)


def _build(name: str, arguments: dict[str, Any], info: Mapping[str, FeatureInfo], classes: int) -> nn.Module:
    if name == "cnn":
        from tidemill.networks.cnn import Cnn

        return Cnn(info, classes, **arguments)
    if name == "cnn-small":
        from tidemill.networks.cnn_small import CnnSmall

        return CnnSmall(info, classes, **arguments)
    if name == "mlp":
        from tidemill.networks.mlp import Mlp

        return Mlp(info, classes, **arguments)
    if name == "ngram":
        from tidemill.networks.ngram import Ngram

        return Ngram(info, classes, **arguments)
    if name == "transformer":
        from tidemill.networks.transformer import Transformer

        return Transformer(info, classes, **arguments)
    if name == "pretrained":
        from tidemill.networks.pretrained import Pretrained

        return Pretrained(info, classes, **arguments)
    from tidemill.networks.user import load_module

    return load_module(info=info, classes=classes, **arguments)
