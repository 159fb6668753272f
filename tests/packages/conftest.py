"""A small model of the real digits, ready to be packed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from tidemill.data.schema import Field, Signature
from tidemill.features.pipeline import Pipeline
from tidemill.learners import get_learner
from tidemill.learners._base import Context, Export, Problem, RecipeView
from tidemill.packages import Manifest


@dataclass(frozen=True)
class Packable:
    """What :func:`tidemill.packages.write_package` takes."""

    manifest: Manifest
    export: Export
    features: dict[str, np.ndarray]
    scores: np.ndarray
    columns: dict[str, np.ndarray]

    def but(self, **changes: Any) -> Packable:
        return replace(self, manifest=replace(self.manifest, **changes))


@pytest.fixture(scope="session")
def ridge() -> Packable:
    bunch = load_digits()
    labels = tuple("0123456789")
    columns = {"image": (bunch.images * 15).astype(np.uint8)[..., None]}
    signature = Signature(
        inputs=(Field(name="image", type="image", shape=(8, 8, 1)),),
        target="digit",
        kind="classification",
        labels=labels,
    )
    pipeline = Pipeline([{"step": "pixels"}], signature)
    pipeline.fit([columns])
    features = pipeline.transform(columns)
    problem = Problem(
        kind="classification", features=features, info=pipeline.info(), target=bunch.target, train=1400, classes=10
    )
    fitted = get_learner("closed_form").fit(problem, RecipeView(params={"method": "ridge"}), Context())
    few = {name: array[:100] for name, array in features.items()}
    manifest = Manifest(
        id="model_digits",
        created=1.75e9,
        task="image-classification",
        recipe="ridge",
        runtime="onnx",
        signature=signature.to_json(),
        features=pipeline.to_json(),
        answer={"kind": "classification", "labels": list(labels), "temperature": 1.5},
        lineage={"run": "run_1", "dataset": "data_1", "cycle": "cycle_1", "parents": ["model_0"]},
        metrics={"validation": {"accuracy": 0.9}},
    )
    return Packable(manifest, fitted.export(), few, fitted.scores(few), columns)
