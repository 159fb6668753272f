"""Train: one recipe with one setting on one dataset version, and the package that it leaves.

A candidate is fitted on training rows and judged on validation rows. The chosen one is refitted on both; what
validation rows had decided (rounds, penalties) is kept, and its probabilities are calibrated on scores of rows that
the scoring model had not seen.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tidemill.data.dataset import DatasetArrays
from tidemill.data.logged import logged
from tidemill.errors import PackageError, TrainingError
from tidemill.features._base import Features
from tidemill.features.cache import FeatureSet, feature_set
from tidemill.features.pipeline import Pipeline
from tidemill.learners import get_learner
from tidemill.learners._base import Context, Export, Fitted, Problem, RecipeView, Scores
from tidemill.learners._folds import out_of_fold, part_of, taken
from tidemill.learners.starting import Start, start_of
from tidemill.metrics import row_scores, spread_of
from tidemill.metrics.calibrators import fit_answer
from tidemill.metrics.decisions import Decisions
from tidemill.metrics.off_policy import DECISIVE, contributions
from tidemill.packages import Manifest, write_package
from tidemill.records import JSON, Model, Recipe, Run, to_json
from tidemill.runtime.answers import Answers
from tidemill.runtime.choosing import ChoicePredictor
from tidemill.runtime.heads import Heads
from tidemill.runtime.offline import in_hindsight
from tidemill.store import Store

FOLDS = 5
_SAMPLE = 32  # rows on which a package proves that its graph gives the learner's scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """What models are made for.

    Attributes:
        task: the task's name.
        answer: the answer spec that a fit completes with what calibration finds.
        metric: the per-row score that the gate judges.
        selection: the per-row score that recipes are chosen by.
    """

    task: str
    answer: JSON
    metric: str
    selection: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A trained model in memory, with what rows that it has not seen say of it.

    Attributes:
        params: the setting it was trained with.
        score: mean of the aim's selection over these rows; 0 where there are none.
        metrics: ``{"validation": {NAME: mean}}`` of metric and selection; under ``out_of_fold`` for a
            refit by folds.
        answer: the answer spec, calibrated.
        curve: one entry an epoch.
        seconds: wall time of the fit.
        unseen: of a refit: rows of the dataset, int64 ``[n]``, and calibrated probabilities of them by models that had
            not seen them.
    """

    features: FeatureSet
    fitted: Fitted
    params: JSON
    score: float
    metrics: JSON
    answer: JSON
    curve: tuple[JSON, ...]
    seconds: float
    unseen: tuple[npt.NDArray[np.int64], Scores] | None = None


class Rooted(Protocol):
    """A store, or what else knows the folder in which features are cached."""

    @property
    def root(self) -> Path: ...  # noqa: D102


def fit(
    store: Rooted,
    aim: Aim,
    dataset: DatasetArrays,
    recipe: Recipe,
    params: Mapping[str, Any],
    context: Context,
    *,
    share: float = 1.0,
) -> Fit:
    """Train *recipe* with *params* over its defaults on the training rows.

    Args:
        share: of the training rows, drawn by ``context.seed``; features are fitted on all of them even so.

    Raises:
        TrainingError: the learner could not train it, or its validation score is not a number.
        Pruned: ``context.report`` gave up on it.
    """
    started = time.perf_counter()
    begin = start_of(recipe, dataset.signature, store.root)
    features = features_of(store, dataset, recipe, begin)
    problem, arrays = _problem(dataset, features), features.arrays
    held_out = slice(problem.train, None)
    unseen = {name: array[held_out] for name, array in arrays.items()}
    truth, weight = problem.target[held_out], _weights(problem, held_out)
    curve: list[JSON] = []

    def report(epoch: int, metrics: dict[str, float]) -> None:
        curve.append({"epoch": epoch, **metrics})
        context.report(epoch, metrics)

    setting = {**recipe.params, **params}
    view, told = _view(recipe, setting, begin), dataclasses.replace(context, report=report)
    with _some(problem, share, context.seed, store.root / "work") as part:
        fitted = get_learner(recipe.learner).fit(part, view, told)
    if problem.logged is not None:
        answer, means = aim.answer, _valued(aim, dataset, features, fitted, features.rows[held_out])
    else:
        answer, means = _calibrated(aim, dataset, fitted.scores(unseen), truth, weight)
    score = means.get(aim.selection, 0.0)
    if not math.isfinite(score):  # nothing could be compared with it
        raise TrainingError(
            f"its {aim.selection} on validation rows is {score}",
            where=f"recipe {recipe.name!r}",
            mend="Look for values without bounds in what it learns from, or leave the recipe out.",
        )
    return Fit(
        features=features,
        fitted=fitted,
        params=setting,
        score=score,
        metrics={"validation": means},
        answer=answer,
        curve=tuple(curve),
        seconds=time.perf_counter() - started,
    )


