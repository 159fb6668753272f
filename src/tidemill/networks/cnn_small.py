"""The convolutional network that textbooks draw first, as a yardstick."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from tidemill.errors import TrainingError
from tidemill.features._base import FeatureInfo
from tidemill.networks._base import Pixels, check_shares, needed


class CnnSmall(nn.Module):
    """3×3 convolution with 32 channels, relu, 2×2 max-pool, a dense layer of 64, relu, a dense layer of logits.

    Args:
        info: holds ``image``, uint8 ``[h, w, c]`` with both sides at least 4.
        classes: number of logits.
        dropout: share of the values silenced before the last layer while training.

    Raises:
        TrainingError: a side is below 4, or the share is out of range.
    """

    def __init__(self, info: Mapping[str, FeatureInfo], classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        image = needed(info, "image", "cnn-small", "pixels")
        check_shares("cnn-small", dropout=dropout)
        height, width, channels = image.shape
        if min(height, width) < 4:
            raise TrainingError(
                f"images of {height}×{width} pixels are too small for 'cnn-small', whose sides must be at least 4",
                where="network",
                mend="Use the network 'cnn' or 'mlp'.",
            )
        flat = 32 * ((height - 2) // 2) * ((width - 2) // 2)
        self.layers = nn.Sequential(
            Pixels(image),
            nn.Conv2d(channels, 32, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(flat, 64),
            nn.ReLU(),
            *([nn.Dropout(dropout)] if dropout else []),
            nn.Linear(64, classes),
        )

    def forward(self, image: Tensor, **_: Tensor) -> Tensor:
        """Logits ``[n, classes]`` of uint8 ``[n, h, w, c]``."""
        out: Tensor = self.layers(image)
        return out
