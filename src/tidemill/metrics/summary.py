"""One model on one set of rows as JSON: what a report's content says in numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.data.schema import Kind
from tidemill.metrics.calibration import Calibration
from tidemill.metrics.classification import PER_CLASS, classification_metrics
from tidemill.metrics.decisions import Decisions
from tidemill.metrics.multilabel import multilabel_metrics
from tidemill.metrics.regression import regression_metrics
from tidemill.metrics.scores import row_scores
from tidemill.metrics.selective import decision_metrics, risk_coverage
from tidemill.metrics.slices import Masks, slice_means
from tidemill.metrics.units import Floats, Units, kish
from tidemill.records import JSON


def summarise(
    kind: Kind,
    target: npt.NDArray[Any],
    probabilities: npt.NDArray[Any],
    keys: npt.NDArray[Any],
    weights: Floats,
    *,
    answers: npt.NDArray[Any] | None = None,
    guesses: npt.NDArray[Any] | None = None,
    costs: Decisions | None = None,
    level: float | None = None,
    labels: Sequence[str] = (),
    masks: Masks | None = None,
    seed: int = 0,
) -> JSON:
    """Metrics with 95 % intervals, and by kind per class, confusion, reliability, risk by coverage, residuals; slices.

    Every value is ``{"value", "low", "high"}``; ``None`` stands where something is not defined.

    Args:
        kind: of the target.
        target: codes ``[n]``, 0 and 1 ``[n, labels]``, or values ``[n]``.
        probabilities: ``[n, labels]``; for regression ``[n, 1]`` or ``[n, 3]``: value, low, high.
        keys: split keys ``[n]``.
        weights: inverse inclusion probabilities ``[n]``.
        answers: what is answered: codes ``[n]``, -1 for none, or 0 and 1 ``[n, labels]``.
        guesses: codes ``[n]``, what would be answered where nothing is; the most probable unless given.
        costs: what answers and silence cost a project that prices them.
        level: share of true values that intervals are to cover.
        labels: their names.
        masks: the slices.
        seed: of all draws.
    """
    units = Units.of(keys)
    content: JSON = {
        "kind": kind,
        "counts": {"rows": len(target), "units": units.count, "effective": kish(units.sum(weights))},
    }
    if kind == "classification":
        top = probabilities.argmax(axis=1) if guesses is None else guesses
        given = top if answers is None else answers
        content |= _classification(target, probabilities, keys, units, weights, given, top, costs, labels, seed)
        sliced, values = "accuracy", (top == target).astype(np.float64)
        if costs is not None:
            sliced, values = "utility", row_scores("utility", target, probabilities, given, costs=costs)
    elif kind == "multilabel":
        content |= _multilabel(target, probabilities, answers, keys, weights, labels, seed)
        sliced, values = "f1_samples", row_scores("f1_samples", target, probabilities, answers)
    else:
        found = regression_metrics(target, probabilities, keys, weights, level=level, seed=seed)
        content |= {"metrics": {k: triple_json(v) for k, v in found.items()}, "level": level}
        content["residuals"] = _residuals(target, probabilities[:, 0])
        sliced, values = "mae", -row_scores("mae", target, probabilities)
    content |= {"slice_metric": sliced, "slices": []}
    if masks:
        means = slice_means(values, masks, units, weights, shares=sliced == "accuracy", seed=seed)
        content["slices"] = [
            {"slice": name, "rows": int(mask.sum()), **triple_json((means.value[i], means.low[i], means.high[i]))}
            for i, (name, mask) in enumerate(masks.items())
        ]
    return content


def _classification(
    target: npt.NDArray[Any],
    probabilities: npt.NDArray[Any],
    keys: npt.NDArray[Any],
    units: Units,
    weights: Floats,
    answers: npt.NDArray[Any],
    guesses: npt.NDArray[Any],
    costs: Decisions | None,
    labels: Sequence[str],
    seed: int,
) -> JSON:
    found = classification_metrics(target, probabilities, keys, weights, guesses, seed=seed)
    decided = decision_metrics(target, answers, units, weights, costs=costs, seed=seed)
    confidence = probabilities[np.arange(len(guesses)), guesses]
    if costs is None:
        lost, loss = "error", (guesses != target).astype(np.float64)
    else:
        lost, loss = "cost", costs.cost(target, guesses)
    return {
        "labels": list(labels),
        "metrics": {k: triple_json(v) for k, v in (found.overall | decided).items()},
        "risk_coverage": {"loss": lost, **risk_coverage(confidence, loss, weights)},
        "confusion": found.confusion.tolist(),
        **_by_label(found.per_class, found.support, found.calibration, labels),
    }


def _multilabel(
    target: npt.NDArray[Any],
    probabilities: npt.NDArray[Any],
    answers: npt.NDArray[Any] | None,
    keys: npt.NDArray[Any],
    weights: Floats,
    labels: Sequence[str],
    seed: int,
) -> JSON:
    found = multilabel_metrics(target, probabilities, answers, keys, weights, seed=seed)
    return {
        "labels": list(labels),
        "metrics": {k: triple_json(v) for k, v in found.overall.items()},
        **_by_label(found.per_class, found.support, found.calibration, labels),
    }


def _by_label(
    per_class: Mapping[str, Floats], support: Floats, calibration: Calibration, labels: Sequence[str]
) -> JSON:
    return {
        "per_class": [
            {
                "label": label,
                "support": float(support[code]),
                **{name: triple_json(per_class[name][code]) for name in PER_CLASS},
            }
            for code, label in enumerate(labels)
        ],
        "reliability": calibration.bins,
    }


def _residuals(target: npt.NDArray[Any], predicted: npt.NDArray[Any], most: int = 500) -> JSON:
    """An even sample of predictions with their errors, and a histogram of all errors."""
    error = predicted - target
    picked = np.linspace(0, len(target) - 1, min(most, len(target))).astype(np.int64)
    counts, edges = np.histogram(error, bins=30)
    return {
        "predicted": predicted[picked].tolist(),
        "error": error[picked].tolist(),
        "histogram": {"counts": counts.tolist(), "edges": edges.tolist()},
    }


def triple_json(triple: Sequence[Any]) -> JSON:
    """``(value, low, high)`` as JSON, ``None`` for what is not defined."""
    value, low, high = (float(v) if np.isfinite(v) else None for v in triple)
    return {"value": value, "low": low, "high": high}
