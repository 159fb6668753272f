"""A made-up world of contexts, actions and rewards whose truth is known: for tests, examples and benchmarks.

Contexts are drawn from a finite pool, so what a policy earns is a finite sum and not an estimate. The mean reward of an
action is a function of the context: of one kind, linear or not, and for a world that drifts of the moment, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from tidemill.metrics.off_policy import Choices
from tidemill.metrics.units import Floats
from tidemill.runtime.policies import draw

Policy = Callable[[Floats], Floats]
"""From contexts float64 ``[n, features]`` to the probability of each action, float64 ``[n, actions]``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Logs:
    """Logged choices with what a log does not say.

    Attributes:
        rows: int ``[n]``, which context of the pool each choice had.
        contexts: float64 ``[n, features]``.
        choices: actions, rewards and propensities.
        propensities: of every action, float64 ``[n, actions]``.
        means: the true mean reward of every action, float64 ``[n, actions]``.
    """

    rows: npt.NDArray[Any]
    contexts: Floats
    choices: Choices
    propensities: Floats
    means: Floats


class BanditWorld:
    """Contexts, actions, and rewards that are 0 or 1.

    Args:
        kind: ``linear`` (the log-odds are linear in the context), ``nonlinear`` (they hang on products and signs), or
            ``drifting`` (linear, and the actions change places every *period* rounds).
        actions: how many.
        features: numbers of a context.
        pool: how many different contexts there are.
        period: rounds after which a drifting world changes.
        level: log-odds of a reward where nothing speaks for or against it.
        strength: how much the context matters.
        seed: of pool and truth.

    >>> world = BanditWorld(actions=3, seed=1)
    >>> 0.0 < world.value(world.uniform) < world.value(world.best) < 1.0
    True
    """

    def __init__(
        self,
        kind: Literal["linear", "nonlinear", "drifting"] = "linear",
        *,
        actions: int = 5,
        features: int = 6,
        pool: int = 2000,
        period: int = 5000,
        level: float = -0.5,
        strength: float = 1.5,
        seed: int = 0,
    ) -> None:
        rng = np.random.default_rng(seed)
        self.kind = kind
        self.actions = actions
        self.period = period
        self.pool: Floats = rng.normal(size=(pool, features))
        self._weights = rng.normal(size=(features, actions)) * strength / np.sqrt(features)
        self._crossed = rng.normal(size=(features, features, actions)) * strength / features
        self._level = level
        self._means = self._all_means()
        self._sorted = np.argsort(self.pool[:, 0])  # no two contexts share their first number

    def _all_means(self) -> Floats:
        x = self.pool
        odds = x @ self._weights
        if self.kind == "nonlinear":
            odds = np.einsum("ni,nj,ija->na", x, np.sign(x), self._crossed) + 0.3 * odds
        means: Floats = 1 / (1 + np.exp(-(odds + self._level)))
        return means

    def means(self, rows: npt.NDArray[Any], moments: npt.NDArray[Any] | int = 0) -> Floats:
        """The true mean reward of every action, float64 ``[n, actions]``.

        Args:
            rows: places in the pool, int ``[n]``.
            moments: the round of each, which only a drifting world heeds.
        """
        found: Floats = self._means[rows]
        if self.kind != "drifting":
            return found
        turn = np.broadcast_to(np.asarray(moments) // self.period, len(rows))
        order = (np.arange(self.actions) + turn[:, None]) % self.actions
        turned: Floats = np.take_along_axis(found, order, axis=1)
        return turned

    def value(self, policy: Policy, moment: int = 0) -> float:
        """What *policy* earns a choice on average; no estimate."""
        rows = np.arange(len(self.pool))
        return float((policy(self.pool) * self.means(rows, moment)).sum(axis=1).mean())

    def uniform(self, contexts: Floats) -> Floats:
        """The policy that chooses blindly."""
        return np.full((len(contexts), self.actions), 1 / self.actions)

    def best(self, contexts: Floats) -> Floats:
        """The policy that knows the truth (of a world that does not drift)."""
        certain: Floats = np.eye(self.actions)[self._means[self._places(contexts)].argmax(axis=1)]
        return certain

    def _places(self, contexts: Floats) -> npt.NDArray[np.int64]:
        """Where in the pool each context lies."""
        found: npt.NDArray[np.int64] = self._sorted[
            np.searchsorted(self.pool[self._sorted, 0], contexts[:, 0]) % len(self._sorted)
        ]
        return found

    def softmax(self, sharpness: float, *, wrong: float = 0.0, seed: int = 0, knowing: bool = False) -> Policy:
        """A policy that prefers what is good, or with a negative *sharpness* what is bad.

        Args:
            sharpness: factor of the log-odds; 0 is uniform.
            wrong: how far from the truth what it believes is.
            seed: of its errors.
            knowing: it goes by the true log-odds of each context, and not by their linear part.
        """
        if knowing:
            odds = np.log(self._means / (1 - self._means))

            def informed(contexts: Floats) -> Floats:
                told: Floats = special.softmax(sharpness * odds[self._places(contexts)], axis=1)
                return told

            return informed
        noise = np.random.default_rng(seed).normal(size=self._weights.shape)
        weights = self._weights + wrong * noise * np.abs(self._weights).mean()

        def policy(contexts: Floats) -> Floats:
            share: Floats = special.softmax(sharpness * (contexts @ weights), axis=1)
            return share

        return policy

    def log(self, n: int, policy: Policy | None = None, *, seed: int = 0, start: int = 0) -> Logs:
        """Choices that *policy* made (blindly unless given), from round *start* on."""
        rng = np.random.default_rng(seed)
        rows = rng.integers(0, len(self.pool), n)
        contexts = self.pool[rows]
        propensities = (policy or self.uniform)(contexts)
        action = draw(propensities, rng.random(len(propensities)))
        means = self.means(rows, start + np.arange(n))
        reward = (rng.random(n) < means[np.arange(n), action]).astype(np.float64)
        choices = Choices(action=action, reward=reward, propensity=propensities[np.arange(n), action])
        return Logs(rows=rows, contexts=contexts, choices=choices, propensities=propensities, means=means)
