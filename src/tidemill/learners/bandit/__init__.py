"""``bandit``: rewards of logged choices, by Bayesian regressions on features or on what a network makes of them."""

from tidemill.learners.bandit.learner import BanditLearner

__all__ = ["BanditLearner"]
