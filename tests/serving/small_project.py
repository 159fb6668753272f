"""A small real project for the tests of serving: a store, two models of scikit-learn's digits, and nothing else.

As a program it serves the project in a folder, so that tests can kill it: ``python small_project.py FOLDER``.
"""

from __future__ import annotations

import contextlib
import functools
import json
import queue
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt

from tidemill.config import Config
from tidemill.data.arrays import Ragged
from tidemill.data.schema import Field, Kind, Signature
from tidemill.errors import NotReadyError
from tidemill.features.pipeline import Pipeline
from tidemill.learners._base import Export
from tidemill.learners._graph import Graph
from tidemill.packages import Manifest, write_package
from tidemill.records import Deployment, Feedback, Model, Prediction, new_id, to_json
from tidemill.runtime import Predictor, load
from tidemill.serving.server import serve
from tidemill.store import Store, create_store, open_store
from tidemill.tasks import Task, get_task
from tidemill.tasks.image_classification import ImageClassification

SIGNATURE = Signature(
    inputs=(Field(name="image", type="image", shape=(8, 8, 1)),),
    target="digit",
    kind="classification",
    labels=tuple("0123456789"),
)
TIDE_INPUTS = (
    Field(name="size", type="number"),
    Field(name="tide", type="category", optional=True),
    Field(name="note", type="text", optional=True),
    Field(name="day", type="date", optional=True),
)
TIDES = ("ebb", "flood", "slack")
TASKS = {
    "classification": "tabular-classification",
    "multilabel": "text-multi-label",
    "regression": "tabular-regression",
}
TRAINING = 1500


