"""What a policy would have earned, told from choices that another one made: off-policy estimates with intervals.

A row is one logged choice: what was chosen, with which probability it was (its *propensity*), and what it earned. The
policy that is judged gives each action of the row a probability of its own; their quotient for the chosen action is the
row's *importance*.

==============  ==================================================================================================
``ips``         the mean of importance times reward: unbiased, and noisy where importances are large
``snips``       the same, divided by the mean importance: a little biased, and much less noisy
``dm``          the direct method: what a model of the rewards expects of the policy; as wrong as the model is
``dr``          doubly robust: the model's expectation, and what importances say of its errors; right when either is
``switch``      doubly robust, but where an importance exceeds a limit the model alone is believed
``calibrated``  doubly robust, less as much of two things whose true mean is 0 as makes it least noisy: what importances
                say of the model's word alone, and how far they are from 1 on average
==============  ==================================================================================================

``calibrated`` is the regression estimator of sampling theory (Cassel, Särndal and Wretman, 1976), and two control
variates to Owen and Zhou (*JASA* 95, 2000). With enough rows it is no noisier than ``ips``, ``snips`` and ``dr``, which
are like it with other factors: near ``snips`` where the model of rewards is poor, near ``dr`` where it is good. So the
gate decides by this one.

Dudík, Langford and Li, *Doubly Robust Policy Evaluation and Learning* (ICML 2011); Swaminathan and Joachims, *The
Self-Normalized Estimator for Counterfactual Learning* (NIPS 2015); Wang, Agarwal and Dudík, *Optimal and Adaptive
Off-policy Evaluation in Contextual Bandits* (ICML 2017).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from tidemill.errors import InputError
from tidemill.metrics.bootstrap import bca
from tidemill.metrics.units import Floats, Units, kish
from tidemill.records import JSON

ESTIMATORS = ("ips", "snips", "dm", "dr", "switch", "calibrated")
DECISIVE = "calibrated"
"""The estimator by which models are chosen and the gate decides."""
SWITCH = 10.0
"""The importance above which ``switch`` believes the model alone, unless another limit is given."""
_SUM = 1e-6  # by which the probabilities of a row may miss 1, relative to how many there are


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """Logged choices, checked.

    Attributes:
        action: what was chosen: codes int ``[n]``.
        reward: what it earned, float64 ``[n]``.
        propensity: the probability with which it was chosen, float64 ``[n]``, above 0 and at most 1.

    Raises:
        InputError: the arrays differ in length, a propensity is out of its range, or a number is none; names the row.

    >>> len(Choices(action=np.array([0]), reward=np.array([1.0]), propensity=np.array([0.25])))
    1
    """

    action: npt.NDArray[Any]
    reward: Floats
    propensity: Floats

    def __post_init__(self) -> None:
        n = len(self.action)
        if len(self.reward) != n or len(self.propensity) != n:
            sizes = f"{n} actions, {len(self.reward)} rewards and {len(self.propensity)} propensities"
            raise InputError(f"there are {sizes}", mend="Give one of each for every choice.")
        if not np.isfinite(self.reward).all():
            row = int(np.argmin(np.isfinite(self.reward)))
            raise InputError("the reward is no finite number", where=f"row {row + 1}", mend="Give a finite number.")
        require_propensities(self.propensity)

    def __len__(self) -> int:
        return len(self.action)


def require_propensities(propensity: Floats, where: Sequence[str] | None = None) -> None:
    """Refuse propensities of chosen actions that can be none.

    Args:
        propensity: float64 ``[n]``.
        where: what people call each row; its number unless given.

    Raises:
        InputError: one is missing, not above 0, or above 1; names the first row.
    """
    with np.errstate(invalid="ignore"):
        wrong = ~((propensity > 0) & (propensity <= 1))
    if not wrong.any():
        return
    row = int(np.argmax(wrong))
    value = float(propensity[row])
    place = where[row] if where is not None else f"row {row + 1}"
    if math.isnan(value):
        raise InputError("the propensity is missing", where=place, mend="Log with which probability it was chosen.")
    if value == 0:
        raise InputError(
            "the propensity is 0, though this action was chosen",
            where=place,
            mend="Log the probability with which the action was really drawn; it cannot be 0.",
        )
    raise InputError(
        f"the propensity is {value:g}", where=place, mend="Give a probability above 0 and at most 1, not in percent."
    )


def require_distribution(policy: Floats) -> None:
    """Refuse rows of probabilities that are none.

    Args:
        policy: float64 ``[n, actions]``; 0 for what was not offered.

    Raises:
        InputError: one is negative or no number, or a row does not sum to 1; names the first row.
    """
    wrong = ~(np.isfinite(policy) & (policy >= 0)).all(axis=1)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError("a probability is negative or no number", where=f"row {row + 1}", mend="Give 0 to 1.")
    sums = policy.sum(axis=1)
    wrong = np.abs(sums - 1) > _SUM * max(policy.shape[1], 1)
    if wrong.any():
        row = int(np.argmax(wrong))
        mend = "Give one probability for every action that was offered, 0 for the others."
        raise InputError(f"the probabilities sum to {sums[row]:.6g}, not to 1", where=f"row {row + 1}", mend=mend)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """Logged choices as a policy sees them: all that its estimates are made of, float64 ``[n]`` each.

    Attributes:
        importance: how much likelier the policy chooses what was chosen than whoever chose it.
        reward: what it earned.
        model: what a model of the rewards expects of the policy; ``None`` without a model.
        told: what the model expects of the action that was chosen; ``None`` likewise.
    """

    importance: Floats
    reward: Floats
    model: Floats | None = None
    told: Floats | None = None

    def __len__(self) -> int:
        return len(self.reward)


def weigh(choices: Choices, policy: Floats, expected: Floats | None = None) -> Weighed:
    """*choices* as *policy* sees them.

    Args:
        choices: what was logged.
        policy: the probability that the judged policy gives each action, float64 ``[n, actions]``; 0 for what was not
            offered.
        expected: what a model of the rewards expects of each action, float64 ``[n, actions]``; it must not have seen
            these rows.

    Raises:
        InputError: the policy's rows are no probabilities.

    >>> one = Choices(action=np.array([1]), reward=np.array([1.0]), propensity=np.array([0.25]))
    >>> weigh(one, np.array([[0.5, 0.5]])).importance.tolist()
    [2.0]
    """
    require_distribution(policy)
    rows = np.arange(len(choices))
    importance = policy[rows, choices.action] / choices.propensity
    if expected is None:
        return Weighed(importance=importance, reward=choices.reward)
    model: Floats = np.einsum("na,na->n", policy, expected)
    return Weighed(importance=importance, reward=choices.reward, model=model, told=expected[rows, choices.action])


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """An estimate of a policy's mean reward.

    Attributes:
        value: the estimate.
        low, high: 95 % bootstrap interval (bias-corrected and accelerated); NaN of a single row.
        sure_low, sure_high: 95 % empirical-Bernstein interval, which holds for every sample size, and is much wider;
            NaN for ``snips`` and ``calibrated``, which are no means of independent terms.
    """

    value: float
    low: float
    high: float
    sure_low: float
    sure_high: float

    def to_json(self) -> JSON:
        """JSON; ``None`` for what is not defined."""
        found = {name: getattr(self, name) for name in ("value", "low", "high", "sure_low", "sure_high")}
        return {name: float(value) if math.isfinite(value) else None for name, value in found.items()}


def contributions(estimator: str, weighed: Weighed, *, limit: float = SWITCH) -> Floats:
    """What each row adds to an estimate, float64 ``[n]``: the estimate is their mean, but for ``snips``.

    For ``snips`` the numerators of the ratio; the importances are its denominators.

    Args:
        estimator: one of :data:`ESTIMATORS`; all but ``ips`` and ``snips`` need a model.
        weighed: what was logged.
        limit: of ``switch``.

    Raises:
        InputError: there is no such estimator, or it needs a model.
    """
    if estimator not in ESTIMATORS:
        raise InputError(f"there is no estimator {estimator!r}", mend=f"Use one of {', '.join(ESTIMATORS)}.")
    w = weighed.importance
    if estimator in ("ips", "snips"):
        return w * weighed.reward
    if weighed.model is None or weighed.told is None:
        raise InputError(f"{estimator} needs what a model expects of each action", mend="Use ips or snips.")
    if estimator == "dm":
        return weighed.model
    if estimator == "switch":
        w = np.where(w <= limit, w, 0.0)
    found: Floats = weighed.model + w * (weighed.reward - weighed.told)
    if estimator == "calibrated":
        sums = _calibrating(weighed).sum(axis=1)
        return found - np.stack(_shares(sums)) @ _idle(weighed)
    return found


def _idle(weighed: Weighed) -> Floats:
    """Two numbers a row whose true mean is 0, whatever is earned: float64 ``[2, n]``."""
    assert weighed.model is not None and weighed.told is not None
    return np.stack([weighed.importance * weighed.told - weighed.model, weighed.importance - 1.0])


def _calibrating(weighed: Weighed) -> Floats:
    """What the sums are made of that ``calibrated`` needs, float64 ``[9, n]``."""
    t, (a, b) = contributions("dr", weighed), _idle(weighed)
    return np.stack([t, a, b, a * a, a * b, b * b, t * a, t * b, np.ones_like(t)])


def _shares(sums: Floats) -> tuple[Floats, Floats]:
    """How much of each of :func:`_idle` to take away, by least squares, from sums ``[…, 9]``: two of ``[…]``."""
    t, a, b, aa, ab, bb, ta, tb, n = np.moveaxis(sums, -1, 0)
    n = np.maximum(n, 1.0)
    aa, ab, bb, ta, tb = aa - a * a / n, ab - a * b / n, bb - b * b / n, ta - t * a / n, tb - t * b / n
    little = 1e-9 * (aa + bb) + np.finfo(float).tiny  # where one follows from the other, or never differs from 0
    aa, bb = aa + little, bb + little
    size = aa * bb - ab * ab
    size = np.where(size > 0, size, np.inf)
    return (bb * ta - ab * tb) / size, (aa * tb - ab * ta) / size


def _calibrated(sums: Floats) -> Floats:
    """The estimate from sums ``[…, 9]``."""
    one, two = _shares(sums)
    found: Floats = (sums[..., 0] - one * sums[..., 1] - two * sums[..., 2]) / np.maximum(sums[..., 8], 1e-300)
    return found


def estimate(
    weighed: Weighed,
    *,
    keys: npt.NDArray[Any] | None = None,
    estimators: Sequence[str] | None = None,
    limit: float = SWITCH,
    reward_range: tuple[float, float] | None = None,
    largest: float | None = None,
    replicates: int | None = None,
    seed: int = 0,
) -> dict[str, Value]:
    """The policy's mean reward by several estimators, each with its intervals.

    Args:
        weighed: what was logged.
        keys: rows of one key are one draw to the intervals; each row for itself unless given.
        estimators: which; all that there is a model for unless given.
        limit: of ``switch``.
        reward_range: between which rewards lie, for the empirical-Bernstein intervals; that of the rewards seen unless
            given.
        largest: the largest importance that there can be, likewise; the largest seen unless given. An exploration floor
            bounds it.
        replicates: of the bootstrap.
        seed: of its draws.

    Raises:
        InputError: there are no rows, or an estimator lacks a model.
    """
    n = len(weighed)
    if not n:
        raise InputError("there are no logged choices", mend="Import logs, or wait for rewards.")
    names = list(estimators or (ESTIMATORS if weighed.model is not None else ("ips", "snips")))
    w = weighed.importance
    # `calibrated` starts from the terms of `dr`, and takes from their sums what it finds to take
    terms = np.stack([contributions("dr" if name == "calibrated" else name, weighed, limit=limit) for name in names])
    units = Units.of(np.arange(n) if keys is None else keys).grouped(seed)
    k = len(names)
    beside = _calibrating(weighed) if "calibrated" in names else np.empty((0, n))
    sums = np.stack([units.sum(row) for row in (*terms, w, np.ones(n), *beside)])

    def values(totals: Floats) -> Floats:
        over = [totals[..., k] if name == "snips" else totals[..., k + 1] for name in names]
        under = np.maximum(np.stack(over, axis=-1), np.finfo(float).tiny)
        found: Floats = totals[..., :k] / under
        if "calibrated" in names:  # each resample calibrates anew
            found[..., names.index("calibrated")] = _calibrated(totals[..., k + 2 :])
        return found

    told = bca(sparse.csr_array(sums), values, replicates=replicates, seed=seed)
    low, high = reward_range or (float(weighed.reward.min()), float(weighed.reward.max()))
    most = float(w.max()) if largest is None else largest
    found = {}
    for place, name in enumerate(names):
        sure = (math.nan, math.nan)
        if name not in ("snips", "calibrated"):
            ends = _range(name, low, high, min(most, limit) if name == "switch" else most, weighed)
            if keys is None:
                sure = bernstein(terms[place], *ends)
            else:
                own = Units.of(keys)
                sure = bernstein(own.sum(terms[place]), *ends, sizes=own.sum(np.ones(n)))
        found[name] = Value(
            value=float(told.value[place]),
            low=float(told.low[place]),
            high=float(told.high[place]),
            sure_low=sure[0],
            sure_high=sure[1],
        )
    return found


def _range(name: str, low: float, high: float, most: float, weighed: Weighed) -> tuple[float, float]:
    """Between which numbers a row's contribution to an estimator lies."""
    if name == "ips":
        return min(0.0, low * most), max(0.0, high * most)
    assert weighed.model is not None and weighed.told is not None
    below = min(low, float(weighed.model.min()), float(weighed.told.min()))
    above = max(high, float(weighed.model.max()), float(weighed.told.max()))
    if name == "dm":
        return below, above
    return below - most * (above - low), above + most * (high - below)


