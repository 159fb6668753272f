"""The bandit learner: a representation of the context, and a head for each action that learns from rewards."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from tidemill.data.logged import Logged
from tidemill.errors import TrainingError
from tidemill.features._base import Features
from tidemill.learners._base import Context, Export, Problem, RecipeView, Scores
from tidemill.learners._params import checked, positive
from tidemill.learners.bandit.targets import METHODS, fit_heads
from tidemill.learners.bandit.trunks import Training, Trunk, projection, train_network
from tidemill.runtime.heads import Heads, represented

_DEFAULTS: dict[str, Any] = {
    "reward": "linear",
    "targets": "dr",
    "clip": 10.0,
    "ridge": 1.0,
    "folds": 3,
    "width": 32,
    "epochs": 10,
    "batch_size": None,
    "learning_rate": 3e-3,
}
REWARDS = ("constant", "linear", "network")


class BanditLearner:
    """Expected rewards of every action, from logged choices.

    ``reward`` says what they hang on: ``constant`` on nothing, ``linear`` on the features, ``network`` on what a
    network makes of them. ``targets`` says what heads learn from, see :mod:`tidemill.learners.bandit.targets`:
    importance weighting (``iw``) and doubly robust targets (``dr``) cut factors at ``clip``, and ``dr`` fits ``folds``
    times, so that no row is told of itself; the representation is that of all rows. ``width``, ``epochs``,
    ``batch_size`` and ``learning_rate`` are of the network.
    """

    name: ClassVar[str] = "bandit"
    streams: ClassVar[bool] = False
    quick: ClassVar[bool] = False

    def epochs(self, rows: int, params: Mapping[str, Any]) -> int:
        """Those of the network; 1 without one."""
        setting = {**_DEFAULTS, **params}
        return int(setting["epochs"]) if setting["reward"] == "network" else 1

    def fit(self, problem: Problem, recipe: RecipeView, context: Context) -> BanditModel:
        """Learn from the first ``problem.train`` rows; the others choose a network's best pass.

        Rows without a reward, of an action that is unknown, or without a propensity teach nothing.

        Raises:
            TrainingError: a wrong parameter, features that cannot be read, or nothing to learn from.
        """
        params = checked(recipe.params, _DEFAULTS, self.name)
        for name in ("clip", "ridge", "folds", "width", "epochs", "learning_rate"):
            positive(name, params[name], self.name)
        for name, known in (("reward", REWARDS), ("targets", METHODS)):
            if params[name] not in known:
                raise TrainingError(
                    f"{name} is {params[name]!r}", where="learner bandit", mend=f"Use one of {', '.join(known)}."
                )
        started = time.perf_counter()
        with threadpool_limits(context.threads):
            trunk, heads, rows = _fit(problem, recipe, params, context)
        seconds = time.perf_counter() - started
        chosen = {"targets": params["targets"], "ridge": params["ridge"]}
        summary = {"rows": rows, "epochs": self.epochs(rows, params), "seconds": seconds, "chosen": chosen}
        return BanditModel(trunk, heads, {**summary, "parameters": heads.mean.size + heads.spread.size})


class BanditModel:
    """A representation with heads.

    Args:
        trunk: makes the representation.
        heads: say what each action earns for it.
        summary: facts for the run's record.
    """

    def __init__(self, trunk: Trunk, heads: Heads, summary: dict[str, Any]) -> None:
        self.trunk = trunk
        self.heads = heads
        self.summary = summary

    def scores(self, features: Features) -> Scores:
        """Representations, float32 ``[n, d]``."""
        return self.trunk.scores(features)

    def export(self) -> Export:
        """The representation's graph, and the heads as the state that it starts with."""
        return dataclasses.replace(self.trunk.export(), state=self.heads.to_bytes())


def _fit(problem: Problem, recipe: RecipeView, params: Mapping[str, Any], context: Context) -> tuple[Trunk, Heads, int]:
    logged = problem.logged
    if problem.kind != "choice" or logged is None:
        raise TrainingError(
            "this learner needs logged choices", where="learner bandit", mend="Use it for contextual-bandit."
        )
    shared = problem.described  # one head then reads, for every action, what describes it
    action = np.zeros(len(logged.action), np.int64) if shared else logged.action
    reward = np.asarray(problem.target, np.float64)
    weight = np.ones(len(reward)) if problem.weight is None else np.asarray(problem.weight, np.float64)
    propensity = np.nan_to_num(logged.propensity, nan=0.0)
    usable = np.isfinite(reward) & (action >= 0) & (propensity > 0) & (weight > 0)
    rows = np.flatnonzero(usable[: problem.train])
    if not len(rows):
        raise TrainingError(
            "no choice has an action, a propensity and a reward", where="dataset", mend="Wait for rewards."
        )
    trunk = _trunk(problem, recipe, params, context, action, reward, np.where(usable, weight, 0.0), propensity, shared)
    z = represented(trunk.scores(_taken(problem.features, rows)))
    heads = fit_heads(
        problem.labels,
        z,
        Logged(action[rows], propensity[rows], None if logged.offered is None else logged.offered[rows]),
        reward[rows],
        weight[rows],
        method=params["targets"],
        clip=params["clip"],
        ridge=params["ridge"],
        folds=int(params["folds"]),
        shared=shared,
        seed=context.seed,
    )
    return trunk, heads, len(rows)


def _trunk(
    problem: Problem,
    recipe: RecipeView,
    params: Mapping[str, Any],
    context: Context,
    action: Any,
    reward: Any,
    weight: Any,
    propensity: Any,
    shared: bool,
) -> Trunk:
    if params["reward"] != "network":
        return projection(problem.features, problem.info, problem.train, constant=params["reward"] == "constant")
    if params["targets"] != "direct":
        weight = weight * np.minimum(1.0 / np.maximum(propensity, 1e-12), params["clip"])
        weight = weight / max(float(weight[weight > 0].mean()), 1e-12)
    epochs = int(params["epochs"])
    training = Training(
        width=int(params["width"]),
        epochs=min(epochs, context.max_epochs or epochs),
        batch_size=int(params["batch_size"] or np.clip(problem.train // 100, 16, 256)),
        learning_rate=params["learning_rate"],
        seed=context.seed,
    )
    return train_network(
        problem.features,
        problem.info,
        recipe.network or {"name": "mlp"},
        np.maximum(action, 0),
        np.nan_to_num(reward),
        weight,
        problem.train,
        1 if shared else len(problem.labels),
        training,
        context.report,
    )


def _taken(features: Features, rows: Any) -> dict[str, Any]:
    return {name: feature[rows] for name, feature in features.items()}