@functools.cache
def digits() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Pixels ``[n, 8, 8, 1]`` and what they show."""

    from sklearn.datasets import load_digits

    data = load_digits()
    return np.clip(data.images * 16, 0, 255).astype(np.uint8)[..., None], data.target.astype(np.int64)


class SmallProject:
    """What :class:`tidemill.serving._base.ServedProject` asks for, over a real store and real packages."""

    task: Task = ImageClassification()
    signature = SIGNATURE

    def __init__(self, folder: Path, config: Config, store: Store) -> None:
        self.dir = folder
        self.config = config
        self.store = store

    @classmethod
    def create(cls, folder: Path, **config: Any) -> SmallProject:
        return cls(folder, small_config(**config), create_store(folder / ".tidemill"))

    @classmethod
    def open(cls, folder: Path, **config: Any) -> SmallProject:
        return cls(folder, small_config(**config), open_store(folder / ".tidemill"))

    def open_champion(self) -> tuple[Deployment, Predictor]:
        deployment = self.store.champion()
        if deployment is None:
            raise NotReadyError("no model has been promoted yet", mend="Run tidemill cycle.")
        model = self.store.get(Model, deployment.model_id)
        return deployment, load(self.store.root / model.path)

    @classmethod
    def of_kind(cls, folder: Path, kind: Kind, answer: dict[str, Any], **config: Any) -> SmallProject:
        """A project of another kind, whose one model is a line through a number; ``answer`` goes into its spec."""
        project = cls.create(folder, **config)
        labels = () if kind == "regression" else TIDES
        project.signature = Signature(inputs=TIDE_INPUTS, target="y", kind=kind, labels=labels)
        project.task = get_task(TASKS[kind])
        project.deploy(project.add_line(answer))
        return project

    def add_line(self, answer: dict[str, Any]) -> Model:
        """A model whose scores are ``size`` times 1, 0, -1; for regression ``size`` between half of it and double."""
        identifier = new_id(Model.prefix)
        pipeline = Pipeline([{"step": "numbers", "raw": True}], self.signature)
        sizes = np.linspace(-2, 2, 8)
        gone = Ragged.from_strings([None] * 8)
        columns = {"size": sizes, "tide": gone, "note": gone, "day": np.zeros(8)}
        pipeline.fit([columns])
        features = pipeline.transform(columns)
        slopes = np.array([[1.0, 0.5, 2.0] if self.signature.kind == "regression" else [1.0, 0.0, -1.0]], np.float32)
        graph = Graph()
        scores = graph.add("MatMul", "x", graph.constant(slopes))
        export = Export(onnx=graph.model(pipeline.info(), scores, 3).SerializeToString())
        manifest = Manifest(
            id=identifier,
            created=time.time(),
            task=self.task.name,
            recipe="line",
            runtime="onnx",
            signature=self.signature.to_json(),
            features=pipeline.to_json(),
            answer={**self.task.answer(self.signature), **answer},
        )
        path = f"models/{identifier}"
        expected = np.asarray(features["x"]) @ slopes
        size = write_package(self.store.root / path, manifest, export, features, expected)
        model = Model(
            id=identifier, run_id=None, dataset_id=None, task=self.task.name, recipe="line", path=path, size_bytes=size
        )
        self.store.insert(model)
        return model

    def trace(self, identifier: str) -> dict[str, Any]:
        prediction = self.store.get(Prediction, identifier)
        said = self.store.find(Feedback, subject=identifier)
        return {"prediction": to_json(prediction), "feedback": [to_json(f) for f in said]}

    def models(self) -> list[dict[str, Any]]:
        return [to_json(model) for model in self.store.find(Model, newest_first=True)]

    def add_model(self, method: str, *, taken_for: Mapping[int, int] = MappingProxyType({})) -> Model:
        """Train a closed form on the digits and keep it as a package; *taken_for* teaches it to mistake some."""
        from tidemill.learners import get_learner
        from tidemill.learners._base import Context, Problem, RecipeView

        identifier = new_id(Model.prefix)
        pixels, shown = digits()
        pipeline = Pipeline([{"step": "pixels"}], SIGNATURE)
        pipeline.fit([{"image": pixels[:TRAINING]}])
        features = pipeline.transform({"image": pixels})
        problem = Problem(
            kind="classification",
            features=features,
            info=pipeline.info(),
            target=np.array([taken_for.get(int(one), int(one)) for one in shown]),
            train=TRAINING,
            classes=10,
        )
        fitted = get_learner("closed_form").fit(problem, RecipeView(params={"method": method}), Context())
        manifest = Manifest(
            id=identifier,
            created=time.time(),
            task=self.task.name,
            recipe=method,
            runtime="onnx",
            signature=SIGNATURE.to_json(),
            features=pipeline.to_json(),
            answer=self.task.answer(SIGNATURE),
        )
        some = {name: array[:20] for name, array in features.items()}
        path = f"models/{identifier}"
        size = write_package(self.store.root / path, manifest, fitted.export(), some, fitted.scores(some))
        model = Model(
            id=identifier, run_id=None, dataset_id=None, task=self.task.name, recipe=method, path=path, size_bytes=size
        )
        self.store.insert(model)
        return model

    def deploy(self, model: Model) -> Deployment:
        deployment = Deployment(
            id=new_id(Deployment.prefix), name="default", model_id=model.id, action="promote", reason="a test"
        )
        self.store.deploy(deployment)
        return deployment


def small_config(**serve: Any) -> Config:
    audit = {"rate": serve.pop("audit_rate", 0.3)}
    others = {name: serve.pop(name, {}) for name in ("decision", "rollout", "feedback")}
    return Config.model_validate(
        {
            "schema": 1,
            "task": "image-classification",
            "data": ["sklearn:digits"],
            "target": "digit",
            "audit": audit,
            **others,
            "serve": {"port": 0, **serve},
        }
    )


def digit(row: int) -> dict[str, Any]:
    """One row of inputs."""
    pixels, _ = digits()
    return {"image": pixels[row % len(pixels), ..., 0].tolist()}


@dataclass(frozen=True)
class Served:
    """A project and where it is served."""

    project: SmallProject
    url: str
    client: httpx.Client


def raw(url: str, *parts: bytes) -> bytes:
    """Everything that the server says to these bytes until it closes the connection, over a plain socket."""
    place = httpx.URL(url)
    with socket.create_connection((place.host, place.port or 0), timeout=20) as wire:
        for part in parts:
            wire.sendall(part)
        return rest_of(wire)


def rest_of(wire: socket.socket) -> bytes:
    """What is still to come until the server closes the connection; a reset closes it too."""
    said = b""
    with contextlib.suppress(ConnectionResetError):
        while part := wire.recv(65536):
            said += part
    return said


def said_once(answer: bytes) -> tuple[int, dict[str, str], Any]:
    """Status, headers and JSON of the only answer in *answer*."""
    assert answer.count(b"HTTP/1.1 ") == 1, answer
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return int(first.split()[1]), headers, json.loads(body)


@contextlib.contextmanager
def served(project: SmallProject, host: str | None = None, verify: ssl.SSLContext | bool = True) -> Iterator[Served]:
    """The project, served by a thread of this process until the block ends."""
    ready: queue.SimpleQueue[int | BaseException] = queue.SimpleQueue()
    stop = threading.Event()

    def run() -> None:
        try:
            serve(project, host, on_ready=ready.put, stop=stop)
        except BaseException as error:
            ready.put(error)
            raise

    thread = threading.Thread(target=run)
    thread.start()
    try:
        port = ready.get(timeout=60)
        if isinstance(port, BaseException):
            raise port
        url = f"{'https' if project.config.serve.tls_certificate else 'http'}://127.0.0.1:{port}"
        with httpx.Client(base_url=url, timeout=30, verify=verify) as client:
            yield Served(project, url, client)
    finally:
        stop.set()
        thread.join()


def main() -> None:
    serve(SmallProject.open(Path(sys.argv[1])), on_ready=lambda port: print(port, flush=True))


if __name__ == "__main__":
    main()
