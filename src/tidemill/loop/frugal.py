"""Frugal proposals: steps around the best setting so far, and of several that promise alike the one that takes least.

Samplers look at scores alone and begin with random settings. Defaults are better than most of those, and what a trial
takes may differ by ten times without a gain: trees of a tenth of the learning rate take ten times the rounds. So where
a clock runs, two of three new settings are small random steps from the best one so far, the defaults at first; and of
several steps, or several of the sampler's proposals, the one is tried whose trial would take least, told from what
finished trials took. That is the frugal search of Wu, Wang and Huang, *Frugal Optimization for Cost-related
Hyperparameters* (AAAI 2021), beside a sampler that sees the whole space. Some proposals are taken as they come, so that
what is dear is tried as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.records import JSON
from tidemill.stages.tune import Tried

DRAWN = 5
"""Proposals of which the cheapest is tried."""
SAMPLED, AS_IT_COMES = 3, 12
"""Of so many new settings one is the sampler's, and one is taken as it comes, whatever it takes."""
STEP = 0.12
"""The deviation of a step, as a share of each range."""
_KEEPS = 0.7
"""How often a step keeps a choice."""
_ENOUGH = 2
_RIDGE = 0.1


def steps(best: Mapping[str, Any], space: Mapping[str, JSON], count: int, rng: np.random.Generator) -> list[JSON]:
    """So many settings of the space near *best*.

    >>> space = {"rate": {"type": "float", "low": 0.01, "high": 1.0, "log": True}}
    >>> [round(found["rate"], 2) for found in steps({"rate": 0.1}, space, 3, np.random.default_rng(0))]
    [0.11, 0.09, 0.14]
    """
    return [{name: _stepped(spec, best[name], rng) for name, spec in space.items()} for _ in range(count)]


def _stepped(spec: JSON, value: Any, rng: np.random.Generator) -> Any:
    if spec["type"] == "categorical":
        return value if rng.random() < _KEEPS else spec["choices"][int(rng.integers(len(spec["choices"])))]
    place = _share(spec, value) + STEP * rng.normal()
    low, high = _ends(spec)
    found = low + place * (high - low)
    found = math.exp(found) if spec.get("log", False) else found
    found = min(max(found, spec["low"]), spec["high"])
    return round(found) if spec["type"] == "int" else found


def cheapest(proposals: Sequence[JSON], space: Mapping[str, JSON], tried: Sequence[Tried]) -> JSON:
    """The proposal whose trial would take least, the earlier one of equals; the first where nothing tells yet.

    Args:
        proposals: settings of the space; at least one.
        space: the recipe's search space.
        tried: the finished trials of the search.

    >>> space = {"rate": {"type": "float", "low": 0.01, "high": 1.0, "log": True}}
    >>> rates = (0.01, 0.1, 1.0)
    >>> tried = [
    ...     Tried(place=n, params={"rate": rate}, score=0.0, seconds=0.1 / rate, curve={})
    ...     for n, rate in enumerate(rates)
    ... ]
    >>> cheapest([{"rate": 0.05}, {"rate": 0.3}], space, tried), cheapest([{"rate": 0.05}, {"rate": 0.3}], space, [])
    ({'rate': 0.3}, {'rate': 0.05})
    """
    known = [t for t in tried if t.score is not None and t.seconds > 0 and t.params.keys() == space.keys()]
    if len(known) < _ENOUGH:
        return proposals[0]
    rows = np.array([_place(space, t.params) for t in known])
    seconds = np.log([t.seconds / t.part for t in known])
    middle, mean = rows.mean(0), seconds.mean()
    centred = rows - middle
    slopes = np.linalg.solve(centred.T @ centred + _RIDGE * np.eye(rows.shape[1]), centred.T @ (seconds - mean))
    told = [float((_place(space, params) - middle) @ slopes) for params in proposals]
    return proposals[int(np.argmin(told))]


def _place(space: Mapping[str, JSON], params: Mapping[str, Any]) -> npt.NDArray[np.float64]:
    """Where in its range each value lies, from 0 to 1; of a choice, a one in its place."""
    found: list[float] = []
    for name, spec in space.items():
        if spec["type"] == "categorical":
            found += [float(params[name] == choice) for choice in spec["choices"]]
        else:
            found.append(_share(spec, params[name]))
    return np.array(found)


def _share(spec: JSON, value: float) -> float:
    low, high = _ends(spec)
    place = math.log(value) if spec.get("log", False) else value
    return (place - low) / (high - low) if high > low else 0.0


def _ends(spec: JSON) -> tuple[float, float]:
    low, high = spec["low"], spec["high"]
    return (math.log(low), math.log(high)) if spec.get("log", False) else (low, high)
