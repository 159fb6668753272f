"""Suspected label errors: rows whose label a model that has not seen them finds hardest to believe.

For classes this is confident learning (Northcutt, Jiang and Chuang, *Confident Learning: Estimating Uncertainty in
Dataset Labels*, JAIR 2021), by cleanlab; for several labels a row the same, label by label (Thyagarajan et al., 2022);
for numbers the residual in robust standard deviations. A suspicion is a question, not a verdict: the list is for people
to look at, and nothing is changed by it.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.data.dataset import DatasetArrays, open_dataset
from tidemill.data.profile import kept, preview, write_json
from tidemill.data.schema import Kind, Signature
from tidemill.data.splits import SPLITS
from tidemill.errors import NotReadyError
from tidemill.features.cache import feature_set
from tidemill.learners import get_learner
from tidemill.learners._base import Context, Problem, RecipeView
from tidemill.learners._folds import out_of_fold, taken
from tidemill.metrics.calibrators import fit_answer
from tidemill.records import JSON, Dataset, Recipe
from tidemill.runtime.answers import probabilities as by_spec
from tidemill.store import Store
from tidemill.tasks import Task

SCHEMA = 1
SHOWN = 100
"""Suspected rows that are listed."""
MOST_ROWS = 50_000
"""Rows that are judged where no scores are at hand; of more, a sample is drawn."""
FOLDS = 5
OUTLYING = 3.5
"""Robust standard deviations from which a residual is suspicious (Iglewicz and Hoaglin, 1993)."""
_ORDER = ("linear", "trees", "closed_form", "sklearn")

Rows = npt.NDArray[np.int64]


def label_quality(
    kind: Kind, target: npt.NDArray[Any], probabilities: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """How far each row's label can be believed, and which labels are suspected to be wrong.

    Args:
        kind: of the target.
        target: codes ``[n]``, 0 and 1 ``[n, L]``, or values ``[n]``.
        probabilities: calibrated, of rows that the model had not seen: ``[n, k]``, ``[n, L]``, or values ``[n, 1]`` or
            ``[n, 3]``.

    Returns:
        float64 ``[n]`` from 0 (hardly) to 1 (surely), and bool ``[n]``.

    >>> p = np.repeat([[0.9, 0.1], [0.1, 0.9]], 20, axis=0)
    >>> codes = np.repeat([0, 1], 20)
    >>> codes[3] = 1
    >>> quality, suspected = label_quality("classification", codes, p)
    >>> np.flatnonzero(suspected).tolist(), int(quality.argmin())
    ([3], 3)
    """
    n = len(target)
    if n == 0:
        return np.empty(0), np.empty(0, bool)
    if kind == "regression":
        return _by_residual(target.astype(np.float64), np.asarray(probabilities, np.float64))
    p = np.clip(np.asarray(probabilities, np.float64), 0.0, 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cleanlab warns of classes that no row has
        if kind == "multilabel":
            return _by_label(target > 0, p)
        codes = target.astype(np.int64)
        if len(np.unique(codes)) < 2:
            return p[np.arange(n), codes], np.zeros(n, bool)
        from cleanlab.filter import find_label_issues
        from cleanlab.rank import get_label_quality_scores

        p /= np.maximum(p.sum(axis=1, keepdims=True), 1e-300)
        suspected = find_label_issues(codes, p, n_jobs=1)
        quality = get_label_quality_scores(codes, p, method="normalized_margin")
    return np.asarray(quality, np.float64), np.asarray(suspected, bool)


def _by_label(
    given: npt.NDArray[np.bool_], p: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Row by row the worst of its labels, and whether any of them is suspected."""
    from cleanlab.multilabel_classification import get_label_quality_scores
    from cleanlab.multilabel_classification.filter import find_label_issues

    stated = [np.flatnonzero(row).tolist() for row in given]
    if not any(stated):
        return 1 - p.max(axis=1), np.zeros(len(p), bool)
    suspected = find_label_issues(stated, p, n_jobs=1)
    quality = get_label_quality_scores(stated, p)
    return np.asarray(quality, np.float64), np.asarray(suspected, bool)


