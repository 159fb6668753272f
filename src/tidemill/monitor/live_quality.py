"""Live quality: how good the champion's answers to audited traffic were, with an interval.

Only inputs that the audit drew at random count, and only labels that were asked for, each weighted by one over its
inclusion probability. Rows of one caller (or, without callers, of one key) stand or fall together: the interval is
clustered by them. For shares, and scores between 0 and 1, it is Clopper and Pearson's (*Biometrika* 26, 1934) at the
effective number of rows (Korn and Graubard, *Survey Methodology* 24, 1998), which also holds for few rows and for
shares near 1; for errors of numbers it is Student's t with cluster-robust variance.

Choices need no audit: each was drawn at random, so the rewards of all that judge count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from tidemill.data.schema import Kind
from tidemill.data.settled import LiveSample, Settled
from tidemill.metrics.units import Floats, Units, kish
from tidemill.records import Deployment, Prediction
from tidemill.store import Store

METRICS: Mapping[Kind, str] = {
    "classification": "accuracy",
    "multilabel": "f1_samples",
    "regression": "mae",
    "choice": "reward",
}
"""What live quality is, by kind of task: the share of right answers among those given, the F1 of a sample's labels, or
the absolute error; of choices the reward."""
WINDOW = 500
"""The newest labels that count: quality is that of lately, not of all times."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Answers with the labels that people settled on.

    Attributes:
        values: float64 ``[n]``, how well each answer agrees with its label (for numbers how far it is off); NaN where
            no answer was given.
        weights: float64 ``[n]``, one over the inclusion probability.
        units: ``[n]``, who asked, or the key.
        share: the values lie between 0 and 1.
    """

    values: Floats
    weights: Floats
    units: npt.NDArray[Any]
    share: bool = True

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, slots=True)
class Interval:
    """A weighted mean, and where the true one lies; NaN without values, no bounds from fewer than two units."""

    value: float
    low: float
    high: float


def agreement(answer: Mapping[str, Any], label: Any) -> float | None:
    """How well an answer agrees with the label that people settled on; for numbers how far it is off, of a choice what
    it earned.

    ``None`` when the model gave no answer, or one of another kind, which an older task may have left.

    >>> agreement({"label": "7"}, "7"), agreement({"labels": ["a", "b"]}, ["b"]), agreement({"value": 3.0}, 2.5)
    (1.0, 0.6666666666666666, 0.5)
    """
    if "action" in answer:
        return float(label)
    if isinstance(label, list):
        if "labels" not in answer:
            return None
        given, right = set(answer["labels"]), set(label)
        return 2.0 * len(given & right) / (len(given) + len(right)) if given or right else 1.0
    if isinstance(label, str):
        return None if answer.get("label") is None else float(answer["label"] == label)
    return abs(answer["value"] - label) if "value" in answer else None


def judged(store: Store, settled: Settled, deployment: Deployment, kind: Kind, *, most: int = WINDOW) -> Judged:
    """The answers that *deployment* gave to audited inputs whose labels are known, the newest *most* of them.

    One answer counts for each key. Where callers give keys of their own, a label speaks for the inputs that it was
    given to, so an answer to others under the same key does not count. Of choices each has a reward of its own.
    """
    found = _choices(settled, deployment) if kind == "choice" else _audited(store, settled, deployment)
    newest = sorted(found, key=lambda pair: pair[0].id)[-most:]
    values = [agreement(prediction.answer, sample.label) for prediction, sample in newest]
    # What rewards are is said nowhere, so it is taken from all that ever judged.
    share = kind != "regression" and (kind != "choice" or all(0 <= s.label <= 1 for s in _judging(settled)))
    return Judged(
        np.array([np.nan if value is None else value for value in values], np.float64),
        np.array([sample.weight for _, sample in newest], np.float64),
        np.array([f"key {p.key}" if p.caller is None else f"caller {p.caller}" for p, _ in newest]),
        share,
    )


def _audited(store: Store, settled: Settled, deployment: Deployment) -> list[tuple[Prediction, LiveSample]]:
    labels = {s.prediction.key: s for s in _judging(settled)}
    given = store.find(
        Prediction, key=set(labels), model_id=deployment.model_id, audited=True, created_after=deployment.created
    )
    first: dict[str, Prediction] = {}
    for prediction in given:
        if prediction.inputs == labels[prediction.key].prediction.inputs:
            first.setdefault(prediction.key, prediction)
    return [(prediction, labels[key]) for key, prediction in first.items()]


def _choices(settled: Settled, deployment: Deployment) -> list[tuple[Prediction, LiveSample]]:
    return [
        (s.prediction, s)
        for s in _judging(settled)
        if s.prediction.model_id == deployment.model_id and s.prediction.created > deployment.created
    ]


def _judging(settled: Settled) -> Iterable[LiveSample]:
    return (sample for sample in settled.live if sample.split != "train")


def mean_interval(found: Judged, alpha: float, *, share: bool) -> Interval:
    """The weighted mean of the answers given, and its two-sided interval of level 1 - *alpha*.

    Args:
        found: the answers; those that were not given are left out.
        alpha: how often the interval may miss, half of it on each side.
        share: the values lie between 0 and 1.

    >>> rows = Judged(np.repeat([1.0, 0.0], [90, 10]), np.ones(100), np.arange(100))
    >>> [round(v, 3) for v in (lambda i: (i.value, i.low, i.high))(mean_interval(rows, 0.05, share=True))]
    [0.9, 0.822, 0.952]
    """
    given = ~np.isnan(found.values)
    values, weights = found.values[given], found.weights[given]
    total = float(weights.sum())
    if not total > 0:
        return Interval(np.nan, np.nan, np.nan)
    units = Units.of(found.units[given])
    mean = float(values @ weights) / total
    if units.count < 2:
        return Interval(mean, np.nan, np.nan)
    pulls = units.sum(weights * (values - mean)) / total
    variance = units.count / (units.count - 1) * float(np.square(pulls).sum())
    freedom = units.count - 1
    reach = float(special.stdtrit(freedom, 1 - alpha / 2))
    if not share:
        return Interval(mean, mean - reach * variance**0.5, mean + reach * variance**0.5)
    rows = kish(units.sum(weights))
    if variance > 0:
        rows = min(mean * (1 - mean) / variance, float(len(values)))
        # Few units tell the variance badly: Student's t against the normal distribution makes up for it.
        rows *= min(1.0, (float(special.ndtri(1 - alpha / 2)) / reach) ** 2)
    right = mean * rows
    low = float(special.betaincinv(right, rows - right + 1, alpha / 2)) if right > 0 else 0.0
    high = float(special.betaincinv(right + 1, rows - right, 1 - alpha / 2)) if right < rows else 1.0
    return Interval(mean, low, high)
