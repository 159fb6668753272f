"""From reports to a decision: who is compared with whom, on which sets, at what price of α."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from tidemill.config import Config
from tidemill.data.dataset import DatasetArrays
from tidemill.data.settled import Settled
from tidemill.gate import Costs, Judged, Policy, judge
from tidemill.loop._base import OnEvent, Setting
from tidemill.loop.fitting import unfit
from tidemill.metrics import constant_scores, slice_masks
from tidemill.metrics.off_policy import support
from tidemill.metrics.units import Floats
from tidemill.monitor.rollout_start import judge_of, new_rollout
from tidemill.records import Cycle, Decision, Deployment, Generation, Model, Rollout, new_id
from tidemill.runtime import load
from tidemill.stages.deploy import deploy
from tidemill.stages.evaluate import Evaluation, RowOutcomes, evaluate, training_spread
from tidemill.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A model with what it did on the two test sets; ``None`` for a set that holds nothing yet."""

    model: Model
    reference: Evaluation | None
    recent: Evaluation | None

    def outcomes(self, split: str) -> RowOutcomes | None:
        """What it did on each row of a set."""
        evaluation = self.recent if split == "recent-test" else self.reference
        return None if evaluation is None else evaluation.outcomes


class Bench:
    """Opens the test sets of one dataset version for those who are compared, and decides.

    Args:
        setting: store, task and configuration.
        cycle: the cycle that asks; ``None`` when a person does.
        dataset: whose test sets are opened.
        settled: tells how the audit was answered.
        on_event: told what happens.
    """

    def __init__(
        self, setting: Setting, cycle: Cycle | None, dataset: DatasetArrays, settled: Settled, on_event: OnEvent
    ) -> None:
        self.setting = setting
        self.store = setting.store
        self.cycle_id = None if cycle is None else cycle.id
        self.dataset = dataset
        self.settled = settled
        self.on_event = on_event

    def decide(self, challenger_id: str, baseline_id: str | None) -> Decision:
        """Judge a challenger, and put the decision into force.

        A decision that was made before this was killed is given again: a second look would spend α twice.

        Args:
            challenger_id: the model that wants to serve.
            baseline_id: the best baseline, which it must not be worse than; ``None`` when it is one itself.
        """
        made = self.store.find(Decision, cycle_id=self.cycle_id, challenger_id=challenger_id, limit=1)
        if made:
            return made[0]
        self.on_event({"stage": "evaluate", "what": "opening the test sets for the challenger"})
        challenger = self._contender(challenger_id)
        in_force = self.store.champion()
        why = self._unfit(in_force.model_id) if in_force else None
        champion = self._contender(in_force.model_id) if in_force and why is None else None
        anchor, margin_used = self._anchor(champion)
        generation = current_generation(self.store, self.setting.config)
        baseline = self._contender(baseline_id) if baseline_id else None
        verdict = judge(
            self._judged("reference", challenger, champion, baseline, anchor),
            self._judged("recent-test", challenger, champion, baseline, anchor),
            policy_of(self.setting.config),
            spent=generation.spent,
            metric=self.setting.metric,
            champion_costs=_costs(champion),
            challenger_costs=_costs(challenger),
            margin_used=margin_used,
            incomparable=why,
        )
        decision = Decision(
            id=new_id(Decision.prefix),
            cycle_id=self.cycle_id,
            challenger_id=challenger_id,
            champion_id=in_force.model_id if in_force else None,
            outcome=verdict.outcome,
            reason=verdict.reason,
            alpha=verdict.spends,
            generation=generation.number,
            evidence=verdict.evidence,
        )
        folder = self.store.root / challenger.model.path
        made_now = deploy(
            self.store,
            decision,
            generation,
            spends=verdict.spends,
            warm_up=lambda: load(folder, threads=self.setting.threads).warm_up(),
            rollout=partial(self._rollout, decision) if self._rolls_out else None,
        )
        self.on_event({"stage": "deploy", "what": f"{made_now.outcome}: {made_now.reason}"})
        return made_now

    @property
    def _rolls_out(self) -> bool:
        """Whether a winner proves itself first."""
        return self.setting.config.rollout.policy != "direct"

    def _rollout(self, decision: Decision, champion_id: str) -> Rollout:
        setting = self.setting
        return new_rollout(
            self.store,
            setting.config,
            judge_of(setting.task, setting.config, training_spread(self.dataset)),
            champion=champion_id,
            challenger=decision.challenger_id,
            reason=decision.reason,
            decision=decision.id,
        )

    def _contender(self, model_id: str) -> Contender:
        model = self.store.get(Model, model_id)
        predictor = load(self.store.root / model.path, threads=self.setting.threads)
        reference, recent = (
            evaluate(
                self.store,
                self.dataset,
                predictor,
                split,
                model_id=model.id,
                task=self.setting.task,
                metric=self.setting.metric,
                costs=self.setting.costs(self.dataset.signature),
                on_event=self.on_event,
            )
            if len(self.dataset.rows(split))
            else None
            for split in ("reference", "recent-test")
        )
        return Contender(model=model, reference=reference, recent=recent)

    def _unfit(self, model_id: str) -> str | None:
        return unfit(self.store.root / self.store.get(Model, model_id).path, self.dataset.signature)

    def _anchor(self, champion: Contender | None) -> tuple[Contender | None, float]:
        """The model that margins are measured from, and the margin already used where it has been cleaned up.

        It is the last one that won by superiority; later champions may only have been no worse than it.
        """
        served = {deployment.decision_id for deployment in self.store.find(Deployment)}  # not all roll-outs end well
        promoted = [d for d in self.store.find(Decision, outcome="promoted", newest_first=True) if d.id in served]
        won = next((d for d in promoted if d.evidence["becomes_anchor"]), None)
        if won is None or champion is None or won.challenger_id == champion.model.id:
            return None, 0.0
        if self._unfit(won.challenger_id) is None:
            return self._contender(won.challenger_id), 0.0
        return None, float(promoted[0].evidence["margin_used_after"])

    def _judged(
        self,
        split: str,
        challenger: Contender,
        champion: Contender | None,
        baseline: Contender | None,
        anchor: Contender | None,
    ) -> Judged | None:
        mine = challenger.outcomes(split)
        if mine is None:
            return None
        settled, audited = self.settled, split == "recent-test"
        drawn = settled.audited + settled.drawn_training

        def scores(contender: Contender | None) -> Floats | None:
            outcomes = None if contender is None else contender.outcomes(split)
            return None if outcomes is None else outcomes.scores

        return Judged(
            split="recent" if audited else "reference",
            keys=mine.keys,
            challenger=mine.scores,
            champion=scores(champion),
            anchor=scores(anchor),
            baseline=scores(baseline),
            prior=self._constant(mine) if champion is None else None,
            weights=mine.weights,
            slices=self._slices(mine),
            response_rate=settled.answered / settled.audited if audited and settled.audited else None,
            left_out=settled.drawn_training / drawn if audited and drawn else None,
            support=None if mine.hindsight is None else support(mine.hindsight.weighed, mine.keys).to_json(),
        )

    def _constant(self, outcomes: RowOutcomes) -> Floats:
        """The scores of the best answer that the training rows' targets alone suggest, always the same."""
        signature, rows = self.dataset.signature, self.dataset.rows("train")
        if outcomes.hindsight is not None:  # what the choices that were logged have earned
            return outcomes.hindsight.weighed.reward
        return constant_scores(
            self.setting.metric,
            signature.kind,
            self.dataset.target[rows],
            outcomes.target,
            max(1, len(signature.labels)),
            weight=self.dataset.weight[rows],
            costs=self.setting.costs(signature),
            spread=training_spread(self.dataset),
        )

    def _slices(self, outcomes: RowOutcomes) -> Mapping[str, npt.NDArray[np.bool_]]:
        signature, wanted = self.dataset.signature, self.setting.config.gate.slices
        names: Sequence[str] = self.setting.task.slices(signature) if wanted is None else wanted
        raw = {name: column for name, column in self.dataset.columns(outcomes.rows).items() if name in names}
        if outcomes.hindsight is not None:
            return slice_masks(raw, names)
        return slice_masks(raw, names, outcomes.target, signature.labels)


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
        min_choices=config.bandit.min_choices,
    )


def current_generation(store: Store, config: Config) -> Generation:
    """The living generation of the test sets; the first is made when there is none."""
    living = store.find(Generation, retired=None, newest_first=True, limit=1)
    if living:
        return living[0]
    first = Generation(id=new_id(Generation.prefix), number=1, alpha=config.gate.alpha)
    store.insert(first)
    return first


def _costs(contender: Contender | None) -> Costs | None:
    evaluation = None if contender is None else contender.reference or contender.recent
    if contender is None or evaluation is None:
        return None
    latency = evaluation.report.content["latency"]["single"]["p50_ms"]
    return Costs(latency_ms=latency, size_bytes=contender.model.size_bytes)