def refit(
    store: Store,
    aim: Aim,
    dataset: DatasetArrays,
    recipe: Recipe,
    params: JSON,
    context: Context,
    *,
    held_out: Scores | None,
) -> Fit:
    """Train the chosen *recipe* on training and validation rows together.

    Args:
        params: the setting, with what validation rows had decided.
        held_out: raw scores of the validation rows, in order, by the model that was fitted without them; calibration
            then needs no more. ``None``: :data:`FOLDS` further fits score every row by a model that has not seen it.

    Raises:
        TrainingError: the learner could not train it.
    """
    started = time.perf_counter()
    begin = start_of(recipe, dataset.signature, store.root)
    features = features_of(store, dataset, recipe, begin, refit=True)
    problem = _problem(dataset, features)
    view, learner = _view(recipe, params, begin), get_learner(recipe.learner)
    if problem.logged is not None:  # of choices there is nothing to calibrate
        return Fit(
            features=features,
            fitted=learner.fit(problem, view, context),
            params=params,
            score=0.0,
            metrics={},
            answer=aim.answer,
            curve=(),
            seconds=time.perf_counter() - started,
        )
    if held_out is None:
        scores = out_of_fold(learner, problem, view, context, FOLDS, context.seed, groups=dataset.keys[features.rows])
        unseen, seen_as = slice(0, None), "out_of_fold"
    else:
        scores = held_out
        unseen, seen_as = slice(len(problem.target) - len(held_out), None), "validation"
    answer, means = _calibrated(aim, dataset, scores, problem.target[unseen], _weights(problem, unseen))
    return Fit(
        features=features,
        fitted=learner.fit(problem, view, context),
        params=params,
        score=means.get(aim.selection, 0.0),
        metrics={seen_as: means},
        answer=answer,
        curve=(),
        seconds=time.perf_counter() - started,
        unseen=(features.rows[unseen], Answers(answer).probabilities(scores)),
    )


def features_of(
    store: Rooted, dataset: DatasetArrays, recipe: Recipe, begin: Start | None, *, refit: bool = False
) -> FeatureSet:
    """The features of a recipe, from the cache or built into it; those of the model that it starts from, if it does."""
    states = None if begin is None else begin.states
    return feature_set(dataset, recipe.features, store.root / "features", refit=refit, states=states)


def _view(recipe: Recipe, params: JSON, begin: Start | None) -> RecipeView:
    return RecipeView(network=recipe.network, params=params, init=None if begin is None else begin.tensors)


def _problem(dataset: DatasetArrays, features: FeatureSet) -> Problem:
    signature = dataset.signature
    return Problem(
        kind=signature.kind,
        features=features.arrays,
        info=features.info,
        target=features.target,
        train=features.train,
        classes=max(1, len(signature.labels)),
        weight=features.weight,
        logged=logged(dataset, features.rows) if signature.kind == "choice" else None,
        labels=signature.labels,
        described=any(field.role == "action" for field in signature.inputs),
    )


def _valued(
    aim: Aim, dataset: DatasetArrays, features: FeatureSet, fitted: Fitted, rows: npt.NDArray[np.int64]
) -> dict[str, float]:
    """What the policy over a fitted model would have earned in rows that it has not seen, doubly robust."""
    state = fitted.export().state
    if not len(rows) or state is None:
        return {}
    manifest = Manifest(
        id="in memory",
        created=time.time(),
        task=aim.task,
        recipe="",
        runtime="onnx",
        signature=dataset.signature.to_json(),
        features={},
        answer=aim.answer,
    )
    predictor = ChoicePredictor(
        manifest, dataset.signature, features.pipeline, _InMemory(fitted.scores), Heads.from_bytes(state)
    )
    found = contributions(DECISIVE, in_hindsight(dataset, predictor, rows).weighed)
    return {aim.metric: float(np.average(found, weights=dataset.weight[rows]))}


@dataclass(slots=True)
class _InMemory:
    """A fitted model as what answers."""

    scores: Callable[[Features], Scores]
    refusals: tuple[type[Exception], ...] = ()


@contextlib.contextmanager
def _some(problem: Problem, share: float, seed: int, work: Path) -> Iterator[Problem]:
    """The problem with a share of its training rows, and all of its validation rows; large arrays lie in *work*."""
    if share >= 1:
        yield problem
        return
    count = max(1, round(problem.train * share))
    drawn = np.sort(np.random.default_rng(seed).permutation(problem.train)[:count])
    work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".part-", dir=work) as folder:
        rows = np.concatenate([drawn, np.arange(problem.train, len(problem.target))])
        yield part_of(problem, rows, count, Path(folder))


