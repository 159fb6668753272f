"""How a policy chooses: from what each action is expected to earn, and how unsure that is, to its probability.

==============  =================================================================================================
``epsilon``     the best one, and with the probability ``epsilon`` any
``linucb``      the one that may be best: expectation plus ``alpha`` times its standard deviation
``thompson``    each one as likely as it is the best one, where each expectation is normal with ``scale`` times its
                standard deviation
``softmax``     in proportion to the exponential of the expectation over ``temperature``
==============  =================================================================================================

Every policy has a ``floor``: that share of all choices is made blindly among what is offered, so that no action that is
offered has the probability 0. What is computed here is the very distribution that is drawn from, also for Thompson
sampling: its probabilities are integrals, done by quadrature and made to sum to 1, and not the share of some draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy import special

from tidemill.errors import ConfigError
from tidemill.records import JSON

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Name = Literal["epsilon", "linucb", "thompson", "softmax"]
NAMES: tuple[str, ...] = get_args(Name)

_NODES, _REACH = 100, 4.0
_EQUAL = 1e-9
"""Expectations closer than this, relative to the largest, are one: none of them is preferred by a rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A policy with its parameters.

    Attributes:
        name: one of :data:`NAMES`.
        floor: the share of blind choices, above 0 and at most 1.
        epsilon: of ``epsilon``: further blind choices.
        alpha: of ``linucb``: standard deviations that it hopes for.
        scale: of ``thompson``: factor of the standard deviations.
        temperature: of ``softmax``, in units of the reward.

    Raises:
        ConfigError: there is no such policy, or a parameter is out of its range.

    >>> found = Policy(name="epsilon", floor=0.1, epsilon=0.1).shares(np.array([[0.2, 0.5]]), np.ones((1, 2)))
    >>> found.round(3).tolist()
    [[0.095, 0.905]]
    """

    name: Name = "thompson"
    floor: float = 0.02
    epsilon: float = 0.05
    alpha: float = 1.0
    scale: float = 1.0
    temperature: float = 0.1

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise ConfigError(f"there is no policy {self.name!r}", mend=f"Use one of {', '.join(NAMES)}.")
        for name, least, most in (
            ("floor", 1e-6, 1.0),
            ("epsilon", 0.0, 1.0),
            ("alpha", 0.0, 1e6),
            ("scale", 0.0, 1e6),
            ("temperature", 1e-6, 1e6),
        ):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not least <= value <= most:
                raise ConfigError(
                    f"{name} of the policy is {value!r}", mend=f"Give a number from {least:g} to {most:g}."
                )

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> Policy:
        """The policy that :meth:`to_json` wrote.

        Raises:
            ConfigError: a parameter is unknown or wrong.
        """
        known = {f.name for f in fields(cls)}
        for name in spec:
            if name not in known:
                raise ConfigError(f"a policy has no {name!r}", mend=f"Its parameters are {', '.join(sorted(known))}.")
        return cls(**spec)

    def to_json(self) -> JSON:
        """JSON."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def shares(self, mean: Floats, deviation: Floats, offered: Mask | None = None) -> Floats:
        """The probability of each action, float64 ``[n, k]``; 0 for what is not offered, and nowhere else.

        Args:
            mean: what each action is expected to earn, ``[n, k]``.
            deviation: the standard deviation of that, ``[n, k]``.
            offered: which actions there are in each row, at least one; all unless given.
        """
        n, k = mean.shape
        if offered is None:
            offered = np.ones((n, k), np.bool_)
        some = offered.sum(axis=1, keepdims=True)
        blind = offered / some
        if self.name == "epsilon":
            own = (1 - self.epsilon) * _best(mean, offered) + self.epsilon * blind
        elif self.name == "linucb":
            own = _best(mean + self.alpha * deviation, offered)
        elif self.name == "thompson":
            own = chances(mean, self.scale * deviation, offered)
        else:
            powers = np.where(offered, mean / self.temperature, -np.inf)
            powers = np.exp(powers - powers.max(axis=1, keepdims=True))
            own = powers / powers.sum(axis=1, keepdims=True)
        mixed = (1 - self.floor) * own + self.floor * blind
        mixed /= mixed.sum(axis=1, keepdims=True)
        return np.asarray(mixed, np.float64)


