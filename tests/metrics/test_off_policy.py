"""Off-policy estimates: against each other, against the truth of a simulator, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from tidemill.errors import InputError
from tidemill.metrics.off_policy import (
    ESTIMATORS,
    Choices,
    bernstein,
    contributions,
    estimate,
    require_distribution,
    support,
    weigh,
)
from tidemill.testing import BanditWorld

WORLD = BanditWorld(actions=4, seed=3)
TARGET = WORLD.softmax(2.0)


def test_a_policy_judged_by_its_own_logs_earned_what_they_hold() -> None:
    """Where both policies are one, every importance is 1, and nothing but the mean reward is left."""
    logs = WORLD.log(500, TARGET, seed=1)
    seen = weigh(logs.choices, logs.propensities, logs.means)
    found = estimate(seen, replicates=200)
    mean = logs.choices.reward.mean()
    assert np.allclose(seen.importance, 1.0)
    assert found["ips"].value == pytest.approx(mean) and found["snips"].value == pytest.approx(mean)
    assert found["dm"].value == pytest.approx((logs.propensities * logs.means).sum(axis=1).mean())


@pytest.mark.parametrize("name", ["ips", "dr", "switch"])
def test_importances_remove_the_bias_of_the_logs(name: str) -> None:
    """Many logs of another policy: the mean of the estimates is the truth, also when the model of rewards is wrong."""
    truth, wrong = WORLD.value(TARGET), np.full((1000, 4), 0.2)
    found = []
    for seed in range(200):
        logs = WORLD.log(1000, WORLD.softmax(-0.5), seed=seed)
        policy = TARGET(logs.contexts)
        found.append(float(contributions(name, weigh(logs.choices, policy, wrong), limit=1e9).mean()))
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - truth) < 4 * error


def test_the_direct_method_is_as_wrong_as_its_model() -> None:
    """A model that expects 0.2 of everything gives 0.2, whatever the logs hold."""
    logs = WORLD.log(300, seed=1)
    found = estimate(
        weigh(logs.choices, TARGET(logs.contexts), np.full((300, 4), 0.2)), estimators=["dm"], replicates=100
    )
    assert found["dm"].value == pytest.approx(0.2)


def test_a_good_model_makes_doubly_robust_estimates_less_noisy() -> None:
    """With the true means, the spread of dr over many logs is well below that of ips."""
    spread = {"ips": [], "dr": []}
    for seed in range(100):
        logs = WORLD.log(400, WORLD.softmax(-1.0), seed=seed)
        for name, values in spread.items():
            values.append(float(contributions(name, weigh(logs.choices, TARGET(logs.contexts), logs.means)).mean()))
    assert np.std(spread["dr"]) < 0.8 * np.std(spread["ips"])


@pytest.mark.parametrize(("wrong", "rival"), [(0.0, "dr"), (1.0, "snips")])
def test_calibrated_estimates_are_as_good_as_the_best_whatever_the_model_is_worth(wrong: float, rival: str) -> None:
    """With the true means near dr, with a model that errs at random near snips, and never as noisy as the other."""
    truth, errors = WORLD.value(TARGET), {name: [] for name in ("snips", "dr", "calibrated")}
    for seed in range(200):
        logs = WORLD.log(400, WORLD.softmax(-0.3), seed=seed)
        model = logs.means + wrong * np.random.default_rng(seed).normal(size=logs.means.shape)
        found = estimate(weigh(logs.choices, TARGET(logs.contexts), model), estimators=list(errors), replicates=2)
        for name, value in found.items():
            errors[name].append(value.value - truth)
    rmse = {name: np.sqrt(np.mean(np.square(values))) for name, values in errors.items()}
    assert rmse["calibrated"] <= 1.1 * rmse[rival]
    assert rmse["calibrated"] < 0.95 * max(rmse["dr"], rmse["snips"])


def test_calibrated_contributions_are_what_the_estimate_is_the_mean_of() -> None:
    """Also where a model tells nothing, or importances are all 1."""
    logs = WORLD.log(300, WORLD.softmax(-0.5), seed=4)
    for policy in (TARGET(logs.contexts), logs.propensities):
        for model in (logs.means, np.full_like(logs.means, 0.3), np.zeros_like(logs.means)):
            seen = weigh(logs.choices, policy, model)
            value = estimate(seen, estimators=["calibrated"], replicates=50)["calibrated"]
            assert value.value == pytest.approx(contributions("calibrated", seen).mean())
            assert value.low <= value.value <= value.high
    alike = estimate(weigh(logs.choices, logs.propensities, np.zeros_like(logs.means)), replicates=50)
    assert alike["calibrated"].value == pytest.approx(logs.choices.reward.mean())


def test_switch_believes_the_model_where_importances_are_large() -> None:
    """With a limit under every importance it is the direct method, with one above all it is doubly robust."""
    logs = WORLD.log(200, seed=5)
    policy, expected = TARGET(logs.contexts), logs.means + 0.1
    seen = weigh(logs.choices, policy, expected)
    term = {name: contributions(name, seen, limit=1e-9) for name in ("switch", "dm")}
    assert np.array_equal(term["switch"], term["dm"])
    assert np.array_equal(contributions("switch", seen, limit=1e9), contributions("dr", seen))


def test_bootstrap_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """300 logs with adequate overlap: of 95 % intervals between 91 and 99 % hold the truth (four errors wide)."""
    truth, held = WORLD.value(TARGET), dict.fromkeys(ESTIMATORS, 0)
    sure = dict.fromkeys(ESTIMATORS, 0)
    for seed in range(300):
        logs = WORLD.log(400, seed=seed)
        seen_by = weigh(logs.choices, TARGET(logs.contexts), logs.means)
        found = estimate(seen_by, replicates=400, seed=seed, reward_range=(0, 1), largest=4.0)
        for name, value in found.items():
            held[name] += value.low <= truth <= value.high
            sure[name] += value.sure_low <= truth <= value.sure_high
    for name in ("ips", "snips", "dr", "switch", "calibrated"):
        assert 0.91 <= held[name] / 300 <= 0.99, (name, held[name])
    for name in ("ips", "dr", "switch"):
        assert sure[name] / 300 >= 0.97, (name, sure[name])


def test_rows_of_one_key_are_one_draw() -> None:
    """Every row ten times under its key widens nothing and narrows nothing."""
    logs = WORLD.log(200, seed=2)
    policy = TARGET(logs.contexts)
    once = estimate(weigh(logs.choices, policy), replicates=1000)["snips"]
    c, rows = logs.choices, np.repeat(np.arange(200), 10)
    many = Choices(action=c.action[rows], reward=c.reward[rows], propensity=c.propensity[rows])
    again = estimate(weigh(many, policy[rows]), keys=rows, replicates=1000)["snips"]
    assert again.value == pytest.approx(once.value)
    assert again.high - again.low == pytest.approx(once.high - once.low, rel=0.05)


def test_empirical_bernstein_is_wider_than_the_bootstrap_and_narrows() -> None:
    """It holds for every sample size, so it is wide for few."""
    rng = np.random.default_rng(0)
    reach = [np.subtract(*bernstein(rng.random(n), 0.0, 1.0)[::-1]) for n in (20, 200, 20_000)]
    assert reach[0] > reach[1] > reach[2] > 0


def test_logs_that_never_chose_what_the_policy_would_are_refused_in_words() -> None:
    """The claim needs overlap: importances that sum to far less than the number of rows show that there is none."""
    n = 2000
    rng = np.random.default_rng(0)
    logs = Choices(action=rng.integers(0, 2, n), reward=np.ones(n), propensity=np.full(n, 0.5))
    never = np.zeros((n, 3))
    never[:, 2] = 0.9
    never[:, 0] = 0.1
    said = support(weigh(logs, never)).refusal(least=50)
    assert said is not None and "almost never chose what the challenger would" in said
    rarely = Choices(action=(rng.random(n) < 0.01).astype(int), reward=np.ones(n), propensity=np.full(n, 0.99))
    rarely.propensity[rarely.action == 1] = 0.01
    said = support(weigh(rarely, np.tile([0.0, 1.0], (n, 1)))).refusal(least=100)
    assert said is not None and "too seldom" in said
    assert support(weigh(logs, np.tile([0.5, 0.5, 0.0], (n, 1)))).refusal(least=100) is None


@pytest.mark.parametrize(
    ("propensity", "said"),
    [(0.0, "is 0, though"), (1.5, "is 1.5"), (-0.1, "is -0.1"), (np.nan, "is missing")],
)
def test_propensities_that_can_be_none_are_refused(propensity: float, said: str) -> None:
    """Each with its row."""
    with pytest.raises(InputError, match=said) as caught:
        Choices(action=np.array([0, 1]), reward=np.zeros(2), propensity=np.array([0.5, propensity]))
    assert caught.value.where == "row 2"


def test_a_policy_that_does_not_sum_to_one_is_refused() -> None:
    """With its row and its sum."""
    with pytest.raises(InputError, match=r"sum to 0\.9") as caught:
        require_distribution(np.array([[0.5, 0.5], [0.5, 0.4]]))
    assert caught.value.where == "row 2"
    with pytest.raises(InputError, match="negative"):
        require_distribution(np.array([[1.5, -0.5]]))


def test_what_needs_a_model_says_so() -> None:
    """And so does an estimator that there is not."""
    logs = WORLD.log(10).choices
    with pytest.raises(InputError, match="dr needs what a model expects"):
        contributions("dr", weigh(logs, np.full((10, 4), 0.25)))
    with pytest.raises(InputError, match="no estimator 'best'"):
        contributions("best", weigh(logs, np.full((10, 4), 0.25)))
