"""Suspected label errors of a dataset version: by a quick recipe that scores each row without having seen it.

A suspicion is a question, not a verdict: the list is for people to look at, and nothing is changed by it.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.data.dataset import DatasetArrays, open_dataset
from tidemill.data.previews import preview
from tidemill.data.profile import kept, write_json
from tidemill.data.schema import Signature
from tidemill.data.splits import SPLITS
from tidemill.errors import NotReadyError
from tidemill.features.cache import feature_set
from tidemill.learners import get_learner
from tidemill.learners._base import Context, Learner, Problem, RecipeView
from tidemill.learners._folds import out_of_fold, taken
from tidemill.metrics import row_scores, spread_of
from tidemill.metrics.calibrators import fit_answer
from tidemill.monitor.label_quality import label_quality
from tidemill.records import JSON, Dataset, Recipe
from tidemill.runtime.answers import probabilities as by_spec
from tidemill.store import Store
from tidemill.tasks import Task

SCHEMA = 3
DOUBTS = "label-doubts.json"
"""Beside a version's index: what a cycle found on its way."""
SHOWN = 100
"""Suspected rows that are listed."""
MOST_ROWS = 50_000
"""Rows that are judged where no scores are at hand; of more, a sample is drawn."""
FOLDS = 5
_SETTINGS: dict[str, JSON] = {"trees": {"learning_rate": 0.1, "bags": 1, "interval_rounds": 0}}
"""What makes a learner's fits quick where only doubts are wanted of them."""
_METRICS = {"classification": "accuracy", "multilabel": "f1_samples", "regression": "r2"}
_ORDER = ("linear", "trees", "closed_form", "sklearn")

Rows = npt.NDArray[np.int64]


def summarise_label_errors(
    dataset: DatasetArrays, probabilities: npt.NDArray[Any], rows: Rows, *, by: JSON, of: int | None = None
) -> JSON:
    """Rows whose labels are suspected to be wrong: how many, and the least believable of them.

    Args:
        dataset: the version.
        probabilities: as :func:`tidemill.monitor.label_quality.label_quality` takes them, of *rows*.
        rows: labelled rows of the version, int64 ``[n]``.
        by: what gave the probabilities, for example ``{"recipe": NAME, "folds": 5}``; ``metric`` and ``value`` are
            added, by which they agree with the labels.
        of: how many rows *rows* were drawn from; all unless given.

    Returns:
        ``{"kind", "rows", "of", "suspected", "share", "by", "labels": [{"label", "rows", "suspected", "missing"}],
        "issues"}``. A label is ``suspected`` in so many of the rows that state it, and for several labels a row
        ``missing`` in so many of the others (else ``None``). ``issues`` are at most :data:`SHOWN` of ``{"sample",
        "origin", "split", "label", "suggestion", "quality", "label_score", "score", "inputs"}``, the least believable
        first: the stated label and what the model would have said (of several labels only the suspected ones differ),
        as feedback states labels; their probabilities (for several labels a row and for numbers ``None``); and a
        preview of the inputs.
    """
    signature = dataset.signature
    target = np.asarray(dataset.target[rows])
    quality, suspected = label_quality(signature.kind, target, probabilities)
    several = signature.kind == "multilabel"
    has = (target > 0) if several else target[:, None] == np.arange(len(signature.labels))
    each = suspected if several else suspected[:, None] & has
    rows_suspected = suspected.any(axis=1) if several else suspected
    metric = _METRICS[signature.kind]
    spread = spread_of(target) if signature.kind == "regression" else 1.0
    agreement = row_scores(metric, target, probabilities, spread=spread).mean() if len(rows) else np.nan
    return {
        "kind": signature.kind,
        "rows": len(rows),
        "of": len(rows) if of is None else of,
        "suspected": int(rows_suspected.sum()),
        "share": float(rows_suspected.mean()) if len(rows) else 0.0,
        "by": {**by, "metric": metric, "value": round(float(agreement), 6) if np.isfinite(agreement) else None},
        "labels": [
            {
                "label": label,
                "rows": int(has[:, i].sum()),
                "suspected": int((each & has)[:, i].sum()),
                "missing": int((each & ~has)[:, i].sum()) if several else None,
            }
            for i, label in enumerate(signature.labels)
        ],
        "issues": _listed(dataset, probabilities, rows, quality, suspected),
    }