def _best(score: Floats, offered: Mask) -> Floats:
    """All of the probability on the best of what is offered; equal ones share it."""
    score = np.where(offered, score, -np.inf)
    top = score.max(axis=1, keepdims=True)
    best = offered & (score >= top - _EQUAL * np.maximum(1.0, np.abs(top)))
    share: Floats = best / best.sum(axis=1, keepdims=True)
    return share


def chances(mean: Floats, deviation: Floats, offered: Mask) -> Floats:
    """With which probability each of independent normal numbers is the largest, float64 ``[n, k]``.

    What hopes for less than another one fears is never the largest. Of two, the probability is that of their
    difference. For more it is integrated: between the quantiles of all of them each one's own probability is exact and
    the others are taken as straight. The errors stay near a thousandth, and are divided out, so that the probabilities
    sum to 1 to the last digit.

    >>> chances(np.array([[0.0, 0.0, 9.0]]), np.ones((1, 3)), np.array([[True, True, False]])).round(3).tolist()
    [[0.5, 0.5, 0.0]]
    """
    k = mean.shape[1]
    if k == 1:
        return np.ones_like(mean)
    width = max(float(np.abs(mean).max(initial=0.0)), 1.0)
    deviation = np.maximum(deviation, 1e-6 * width)  # what is certain is a very narrow normal number
    reach = _REACH * deviation
    floor = np.where(offered, mean - reach, -np.inf).max(axis=1, keepdims=True)
    live = offered & (mean + reach > floor)
    rivals = live.sum(axis=1)
    share: Floats = np.zeros_like(mean)
    share[rivals == 1] = live[rivals == 1]
    for rows in (np.flatnonzero(rivals == 2), np.flatnonzero(rivals > 2)):
        if not len(rows):
            continue
        most = int(rivals[rows].max())
        places = np.argsort(~live[rows], axis=1, kind="stable")[:, :most]  # the others would only cost time
        m, s, there = (np.take_along_axis(a[rows], places, axis=1) for a in (mean, deviation, live))
        share[rows[:, None], places] = _of_two(m, s) if most == 2 else _integrated(m, s, there, floor[rows])
    return share


def _of_two(mean: Floats, deviation: Floats) -> Floats:
    """:func:`chances` of two numbers a row."""
    first = special.ndtr((mean[:, 0] - mean[:, 1]) / np.hypot(deviation[:, 0], deviation[:, 1]))
    return np.stack([first, 1 - first], axis=1)


def _integrated(mean: Floats, deviation: Floats, live: Mask, floor: Floats) -> Floats:
    """:func:`chances` of those that are *live*, above *floor* ``[n, 1]``, which one of them surely is."""
    n, k = mean.shape
    steps = np.linspace(-_REACH, _REACH, max(5, _NODES // k) | 1)
    places = mean[:, :, None] + deviation[:, :, None] * steps
    places = np.where(live[:, :, None], np.maximum(places, floor[:, :, None]), floor[:, :, None]).reshape(n, -1)
    places.sort(axis=1)
    below = (places[:, None, :] - mean[:, :, None]) / deviation[:, :, None]
    special.ndtr(below, out=below)
    below[~live] = 1.0
    others = np.multiply.reduce(below, axis=1, keepdims=True) / below  # above the floor none of them is near 0
    found = np.einsum("nkp,nkp->nk", np.diff(below, axis=2), others[:, :, 1:] + others[:, :, :-1])
    total = found.sum(axis=1, keepdims=True)
    share: Floats = np.where(total > 1e-9, found / np.maximum(total, 1e-9), _best(mean, live))
    return share


def draw(shares: Floats, points: Floats) -> npt.NDArray[np.int64]:
    """One action a row by its probability, int64 ``[n]``; what has the probability 0 is never drawn.

    Args:
        shares: the probabilities, ``[n, k]``.
        points: what decides, ``[n]``: drawn evenly from 0 up to 1.

    >>> draw(np.array([[0.0, 0.5, 0.5]] * 3), np.array([0.0, 0.4, 0.6])).tolist()
    [1, 1, 2]
    """
    ends = np.cumsum(shares, axis=1)
    point = points * ends[:, -1]
    found = np.minimum((point[:, None] >= ends).sum(axis=1), shares.shape[1] - 1)
    none = shares[np.arange(len(found)), found] <= 0  # the point lay on an end, by a rounding
    if none.any():
        found[none] = shares[none].argmax(axis=1)
    return np.asarray(found, np.int64)
