"""One model on one set of rows as JSON: what a report's content says in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.metrics.classification import PER_CLASS, ClassificationMetrics, classification_metrics
from tidemill.metrics.regression import regression_metrics
from tidemill.metrics.slices import Masks, slice_means
from tidemill.metrics.units import Floats, Units, kish
from tidemill.records import JSON


def summarise(
    kind: str,
    target: npt.NDArray[Any],
    probabilities: Floats,
    keys: npt.NDArray[Any],
    weights: Floats,
    *,
    labels: Sequence[str] = (),
    masks: Masks | None = None,
    seed: int = 0,
) -> JSON:
    """Metrics with 95 % intervals, and for classification per class, confusion and reliability; slices by *masks*.

    Every value is ``{"value", "low", "high"}``; ``None`` stands where something is not defined.
    """
    units = Units.of(keys)
    content: JSON = {
        "kind": kind,
        "counts": {"rows": len(target), "units": units.count, "effective": kish(units.sum(weights))},
    }
    if kind == "classification":
        found = classification_metrics(target, probabilities, keys, weights, seed=seed)
        content |= {"labels": list(labels), "metrics": {k: _json(v) for k, v in found.overall.items()}}
        content |= _by_class(found, labels)
        values = (probabilities.argmax(axis=1) == target).astype(np.float64)
    else:
        content["metrics"] = {k: _json(v) for k, v in regression_metrics(target, probabilities, keys, weights).items()}
        content["residuals"] = _residuals(target, probabilities.reshape(-1))
        values = np.abs(probabilities.reshape(-1) - target).astype(np.float64)
    sliced = "accuracy" if kind == "classification" else "mae"
    content |= {"slice_metric": sliced, "slices": []}
    if masks:
        means = slice_means(values, masks, units, weights, shares=kind == "classification", seed=seed)
        content["slices"] = [
            {"slice": name, "rows": int(mask.sum()), **_json((means.value[i], means.low[i], means.high[i]))}
            for i, (name, mask) in enumerate(masks.items())
        ]
    return content


def _by_class(found: ClassificationMetrics, labels: Sequence[str]) -> JSON:
    return {
        "per_class": [
            {
                "label": label,
                "support": float(found.support[code]),
                **{name: _json(found.per_class[name][code]) for name in PER_CLASS},
            }
            for code, label in enumerate(labels)
        ],
        "confusion": found.confusion.tolist(),
        "reliability": found.calibration.bins,
    }


def _residuals(target: npt.NDArray[Any], predicted: Floats, most: int = 500) -> JSON:
    """An even sample of predictions with their errors, and a histogram of all errors."""
    error = predicted - target
    picked = np.linspace(0, len(target) - 1, min(most, len(target))).astype(np.int64)
    counts, edges = np.histogram(error, bins=30)
    return {
        "predicted": predicted[picked].tolist(),
        "error": error[picked].tolist(),
        "histogram": {"counts": counts.tolist(), "edges": edges.tolist()},
    }


def _json(triple: Sequence[Any]) -> JSON:
    value, low, high = (float(v) if np.isfinite(v) else None for v in triple)
    return {"value": value, "low": low, "high": high}