def _weights(problem: Problem, rows: slice) -> npt.NDArray[np.float32] | None:
    return None if problem.weight is None else problem.weight[rows]


def _calibrated(
    aim: Aim,
    dataset: DatasetArrays,
    scores: Scores,
    target: npt.NDArray[Any],
    weight: npt.NDArray[np.float32] | None,
) -> tuple[JSON, dict[str, float]]:
    """The answer spec fitted on scores of unseen rows, and what metric and selection say of these rows."""
    answer = fit_answer(aim.answer, scores, target, weight)
    if not len(target):
        return answer, {}
    rule = Answers(answer)
    found = rule.probabilities(scores)
    given = rule.decide(found)
    spread = spread_of(dataset.target[dataset.rows("train")]) if dataset.signature.kind == "regression" else 1.0
    means = {
        name: float(
            np.average(
                row_scores(name, target, found, given, costs=Decisions.of(answer), spread=spread), weights=weight
            )
        )
        for name in dict.fromkeys((aim.metric, aim.selection))
    }
    return answer, means


def train(
    store: Store,
    aim: Aim,
    dataset: DatasetArrays,
    recipe: Recipe,
    make: Callable[[], Fit],
    *,
    run_id: str,
    cycle_id: str | None,
    seed: int,
    kind: str = "train",
    parents: tuple[str, ...] = (),
) -> str:
    """Make a model: fit it, write its package, and record run and model.

    Args:
        make: gives the fit; called once, unless a killed attempt of the same *run_id* had already left the package.
        run_id: names the run; the model's id carries the same letters, so that a resumed step makes the same model.
        kind: ``train`` or ``refit``.
        parents: the models it came from.

    Returns:
        The model's id.

    Raises:
        TrainingError: the recipe could not be trained, or what it made fits into no package; the run is recorded as
            failed by the caller.
    """
    model_id = run_id.replace(Run.prefix, Model.prefix, 1)
    begun = (recipe.init or {}).get("model")
    parents = parents if begun is None else tuple(dict.fromkeys((*parents, begun)))
    if store.exists(Model, model_id):
        return model_id
    made = make()
    folder = store.root / "models" / model_id
    if folder.exists():  # what an attempt left that was killed between package and record
        shutil.rmtree(folder)
    sample = taken(made.features.arrays, np.arange(min(_SAMPLE, len(made.features.rows))))
    try:
        export, pipeline, read = _packed(dataset, made, sample)
    except PackageError as error:
        raise TrainingError(error.what, where=f"recipe {recipe.name!r}", mend=error.mend) from error
    manifest = Manifest(
        id=model_id,
        created=time.time(),
        task=aim.task,
        recipe=recipe.name,
        runtime="onnx" if export.onnx is not None else "torch",
        signature=dataset.signature.to_json(),
        features=pipeline.to_json(),
        answer=made.answer,
        network=export.network,
        lineage={"run": run_id, "dataset": dataset.id, "cycle": cycle_id, "parents": list(parents)},
        metrics=made.metrics,
    )
    try:
        size = write_package(folder, manifest, export, read, made.fitted.scores(sample))
    except PackageError as error:  # the other recipes go on
        raise TrainingError(error.what, where=f"recipe {recipe.name!r}", mend=error.mend) from error
    run = Run(
        id=run_id,
        kind=kind,
        status="done",
        cycle_id=cycle_id,
        dataset_id=dataset.id,
        recipe=to_json(recipe),
        params=made.params,
        seed=seed,
        parents=parents,
        metrics={**made.metrics, **made.fitted.summary},
        curve=made.curve,
        model_id=model_id,
        seconds=made.seconds,
    )
    model = Model(
        id=model_id,
        run_id=run_id,
        dataset_id=dataset.id,
        task=aim.task,
        recipe=recipe.name,
        path=f"models/{model_id}",
        size_bytes=size,
        metrics=made.metrics,
    )
    store.insert(run, model)
    return model_id


def _packed(dataset: DatasetArrays, made: Fit, sample: Features) -> tuple[Export, Pipeline, Features]:
    """What a package holds of a fit: the model, what makes its features, and those of the sample's rows.

    A frozen encoder is no step of it: it becomes a part of the graph.

    Raises:
        PackageError: the encoder does not convert.
    """
    pipeline, export = made.features.pipeline, made.fitted.export()
    packed = pipeline.packed()
    if packed is None:
        return export, pipeline, sample
    from tidemill.learners.graft import grafted

    rows = made.features.rows[: min(_SAMPLE, len(made.features.rows))]
    return grafted(export, pipeline, packed), packed, packed.transform(dataset.columns(rows))
