"""Problems that several tests of the gradient learner train on: the real digits, and two real tables."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits

from tidemill.features._base import FeatureInfo
from tidemill.learners._base import Context, Problem, RecipeView
from tidemill.learners.gradient import GradientLearner, GradientModel


def digits(train: int = 1000, rows: int = 1797) -> Problem:
    data = load_digits()
    images = (data.images * 15).astype(np.uint8)[:rows, :, :, None]
    info = {"image": FeatureInfo("uint8", (8, 8, 1), {"mean": [float(images.mean())], "std": [float(images.std())]})}
    target = data.target[:rows].astype(np.int64)
    return Problem(kind="classification", features={"image": images}, info=info, target=target, train=train, classes=10)


def table(kind: str) -> Problem:
    data = load_breast_cancer() if kind == "classification" else load_diabetes()
    order = np.random.default_rng(0).permutation(len(data.data))
    x = data.data[order]
    x = ((x - x.mean(0)) / x.std(0)).astype(np.float32)
    codes = (x[:, :2] > 0).astype(np.int64) + 1
    info = {
        "x": FeatureInfo("float32", (x.shape[1],)),
        "codes": FeatureInfo("int64", (2,), {"cardinalities": [3, 3]}),
    }
    target = data.target[order].astype(np.int64 if kind == "classification" else np.float32)
    return Problem(
        kind=kind,
        features={"x": x, "codes": codes},
        info=info,
        target=target,
        train=len(x) * 3 // 4,
        classes=2 if kind == "classification" else 1,
    )


def fit(problem: Problem, name: str = "cnn", *, device: str = "cpu", **context: Any) -> GradientModel:
    params = context.pop("params", {})
    return GradientLearner().fit(
        problem, RecipeView(network={"name": name}, params=params), Context(device=device, **context)
    )


def weights(model: GradientModel) -> dict[str, np.ndarray]:
    return {name: tensor.detach().numpy().copy() for name, tensor in model.network.state_dict().items()}


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    assert one.keys() == other.keys()
    assert len(one) > 4
    return all(np.array_equal(one[name], other[name]) for name in one)
