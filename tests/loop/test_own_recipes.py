"""Recipes of a project's own in a cycle: those of every kind, and those that fail alone."""

from __future__ import annotations

import re
from pathlib import Path

import tidemill
from tidemill.tasks import get_task
from tidemill.testing.tasks import write_records

RECIPES = """
import numpy as np
import tidemill
import torch
from sklearn.base import BaseEstimator, RegressorMixin
from torch import nn

NUMBERS = [{"step": "numbers"}]


@tidemill.recipe("bushes", learner="trees", features=[{"step": "numbers", "raw": True}], num_leaves=7, n_estimators=20)
def bushes() -> None:
    '''Nothing to make.'''


class Mean(RegressorMixin, BaseEstimator):
    def fit(self, x, y):
        self.mean_ = float(y.mean())
        return self

    def predict(self, x):
        return np.full(len(x), self.mean_)


@tidemill.recipe("mean", learner="sklearn", features=NUMBERS)
def mean():
    return Mean()


class Net(nn.Module):
    def __init__(self, info, classes):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(info["x"].shape[0], 8), nn.Tanh(), nn.Linear(8, classes))

    def forward(self, x):
        return self.layers(x)


tidemill.recipe("net", learner="gradient", features=NUMBERS, epochs=3)(Net)


@tidemill.recipe("crooked", learner="gradient", features=NUMBERS, epochs=1)
class Crooked(Net):
    def forward(self, x):
        return self.layers(torch.from_numpy(x.detach().numpy()))


@tidemill.recipe("bent", learner="gradient", features=NUMBERS, epochs=1)
class Bent(Net):
    def forward(self, x):
        return self.layers(x[:, 1:])
"""


def test_what_does_not_convert_fails_alone(tmp_path: Path) -> None:
    data = write_records(tmp_path / "data", get_task("tabular-regression").sample_data(0, 300))
    included = ["bushes", "mean", "net", "crooked", "bent"]
    project = tidemill.init(tmp_path / "project", data=data, recipes={"include": included})
    (tmp_path / "project" / "recipes.py").write_text(RECIPES, encoding="utf-8")
    done = project.cycle()
    found = {candidate["recipe"]: candidate for candidate in done["candidates"]}
    assert set(found) == {"ridge", *included}
    assert all("model" in found[name] for name in ("ridge", "bushes", "net"))  # a network of one's own has an interval
    assert "recipe 'mean': the model did not convert to ONNX (Mean does not convert" in found["mean"]["failed"]
    assert "recipe 'crooked': the model did not convert to ONNX" in found["crooked"]["failed"]
    assert re.search(r"recipes.py, line 51: the network 'Bent' failed: RuntimeError: mat1", found["bent"]["failed"])
    assert done["decision"]["outcome"] == "promoted"
