"""A multilayer perceptron over dense numbers, embedded categories and flattened pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from tidemill.errors import TrainingError
from tidemill.features._base import FeatureInfo
from tidemill.networks._base import Pixels, cardinalities


class Mlp(nn.Module):
    """Concatenates whatever features there are, then dense layers with batch normalisation and relu.

    A category column of *c* codes is embedded in ``min(32, round(1.6 c^0.56))`` dimensions, the rule of fastai.

    Args:
        info: any of ``x`` float32 ``[d]``, ``codes`` int64 ``[k]``, ``image`` uint8 ``[h, w, c]``.
        classes: number of logits; 1 for regression.
        hidden: widths of the hidden layers.
        dropout: share of hidden units that are silenced while training.
    """

    def __init__(
        self,
        info: Mapping[str, FeatureInfo],
        classes: int,
        hidden: Sequence[int] = (128, 128),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not info.keys() & {"x", "codes", "image"}:
            raise TrainingError(
                f"the network 'mlp' takes 'x', 'codes' or 'image', but the features are {sorted(info)}",
                where="network",
                mend="Add the step 'numbers' or 'categories' to the recipe's features.",
            )
        flat = info["x"].shape[0] if "x" in info else 0
        self.embeddings = nn.ModuleList()
        for count in cardinalities(info["codes"]) if "codes" in info else ():
            size = min(32, round(1.6 * count**0.56))
            self.embeddings.append(nn.Embedding(count, size))
            flat += size
        self.pixels = Pixels(info["image"]) if "image" in info else None
        if "image" in info:
            height, columns, channels = info["image"].shape
            flat += height * columns * channels
        layers: list[nn.Module] = []
        for width in hidden:
            layers += [nn.Linear(flat, width, bias=False), nn.BatchNorm1d(width), nn.ReLU()]
            if dropout:
                layers.append(nn.Dropout(dropout))
            flat = width
        self.layers = nn.Sequential(*layers, nn.Linear(flat, classes))

    def forward(
        self, x: Tensor | None = None, codes: Tensor | None = None, image: Tensor | None = None, **_: Tensor
    ) -> Tensor:
        """Logits ``[n, classes]``."""
        parts = [] if x is None else [x]
        if codes is not None:
            parts += [embedding(codes[:, i]) for i, embedding in enumerate(self.embeddings)]
        if image is not None and self.pixels is not None:
            parts.append(self.pixels(image).flatten(1))
        out: Tensor = self.layers(torch.cat(parts, 1) if len(parts) > 1 else parts[0])
        return out
