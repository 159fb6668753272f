"""Metrics where any number of labels may hold, all from one matrix of sums per unit, with clustered intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from tidemill.metrics.bootstrap import bca, certain
from tidemill.metrics.calibration import Calibration, calibration
from tidemill.metrics.classification import PER_CLASS, Triple
from tidemill.metrics.ranking import average_precision, placement_sums
from tidemill.metrics.scores import row_scores
from tidemill.metrics.units import Floats, Units, kish, known_mean, ratio

_OVERALL = (
    "subset_accuracy", "f1_samples", "precision_samples", "recall_samples", "f1_macro", "precision_macro",
    "recall_macro", "f1_micro", "precision_micro", "recall_micro", "roc_auc", "hamming_loss", "log_loss",
)  # fmt: skip
OVERALL = (*_OVERALL, "average_precision_macro", "calibration_error", "calibration_error_debiased")
"""Names of the overall metrics. ``roc_auc`` is the mean over labels, ``log_loss`` the mean over all label decisions;
that, ``hamming_loss`` and the calibration errors are better when small."""
_ROWS = 6  # lines of sums before those by label: weight, exact, F1, precision, recall, log-loss
_DECISIONS = 1_000_000  # label decisions that calibration looks at


@dataclass(frozen=True, slots=True)
class MultilabelMetrics:
    """Every metric with its interval.

    Attributes:
        overall: by name of :data:`OVERALL`, ``(value, low, high)``; NaN where it is not defined.
        per_class: by name of :data:`tidemill.metrics.PER_CLASS`, float64 ``[labels, 3]``.
        support: weighted rows that carry each label, float64 ``[labels]``.
        calibration: reliability of the probability that a label holds, over all labels.
        rows: number of rows.
        units: number of split keys among them.
        effective: Kish's effective number of units.
    """

    overall: dict[str, Triple]
    per_class: dict[str, Floats]
    support: Floats
    calibration: Calibration
    rows: int
    units: int
    effective: float


def multilabel_metrics(
    target: npt.NDArray[Any],
    probabilities: npt.NDArray[Any],
    answers: npt.NDArray[Any] | None = None,
    keys: npt.NDArray[Any] | None = None,
    weights: npt.NDArray[Any] | None = None,
    *,
    replicates: int | None = None,
    seed: int = 0,
) -> MultilabelMetrics:
    """Metrics of one model on one set of rows, as scikit-learn defines them.

    A label's ratio over nothing is 0, and a label that neither occurs nor is answered does not count in macro means. In
    the means over rows (``…_samples``) a ratio over nothing is 1: to answer nothing where nothing holds is right.

    Args:
        target: 0 and 1 ``[n, labels]``, at least one row.
        probabilities: ``[n, labels]``.
        answers: 0 and 1 ``[n, labels]``; labels of at least one half unless given.
        keys: split keys ``[n]``; rows of one key are resampled together. Each row its own unless given.
        weights: inverse inclusion probabilities ``[n]``.
        replicates: of the bootstrap; 2000, or fewer for very large sets.
        seed: of the bootstrap.

    >>> y, p = np.array([[1, 0], [1, 1], [0, 0]]), np.array([[0.9, 0.2], [0.8, 0.3], [0.1, 0.4]])
    >>> found = multilabel_metrics(y, p).overall
    >>> [round(found[name][0], 3) for name in ("subset_accuracy", "f1_samples", "f1_micro", "hamming_loss")]
    [0.667, 0.889, 0.8, 0.167]
    """
    y, p = np.asarray(target) == 1, np.asarray(probabilities)
    given = p >= 0.5 if answers is None else np.asarray(answers) == 1
    n, labels = p.shape
    units = Units.of(np.arange(n) if keys is None else keys)
    w = np.ones(n) if weights is None else np.asarray(weights, np.float64)
    sums, area = _sums(y, p, given, units, w)
    found = bca(sums, lambda totals: _statistic(totals, area), replicates=replicates, seed=seed)
    effective = kish(units.sum(w))
    behind = np.full(len(found.value), np.nan)
    behind[_OVERALL.index("subset_accuracy")] = effective
    for block, marked in (("precision", given), ("recall", y)):
        start = len(_OVERALL) + PER_CLASS.index(block) * labels
        behind[start : start + labels] = w @ marked * (effective / max(float(w.sum()), 1e-300))
    found = certain(found, behind)
    calibrated = _calibration(y, p, units, w, seed)
    triples = np.stack([found.value, found.low, found.high], axis=1)
    overall: dict[str, Triple] = {name: _triple(triples[i]) for i, name in enumerate(_OVERALL)}
    precise = np.array([average_precision(p[:, label], y[:, label], w) for label in range(labels)])
    overall["average_precision_macro"] = (float(known_mean(precise)), np.nan, np.nan)
    overall["calibration_error"] = (calibrated.ece, np.nan, np.nan)
    overall["calibration_error_debiased"] = (calibrated.debiased, calibrated.low, calibrated.high)
    return MultilabelMetrics(
        overall=overall,
        per_class=dict(zip(PER_CLASS, triples[len(_OVERALL) :].reshape(len(PER_CLASS), labels, 3), strict=True)),
        support=np.asarray(w @ y, np.float64),
        calibration=calibrated,
        rows=n,
        units=units.count,
        effective=effective,
    )


def _sums(
    y: npt.NDArray[np.bool_], p: npt.NDArray[Any], given: npt.NDArray[np.bool_], units: Units, w: Floats
) -> tuple[Any, Floats]:
    """What each unit adds, sparse ``[6 + 5 · labels, units]``, and the AUC of each label."""
    units = units.grouped()
    both = (y & given).sum(axis=1)
    precision = np.where(given.any(axis=1), both / np.maximum(given.sum(axis=1), 1), 1.0)
    recall = np.where(y.any(axis=1), both / np.maximum(y.sum(axis=1), 1), 1.0)
    rows = [np.ones(len(y)), row_scores("subset_accuracy", y, p, given), row_scores("f1_samples", y, p, given)]
    rows += [precision, recall, -row_scores("label_log_loss", y, p)]
    lines = [sparse.csr_array(np.stack([units.sum(w * row) for row in rows]))]
    lines += [
        sparse.csr_array(units.sum(w * marked[:, label])[None, :])
        for marked in (y & given, y, given)
        for label in range(y.shape[1])
    ]
    up, down, area = [], [], np.full(y.shape[1], np.nan)
    for label in range(y.shape[1]):
        sides, area[label] = placement_sums(p[:, label], y[:, label], w, units)
        up.append(sides[:1])
        down.append(sides[1:])
    return sparse.vstack([*lines, *up, *down]).tocsr(), area


def _statistic(totals: Floats, area: Floats) -> Floats:
    """All metrics from totals ``[..., 6 + 5 · labels]``; *area* is each label's AUC on the whole sample."""
    weight = totals[..., 0]
    exact, f1_rows, precision_rows, recall_rows, log_loss = (ratio(totals[..., i], weight) for i in range(1, _ROWS))
    hits, support, answered, ranked_up, ranked_down = np.split(totals[..., _ROWS:], 5, axis=-1)
    counts = (support > 0) | (answered > 0)
    precision = np.where(counts, np.nan_to_num(ratio(hits, answered)), np.nan)
    recall = np.where(counts, np.nan_to_num(ratio(hits, support)), np.nan)
    f1 = ratio(2 * hits, support + answered)
    auc = np.clip(ratio(ranked_up, support) + ratio(ranked_down, weight[..., None] - support) - area, 0, 1)
    found, true, said = hits.sum(axis=-1), support.sum(axis=-1), answered.sum(axis=-1)
    hamming = ratio(true + said - 2 * found, weight * len(area))
    overall = [
        exact, f1_rows, precision_rows, recall_rows, known_mean(f1), known_mean(precision), known_mean(recall),
        ratio(2 * found, true + said), ratio(found, said), ratio(found, true), known_mean(auc), hamming, log_loss,
    ]  # fmt: skip
    return np.concatenate([np.stack(overall, axis=-1), precision, recall, f1, auc], axis=-1)


def _calibration(y: npt.NDArray[np.bool_], p: npt.NDArray[Any], units: Units, w: Floats, seed: int) -> Calibration:
    """Of the probability that a label holds, over the labels of all rows, or of as many rows as are enough to tell."""
    n, labels = p.shape
    rows = np.unique(np.linspace(0, n - 1, max(1, min(n, _DECISIONS // labels))).astype(np.int64))
    some = Units(np.repeat(units.index[rows], labels), units.count)
    return calibration(p[rows].reshape(-1), y[rows].reshape(-1), some, np.repeat(w[rows], labels), seed=seed)


def _triple(values: Floats) -> Triple:
    return float(values[0]), float(values[1]), float(values[2])
