"""Two recipes of one's own: put this file beside ``tidemill.yaml``, and every cycle tries them."""

from __future__ import annotations

import math
from collections.abc import Mapping

from sklearn.ensemble import RandomForestClassifier
from torch import Tensor, nn

import tidemill
from tidemill.features import FeatureInfo


@tidemill.recipe("forest", learner="sklearn", features=[{"step": "pixel_vector"}])
def forest() -> RandomForestClassifier:
    return RandomForestClassifier(n_estimators=50, random_state=0)


@tidemill.recipe("tiny", learner="gradient", features=[{"step": "pixels"}], epochs=10, learning_rate=0.01)
class Tiny(nn.Module):
    def __init__(self, info: Mapping[str, FeatureInfo], classes: int) -> None:
        super().__init__()
        pixels = math.prod(info["image"].shape)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(pixels, 64), nn.ReLU(), nn.Linear(64, classes))

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image.float() / 255)
