"""``closed_form``: naive Bayes and ridge least squares, solved from sums over the data; the baselines of every task."""

from __future__ import annotations

from tidemill.learners.closed_form.learner import ClosedForm

__all__ = ["ClosedForm"]
