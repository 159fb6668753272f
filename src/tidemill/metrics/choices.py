"""A policy on logged choices as JSON: what a report's content says of a package that chooses."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.metrics.off_policy import DECISIVE, Weighed, contributions, estimate, support
from tidemill.metrics.slices import Masks, slice_means
from tidemill.metrics.units import Floats, Units, kish
from tidemill.records import JSON


def choice_summary(
    weighed: Weighed,
    keys: npt.NDArray[Any],
    weights: Floats,
    *,
    rewards: tuple[float, float],
    masks: Masks | None = None,
    seed: int = 0,
) -> JSON:
    """What the policy would earn by each estimator, what the logged choices earned, support, and slices.

    Args:
        weighed: the choices as the policy sees them.
        keys: split keys ``[n]``.
        weights: inverse inclusion probabilities ``[n]``; they weigh slices.
        rewards: the least and the greatest.
        masks: the slices.
        seed: of all draws.
    """
    units = Units.of(keys)
    found = estimate(weighed, keys=keys, reward_range=rewards, seed=seed)
    plain = Weighed(importance=np.ones(len(weighed)), reward=weighed.reward)
    earned = estimate(plain, keys=keys, estimators=["ips"], reward_range=rewards, seed=seed)["ips"]
    content: JSON = {
        "counts": {"rows": len(weighed), "units": units.count, "effective": kish(units.sum(weights))},
        "metrics": {
            "reward": {name: found[DECISIVE].to_json()[name] for name in ("value", "low", "high")},
            "logged_reward": {name: earned.to_json()[name] for name in ("value", "low", "high")},
        },
        "off_policy": {name: value.to_json() for name, value in found.items()},
        "support": support(weighed, keys).to_json(),
        "slice_metric": "reward",
        "slices": [],
    }
    if masks:
        means = slice_means(contributions(DECISIVE, weighed), masks, units, weights, shares=False, seed=seed)
        content["slices"] = [
            {
                "slice": name,
                "rows": int(mask.sum()),
                "value": _number(means.value[i]),
                "low": _number(means.low[i]),
                "high": _number(means.high[i]),
            }
            for i, (name, mask) in enumerate(masks.items())
        ]
    return content


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
