"""Classification metrics, all from one matrix of sums per unit, with clustered intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from tidemill.metrics.bootstrap import bca, certain
from tidemill.metrics.calibration import Calibration, calibration
from tidemill.metrics.ranking import placement_sums
from tidemill.metrics.scores import row_scores
from tidemill.metrics.units import Floats, Units, kish, known_mean, ratio

_OVERALL = (
    "accuracy", "balanced_accuracy", "precision_macro", "recall_macro", "f1_macro", "precision_micro", "recall_micro",
    "f1_micro", "roc_auc", "log_loss", "brier",
)  # fmt: skip
OVERALL = (*_OVERALL, "calibration_error", "calibration_error_debiased")
"""Names of the overall metrics. ``roc_auc`` is one-versus-rest, macro; the last four are better when small."""

PER_CLASS = ("precision", "recall", "f1", "roc_auc")

Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class ClassificationMetrics:
    """Every metric with its interval.

    Attributes:
        overall: by name of :data:`OVERALL`, ``(value, low, high)``; NaN where it is not defined.
        per_class: by name of :data:`PER_CLASS`, float64 ``[classes, 3]``.
        support: weighted rows of each class, float64 ``[classes]``.
        confusion: weighted counts ``[classes, classes]``, true class by predicted class.
        calibration: reliability bins and calibration error.
        rows: number of rows.
        units: number of split keys among them.
        effective: Kish's effective number of units.
    """

    overall: dict[str, Triple]
    per_class: dict[str, Floats]
    support: Floats
    confusion: Floats
    calibration: Calibration
    rows: int
    units: int
    effective: float


def classification_metrics(
    target: npt.NDArray[Any],
    probabilities: npt.NDArray[Any],
    keys: npt.NDArray[Any] | None = None,
    weights: npt.NDArray[Any] | None = None,
    answers: npt.NDArray[Any] | None = None,
    *,
    replicates: int | None = None,
    seed: int = 0,
) -> ClassificationMetrics:
    """Metrics of one model on one set of rows, as scikit-learn defines them (a ratio over nothing is 0).

    Args:
        target: codes ``[n]``, at least one row.
        probabilities: ``[n, classes]``.
        keys: split keys ``[n]``; rows of one key are resampled together. Each row its own unless given.
        weights: inverse inclusion probabilities ``[n]``; means are Hájek's (weighted sums over summed weights).
        answers: codes ``[n]`` of what is answered, where that is not the most probable label. Calibration is always
            that of the most probable one.
        replicates: of the bootstrap; 2000, or fewer for very large sets.
        seed: of the bootstrap.

    >>> y, p = np.array([0, 1, 1, 0]), np.array([[0.8, 0.2], [0.3, 0.7], [0.6, 0.4], [0.9, 0.1]])
    >>> classification_metrics(y, p).overall["accuracy"][0]
    0.75
    """
    y, p = np.asarray(target, np.int64), np.asarray(probabilities)
    n, classes = p.shape
    units = Units.of(np.arange(n) if keys is None else keys)
    w = np.ones(n) if weights is None else np.asarray(weights, np.float64)
    top = p.argmax(axis=1)
    answer = top if answers is None else np.asarray(answers, np.int64)
    sums, area = _sums(y, p, answer, units, w)
    intervals = bca(sums, lambda totals: _statistic(totals, area), replicates=replicates, seed=seed)
    sizes = units.sum(w)
    intervals = certain(intervals, _behind(y, answer, classes, w, kish(sizes)))
    calibrated = calibration(p.max(axis=1), top == y, units, w, replicates=replicates or 1000, seed=seed)
    triples = np.stack([intervals.value, intervals.low, intervals.high], axis=1)
    overall: dict[str, Triple] = {name: _triple(triples[i]) for i, name in enumerate(_OVERALL)}
    overall["calibration_error"] = (calibrated.ece, np.nan, np.nan)
    overall["calibration_error_debiased"] = (calibrated.debiased, calibrated.low, calibrated.high)
    blocks = triples[len(_OVERALL) :].reshape(len(PER_CLASS), classes, 3)
    return ClassificationMetrics(
        overall=overall,
        per_class=dict(zip(PER_CLASS, blocks, strict=True)),
        support=np.bincount(y, w, classes).astype(np.float64),
        confusion=np.bincount(y * classes + answer, w, classes**2).astype(np.float64).reshape(classes, classes),
        calibration=calibrated,
        rows=n,
        units=units.count,
        effective=kish(sizes),
    )


def _sums(
    y: npt.NDArray[np.int64], p: npt.NDArray[Any], answer: npt.NDArray[np.int64], units: Units, w: Floats
) -> tuple[Any, Floats]:
    """What each unit adds, and the AUC of each class.

    Sparse ``[3 + 5 · classes, units]``: weight, log-loss, Brier; then by class hits, support, answers, and the two
    sides of the AUC.
    """
    classes, units = p.shape[1], units.grouped()
    shape = (classes, units.count)

    def by_class(codes: npt.NDArray[np.int64], values: Floats) -> Any:
        place = codes.astype(units.index.dtype)
        return sparse.coo_array((values, (place, units.index)), shape=shape).tocsr()

    whole = [w, -w * row_scores("log_loss", y, p), -w * row_scores("brier", y, p)]
    blocks = [sparse.csr_array(np.stack([units.sum(value) for value in whole]))]
    blocks += [by_class(y, w * (answer == y)), by_class(y, w), by_class(answer, w)]
    up, down, area = [], [], np.full(classes, np.nan)
    for label in range(classes):
        sides, area[label] = placement_sums(p[:, label], y == label, w, units)
        up.append(sides[:1])
        down.append(sides[1:])
    return sparse.vstack([*blocks, *up, *down]).tocsr(), area


def _statistic(totals: Floats, area: Floats) -> Floats:
    """All metrics from totals ``[..., 3 + 5 · classes]``; *area* is each class's AUC on the whole sample."""
    weight, log_loss, brier = (totals[..., i] for i in range(3))
    hits, support, answers, ranked_up, ranked_down = np.split(totals[..., 3:], 5, axis=-1)
    seen, answered = support > 0, answers > 0
    recall = np.where(seen, ratio(hits, support), np.nan)
    precision = np.where(seen | answered, np.nan_to_num(ratio(hits, answers)), np.nan)
    f1 = ratio(2 * hits, support + answers)
    recall_or_zero = np.where(seen | answered, np.nan_to_num(recall), np.nan)
    # Each side moves on its own under resampling, and the AUC moves by the sum of both (DeLong's linear form).
    auc = np.clip(ratio(ranked_up, support) + ratio(ranked_down, weight[..., None] - support) - area, 0, 1)
    accuracy = ratio(hits.sum(axis=-1), weight)
    overall = [
        accuracy, known_mean(recall), known_mean(precision), known_mean(recall_or_zero), known_mean(f1),
        accuracy, accuracy, accuracy, known_mean(auc), ratio(log_loss, weight), ratio(brier, weight),
    ]  # fmt: skip
    return np.concatenate([np.stack(overall, axis=-1), precision, recall, f1, auc], axis=-1)


def _behind(
    y: npt.NDArray[np.int64], answer: npt.NDArray[np.int64], classes: int, w: Floats, effective: float
) -> Floats:
    """Effective units behind each metric that is a share of rows; NaN for the others."""
    found = np.full(len(_OVERALL) + len(PER_CLASS) * classes, np.nan)
    shares = [_OVERALL.index(name) for name in ("accuracy", "precision_micro", "recall_micro", "f1_micro")]
    found[shares] = effective
    part = effective / max(float(w.sum()), 1e-300)
    for block, codes in (("precision", answer), ("recall", y)):
        start = len(_OVERALL) + PER_CLASS.index(block) * classes
        found[start : start + classes] = np.bincount(codes, w, classes) * part
    return found


def _triple(values: Floats) -> Triple:
    return float(values[0]), float(values[1]), float(values[2])
