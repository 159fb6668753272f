"""A project that chooses, with one made-up model, and how to talk to its service."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from small_project import Served, SmallProject

from tidemill.config import Bandit, Config
from tidemill.data.arrays import Ragged
from tidemill.data.schema import Field, Signature
from tidemill.features.pipeline import Pipeline
from tidemill.learners._base import Export
from tidemill.learners._graph import Graph
from tidemill.packages import Manifest, write_package
from tidemill.records import Model, new_id
from tidemill.runtime.heads import Heads
from tidemill.store import create_store
from tidemill.tasks import answer_spec, get_task

ACTIONS = ("culture", "news", "sport")
FIELDS = (
    Field(name="age", type="number"),
    Field(name="actions", type="text", optional=True, role="offer"),
    Field(name="slate", type="text", optional=True, role="offer"),
    Field(name="action", type="text", optional=True, role="log"),
    Field(name="propensity", type="number", optional=True, role="log"),
    Field(name="event", type="text", optional=True, role="log"),
)


class Choosing(SmallProject):
    """A project whose one model hands the age through, to heads that know nothing yet."""

    task = get_task("contextual-bandit")
    signature = Signature(inputs=FIELDS, target="click", kind="choice", labels=ACTIONS)

    @classmethod
    def new(cls, folder: Path, *, rollout: dict[str, Any] | None = None, **bandit: Any) -> Choosing:
        config = Config.model_validate(
            {
                "task": "contextual-bandit",
                "data": ["log.csv"],
                "target": "click",
                "serve": {"port": 0},
                "bandit": Bandit(fast_seconds=0.1, reach=1.0, **bandit),
                "rollout": rollout or {},
            }
        )
        project = cls(folder, config, create_store(folder / ".tidemill"))
        project.deploy(project.add_blank())
        return project

    def add_blank(self, heads: Heads | None = None) -> Model:
        """A model that hands the age through, to these heads; blank ones unless given."""
        identifier = new_id(Model.prefix)
        pipeline = Pipeline([{"step": "numbers", "raw": True}], self.signature)
        ages = np.linspace(0, 1, 8)
        gone = Ragged.from_strings([None] * 8)
        columns = {f.name: ages if f.type == "number" else gone for f in FIELDS}
        pipeline.fit([columns])
        features = pipeline.transform(columns)
        graph = Graph()
        scores = graph.add("MatMul", "x", graph.constant(np.ones((1, 1), np.float32)))
        export = Export(
            onnx=graph.model(pipeline.info(), scores, 1).SerializeToString(),
            state=(heads or Heads.blank(ACTIONS, 2)).to_bytes(),
        )
        manifest = Manifest(
            id=identifier,
            created=time.time(),
            task=self.task.name,
            recipe="blank",
            runtime="onnx",
            signature=self.signature.to_json(),
            features=pipeline.to_json(),
            answer=answer_spec(self.task, self.signature, self.config),
        )
        path = f"models/{identifier}"
        size = write_package(self.store.root / path, manifest, export, features, np.asarray(features["x"]))
        model = Model(
            id=identifier, run_id=None, dataset_id=None, task=self.task.name, recipe="blank", path=path, size_bytes=size
        )
        self.store.insert(model)
        return model


def choose(service: Served, *rows: dict[str, Any]) -> list[dict[str, Any]]:
    answer = service.client.post("/v1/predict", json={"inputs": [*rows] or [{"age": 0.5}]})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["predictions"]
    return found


def reward(service: Served, choice: dict[str, Any], value: float, **more: Any) -> int:
    said = {"prediction": choice["id"], "kind": "reward", "value": value, **more}
    return service.client.post("/v1/feedback", json=said).status_code


def eventually(holds: Callable[[], Any], seconds: float = 20) -> Any:
    end = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)
    return found
