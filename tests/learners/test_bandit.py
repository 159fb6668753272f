"""The bandit learner: better than its log, in every way to learn, and honest where a log prefers some contexts."""

from __future__ import annotations

import numpy as np
import pytest

from tidemill.data.logged import Logged
from tidemill.errors import TrainingError
from tidemill.features._base import FeatureInfo
from tidemill.learners import get_learner
from tidemill.learners._base import Context, Problem, RecipeView
from tidemill.learners.bandit.targets import METHODS, fit_heads
from tidemill.runtime.heads import Heads, represented
from tidemill.testing import BanditWorld
from tidemill.testing.bandits import Logs

WORLD = BanditWorld(actions=4, seed=3, strength=2.5)
NAMES = tuple("abcd")


def problem(logs: Logs, train: int | None = None) -> Problem:
    x = logs.contexts.astype(np.float32)
    return Problem(
        kind="choice",
        features={"x": x},
        info={"x": FeatureInfo("float32", (x.shape[1],))},
        target=logs.choices.reward.astype(np.float32),
        train=train or len(x),
        classes=4,
        logged=Logged(logs.choices.action, logs.choices.propensity, None),
        labels=NAMES,
    )


@pytest.mark.parametrize("targets", METHODS)
@pytest.mark.parametrize("reward", ["linear", "network"])
def test_what_is_learned_earns_more_than_the_log(reward: str, targets: str) -> None:
    """More than half of the way from blind choices to the best ones, out of 3,000 blind ones."""
    params = {"reward": reward, "targets": targets, "epochs": 4}
    fitted = get_learner("bandit").fit(problem(WORLD.log(3000, seed=1)), RecipeView(params=params), Context())
    state = fitted.export().state
    assert state is not None
    heads = Heads.from_bytes(state)

    def greedy(contexts: np.ndarray) -> np.ndarray:
        z = represented(fitted.scores({"x": contexts.astype(np.float32)}))
        return np.eye(4)[heads.expected(z).argmax(axis=1)]

    blind, best = WORLD.value(WORLD.uniform), WORLD.value(WORLD.best)
    assert WORLD.value(greedy) > blind + 0.5 * (best - blind)


def test_doubly_robust_targets_stand_for_contexts_that_the_log_avoided() -> None:
    """Each action was tried mostly where it is bad: its mean over all contexts is told right by iw and dr alone."""
    logs = WORLD.log(20_000, WORLD.softmax(-0.4), seed=2)
    constant = np.ones((len(logs.contexts), 1))
    truth = WORLD.means(np.arange(len(WORLD.pool))).mean(axis=0)
    error = {}
    for method in METHODS:
        heads = fit_heads(
            NAMES,
            constant,
            Logged(logs.choices.action, logs.choices.propensity, None),
            logs.choices.reward,
            None,
            method=method,
            clip=1e9,
            ridge=1.0,
            folds=3,
            shared=False,
            seed=0,
        )
        error[method] = float(np.abs(heads.expected(constant[:1])[0] - truth).max())
    assert max(error["iw"], error["dr"]) < 0.05 < error["direct"]


def test_wrong_parameters_and_nothing_to_learn_from_are_refused() -> None:
    logs = WORLD.log(50)
    with pytest.raises(TrainingError, match="targets is 'all'"):
        get_learner("bandit").fit(problem(logs), RecipeView(params={"targets": "all"}), Context())
    nothing = problem(logs)
    nothing.target[:] = np.nan
    with pytest.raises(TrainingError, match="no choice has an action"):
        get_learner("bandit").fit(nothing, RecipeView(), Context())
