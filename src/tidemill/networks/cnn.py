"""A small convolutional network that is quick on CPUs: early downsampling, pooling before normalisation, few layers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tidemill.errors import TrainingError
from tidemill.features._base import FeatureInfo
from tidemill.networks._base import Pixels, check_shares, check_sizes, needed


class Cnn(nn.Module):
    """A strided 5×5 stem, then blocks of a 3×3 convolution and a 2×2 max-pool, then a linear layer.

    Images of 16 pixels or more are halved by the stem. Blocks follow, each twice as wide as the one before up to four
    times, until the shorter side is 4 or less; at least two. In a block the pool stands before batch normalisation and
    relu, which then touch a quarter of the values; the stem, whose input is normalised anyway, has a bias instead. On
    CPUs these passes over memory cost as much as the convolutions.
    Batch normalisation after Ioffe and Szegedy, https://arxiv.org/abs/1502.03167.

    Args:
        info: holds ``image``, uint8 ``[h, w, c]``.
        classes: number of logits.
        width: channels of the first block, at least 4; the stem has three quarters as many.
        dropout: share of the values silenced before the linear layer while training.
        looks: once trained, look at each image five times, four of them a pixel aside, and go on with the mean of what
            is seen: five times the work, and fewer errors where a class has few samples.

    Raises:
        TrainingError: there is no image among the features, or an argument is out of range.
    """

    def __init__(
        self,
        info: Mapping[str, FeatureInfo],
        classes: int,
        width: int = 32,
        dropout: float = 0.0,
        looks: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(looks, bool):
            raise TrainingError(f"looks of the network 'cnn' is {looks!r}", where="network", mend="Give true or false.")
        self.looks = looks
        image = needed(info, "image", "cnn", "pixels")
        check_sizes("cnn", 4, width=width)
        check_shares("cnn", dropout=dropout)
        height, columns, channels = image.shape
        stride = 2 if min(height, columns) >= 16 else 1
        sides = [-(-height // stride), -(-columns // stride)]
        stem = width * 3 // 4
        layers: list[nn.Module] = [
            Pixels(image),
            nn.Conv2d(channels, stem, 5, stride, padding=2),
            nn.ReLU(inplace=True),
        ]
        before, wide, blocks = stem, width, 0
        while blocks < 2 or min(sides) > 4:
            layers.append(nn.Conv2d(before, wide, 3, padding=1, bias=False))
            if min(sides) >= 2:
                layers.append(nn.MaxPool2d(2))
                sides = [side // 2 for side in sides]
            layers += [nn.BatchNorm2d(wide), nn.ReLU(inplace=True)]
            before, wide, blocks = wide, min(2 * wide, 4 * width), blocks + 1
        layers.append(Rows())
        if dropout:
            layers.append(nn.Dropout(dropout))
        self.layers = nn.Sequential(*layers, nn.Linear(before * sides[0] * sides[1], classes))

    def forward(self, image: Tensor, **_: Tensor) -> Tensor:
        """Logits ``[n, classes]`` of uint8 ``[n, h, w, c]``."""
        out: Tensor = self.layers(image) if self.training or not self.looks else self._looked(image)
        return out

    def _looked(self, image: Tensor) -> Tensor:
        _, height, width, _ = image.shape
        places = [tuple(torch.from_numpy(axis) for axis in beside) for beside in looks_at(height, width)]
        several = torch.cat([image[:, rows][:, :, columns] for rows, columns in places])
        seen = self.layers[:-1](several)
        out: Tensor = self.layers[-1](seen.view(len(places), len(image), -1).mean(0))
        return out


def looks_at(height: int, width: int) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """The rows and columns of an image seen straight, and a pixel to each side; what lies beyond is as at the edge.

    >>> [columns.tolist() for _, columns in looks_at(2, 3)][1:3]
    [[1, 2, 2], [0, 0, 1]]
    """
    return [
        (np.clip(np.arange(height) + down, 0, height - 1), np.clip(np.arange(width) + right, 0, width - 1))
        for down, right in ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0))
    ]


class Rows(nn.Module):
    """``[n, c, h, w]`` to ``[n, h*w*c]``: the order in which channels-last memory already lies, so nothing is moved."""

    def forward(self, value: Tensor) -> Tensor:
        """One row an image."""
        return value.permute(0, 2, 3, 1).flatten(1)
