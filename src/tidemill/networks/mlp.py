"""A multilayer perceptron over dense numbers, embedded categories and flattened pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from tidemill.errors import TrainingError
from tidemill.features._base import FeatureInfo
from tidemill.networks._base import Pixels, cardinalities, check_shares, check_sizes


class Piecewise(nn.Module):
    """Numbers as how far they are through each of the training rows' quantile bins.

    The piecewise linear encoding of Gorishniy et al. (2022), https://arxiv.org/abs/2203.05556: no outlier is loud, and
    one dense layer can bend at every edge.

    Args:
        columns: how many numbers a row has.
        bins: of each.
    """

    low: Tensor
    scale: Tensor

    def __init__(self, columns: int, bins: int) -> None:
        super().__init__()
        self.bins = bins
        self.register_buffer("low", torch.linspace(-2, 2, bins + 1)[:-1].repeat(columns, 1))
        self.register_buffer("scale", torch.full((columns, bins), bins / 4))

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Put the edges at the quantiles of *x*, float32 ``[n, columns]``; a bin between equal ones stays empty."""
        levels = torch.linspace(0, 1, self.bins + 1, dtype=torch.float64)
        edges = torch.quantile(x.double(), levels, dim=0).T
        wide = edges.diff(dim=1)
        self.low.copy_(edges[:, :-1])
        self.scale.copy_(torch.where(wide > 1e-6, 1 / wide.clamp(min=1e-6), 0.0))

    def forward(self, x: Tensor) -> Tensor:
        """Float32 ``[n, columns * bins]``, each 0 below its bin, 1 above it, and linear within."""
        return ((x[:, :, None] - self.low) * self.scale).clamp(0, 1).flatten(1)


class Mlp(nn.Module):
    """Concatenates whatever features there are, then dense layers with batch normalisation and relu.

    A category column of *c* codes is embedded in ``min(32, round(1.6 c^0.56))`` dimensions, the rule of fastai.

    Args:
        info: any of ``x`` float32 ``[d]``, ``codes`` int64 ``[k]``, ``image`` uint8 ``[h, w, c]``.
        classes: number of logits; 1 for regression.
        hidden: widths of the hidden layers.
        dropout: share of hidden units that are silenced while training.
        bins: into how many :class:`Piecewise` bins each number of ``x`` is encoded, beside itself; 0 for none.

    Raises:
        TrainingError: there is none of its features, or a size is out of range.
    """

    def __init__(
        self,
        info: Mapping[str, FeatureInfo],
        classes: int,
        hidden: Sequence[int] = (128, 128),
        dropout: float = 0.0,
        bins: int = 0,
    ) -> None:
        super().__init__()
        if not info.keys() & {"x", "codes", "image"}:
            raise TrainingError(
                f"the network 'mlp' takes 'x', 'codes' or 'image', but the features are {sorted(info)}",
                where="network",
                mend="Add the step 'numbers' or 'categories' to the recipe's features.",
            )
        for width in hidden:
            check_sizes("mlp", 1, hidden=width)
        check_sizes("mlp", 0, bins=bins)
        check_shares("mlp", dropout=dropout)
        flat = info["x"].shape[0] if "x" in info else 0
        self.piecewise = Piecewise(flat, bins) if bins and flat else None
        flat += flat * bins
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
        if x is not None and self.piecewise is not None:
            parts.append(self.piecewise(x))
        if codes is not None:
            parts += [embedding(codes[:, i]) for i, embedding in enumerate(self.embeddings)]
        if image is not None and self.pixels is not None:
            parts.append(self.pixels(image).flatten(1))
        out: Tensor = self.layers(torch.cat(parts, 1) if len(parts) > 1 else parts[0])
        return out

    def fit_inputs(self, x: Tensor) -> None:
        """Look at training rows, float32 ``[n, d]``, before the first step."""
        if self.piecewise is not None:
            self.piecewise.fit(x)
