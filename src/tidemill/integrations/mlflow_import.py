"""A model that is registered in MLflow, brought here as a challenger: ONNX graphs and packages, and never a pickle."""

from __future__ import annotations

import contextlib
import importlib
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from tidemill.config import Config
from tidemill.data.dataset import DatasetArrays, open_dataset
from tidemill.errors import ConflictError, NotFoundError, PackageError, TooLargeError
from tidemill.features.pipeline import Pipeline
from tidemill.integrations import mlflow_graph as graphs
from tidemill.integrations.mlflow_client import Opened, RefusedError, address, opened
from tidemill.learners._base import Export
from tidemill.loop import Setting
from tidemill.loop.fitting import unfit
from tidemill.loop.outside import last_cycle
from tidemill.metrics.calibrators import fit_answer
from tidemill.packages import Manifest, read_manifest, verify, write_package
from tidemill.packages.graph import open_graph, tensors
from tidemill.records import JSON, Model, Recipe, Run, new_id, to_json
from tidemill.store import Store

_NAMED = re.compile(r"(?:models:/+)?(?P<name>[^@/]+)(?:@(?P<alias>[^@/]+)|/(?P<version>\d+))?")
_PICKLES = (
    ".pkl",
    ".pickle",
    ".joblib",
    ".pt",
    ".pth",
    ".ckpt",
    ".bin",
    ".npy",
    ".npz",
    ".dill",
    ".cloudpickle",
    ".h5",
)
_SAMPLE = 32
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Fetched:
    """The files of a registered version, on this machine.

    Attributes:
        folder: where they lie.
        name, version: of the registered model.
        files: paths relative to the folder.
    """

    folder: Path
    name: str
    version: str
    files: tuple[str, ...]

    @property
    def where(self) -> str:
        """What an error names."""
        return f"models:/{self.name}/{self.version}"


@contextlib.contextmanager
def fetched(store: Store, config: Config, project: Path, which: str) -> Iterator[Fetched]:
    """Download a registered version; its files are gone at the end.

    Args:
        which: ``NAME``, ``NAME@ALIAS`` or ``NAME/VERSION``; of a name alone the newest version.

    Raises:
        NotFoundError: there is no such model, version or alias.
        PackageError: it holds what may run code when it is opened; that is not even downloaded.
        TooLargeError: it takes more than ``limits.archive_gb``.
        ServiceError: MLflow is away.
    """
    work = store.root / "work" / f"mlflow-{new_id('fetch')}"
    uri = address(config.mlflow, project)
    try:
        with opened(config.mlflow, project) as place:
            version = _version(place, which)
            source = place.client.get_model_version_download_uri(version.name, version.version)
            sizes = dict(_listed(uri, source))
            where = f"models:/{version.name}/{version.version}"
            _refuse(sizes, config, where)
            work.mkdir(parents=True)
            files = importlib.import_module("mlflow.artifacts")
            folder = Path(files.download_artifacts(artifact_uri=source, dst_path=str(work), tracking_uri=uri))
        inside = sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink())
        yield Fetched(folder, version.name, str(version.version), tuple(str(p.relative_to(folder)) for p in inside))
    except RefusedError as error:
        raise NotFoundError(f"MLflow refuses {which!r}: {error}", where="mlflow", mend="Check the name.") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _version(place: Opened, which: str) -> Any:
    named = _NAMED.fullmatch(which.strip())
    if named is None:
        raise NotFoundError(f"{which!r} names no registered model", mend="Write NAME, NAME@ALIAS or NAME/VERSION.")
    name = named["name"]
    try:
        if named["alias"]:
            return place.client.get_model_version_by_alias(name, named["alias"])
        if named["version"]:
            return place.client.get_model_version(name, named["version"])
        found = list(place.client.search_model_versions(f"name = '{name}'"))
        if found:
            return max(found, key=lambda version: int(version.version))
    except importlib.import_module("mlflow.exceptions").MlflowException as error:
        if getattr(error, "error_code", "") not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND"):
            raise
    known = [model.name for model in place.client.search_registered_models(max_results=20)]
    raise NotFoundError(
        f"MLflow has no model {which!r}",
        where=place.where,
        mend=f"It has {', '.join(known)}." if known else "It has none.",
    )


