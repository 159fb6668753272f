"""Heads: exact Bayesian regressions that learn one reward at a time."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tidemill.errors import PackageError
from tidemill.runtime.heads import Heads

RNG = np.random.default_rng(0)
Z = np.concatenate([RNG.normal(size=(300, 4)), np.ones((300, 1))], axis=1)
ACTION = RNG.integers(0, 3, 300)
REWARD = (Z @ RNG.normal(size=(5, 3)))[np.arange(300), ACTION] + RNG.normal(0, 0.1, 300)


def test_learning_one_by_one_is_learning_all_at_once() -> None:
    """In whatever order: closed form and rank-one updates agree to eight digits."""
    whole = Heads.fitted(["a", "b", "c"], Z, ACTION, REWARD)
    order = np.random.default_rng(1).permutation(300)
    steps = Heads.blank(["a", "b", "c"], 5).learned(Z[order], ACTION[order], REWARD[order])
    assert np.allclose(steps.mean, whole.mean, atol=1e-8) and np.allclose(steps.spread, whole.spread, atol=1e-8)
    assert whole.noise == pytest.approx(0.1, abs=0.02)


def test_a_reward_that_is_corrected_is_as_if_it_had_been_right_at_first() -> None:
    """Only the expectation hangs on it."""
    right = REWARD.copy()
    right[7] += 2.0
    found = Heads.fitted(["a", "b", "c"], Z, ACTION, REWARD).corrected(Z[7], int(ACTION[7]), 2.0)
    assert np.allclose(found.mean, Heads.fitted(["a", "b", "c"], Z, ACTION, right).mean, atol=1e-8)


def test_weights_count_as_repetitions() -> None:
    """A weight of two is the same reward twice."""
    once = Heads.fitted(["a", "b", "c"], Z, ACTION, REWARD, np.full(300, 2.0))
    twice = Heads.fitted(["a", "b", "c"], np.tile(Z, (2, 1)), np.tile(ACTION, 2), np.tile(REWARD, 2))
    assert np.allclose(once.mean, twice.mean)
    stepped = Heads.blank(["a", "b", "c"], 5).learned(Z, ACTION, REWARD, np.full(300, 2.0))
    assert np.allclose(stepped.mean, twice.mean)


def test_uncertainty_shrinks_where_something_was_seen() -> None:
    """And stays where nothing was."""
    blank = Heads.blank(["a", "b"], 5)
    after = blank.learned(Z[:50], np.zeros(50, int), np.ones(50))
    before_a, before_b = blank.deviation(Z[:5]).T
    a, b = after.deviation(Z[:5]).T
    assert (a < 0.5 * before_a).all() and np.allclose(b, before_b)


def test_a_short_memory_follows_a_world_that_changes() -> None:
    """After a turn the forgetful head is right again long before the other."""
    z, n = np.ones((1000, 1)), np.zeros(1000, int)
    heads = Heads.blank(["a"], 1).learned(z, n, np.zeros(1000), memory=0.99)
    lasting = Heads.blank(["a"], 1).learned(z, n, np.zeros(1000))
    after = heads.learned(z[:200], n[:200], np.ones(200), memory=0.99)
    assert (
        after.expected(z[:1])[0, 0] > 0.8 > 0.3 > lasting.learned(z[:200], n[:200], np.ones(200)).expected(z[:1])[0, 0]
    )


def test_actions_never_seen_begin_with_nothing() -> None:
    """Unsure as any, and known ones stay as they are."""
    heads = Heads.fitted(["a", "b", "c"], Z, ACTION, REWARD)
    more = heads.extended(["b", "d"])
    assert more.actions == ("a", "b", "c", "d") and np.array_equal(more.mean[:3], heads.mean)
    assert (more.deviation(Z[:3])[:, 3] > 5 * more.deviation(Z[:3])[:, 0]).all()
    assert heads.extended(["a"]) is heads


def test_a_state_survives_bytes_to_seven_digits() -> None:
    """As a package or a snapshot holds it."""
    heads = Heads.fitted(["a", "ß", "c"], Z, ACTION, REWARD)
    again = Heads.from_bytes(heads.to_bytes())
    assert again.actions == heads.actions and again.noise == heads.noise
    assert np.allclose(again.mean, heads.mean, atol=1e-6) and again.to_bytes() == heads.to_bytes()


def test_a_damaged_state_is_refused() -> None:
    """Cut off, of other arrays, or with what is no number."""
    heads = Heads.fitted(["a", "b", "c"], Z, ACTION, REWARD)
    content = heads.to_bytes()
    broken = heads.mean.copy()
    broken[0, 0] = np.nan
    for bad in (b"", content[:40], content[:-8], dataclasses.replace(heads, mean=broken).to_bytes()):
        with pytest.raises(PackageError, match="the state cannot be read"):
            Heads.from_bytes(bad)
