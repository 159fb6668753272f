"""Train: one recipe with one setting on one dataset version, and the package that it leaves."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from tidemill.data.dataset import DatasetArrays
from tidemill.features.cache import FeatureSet, feature_set
from tidemill.learners import get_learner
from tidemill.learners._base import Context, Fitted, Problem, RecipeView
from tidemill.metrics import row_scores
from tidemill.packages import Manifest, write_package
from tidemill.records import JSON, Model, Recipe, Run, to_json
from tidemill.runtime.answers import probabilities
from tidemill.store import Store
from tidemill.tasks import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A trained model in memory, with what validation says of it.

    Attributes:
        params: the setting it was trained with.
        score: mean of the task's metric on the validation rows.
        temperature: what its scores are divided by before softmax, so that probabilities are calibrated.
        curve: one entry an epoch.
        seconds: wall time of the fit.
    """

    features: FeatureSet
    fitted: Fitted
    params: JSON
    score: float
    temperature: float
    curve: tuple[JSON, ...]
    seconds: float


def fit(
    store: Store, task: Task, dataset: DatasetArrays, recipe: Recipe, params: Mapping[str, Any], context: Context
) -> Fit:
    """Train *recipe* with *params* over its defaults.

    Raises:
        TrainingError: the learner could not train it.
        Pruned: ``context.report`` gave up on it.
    """
    started = time.perf_counter()
    features = feature_set(dataset, recipe.features, store.root / "features")
    kind = dataset.signature.kind
    problem = Problem(
        kind=kind,
        features=features.arrays,
        info=features.pipeline.info(),
        target=features.target.astype(np.int64 if kind == "classification" else np.float32, copy=False),
        train=features.train,
        classes=max(1, len(dataset.signature.labels)),
        weight=features.weight,
    )
    curve: list[JSON] = []

    def report(epoch: int, metrics: dict[str, float]) -> None:
        curve.append({"epoch": epoch, **metrics})
        context.report(epoch, metrics)

    setting = {**recipe.params, **params}
    fitted = get_learner(recipe.learner).fit(
        problem, RecipeView(network=recipe.network, params=setting), dataclasses.replace(context, report=report)
    )
    held_out = {name: array[features.train :] for name, array in features.arrays.items()}
    scores, target = fitted.scores(held_out), problem.target[features.train :]
    temperature = calibrate(scores, target) if kind == "classification" else 1.0
    spec = {**task.answer(dataset.signature), "temperature": temperature}
    return Fit(
        features=features,
        fitted=fitted,
        params=setting,
        score=float(np.mean(row_scores(task.metric, target, probabilities(spec, scores)))) if len(target) else 0.0,
        temperature=temperature,
        curve=tuple(curve),
        seconds=time.perf_counter() - started,
    )


def calibrate(scores: npt.NDArray[np.float32], target: npt.NDArray[np.int64]) -> float:
    """The temperature that minimises the log-loss of ``softmax(scores / temperature)``.

    Guo et al., *On Calibration of Modern Neural Networks* (2017). Accuracy does not change.

    Args:
        scores: float32 ``[n, classes]``.
        target: int64 ``[n]``.

    Returns:
        A number between 0.05 and 20; 1 when there are no rows.
    """
    if len(target) == 0:
        return 1.0
    rows = np.arange(len(target))

    def loss(log_temperature: float) -> float:
        return float(-log_softmax(scores / np.exp(log_temperature), axis=1)[rows, target].mean())

    found = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded")
    return round(float(np.exp(found.x)), 6)


def train(
    store: Store,
    task: Task,
    dataset: DatasetArrays,
    recipe: Recipe,
    make: Callable[[], Fit],
    *,
    run_id: str,
    cycle_id: str | None,
    seed: int,
    parents: tuple[str, ...] = (),
) -> str:
    """Make a model: fit it, write its package, and record run and model.

    Args:
        make: gives the fit; called once, unless a killed attempt of the same *run_id* had already left the package.
        run_id: names the run; the model's id carries the same letters, so that a resumed step makes the same model.

    Returns:
        The model's id.

    Raises:
        TrainingError: the recipe could not be trained; the run is recorded as failed by the caller.
    """
    model_id = run_id.replace(Run.prefix, Model.prefix, 1)
    if store.exists(Model, model_id):
        return model_id
    made = make()
    folder = store.root / "models" / model_id
    if folder.exists():  # what an attempt left that was killed between package and record
        shutil.rmtree(folder)
    export = made.fitted.export()
    sample = {name: np.array(array[:32]) for name, array in made.features.arrays.items()}
    manifest = Manifest(
        id=model_id,
        created=time.time(),
        task=task.name,
        recipe=recipe.name,
        runtime="onnx" if export.onnx is not None else "torch",
        signature=dataset.signature.to_json(),
        features=made.features.pipeline.to_json(),
        answer={**task.answer(dataset.signature), "temperature": made.temperature},
        network=export.network,
        lineage={"run": run_id, "dataset": dataset.id, "cycle": cycle_id, "parents": list(parents)},
        metrics={"validation": {task.metric: made.score}},
    )
    size = write_package(
        folder,
        manifest,
        export,
        sample,
        made.fitted.scores(sample),
    )
    run = Run(
        id=run_id,
        kind="train",
        status="done",
        cycle_id=cycle_id,
        dataset_id=dataset.id,
        recipe=to_json(recipe),
        params=made.params,
        seed=seed,
        parents=parents,
        metrics={"validation": {task.metric: made.score}, **made.fitted.summary},
        curve=made.curve,
        model_id=model_id,
        seconds=made.seconds,
    )
    model = Model(
        id=model_id,
        run_id=run_id,
        dataset_id=dataset.id,
        task=task.name,
        recipe=recipe.name,
        path=f"models/{model_id}",
        size_bytes=size,
        metrics={"validation": {task.metric: made.score}},
    )
    store.insert(run, model)
    return model_id
