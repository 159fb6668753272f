"""A small convolutional network that is quick on CPUs: early downsampling, batch normalisation, few wide layers."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from tidemill.features._base import FeatureInfo
from tidemill.networks._base import Pixels, image_info


class Cnn(nn.Module):
    """A strided stem, then blocks of 3×3 convolutions with a 2×2 max-pool between them, then a linear layer.

    Images of 16 pixels or more are halved by the 5×5 stem; while the shorter side is above 8 another block follows.
    Batch normalisation after Ioffe and Szegedy, https://arxiv.org/abs/1502.03167.

    Args:
        info: holds ``image``, uint8 ``[h, w, c]``.
        classes: number of logits.
        width: channels of the stem; the blocks have twice and four times as many.
    """

    def __init__(self, info: Mapping[str, FeatureInfo], classes: int, width: int = 32) -> None:
        super().__init__()
        image = image_info(info, "cnn")
        height, columns, channels = image.shape
        stride = 2 if min(height, columns) >= 16 else 1
        layers: list[nn.Module] = [Pixels(image), *convolution(channels, width, 5, stride)]
        sides = [-(-height // stride), -(-columns // stride)]
        wide = width
        while True:
            layers += convolution(wide, min(2 * wide, 4 * width), 3)
            wide = min(2 * wide, 4 * width)
            if min(sides) >= 2:
                layers.append(nn.MaxPool2d(2))
                sides = [side // 2 for side in sides]
            if min(sides) <= 8 and wide == 4 * width:
                break
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(wide * sides[0] * sides[1], classes))

    def forward(self, image: Tensor, **_: Tensor) -> Tensor:
        """Logits ``[n, classes]`` of uint8 ``[n, h, w, c]``."""
        out: Tensor = self.layers(image)
        return out


def convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> list[nn.Module]:
    """Convolution, batch normalisation, relu."""
    return [
        nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]