def _listed(
    dataset: DatasetArrays,
    probabilities: npt.NDArray[Any],
    rows: Rows,
    quality: npt.NDArray[np.float64],
    suspected: npt.NDArray[np.bool_],
) -> list[JSON]:
    chosen = np.flatnonzero(suspected if suspected.ndim == 1 else suspected.any(axis=1))
    chosen = chosen[np.argsort(quality[chosen], kind="stable")][:SHOWN]
    found = []
    for i in chosen.tolist():
        row = int(rows[i])
        said = _said(dataset.signature, dataset.target[row], probabilities[i], suspected[i])
        found.append(
            {
                "sample": dataset.sample_id(row),
                "origin": dataset.origin(row),
                "split": SPLITS[int(dataset.split[row])],
                **said,
                "quality": round(float(quality[i]), 6),
                "inputs": preview(dataset, row),
            }
        )
    return found


def _said(signature: Signature, target: Any, p: npt.NDArray[Any], suspected: npt.NDArray[np.bool_] | np.bool_) -> JSON:
    if signature.kind == "regression":
        return {"label": float(target), "suggestion": float(f"{float(p[0]):.6g}"), "label_score": None, "score": None}
    labels = signature.labels
    if signature.kind == "multilabel":
        given = target > 0
        stated, likely = ([labels[i] for i in np.flatnonzero(side)] for side in (given, given ^ suspected))
        return {"label": stated, "suggestion": likely, "label_score": None, "score": None}
    best = int(p.argmax())
    return {
        "label": labels[int(target)],
        "suggestion": labels[best],
        "label_score": round(float(p[int(target)]), 6),
        "score": round(float(p[best]), 6),
    }


def open_label_errors(store: Store, task: Task, record: Dataset, *, threads: int = 1, seed: int = 0) -> JSON:
    """Suspected label errors of a dataset version; found and kept at the first call.

    Args:
        store: the project's store.
        task: gives the recipes.
        record: the version.
        threads: for the fits.
        seed: of sample and folds.

    Raises:
        NotReadyError: there are too few labelled rows, or no recipe that is quick enough.
        StoreError: the disk is full.
        TrainingError: the recipe could not be fitted.
    """
    return kept(
        label_errors_path(store.root, record),
        {"schema": SCHEMA},
        lambda: suspect_labels(store, task, open_dataset(store.root, record), threads=threads, seed=seed),
    )


def keep_doubts(
    root: Path, record: Dataset, dataset: DatasetArrays, rows: Rows, probabilities: npt.NDArray[Any], *, by: JSON
) -> None:
    """Keep which labels are suspected by scores that a cycle has anyway; what the first model of a version says stays.

    Args:
        root: of the store.
        record: the version.
        dataset: the same, opened.
        rows: labelled rows that the scoring model had not seen, int64 ``[n]``.
        probabilities: of *rows*, as :func:`tidemill.monitor.label_quality.label_quality` takes them.
        by: as for :func:`summarise_label_errors`.

    Raises:
        StoreError: the disk is full.
    """
    path = root / record.path / DOUBTS
    if len(rows) >= 2 * FOLDS and not path.is_file():
        of = sum(len(dataset.rows(split)) for split in ("train", "validation"))
        write_json(path, {"schema": SCHEMA, **summarise_label_errors(dataset, probabilities, rows, by=by, of=of)})


def known_label_errors(root: Path, record: Dataset) -> JSON | None:
    """What is known of a version's label errors: by a search for them, or else by what a cycle found on its way.

    Returns:
        As :func:`summarise_label_errors`; ``None`` when nothing is known.
    """
    for path in (label_errors_path(root, record), root / record.path / DOUBTS):
        try:
            found: JSON = json.loads(path.read_bytes())
        except (OSError, ValueError):  # there is none, or a torso
            continue
        if found.get("schema") == SCHEMA:
            return found
    return None