def _by_residual(
    target: npt.NDArray[np.float64], found: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    from cleanlab.regression.rank import get_label_quality_scores

    error = target - found[:, 0]
    centre = np.median(error)
    spread = 1.4826 * float(np.median(np.abs(error - centre)))  # the standard deviation, were the errors normal
    if spread == 0:
        spread = float(error.std()) or 1.0
    quality = get_label_quality_scores(error / spread, np.full(len(error), centre / spread), method="residual")
    return np.asarray(quality, np.float64), np.asarray(np.abs(error - centre) > OUTLYING * spread, bool)


def label_errors(
    dataset: DatasetArrays, probabilities: npt.NDArray[Any], rows: Rows, *, most: int = SHOWN
) -> list[JSON]:
    """The rows whose labels are suspected to be wrong, the least believable first.

    Args:
        dataset: the version.
        probabilities: as :func:`label_quality` takes them, of *rows*.
        rows: labelled rows of the version, int64 ``[n]``.
        most: how many at most.

    Returns:
        For each ``{"sample", "origin", "split", "label", "suggestion", "quality", "label_score", "score", "inputs"}``:
        the stated label and what the model would have said, as feedback states labels; their probabilities (for several
        labels a row and for numbers ``None``); and a preview of the inputs.
    """
    quality, suspected = label_quality(dataset.signature.kind, np.asarray(dataset.target[rows]), probabilities)
    return _listed(dataset, probabilities, rows, quality, suspected, most)


def _listed(
    dataset: DatasetArrays,
    probabilities: npt.NDArray[Any],
    rows: Rows,
    quality: npt.NDArray[np.float64],
    suspected: npt.NDArray[np.bool_],
    most: int,
) -> list[JSON]:
    chosen = np.flatnonzero(suspected)
    chosen = chosen[np.argsort(quality[chosen], kind="stable")][:most]
    found = []
    for i in chosen.tolist():
        row = int(rows[i])
        said = _said(dataset.signature, dataset.target[row], probabilities[i])
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


def _said(signature: Signature, target: Any, p: npt.NDArray[Any]) -> JSON:
    if signature.kind == "regression":
        return {"label": float(target), "suggestion": float(f"{float(p[0]):.6g}"), "label_score": None, "score": None}
    labels = signature.labels
    if signature.kind == "multilabel":
        stated, likely = ([labels[i] for i in np.flatnonzero(side)] for side in (target > 0, p >= 0.5))
        return {"label": stated, "suggestion": likely, "label_score": None, "score": None}
    best = int(p.argmax())
    return {
        "label": labels[int(target)],
        "suggestion": labels[best],
        "label_score": round(float(p[int(target)]), 6),
        "score": round(float(p[best]), 6),
    }


def summarise_label_errors(
    dataset: DatasetArrays, probabilities: npt.NDArray[Any], rows: Rows, *, by: JSON, of: int | None = None
) -> JSON:
    """Suspected label errors with how many there are, for a report.

    Args:
        by: what gave the probabilities, for example ``{"recipe": NAME, "folds": 5}``.
        of: how many rows *rows* were drawn from; all unless given.

    Returns:
        ``{"kind", "rows", "of", "suspected", "share", "by", "labels": [{"label", "rows", "suspected"}], "issues"}``,
        where ``issues`` is what :func:`label_errors` gives.
    """
    signature = dataset.signature
    target = np.asarray(dataset.target[rows])
    quality, suspected = label_quality(signature.kind, target, probabilities)
    has = (target > 0) if signature.kind == "multilabel" else target[:, None] == np.arange(len(signature.labels))
    return {
        "kind": signature.kind,
        "rows": len(rows),
        "of": len(rows) if of is None else of,
        "suspected": int(suspected.sum()),
        "share": float(suspected.mean()) if len(rows) else 0.0,
        "by": by,
        "labels": [
            {"label": label, "rows": int(has[:, i].sum()), "suspected": int((has[:, i] & suspected).sum())}
            for i, label in enumerate(signature.labels)
        ],
        "issues": _listed(dataset, probabilities, rows, quality, suspected, SHOWN),
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
    path = label_errors_path(store.root, record)
    return kept(
        path,
        {"schema": SCHEMA},
        lambda: suspect_labels(store, task, open_dataset(store.root, record), threads=threads, seed=seed),
    )


def label_errors_path(root: Path, record: Dataset) -> Path:
    """Where a version's suspected label errors are kept."""
    return root / record.path / "label-errors.json"


def keep_label_errors(root: Path, record: Dataset, found: JSON) -> None:
    """Keep what :func:`summarise_label_errors` gave, for :func:`open_label_errors` to find.

    Raises:
        StoreError: the disk is full.
    """
    write_json(label_errors_path(root, record), {"schema": SCHEMA} | found)


def suspect_labels(store: Store, task: Task, dataset: DatasetArrays, *, threads: int = 1, seed: int = 0) -> JSON:
    """Suspected label errors of training and validation rows, by a quick recipe that scores each row unseen.

    The recipe is fitted once on training rows, so that validation rows choose its parameters, then on five folds. Near
    copies share a fold.

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
    first = learner.fit(problem, RecipeView(network=recipe.network, params=recipe.params), context)
    view = RecipeView(network=recipe.network, params={**recipe.params, **first.summary.get("chosen", {})})
    rows = features.rows[every]
    scores = out_of_fold(learner, problem, view, context, FOLDS, seed, groups=dataset.keys[rows])
    spec = fit_answer({"kind": signature.kind, "labels": list(signature.labels)}, scores, problem.target)
    by = {"recipe": recipe.name, "folds": FOLDS}
    return summarise_label_errors(dataset, by_spec(spec, scores), rows, by=by, of=len(features.rows))


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
