"""Ways to learn, one file or folder each, found by name and imported on first use."""

from __future__ import annotations

import difflib
import importlib

from tidemill.errors import ConfigError
from tidemill.learners import _waiting  # noqa: F401 - before LightGBM and torch are imported
from tidemill.learners._base import Learner

_HOMES = {
    "closed_form": ("tidemill.learners.closed_form", "ClosedForm"),
    "linear": ("tidemill.learners.linear", "Linear"),
    "trees": ("tidemill.learners.trees", "Trees"),
    "gradient": ("tidemill.learners.gradient", "GradientLearner"),
    "bandit": ("tidemill.learners.bandit", "BanditLearner"),
    "prototypes": ("tidemill.learners.prototypical", "Prototypical"),
    "sklearn": ("tidemill.learners.estimators", "Estimator"),
}


def get_learner(name: str) -> Learner:
    """The learner that a recipe names.

    Raises:
        ConfigError: there is none; the message names the nearest.

    >>> get_learner("closed_form").streams
    True
    """
    if name not in _HOMES:
        near = difflib.get_close_matches(name, list(_HOMES), 1)
        mend = f"Did you mean {near[0]}?" if near else f"There are {', '.join(_HOMES)}."
        raise ConfigError(f"there is no learner {name!r}", where="the recipe", mend=mend)
    module, kind = _HOMES[name]
    learner: Learner = getattr(importlib.import_module(module), kind)()
    return learner


def place_of(name: str) -> str:
    """The module of a learner, for whoever wants it imported beforehand.

    >>> place_of("trees")
    'tidemill.learners.trees'
    """
    return _HOMES[name][0] if name in _HOMES else __name__
