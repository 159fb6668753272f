"""How much work a cycle does: planned before it starts, journaled, and followed by a cycle that resumes."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tidemill.data.schema import Signature
from tidemill.features.cache import spec_hash
from tidemill.learners import get_learner
from tidemill.loop.probing import Cost, estimate
from tidemill.records import JSON, Recipe

MOST_TRIALS = 100
REFIT_FITS, FOLD_FITS, ENOUGH = 3, 10, 2000
"""What a quick recipe that is chosen costs in further fits: trees average three on all rows, and where there are fewer
validation rows than these, they are too few to calibrate on, so that five folds are fitted, too."""
_MOST_KEPT = 1 / 3
"""Of what is not the baselines', for the refit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is done for each recipe, and how long it may take.

    ``{name: {"trials": n, "most": n, "max_epochs": n | None, "seconds": estimate | None, "refit": estimate | None,
    "features": estimate | None, "share": seconds | None}}``: ``seconds`` is the estimate for one fit, ``refit`` for the
    refit if it is chosen, ``features`` for making them where no recipe before it reads the same. ``share`` is what the
    recipe brings into the race for trials (:mod:`tidemill.loop.race`), which also pays for the refit; ``trials`` is how
    many that is worth, and ``most`` how many it may win.
    """

    recipes: dict[str, JSON]

    @property
    def seconds(self) -> float | None:
        """The estimate for all recipes together and the dearest refit; ``None`` when nothing was probed."""
        entries = [entry for entry in self.recipes.values() if entry["seconds"] is not None]
        if not entries:
            return None
        refit = max(entry["refit"] for entry in entries)
        once = sum(entry["seconds"] for entry in entries if entry["most"] == 1)
        once += sum(entry["features"] for entry in entries)
        searches = [entry for entry in entries if entry["most"] > 1]
        at_most = sum(entry["seconds"] * entry["most"] for entry in searches) + refit
        if any(entry["share"] is None for entry in searches):
            return float(once + at_most)
        # a race ends when its budget is spent, or every recipe has had its most
        firsts = sum(entry["seconds"] for entry in searches) + refit
        raced = max(sum(entry["share"] for entry in searches), firsts)
        return float(once + (min(at_most, raced) if searches else refit))


def plan(
    recipes: Sequence[Recipe],
    signature: Signature,
    rows: int,
    *,
    validation: int | None = None,
    done: Mapping[str, float] | None = None,
    budget: float | None = None,
    max_trials: int | None = None,
    max_epochs: int | None = None,
    threads: int = 1,
    probe: bool = False,
) -> Plan:
    """Share out the work.

    Without a budget every recipe is trained once, or tuned with *max_trials* trials where it has a search space. With
    one, the baselines come first, and the others share what is left: fewer epochs where one fit would not fit, more
    trials where several do, and a part of it for the refit of what is chosen. What a recipe without a search space
    does not need goes to those that have one. How long a fit takes is probed on random data of the same shapes, so
    planning changes nothing and takes a few seconds.

    Args:
        rows: number of labelled training and validation rows.
        validation: how many of them validate; an eighth unless given.
        done: what recipes took that are trained already, in seconds by name: what is known is not probed.
        budget: seconds for training and tuning together.
        probe: estimate durations also where no budget asks for it (for ``tidemill plan``).
    """
    validation, done = rows // 8 if validation is None else validation, done or {}
    costs: dict[str, Cost] = {}
    started = time.perf_counter()
    if budget is not None or probe:
        costs = {
            r.name: estimate(r, signature, rows - validation, validation, threads=threads, max_epochs=max_epochs)
            for r in recipes
            if r.name not in done
        } | {name: Cost(once=seconds, each=0.0, epochs=1) for name, seconds in done.items()}
    probed = time.perf_counter() - started
    again = FOLD_FITS if validation < ENOUGH else REFIT_FITS
    fits = {r.name: again if get_learner(r.learner).quick else 1 for r in recipes}
    # recipes that read the same features share them
    firsts = {spec_hash(r.features): r.name for r in reversed(recipes)}.values()
    features = {name: cost.features if name in firsts else 0.0 for name, cost in costs.items()}
    shares = {}
    if budget is not None:
        # the probes are part of what was waited for
        left = budget - min(probed + sum(features.values()), budget / 2)
        shares = _shares(recipes, {name: cost.seconds() for name, cost in costs.items()}, left, fits)
    entries: dict[str, JSON] = {}
    for recipe in recipes:
        trials, epochs = 1, max_epochs
        if recipe.space and max_trials is not None:
            trials = max(1, max_trials)
        most = trials
        cost = costs.get(recipe.name)
        seconds = None if cost is None else cost.seconds()
        share, for_fits = shares.get(recipe.name, (None, 0.0))
        if cost is not None and seconds is not None and share is not None:
            if seconds > for_fits:
                epochs = min(cost.within(for_fits), max_epochs or cost.epochs)
                seconds = cost.seconds(epochs)
            if recipe.space:
                # The first trial is trained anyway.
                most = MOST_TRIALS if max_trials is None else max(1, max_trials)
                trials = min(most, max(1, math.floor(for_fits / max(seconds, 0.01))))
        entries[recipe.name] = {
            "trials": trials,
            "most": most,
            "max_epochs": epochs,
            "seconds": seconds,
            # its features are made anew, too: validation rows train
            "refit": None if cost is None or seconds is None else seconds * fits[recipe.name] + cost.features,
            "features": features.get(recipe.name),
            "share": share,
        }
    return Plan(recipes=entries)


def _shares(
    recipes: Sequence[Recipe], estimates: Mapping[str, float], budget: float, fits: Mapping[str, int]
) -> dict[str, tuple[float, float]]:
    """Seconds for each recipe that is no baseline, and how many of them its fits may take before the refit."""
    tuned = [r for r in recipes if not r.baseline]
    if not tuned:
        return {}
    left = max(0.0, budget - sum(estimates[r.name] for r in recipes if r.baseline))
    kept = min(max(min(estimates[r.name], left / len(tuned)) * fits[r.name] for r in tuned), left * _MOST_KEPT)
    equal = (left - kept) / len(tuned)
    fixed = {r.name: min(estimates[r.name], equal) for r in tuned if not r.space}
    searching = [r.name for r in tuned if r.space]
    raced = (left - sum(fixed.values())) / max(1, len(searching))
    shares = {name: (seconds, seconds) for name, seconds in fixed.items()}
    return shares | {name: (raced, raced - kept / len(searching)) for name in searching}
