"""How much work a cycle does: planned before it starts, journaled, and followed by a cycle that resumes."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tidemill.data.schema import Signature
from tidemill.errors import ConfigError
from tidemill.features.cache import spec_hash
from tidemill.learners import get_learner
from tidemill.loop.crew import Starts
from tidemill.loop.estimating import Work, estimates
from tidemill.loop.probing import Cost
from tidemill.loop.race import MOST_KEPT
from tidemill.records import JSON, Recipe
from tidemill.stages.tune import combinations, distributions

MOST_TRIALS = 100
REFIT_FITS, FOLD_FITS, ENOUGH = 3, 10, 2000
"""What a quick recipe that is chosen costs in further fits: trees average three on all rows, and where there are fewer
validation rows than these, they are too few to calibrate on, so that five folds are fitted, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is done for each recipe, and how long it may take.

    ``{name: {"trials": n, "most": n, "max_epochs": n | None, "seconds": estimate | None, "refit": estimate | None,
    "features": estimate | None, "package": estimate | None, "share": seconds | None}}``: ``seconds`` is the estimate of
    one fit, ``refit`` of the refit if it is chosen, ``features`` of making them where no recipe before it reads the
    same, ``package`` of making a candidate of the fit. ``share`` is what the recipe brings into the race for trials
    (:mod:`tidemill.loop.race`), which also pays for the refit; ``trials`` is how many that is worth, and ``most`` how
    many it may win; both are 0 where the budget has no room for a single epoch. ``probed`` are the seconds that it took
    to find that out. ``failed`` says of the recipes that could not be probed why: each is attempted once.
    """

    recipes: dict[str, JSON]
    probed: float = 0.0
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def seconds(self) -> float | None:
        """The estimate for all together: plan, recipes, the dearest refit; ``None`` when nothing was probed."""
        entries = [entry for entry in self.recipes.values() if entry["seconds"] is not None and entry["trials"]]
        if not entries:
            return None
        refit = max(entry["refit"] for entry in entries)
        once = self.probed + sum(entry["seconds"] for entry in entries if entry["most"] == 1)
        once += sum(entry["features"] + entry["package"] for entry in entries)
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
    starts: Starts | None = None,
    workers: int = 1,
) -> Plan:
    """Share out the work.

    Without a budget every recipe is trained once, or tuned with *max_trials* trials where it has a search space. With
    one, the baselines come first, and the others share what is left: fewer epochs where one fit would not fit, more
    trials where several do, and a part of it for the refit of what is chosen. A recipe of which not one epoch fits is
    left out, unless it is the only one that is no baseline. What a recipe without a search space does not need goes to
    those that have one. How long a fit takes is probed on random data of the same shapes, so planning changes nothing
    and takes a few seconds.

    Args:
        rows: number of labelled training and validation rows.
        validation: how many of them validate; an eighth unless given.
        done: what recipes took that are trained already, in seconds by name: what is known is not probed.
        budget: seconds for training and tuning together.
        threads: of each fit.
        probe: estimate durations also where no budget asks for it (for ``tidemill plan``).
        starts: starts processes that probe several recipes at a time; ``None``: this one does, one after the other.
        workers: how many there are.

    Raises:
        ConfigError: the search space of a recipe is malformed, or leaves nothing to choose.
    """
    validation, done = rows // 8 if validation is None else validation, done or {}
    costs: dict[str, Cost] = {}
    failed: dict[str, str] = {}
    for recipe in recipes:
        check_space(recipe)
        if starts is None:
            get_learner(recipe.learner)  # what it imports is paid once, and is no part of a fit
    started = time.perf_counter()
    if budget is not None or probe:
        costs = {name: Cost(once=seconds, each=0.0, epochs=1) for name, seconds in done.items()}
        work = Work(
            signature=signature,
            train=rows - validation,
            validation=validation,
            threads=threads,
            max_epochs=max_epochs,
            # one whose first epoch takes half of it is left out, unless there is none that takes less
            most=math.inf if budget is None else (budget - sum(done.values())) / 2,
        )
        for name, told in estimates([r for r in recipes if r.name not in done], work, starts, workers):
            if isinstance(told, str):
                failed[name] = told
            else:
                costs[name] = told
    probed = time.perf_counter() - started
    known = [r for r in recipes if r.name not in failed]
    tried = known if budget is None else _affordable(known, costs, budget - probed)
    # recipes that read the same features share them
    firsts = {spec_hash(r.features): r.name for r in reversed(tried)}.values()
    features = {name: cost.features if name in firsts else 0.0 for name, cost in costs.items()}
    folded = validation < ENOUGH
    shares: dict[str, tuple[float, float]] = {}
    if budget is not None:
        # the probes are part of what was waited for
        beside = probed + sum(features[r.name] + costs[r.name].package for r in tried)
        shares = _shares(tried, costs, budget - min(beside, budget / 2), folded=folded)
    entries: dict[str, JSON] = {}
    for recipe in recipes:
        entry: JSON = dict.fromkeys(("seconds", "refit", "features", "package", "share"))
        entry["max_epochs"] = max_epochs
        entry["trials"] = entry["most"] = _bounded(recipe, max(1, max_trials or 1))
        cost = costs.get(recipe.name)
        if recipe.name in failed and budget is not None:
            entry["trials"] = entry["most"] = entry["max_epochs"] = 1  # nobody knows how long it would take
        elif cost is not None:
            if recipe.name in shares:
                entry["share"], for_fits = shares[recipe.name]
                if cost.seconds() > for_fits:
                    entry["max_epochs"] = min(cost.within(for_fits), max_epochs or cost.epochs)
                    cost = dataclasses.replace(cost, epochs=entry["max_epochs"])
                if recipe.space:
                    entry["most"] = _bounded(recipe, MOST_TRIALS if max_trials is None else max(1, max_trials))
                    # the first trial is trained anyway
                    worth = math.floor(for_fits / max(cost.seconds(), 0.01))
                    entry["trials"] = min(entry["most"], max(1, worth))
            elif recipe not in tried:
                entry["trials"] = entry["most"] = 0
                cost = dataclasses.replace(cost, epochs=1)
            entry["seconds"], entry["package"] = cost.seconds(), cost.package
            entry["features"], entry["refit"] = features[recipe.name], _refit(recipe, cost, folded=folded)
        entries[recipe.name] = entry
    return Plan(recipes=entries, probed=probed if costs else 0.0, failed=failed)


def check_space(recipe: Recipe) -> None:
    """Refuse a search space that cannot be searched, before any work is done.

    Raises:
        ConfigError: it is malformed, or leaves nothing to choose.
    """
    try:
        distributions(recipe.space)
    except ConfigError as error:
        raise ConfigError(error.what, where=f"recipe {recipe.name!r}, {error.where}", mend=error.mend) from error


def _bounded(recipe: Recipe, most: int) -> int:
    """So many trials at most, but no more than there are settings to try: those of its space, and its defaults."""
    if not recipe.space:
        return 1
    settings = combinations(recipe.space)
    return most if settings is None else min(most, settings + 1)


def _refit(recipe: Recipe, cost: Cost, *, folded: bool) -> float:
    """Its fits; features are made anew, since validation rows train; and as many graphs as ensembles are averaged."""
    if not get_learner(recipe.learner).quick:
        return cost.seconds() + cost.features + cost.package
    fits = FOLD_FITS if folded else REFIT_FITS
    return cost.seconds() * fits + cost.features + cost.package * REFIT_FITS


def _affordable(recipes: Sequence[Recipe], costs: Mapping[str, Cost], budget: float) -> list[Recipe]:
    """Baselines, and those of which one epoch fits into an equal share of what they leave; of these one in any case."""
    left = budget - sum(costs[r.name].seconds() for r in recipes if r.baseline)
    made = {spec_hash(r.features) for r in recipes if r.baseline}

    def least(recipe: Recipe) -> float:
        """Of one epoch, with features that nobody made before: an encoder's take longer than any fit on them."""
        cost = costs[recipe.name]
        return cost.seconds(1) + (0.0 if spec_hash(recipe.features) in made else cost.features)

    dearest_first = sorted((r for r in recipes if not r.baseline), key=lambda r: -least(r))
    count = len(dearest_first)
    while count > 1 and least(dearest_first[-count]) > left / count:
        count -= 1
    dropped = {r.name for r in dearest_first[: len(dearest_first) - count]}
    return [r for r in recipes if r.name not in dropped]


def _shares(
    recipes: Sequence[Recipe], costs: Mapping[str, Cost], budget: float, *, folded: bool
) -> dict[str, tuple[float, float]]:
    """Seconds for each recipe that is tried and no baseline, and how many its fits may take before the refit."""
    left = max(0.0, budget - sum(costs[r.name].seconds() for r in recipes if r.baseline))
    tuned = [r for r in recipes if not r.baseline]
    if not tuned:
        return {}
    # one that must be cut to its share is refitted in no more than that
    whole = {r.name: min(1.0, left / len(tuned) / max(costs[r.name].seconds(), 1e-6)) for r in tuned}
    refits = [_refit(r, costs[r.name], folded=folded) * whole[r.name] for r in tuned]
    kept = min(max(refits), left * MOST_KEPT)
    equal = (left - kept) / len(tuned)
    fixed = {r.name: min(costs[r.name].seconds(), equal) for r in tuned if not r.space}
    searching = [r.name for r in tuned if r.space]
    raced = (left - sum(fixed.values())) / max(1, len(searching))
    shares = {name: (seconds, seconds) for name, seconds in fixed.items()}
    return shares | {name: (raced, raced - kept / len(searching)) for name in searching}
