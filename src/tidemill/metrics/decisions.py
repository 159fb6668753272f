"""From probabilities to a decision: the answer that costs least, or none where silence is cheaper or safer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.metrics.units import Floats

ABSTAINS = -1
"""Stands where a label's code would, for a row that gets no answer."""


@dataclass(frozen=True, slots=True)
class Decisions:
    """How a classifier decides.

    Attributes:
        costs: float64 ``[k, k]``, what each answer (column) costs where each label (row) is true; ``None`` when every
            wrong answer costs one and a right one nothing.
        abstain_cost: what no answer costs; ``None`` when it has no price.
        threshold: the least probability that an answer must have to be given; ``None`` for any.

    >>> spam = Decisions(costs=np.array([[0.0, 10.0], [1.0, 0.0]]))  # ham taken for spam costs ten times as much
    >>> spam.choose(np.array([[0.2, 0.8], [0.05, 0.95]])).tolist()
    [0, 1]
    >>> Decisions(abstain_cost=0.3).choose(np.array([[0.4, 0.6], [0.1, 0.9]])).tolist()
    [-1, 1]
    """

    costs: Floats | None = None
    abstain_cost: float | None = None
    threshold: float | None = None

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> Decisions:
        """The rule in an answer spec (see :mod:`tidemill.runtime.answers`)."""
        costs = spec.get("costs")
        return cls(
            costs=None if costs is None else np.asarray(costs, np.float64),
            abstain_cost=spec.get("abstain_cost"),
            threshold=spec.get("threshold"),
        )

    @property
    def abstains(self) -> bool:
        """Some rows may get no answer."""
        return self.abstain_cost is not None or self.threshold is not None

    @property
    def largest(self) -> float:
        """The largest cost that one row can have; utilities are shares of it."""
        wrong = 1.0 if self.costs is None else float(self.costs.max())
        return max(wrong, self.abstain_cost or 0.0)

    def guess(self, probabilities: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """The codes ``[n]`` that cost least in expectation, given as an answer or not.

        See Elkan, *The foundations of cost-sensitive learning*, IJCAI 2001.
        """
        if self.costs is None:
            return np.asarray(probabilities.argmax(axis=1), np.int64)
        return np.asarray((probabilities @ self.costs).argmin(axis=1), np.int64)

    def choose(self, probabilities: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """The codes ``[n]`` that are answered; -1 where the model abstains.

        It does where even the least expected cost is above ``abstain_cost`` (Chow, *On optimum recognition error and
        reject tradeoff*, IEEE Trans. Information Theory 16, 1970), or the answer's probability under ``threshold``.

        Args:
            probabilities: ``[n, k]``.
        """
        chosen = self.guess(probabilities)
        if not self.abstains:
            return chosen
        sure = np.take_along_axis(probabilities, chosen[:, None], axis=1)[:, 0]
        silent = np.zeros(len(chosen), np.bool_)
        if self.abstain_cost is not None:
            expected = 1 - sure if self.costs is None else (probabilities @ self.costs).min(axis=1)
            silent |= expected > self.abstain_cost
        if self.threshold is not None:
            silent |= sure < self.threshold
        return np.where(silent, ABSTAINS, chosen)

    def cost(self, target: npt.NDArray[Any], answers: npt.NDArray[Any]) -> Floats:
        """What the answers ``[n]`` cost where the codes ``[n]`` are true, float64 ``[n]``.

        An abstention without a price costs as much as the worst answer to that row would, so that silence is never a
        way to look better.
        """
        given = np.maximum(answers, 0)
        if self.costs is None:
            paid, worst = (given != target).astype(np.float64), np.ones(len(target))
        else:
            paid, worst = self.costs[target, given], self.costs.max(axis=1)[target]
        silence = worst if self.abstain_cost is None else self.abstain_cost
        return np.asarray(np.where(answers < 0, silence, paid), np.float64)
