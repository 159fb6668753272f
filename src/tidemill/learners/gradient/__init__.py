"""Networks trained by gradient descent: the lean loop, its state, exact resume, export."""

from __future__ import annotations

from tidemill.learners.gradient.learner import GradientLearner, GradientModel
from tidemill.learners.gradient.state import State, merge
from tidemill.learners.gradient.trainer import Trainer

__all__ = ["GradientLearner", "GradientModel", "State", "Trainer", "merge"]
