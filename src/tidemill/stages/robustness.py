"""Robustness: what is left of a model's quality when its inputs go wrong, in each way and at each of five strengths.

It looks at validation rows alone: test sets are opened once a cycle, for one question. So it is asked of the model that
was fitted without these rows, and a refit of the same recipe is shown its answer.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import sparse

from tidemill.data.arrays import Columns
from tidemill.data.corruptions import STRENGTHS, corrupted, corruptions_of, what
from tidemill.data.dataset import DatasetArrays
from tidemill.metrics import row_scores, spread_of
from tidemill.metrics.bootstrap import bca, certain
from tidemill.metrics.decisions import Decisions
from tidemill.metrics.summary import triple_json
from tidemill.metrics.units import Floats, Units, kish, ratio
from tidemill.records import JSON
from tidemill.runtime import Predictor
from tidemill.runtime.answers import Answers

MOST, FEWER = 256, 64
"""Validation rows that are looked at, and how many of a model that answers slowly."""
LONG = 20.0
"""Seconds from which on a model counts as slow."""


def robustness(
    dataset: DatasetArrays,
    predictor: Predictor,
    metric: str,
    *,
    costs: Decisions | None = None,
    speed: float | None = None,
    seed: int = 0,
    on_event: Callable[[JSON], None] | None = None,
) -> JSON | None:
    """The metric on corrupted validation rows, with 95 % intervals.

    Args:
        dataset: the version that the model was made from.
        predictor: the model, fitted without the validation rows.
        metric: the per-row score.
        costs: what ``utility`` is measured in.
        speed: rows a second that it answers, where that is known: a slow one is looked at on fewer rows.
        seed: decides which rows are looked at and what happens to them.
        on_event: told of the progress.

    Returns:
        ``{"metric", "rows", "clean", "corrupted", "corruptions": [{"name", "what", "values", "mean"}]}``, where
        ``corrupted`` is the mean over all corruptions and strengths, and ``values`` has one entry a strength;
        ``None`` where there is no validation row.
    """
    rows = dataset.rows("validation")
    names = corruptions_of(dataset.signature)
    if not len(rows):
        return None
    slow = speed is not None and MOST * len(names) * len(STRENGTHS) > LONG * speed
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(rows)[: FEWER if slow else MOST])
    columns = dataset.columns(rows)
    judged = _Judge(dataset, predictor, metric, costs, rows)
    scores = [judged(columns)]
    for done, name in enumerate(names):
        if on_event is not None:
            on_event({"stage": "evaluate", "what": f"robustness: {name}", "done": done, "total": len(names)})
        scores += [judged(corrupted(columns, dataset.signature, name, strength, seed)) for strength in STRENGTHS]
    units, shares = Units.of(dataset.keys[rows]), metric == "accuracy"
    triples = _intervals(np.stack(scores), judged.weights, units, len(names), seed, shares=shares)
    found = [triple_json(triple) for triple in triples]
    clean, overall, means, each = found[0], found[1], found[2 : 2 + len(names)], found[2 + len(names) :]
    k = len(STRENGTHS)
    return {
        "metric": metric,
        "rows": len(rows),
        "clean": clean,
        "corrupted": overall,
        "corruptions": [
            {
                "name": name,
                "what": what(name, dataset.signature),
                "values": each[i * k : (i + 1) * k],
                "mean": means[i],
            }
            for i, name in enumerate(names)
        ],
    }


class _Judge:
    """Scores the answers to some inputs, row by row."""

    def __init__(
        self,
        dataset: DatasetArrays,
        predictor: Predictor,
        metric: str,
        costs: Decisions | None,
        rows: npt.NDArray[np.int64],
    ) -> None:
        self._predictor, self._metric, self._costs = predictor, metric, costs
        self._rule = Answers(predictor.manifest.answer)
        self._target = np.asarray(dataset.target[rows])
        regression = dataset.signature.kind == "regression"
        self._spread = spread_of(dataset.target[dataset.rows("train")]) if regression else 1.0
        self.weights = np.asarray(dataset.weight[rows], np.float64)

    def __call__(self, columns: Columns) -> Floats:
        p = self._rule.probabilities(self._predictor.scores(columns))
        answers = self._rule.decide(p)
        return row_scores(self._metric, self._target, p, answers, costs=self._costs, spread=self._spread)


def _intervals(
    scores: Floats, weights: Floats, units: Units, kinds: int, seed: int, *, shares: bool
) -> list[tuple[float, float, float]]:
    """Value, low and high of: clean, the mean of all corruptions, each corruption's mean, each one's strengths.

    Args:
        scores: ``[1 + kinds * strengths, n]``.
        weights: ``[n]``.
        units: of the rows.
        kinds: how many corruptions.
        seed: of the resamples.
        shares: scores are 0 or 1, so that all right is no certainty.
    """
    sums = np.stack([units.sum(row * weights) for row in (*scores, np.ones_like(weights))])

    def statistic(total: Floats) -> Floats:
        means = ratio(total[..., :-1], total[..., -1:])
        each = means[..., 1:]
        of_kind = each.reshape(*each.shape[:-1], kinds, -1).mean(-1)
        return np.concatenate([means[..., :1], of_kind.mean(-1, keepdims=True), of_kind, each], axis=-1)

    found = bca(sparse.csr_array(sums), statistic, seed=seed)
    if shares:
        found = certain(found, np.full(len(found.value), kish(units.sum(weights))))
    return list(zip(found.value.tolist(), found.low.tolist(), found.high.tolist(), strict=True))