def _listed(uri: str, source: str) -> Iterator[tuple[str, int]]:
    """Every file below an address, with its size."""
    kind = importlib.import_module("mlflow.store.artifact.artifact_repository_registry")
    store = kind.get_artifact_repository(source, tracking_uri=uri)
    folders: list[str | None] = [None]
    while folders:
        for item in store.list_artifacts(folders.pop()):
            if item.is_dir:
                folders.append(item.path)
            else:
                yield item.path, item.file_size or 0


def _refuse(sizes: dict[str, int], config: Config, where: str) -> None:
    if not sizes:
        raise PackageError("it holds no file", where=where, mend="Log the model again.")
    pickles = [name for name in sizes if PurePosixPath(name).suffix in _PICKLES]
    if pickles:
        more = f" and {len(pickles) - _SHOWN} more" if len(pickles) > _SHOWN else ""
        raise PackageError(
            f"it holds {', '.join(sorted(pickles)[:_SHOWN])}{more}, and opening that may run code",
            where=where,
            mend="Log the model as ONNX (mlflow.onnx.log_model), or as a package of Tidemill.",
        )
    if sum(sizes.values()) > config.limits.archive_gb * 1e9:
        raise TooLargeError(
            f"it takes {sum(sizes.values()) / 1e9:.1f} GB, and {config.limits.archive_gb:g} GB is the most",
            where=where,
            mend="Raise limits.archive_gb in tidemill.yaml.",
        )


def take_in(setting: Setting, found: Fetched, labels: Sequence[str] | None = None) -> str:
    """Make a model of this project of what was fetched; its id.

    A package is taken as it is. Of anything else the only ONNX graph is put behind the project's inputs, its answers
    are calibrated on validation rows, and what comes of it is a package like any other.

    Args:
        labels: of a graph, the labels in the order of its columns; unless given, the project's own order.

    Raises:
        ConflictError: the package is one of this project's own.
        PackageError: it is neither, or does not fit the project's inputs or labels.
        NotReadyError: no cycle has prepared the data yet.
    """
    dataset = open_dataset(setting.store.root, last_cycle(setting)[1])
    manifests = [name for name in found.files if PurePosixPath(name).name == "manifest.json"]
    if len(manifests) == 1:
        return _package(setting, (found.folder / manifests[0]).parent, dataset, found)
    outside = [name for name in found.files if name.endswith((".onnx.data", ".onnx_data"))]
    graph = [name for name in found.files if name.endswith(".onnx")]
    if len(graph) != 1 or outside:
        raise PackageError(_neither(found, graph, outside), where=found.where, mend=_mend(found))
    return _graph(setting, (found.folder / graph[0]).read_bytes(), dataset, found, labels)


def _neither(found: Fetched, graph: Sequence[str], outside: Sequence[str]) -> str:
    if outside:
        return f"its weights lie in another file ({outside[0]})"
    if graph:
        return f"it holds several graphs ({', '.join(graph[:_SHOWN])})"
    return f"it holds neither an ONNX graph nor a package of Tidemill, but {', '.join(found.files[:_SHOWN])}"


def _mend(found: Fetched) -> str:
    if any(name.endswith("config.json") for name in found.files) and any(
        name.endswith(".safetensors") for name in found.files
    ):
        return "Weights without a graph are a checkpoint: save the files in a folder, and name it as a recipe's `init`."
    return "Log the model as one ONNX file that holds its weights (mlflow.onnx.log_model)."


def _package(setting: Setting, folder: Path, dataset: DatasetArrays, found: Fetched) -> str:
    store, manifest = setting.store, read_manifest(folder)
    verify(folder, manifest)
    if not re.fullmatch(r"model_[0-9a-z]{26}", manifest.id):
        raise PackageError(f"{manifest.id[:60]!r} is no id of a model", where=found.where, mend="Export it again.")
    if store.exists(Model, manifest.id):
        raise ConflictError(
            f"{manifest.id} is one of this project's own models",
            where=found.where,
            mend=f"Put it into force with `tidemill promote {manifest.id}`.",
        )
    why = unfit(folder, dataset.signature)
    if why is not None or manifest.task != setting.task.name:
        said = why or f"it is made for {manifest.task}, and this project's task is {setting.task.name}"
        raise PackageError(f"it does not fit this project: {said}", where=found.where, mend="Choose another model.")
    place = store.root / "models" / manifest.id
    shutil.copytree(folder, place, dirs_exist_ok=True)
    size = sum(path.stat().st_size for path in place.iterdir())
    _record(setting, dataset, manifest, found, size)
    return manifest.id