def known_suspects(root: Path, record: Dataset) -> list[JSON]:
    """The labels of a version that are probably wrong, as far as anybody knows, the least believable first."""
    found: list[JSON] = (known_label_errors(root, record) or {}).get("issues", [])
    return found


def label_errors_path(root: Path, record: Dataset) -> Path:
    """Where a version's suspected label errors are kept once they were looked for."""
    return root / record.path / "label-errors.json"


def suspect_labels(store: Store, task: Task, dataset: DatasetArrays, *, threads: int = 1, seed: int = 0) -> JSON:
    """Suspected label errors of training and validation rows, by a quick recipe that scores each row unseen.

    The recipe is fitted once on training rows, so that validation rows choose its parameters, then on five folds. Near
    copies share a fold. Where that leaves doubts, it is fitted on the folds again without the doubtful rows: whoever
    learned from wrong labels believes some of them.

    Returns:
        See :func:`summarise_label_errors`.

    Raises:
        NotReadyError: there are too few labelled rows, or no recipe that is quick enough.
        TrainingError: the recipe could not be fitted.
    """
    recipe = quick_recipe(task, dataset.signature)
    features = feature_set(dataset, recipe.features, store.root / "features")
    every = np.arange(len(features.rows))
    if len(every) < 2 * FOLDS:
        raise NotReadyError("there are too few labelled rows to suspect any of them", mend="Label some more.")
    if len(every) > MOST_ROWS:
        every = np.sort(np.random.default_rng(seed).choice(every, MOST_ROWS, replace=False))
    signature = dataset.signature
    problem = Problem(
        kind=signature.kind,
        features=features.arrays if len(every) == len(features.rows) else taken(features.arrays, every),
        info=features.info,
        target=features.target[every],
        train=int((every < features.train).sum()),
        classes=max(1, len(signature.labels)),
        weight=None if features.weight is None else features.weight[every],
    )
    learner, context = get_learner(recipe.learner), Context(seed=seed, threads=threads)
    params = {**recipe.params, **_SETTINGS.get(recipe.learner, {})}
    first = learner.fit(problem, RecipeView(network=recipe.network, params=params), context)
    view = RecipeView(network=recipe.network, params={**params, **first.summary.get("chosen", {})})
    rows = features.rows[every]
    found = _unseen(learner, problem, view, context, seed, dataset.keys[rows])
    _, suspected = label_quality(signature.kind, problem.target, found)
    doubtful = suspected if suspected.ndim == 1 else suspected.any(axis=1)
    if doubtful.any() and not doubtful.all():
        weight = np.ones(len(rows), np.float32) if problem.weight is None else problem.weight
        calmer = dataclasses.replace(problem, weight=np.where(doubtful, np.float32(0), weight))
        found = _unseen(learner, calmer, view, context, seed, dataset.keys[rows])
    by = {"recipe": recipe.name, "folds": FOLDS}
    return summarise_label_errors(dataset, found, rows, by=by, of=len(features.rows))


def _unseen(
    learner: Learner, problem: Problem, view: RecipeView, context: Context, seed: int, groups: npt.NDArray[Any]
) -> npt.NDArray[Any]:
    """Calibrated probabilities of each row by a model that has not seen it."""
    scores = out_of_fold(learner, problem, view, context, FOLDS, seed, groups=groups)
    labels = [] if problem.kind == "regression" else [str(code) for code in range(problem.classes)]
    return by_spec(fit_answer({"kind": problem.kind, "labels": labels}, scores, problem.target), scores)


def quick_recipe(task: Task, signature: Signature) -> Recipe:
    """The task's recipe that scores best of those whose fit takes moments: linear, then trees, then closed form.

    Raises:
        NotReadyError: the task has none.
    """
    pictures = any(f.type == "image" for f in signature.inputs)
    order = [name for name in _ORDER if not (pictures and name == "trees")]  # a tree over pixels is no moment's work
    recipes = [r for r in task.recipes(signature) if r.learner in order and get_learner(r.learner).quick]
    if not recipes:
        raise NotReadyError(f"the task {task.name} has no recipe that is quick enough to suspect labels by")
    return min(recipes, key=lambda r: (order.index(r.learner), r.params.get("method") == "naive-bayes"))
