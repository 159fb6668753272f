"""Metrics as sums per unit, their intervals, and paired tests.

A unit is all rows of one split key. Every metric here is a function of sums over units, so one matrix of resampled sums
gives the intervals of all of them at once (:mod:`tidemill.metrics.bootstrap`).
"""

from __future__ import annotations

from tidemill.metrics.paired import Paired, holm, paired
from tidemill.metrics.scores import prior_probabilities, row_scores
from tidemill.metrics.units import Units, kish

__all__ = ["Paired", "Units", "holm", "kish", "paired", "prior_probabilities", "row_scores"]