def bernstein(
    terms: Floats, low: float, high: float, *, sizes: Floats | None = None, confidence: float = 0.95
) -> tuple[float, float]:
    """A two-sided interval for the mean of independent *terms* that lie between *low* and *high*, whatever else.

    Maurer and Pontil, *Empirical Bernstein Bounds and Sample Variance Penalization* (COLT 2009): theorem 4, for each
    side once.

    Args:
        terms: float64 ``[n]``; where *sizes* are given, sums over as many rows each.
        low, high: between which numbers a row's term lies.
        sizes: rows of each term.
        confidence: of both sides together.

    >>> low, high = bernstein(np.array([0.0, 1.0] * 500), 0.0, 1.0)
    >>> round(low, 3), round(high, 3)
    (0.443, 0.557)
    """
    n = len(terms)
    if n < 2:
        return low, high
    span = (high - low) * (1.0 if sizes is None else float(sizes.max()))
    scale = 1.0 if sizes is None else n / float(sizes.sum())
    chance = math.log(2 / ((1 - confidence) / 2))
    mean, variance = float(terms.mean()), float(terms.var(ddof=1))
    reach = math.sqrt(2 * variance * chance / n) + 7 * span * chance / (3 * (n - 1))
    return max((mean - reach) * scale, low), min((mean + reach) * scale, high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Support:
    """Whether logged choices can tell what a policy would earn.

    Attributes:
        rows: logged choices.
        effective: Kish's effective number of them, under the policy's importances.
        mean: the mean importance; 1 when the logs hold whatever the policy would choose, less where they do not.
        mean_high: how large it may be by chance, at 97.5 %.
        largest: the largest importance.
        heaviest: the share of all importance that the heaviest hundredth of rows has.
    """

    rows: int
    effective: float
    mean: float
    mean_high: float
    largest: float
    heaviest: float

    def to_json(self) -> JSON:
        """JSON."""
        return {name: getattr(self, name) for name in self.__slots__}

    def refusal(self, least: float, covered: float = 0.9) -> str | None:
        """Why the logs cannot support a claim, in plain words; ``None`` when they can.

        Args:
            least: effective choices that a claim needs.
            covered: share of the policy's choices that the logs must hold.
        """
        return refusal_of(self.to_json(), least, covered)


def refusal_of(facts: JSON, least: float, covered: float = 0.9) -> str | None:
    """See :meth:`Support.refusal`; *facts* as :meth:`Support.to_json` gives them.

    >>> refusal_of({"rows": 1000, "effective": 12.0, "mean": 0.3, "mean_high": 0.5}, 200)
    'the logged policy almost never chose what the challenger would: at most 50 % of its choices can be found in the \
1,000 logged ones'
    """
    rows, effective = int(facts["rows"]), float(facts["effective"])
    if facts["mean_high"] < covered:
        share = 100 * float(facts["mean_high"])
        return (
            "the logged policy almost never chose what the challenger would: at most "
            f"{share:.0f} % of its choices can be found in the {rows:,} logged ones"
        )
    if effective < least:
        return (
            f"the logged policy chose too seldom what the challenger would: the {rows:,} logged choices are worth "
            f"{effective:,.0f} of the challenger's own, and {least:,.0f} are needed"
        )
    return None


def support(weighed: Weighed, keys: npt.NDArray[Any] | None = None) -> Support:
    """Whether logged choices can tell what the policy would earn.

    >>> logs = Choices(action=np.zeros(4, int), reward=np.ones(4), propensity=np.full(4, 0.5))
    >>> support(weigh(logs, np.array([[1.0, 0.0]] * 4))).effective
    4.0
    """
    w = weighed.importance
    n = len(w)
    totals = w if keys is None else Units.of(keys).sum(w)
    total = max(float(w.sum()), np.finfo(float).tiny)
    spread = float(totals.std(ddof=1)) * math.sqrt(len(totals)) / n if len(totals) > 1 else math.inf
    heaviest = np.sort(w)[-max(1, n // 100) :]
    mean = float(w.mean()) if n else 0.0
    # Importances are skewed: what no row has shown yet, no spread tells, so a few rows never speak against the logs.
    reach = 1.96 * spread + 3.0 / max(n, 1)
    return Support(
        rows=n,
        effective=kish(totals),
        mean=mean,
        mean_high=min(mean + reach, max(mean, 1.0) + 1.0) if math.isfinite(reach) else mean + 1.0,
        largest=float(w.max(initial=0.0)),
        heaviest=float(heaviest.sum()) / total,
    )
