"""A recipe's parameters, checked against what the learner knows."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from tidemill.errors import TrainingError


def checked(params: Mapping[str, Any], defaults: Mapping[str, Any], learner: str) -> dict[str, Any]:
    """The *defaults* with *params* over them.

    Raises:
        TrainingError: an unknown name, or a value of another type than its default.

    >>> checked({"rounds": 50}, {"rounds": 500, "rate": 0.1}, "trees")
    {'rounds': 50, 'rate': 0.1}
    """
    for name, value in params.items():
        if name not in defaults:
            near = difflib.get_close_matches(name, list(defaults), 1)
            mend = f"Did you mean {near[0]}?" if near else f"It takes {', '.join(defaults)}."
            raise TrainingError(f"there is no parameter {name!r}", where=f"learner {learner}", mend=mend)
        default = defaults[name]
        if default is None or value is None:
            continue
        numeric = isinstance(default, int | float) and not isinstance(default, bool)
        kinds = (int, float) if numeric else type(default)
        if not isinstance(value, kinds) or (numeric and isinstance(value, bool)):
            raise TrainingError(
                f"parameter {name} is {value!r}, which is no {'number' if numeric else type(default).__name__}",
                where=f"learner {learner}",
                mend=f"Give something like {default!r}.",
            )
    return {**defaults, **params}


def positive(name: str, value: float, learner: str) -> float:
    """*value* as a float above zero.

    Raises:
        TrainingError: it is not.
    """
    if not value > 0:
        raise TrainingError(
            f"parameter {name} is {value!r}", where=f"learner {learner}", mend="Give a number above zero."
        )
    return float(value)
