"""From reports to a decision: who is compared with whom, on which sets, at what price of α."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tidemill.config import Config
from tidemill.data.dataset import DatasetArrays
from tidemill.data.settled import Settled
from tidemill.gate import Costs, Judged, Policy, Verdict, judge
from tidemill.metrics import prior_probabilities, row_scores, slice_masks
from tidemill.metrics.units import Floats
from tidemill.records import Decision, Generation, Model, new_id
from tidemill.stages.evaluate import Evaluation, RowOutcomes
from tidemill.store import Store
from tidemill.tasks import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A model with what it did on the two test sets; ``recent`` is ``None`` while nothing was audited."""

    model: Model
    reference: Evaluation | None
    recent: Evaluation | None


def judge_contenders(
    task: Task,
    config: Config,
    dataset: DatasetArrays,
    settled: Settled,
    generation: Generation,
    *,
    challenger: Contender,
    champion: Contender | None,
    baseline: Contender | None,
    anchor: Contender | None,
    margin_used: float,
    slices: Sequence[str],
) -> Verdict:
    """Put the contenders before the gate."""
    drawn = settled.audited + settled.drawn_training

    def judged(split: str) -> Judged | None:
        mine = _outcomes(challenger, split)
        if mine is None or not len(mine.rows):
            return None
        audited = split == "recent-test"

        def scores(contender: Contender | None) -> Floats | None:
            outcomes = _outcomes(contender, split)
            return None if outcomes is None else outcomes.scores

        return Judged(
            split="recent" if audited else "reference",
            keys=mine.keys,
            challenger=mine.scores,
            champion=scores(champion),
            anchor=scores(anchor),
            baseline=scores(baseline),
            prior=_majority(task, dataset, mine) if champion is None else None,
            weights=mine.weights,
            slices=_slices(dataset, mine, slices),
            response_rate=settled.answered / settled.audited if audited and settled.audited else None,
            left_out=settled.drawn_training / drawn if audited and drawn else None,
        )

    return judge(
        judged("reference"),
        judged("recent-test"),
        policy_of(config),
        spent=generation.spent,
        metric=task.metric,
        champion_costs=_costs(champion),
        challenger_costs=_costs(challenger),
        margin_used=margin_used,
    )


def policy_of(config: Config) -> Policy:
    """The gate's policy as ``tidemill.yaml`` states it."""
    gate = config.gate
    return Policy(
        alpha=gate.alpha,
        tests=gate.tests,
        margin=gate.margin,
        slice_margin=gate.slice_margin,
        min_effective=gate.min_recent,
        min_response_rate=config.audit.min_response,
        min_slice=gate.min_slice,
        goal=gate.goal,
    )


def make_decision(
    verdict: Verdict, *, cycle_id: str, challenger: str, champion: str | None, generation: Generation
) -> Decision:
    """The verdict as a record."""
    return Decision(
        id=new_id(Decision.prefix),
        cycle_id=cycle_id,
        challenger_id=challenger,
        champion_id=champion,
        outcome=verdict.outcome,
        reason=verdict.reason,
        alpha=verdict.spends,
        generation=generation.number,
        evidence=verdict.evidence,
    )


def current_generation(store: Store, config: Config) -> Generation:
    """The living generation of the test sets; the first is made when there is none."""
    living = store.find(Generation, retired=None, newest_first=True, limit=1)
    if living:
        return living[0]
    first = Generation(id=new_id(Generation.prefix), number=1, alpha=config.gate.alpha)
    store.insert(first)
    return first


def _outcomes(contender: Contender | None, split: str) -> RowOutcomes | None:
    if contender is None:
        return None
    evaluation = contender.recent if split == "recent-test" else contender.reference
    return None if evaluation is None else evaluation.outcomes


def _majority(task: Task, dataset: DatasetArrays, outcomes: RowOutcomes) -> Floats:
    """The scores of always answering with the training rows' class frequencies."""
    prior = prior_probabilities(dataset.target[dataset.rows("train")], outcomes.probabilities.shape[1])
    return row_scores(task.metric, outcomes.target, np.broadcast_to(prior, outcomes.probabilities.shape))


def _slices(
    dataset: DatasetArrays, outcomes: RowOutcomes, columns: Sequence[str]
) -> Mapping[str, npt.NDArray[np.bool_]]:
    raw = {name: column for name, column in dataset.columns(outcomes.rows).items() if name in columns}
    return slice_masks(raw, columns, outcomes.target, dataset.signature.labels)


def _costs(contender: Contender | None) -> Costs | None:
    evaluation = None if contender is None else contender.reference or contender.recent
    if contender is None or evaluation is None:
        return None
    latency = evaluation.report.content["latency"]["single"]["p50_ms"]
    return Costs(latency_ms=latency, size_bytes=contender.model.size_bytes)