def _graph(setting: Setting, data: bytes, dataset: DatasetArrays, found: Fetched, labels: Sequence[str] | None) -> str:
    signature, where = dataset.signature, found.where
    model = graphs.open_model(data, where)
    reading = graphs.reading_of(model, signature, where)
    classes = max(1, len(signature.labels))
    output = graphs.output_of(model, classes, where)
    order = graphs.order_of(signature.labels, labels, where)
    pipeline = Pipeline(reading.steps, signature)
    pipeline.fit(dataset.chunks(dataset.rows("train")))
    judged = dataset.rows("validation")
    if not len(judged):
        judged = dataset.rows("train")
    features = pipeline.transform(dataset.columns(judged))

    def scored(what: graphs.Gives) -> tuple[bytes, Any]:
        graph = graphs.wrapped(model, reading, output, what, info=pipeline.info(), kind=signature.kind, order=order)
        session = open_graph(graph, pipeline.info(), threads=setting.threads, where=where)
        names = [node.name for node in session.get_inputs()]
        try:
            return graph, session.run(["scores"], tensors(features, names))[0]
        except (RuntimeError, ValueError) as error:
            raise PackageError(
                f"the graph cannot be computed ({(str(error).splitlines() or [''])[0][:200]})",
                where=where,
                mend="Log it with a batch axis of any length.",
            ) from error

    graph, scores = scored("values")
    what = graphs.gives(signature.kind, scores)
    if what == "probabilities":
        graph, scores = scored(what)
    if scores.ndim != 2 or scores.shape != (len(judged), classes):
        raise PackageError(
            f"{len(judged)} rows get answers of shape {scores.shape}", where=where, mend=f"Give {classes} a row."
        )
    graphs.finite(scores, where)
    target = np.asarray(dataset.target[judged])
    answer = fit_answer(setting.aim(signature).answer, scores, target, np.asarray(dataset.weight[judged], np.float64))
    model_id = new_id(Model.prefix)
    manifest = Manifest(
        id=model_id,
        created=time.time(),
        task=setting.task.name,
        recipe=_recipe(found),
        runtime="onnx",
        signature=signature.to_json(),
        features=pipeline.to_json(),
        answer=answer,
        lineage={"mlflow": where, "dataset": dataset.id},
    )
    few = {name: feature[:_SAMPLE] for name, feature in features.items()}
    size = write_package(setting.store.root / "models" / model_id, manifest, Export(onnx=graph), few, scores[:_SAMPLE])
    _record(setting, dataset, manifest, found, size)
    return model_id


def _recipe(found: Fetched) -> str:
    return f"mlflow:{found.name}"


def _record(setting: Setting, dataset: DatasetArrays, manifest: Manifest, found: Fetched, size: int) -> None:
    """Run and model of it, in one transaction."""
    steps = tuple({k: v for k, v in step.items() if k != "state"} for step in manifest.features["steps"])
    recipe = Recipe(
        name=_recipe(found), task=manifest.task, learner="imported", features=steps, init={"mlflow": found.where},
        origin="user",
    )  # fmt: skip
    run_id = manifest.id.replace(Model.prefix, Run.prefix, 1)
    facts: JSON = manifest.metrics
    run = Run(
        id=run_id,
        kind="import",
        status="done",
        cycle_id=None,
        dataset_id=dataset.id,
        recipe=to_json(recipe),
        params={},
        seed=0,
        metrics=facts,
        model_id=manifest.id,
        seconds=0.0,
    )
    model = Model(
        id=manifest.id,
        run_id=run_id,
        dataset_id=dataset.id,
        task=manifest.task,
        recipe=recipe.name,
        path=f"models/{manifest.id}",
        size_bytes=size,
        metrics=facts,
    )
    setting.store.insert(run, model)
