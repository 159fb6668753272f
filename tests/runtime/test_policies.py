"""Policies: the probabilities that they say are those they draw with, and none of them is zero."""

from __future__ import annotations

import numpy as np
import pytest

from tidemill.errors import ConfigError
from tidemill.runtime.policies import NAMES, Policy, chances, draw

RNG = np.random.default_rng(0)
MEAN = RNG.random((200, 5))
DEVIATION = RNG.random((200, 5)) * 0.3
OFFERED = RNG.random((200, 5)) < 0.6
OFFERED[~OFFERED.any(axis=1), 0] = True


@pytest.mark.parametrize("name", NAMES)
def test_probabilities_sum_to_one_and_none_is_zero_but_of_what_is_not_offered(name: str) -> None:
    """The floor is shared by what is offered."""
    shares = Policy(name=name, floor=0.1).shares(MEAN, DEVIATION, OFFERED)
    assert np.allclose(shares.sum(axis=1), 1.0, atol=1e-12)
    assert (shares[~OFFERED] == 0).all()
    least = np.broadcast_to(0.1 / OFFERED.sum(axis=1, keepdims=True), shares.shape)
    assert (shares[OFFERED] >= least[OFFERED] - 1e-12).all()


@pytest.mark.parametrize("name", NAMES)
def test_draws_come_as_often_as_said(name: str) -> None:
    """A hundred thousand draws of one row, each action within five standard errors."""
    n = 100_000
    shares = Policy(name=name).shares(MEAN[:1], DEVIATION[:1])
    drawn = draw(np.repeat(shares, n, axis=0), np.random.default_rng(1).random(n * len(shares)))
    seen = np.bincount(drawn, minlength=5) / n
    error = np.sqrt(shares[0] * (1 - shares[0]) / n)
    assert (np.abs(seen - shares[0]) <= 5 * error + 1e-9).all()


def test_thompson_integrates_what_sampling_would_find() -> None:
    """The largest of normal numbers, drawn a million times."""
    mean, deviation = np.array([[0.2, 0.5, 0.45, 0.1]]), np.array([[0.3, 0.1, 0.2, 1.0]])
    draws = np.random.default_rng(0).normal(mean, deviation, (1_000_000, 4)).argmax(axis=1)
    found = chances(mean, deviation, np.ones((1, 4), bool))
    assert np.allclose(found[0], np.bincount(draws, minlength=4) / len(draws), atol=0.002)


def test_what_is_certain_is_chosen_whatever_the_scale() -> None:
    """Deviations of zero leave the best one, and equal ones share."""
    certain = chances(np.array([[0.1, 0.9, 0.9]]), np.zeros((1, 3)), np.ones((1, 3), bool))
    assert np.allclose(certain, [[0.0, 0.5, 0.5]], atol=1e-6)
    best = Policy(name="linucb", floor=0.3).shares(np.array([[1.0, 1.0, 0.0]]), np.zeros((1, 3)))
    assert np.allclose(best, [[0.45, 0.45, 0.1]])


def test_linucb_hopes_for_what_it_does_not_know() -> None:
    """A lower expectation that is less sure is preferred, as alpha says."""
    mean, deviation = np.array([[0.5, 0.4]]), np.array([[0.0, 0.2]])
    assert Policy(name="linucb", alpha=1.0).shares(mean, deviation)[0].argmax() == 1
    assert Policy(name="linucb", alpha=0.1).shares(mean, deviation)[0].argmax() == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": "greedy"}, "no policy 'greedy'"),
        ({"floor": 0.0}, "floor of the policy is 0.0"),
        ({"epsilon": 2.0}, "epsilon of the policy is 2.0"),
        ({"tau": 1.0}, "a policy has no 'tau'"),
    ],
)
def test_a_policy_that_cannot_be_is_refused(given: dict[str, object], said: str) -> None:
    """With the parameter's name."""
    with pytest.raises(ConfigError, match=said):
        Policy.of(given)


def test_a_policy_survives_json() -> None:
    """As the manifest carries it."""
    policy = Policy(name="softmax", temperature=0.3)
    assert Policy.of(policy.to_json()) == policy
