"""What a classifier is worth when it may abstain: coverage against risk, and what its answers cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from tidemill.metrics.bootstrap import Intervals, bca, certain
from tidemill.metrics.decisions import Decisions
from tidemill.metrics.units import Floats, Units, kish, ratio
from tidemill.records import JSON

_POINTS = 50


def risk_coverage(confidence: npt.NDArray[Any], loss: Floats, weights: Floats) -> JSON:
    """The risk–coverage curve: the mean loss of the rows that are answered, when only the surest are.

    Its area is the mean risk over all coverages (El-Yaniv and Wiener, *J. Machine Learning Research* 11, 2010): small
    when the model errs where it is unsure. Rows of equal confidence are answered together or not at all.

    Args:
        confidence: of each answer ``[n]``.
        loss: of each answer ``[n]``: 1 where it is wrong, or its cost.
        weights: of each row ``[n]``.

    Returns:
        ``{"coverage": [...], "risk": [...], "confidence": [...], "area"}``: at most 50 points from the surest rows to
        all of them; ``confidence`` is the least that is answered.

    >>> curve = risk_coverage(np.array([0.9, 0.8, 0.6, 0.7]), np.array([0.0, 0, 1, 0]), np.ones(4))
    >>> curve["coverage"], curve["risk"], curve["area"]
    ([0.25, 0.5, 0.75, 1.0], [0.0, 0.0, 0.0, 0.25], 0.0625)
    """
    order = np.argsort(-confidence, kind="stable")
    answered, lost = np.cumsum(weights[order]), np.cumsum((weights * loss)[order])
    whole = np.flatnonzero(np.append(np.diff(confidence[order]) != 0, True))  # ends of runs of equal confidence
    coverage, risk = answered[whole] / answered[-1], lost[whole] / answered[whole]
    picked = np.unique(np.searchsorted(coverage, np.arange(1, _POINTS + 1) / _POINTS - 1e-12))
    picked = picked[picked < len(whole)]
    return {
        "coverage": coverage[picked].tolist(),
        "risk": risk[picked].tolist(),
        "confidence": confidence[order][whole[picked]].astype(np.float64).tolist(),
        "area": float(np.diff(coverage, prepend=0.0) @ risk),
    }


def decision_metrics(
    target: npt.NDArray[Any],
    answers: npt.NDArray[Any],
    units: Units,
    weights: Floats,
    *,
    costs: Decisions | None = None,
    seed: int = 0,
) -> dict[str, tuple[float, float, float]]:
    """Metrics of answers that may be withheld, and of their price, each ``(value, low, high)``.

    Where some are withheld ``answered``, the share of rows with an answer, and ``accuracy_answered``, the share of
    right ones among them; with *costs* ``expected_cost``, the mean cost of a row, and ``utility``, 1 minus its share of
    the largest cost.

    Args:
        target: codes ``[n]``.
        answers: codes ``[n]``, -1 where there is none.
        units: the clusters.
        weights: inverse inclusion probabilities ``[n]``.
        costs: what answers and silence cost.
        seed: of the bootstrap.
    """
    given = (answers >= 0).astype(np.float64)
    right = (answers == target).astype(np.float64)
    ones = np.ones(len(given))
    asked: dict[str, tuple[Floats, Floats]] = {}
    if not given.all():
        asked |= {"answered": (given, ones), "accuracy_answered": (right, given)}
    if costs is not None:
        paid = costs.cost(target, answers)
        asked |= {"expected_cost": (paid, ones), "utility": (1.0 - paid / costs.largest, ones)}
    if not asked:
        return {}
    found = _ratios([over for over, _ in asked.values()], [under for _, under in asked.values()], units, weights, seed)
    effective = {
        "answered": kish(units.sum(weights)),
        "accuracy_answered": kish(units.sum(weights * given)),
    }
    found = certain(found, np.array([effective.get(name, np.nan) for name in asked]))
    return {name: (float(found.value[i]), float(found.low[i]), float(found.high[i])) for i, name in enumerate(asked)}


def _ratios(over: list[Floats], under: list[Floats], units: Units, weights: Floats, seed: int) -> Intervals:
    groups, count = units.grouped(seed), len(over)
    sums = sparse.csr_array(np.stack([groups.sum(weights * value) for value in (*over, *under)]))
    return bca(sums, lambda totals: ratio(totals[..., :count], totals[..., count:]), seed=seed)
