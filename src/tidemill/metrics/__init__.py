"""Metrics as sums per unit, their intervals, and paired tests.

A unit is all rows of one split key. Every metric here is a function of sums over units, so one matrix of resampled sums
gives the intervals of all of them at once (:mod:`tidemill.metrics.bootstrap`).
"""

from __future__ import annotations

from tidemill.metrics.calibrators import fit_answer
from tidemill.metrics.classification import OVERALL, PER_CLASS, ClassificationMetrics, classification_metrics
from tidemill.metrics.decisions import Decisions
from tidemill.metrics.multilabel import MultilabelMetrics, multilabel_metrics
from tidemill.metrics.paired import Paired, holm, paired
from tidemill.metrics.prior import constant_scores, prior_probabilities, spread_of
from tidemill.metrics.regression import regression_metrics
from tidemill.metrics.scores import row_scores
from tidemill.metrics.selective import decision_metrics, risk_coverage
from tidemill.metrics.slices import slice_masks
from tidemill.metrics.units import Units, kish

__all__ = [
    "OVERALL",
    "PER_CLASS",
    "ClassificationMetrics",
    "Decisions",
    "MultilabelMetrics",
    "Paired",
    "Units",
    "classification_metrics",
    "constant_scores",
    "decision_metrics",
    "fit_answer",
    "holm",
    "kish",
    "multilabel_metrics",
    "paired",
    "prior_probabilities",
    "regression_metrics",
    "risk_coverage",
    "row_scores",
    "slice_masks",
    "spread_of",
]
