"""What a roll-out is judged by, gathered from the store: audited live answers whose labels were asked for.

Volunteered corrections never count, and neither do keys that a model was trained on: both would favour one side. Every
number is counted on from the last time, so that looking each second costs next to nothing. Of choices the rewards are
looked at instead (:mod:`tidemill.monitor.rollout_rewards`), all of them each time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.config import DecisionRule, FeedbackPolicy
from tidemill.data.ballots import Vote, count
from tidemill.data.settled import Weights, is_doubted, weights_of
from tidemill.data.stated import ASKED, decides, heads_of, voice_of
from tidemill.data.trust import Voice
from tidemill.metrics import row_scores
from tidemill.metrics.decisions import Decisions
from tidemill.metrics.units import Floats
from tidemill.monitor import rollout_rewards
from tidemill.monitor.rollout import SCHEMA, as_json, interval, sums
from tidemill.records import JSON, LABEL_KINDS, Annotation, Feedback, LiveKey, Prediction, Rollout
from tidemill.store import Store
from tidemill.store.rollouts import asked_since, audited_since, newest_row, traffic_since
from tidemill.tasks import cost_matrix

LabelOf = Callable[[Feedback, Prediction], Any]

_BOUNDED = frozenset({"accuracy", "utility", "f1_samples", "subset_accuracy", "hamming"})
"""Scores between 0 and 1, so that two models differ by 1 at most."""
_SLACK = 86_400.0
"""Seconds by which the clock may have jumped: what counts goes by the order of writing, the clock only narrows it."""
_LATE = 10.0
"""Seconds for which a new statement is looked at again and again."""
_RARELY = 300.0
"""Seconds after which everybody's word is weighed anew, though nothing depends on it."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """A prediction that both models answered, and the label that people settled on."""

    prediction: Prediction
    champion: JSON
    challenger: JSON
    label: Any

    @property
    def caller(self) -> str:
        """Whose answers stand or fall together: who asked, or else the inputs' key."""
        return caller_of(self.prediction.caller, self.prediction.key)


def caller_of(caller: str | None, key: str) -> str:
    """Who is given one and the same model: the caller, or, when none is named, whoever asks with the same key.

    >>> caller_of("ann", "00ff"), caller_of(None, "00ff")
    ('caller:ann', 'key:00ff')
    """
    return f"key:{key}" if caller is None else f"caller:{caller}"


def begun(store: Store, policy: JSON, judge: JSON) -> JSON:
    """The evidence of a roll-out that begins now.

    Args:
        policy: ``shadow_rows``, ``shadow_seconds``, ``canary_rows``, ``margin``, ``alpha``, ``min_callers``,
            ``max_seconds``, ``undecided``, ``min_response``, ``max_faults``: fixed from here on, since a test whose
            terms could change would prove nothing.
        judge: ``kind``, ``metric``, ``spread`` (see :func:`tidemill.metrics.row_scores`), ``costs`` and
            ``abstain_cost`` (see :class:`tidemill.config.DecisionRule`).
    """
    start = newest_row(store)
    counted = {"seq": start, "questions": start, "answered": 0, "challenger": 0, "asked": 0, "responded": 0}
    said = {"statements": 0, "said": 0.0, "doubted": 0, "labels": None, "interval": None, "scores": None}
    return {"schema": SCHEMA, "policy": policy, "judge": judge, "start": start, **counted, **said, "elapsed": 0.0}


class Doubts:
    """What everybody's word weighs; found out anew when more was said, and rarely, since all of it is weighed.

    Args:
        policy: whose word counts for how much.
    """

    def __init__(self, policy: FeedbackPolicy) -> None:
        self._policy = policy
        self._known: tuple[str, int, float, Weights] = ("", -1, 0.0, Weights({}))

    def weights(self, store: Store, rollout: Rollout, label_of: LabelOf, said: int, *, sure: bool) -> Weights | None:
        """What each word weighs in *rollout*; ``None`` where all weigh the same.

        Args:
            said: how many statements there are, by which it is seen that there are more.
            sure: something depends on it, so that what was found a while ago is not enough.
        """
        if not self._policy.trust:
            return None
        about, seen, when, found = self._known
        if about == rollout.id and seen == said:
            return found
        if sure or about != rollout.id or time.monotonic() - when > _RARELY:
            found = weights_of(store, label_of, self._policy)
            self._known = (rollout.id, said, time.monotonic(), found)
        return found


def gather(
    store: Store, rollout: Rollout, label_of: LabelOf, doubts: Doubts, *, now: float, sure: bool = False
) -> JSON:
    """The evidence of *rollout* as it now is.

    Args:
        store: the project's; its journal should have been folded lately.
        rollout: whose evidence is brought up to date.
        label_of: the task's reading of a piece of feedback, ``task.label``.
        doubts: knows whose word counts for how much.
        now: UTC seconds.
        sure: look at everything once more, since something follows from it.
    """
    evidence = rollout.evidence
    traffic = traffic_since(store, rollout.id, evidence["seq"])
    elapsed = max(now - rollout.created, evidence["elapsed"])
    evidence = {**evidence, "phase": rollout.phase, "elapsed": elapsed, "seq": traffic.seq}
    evidence["answered"] += traffic.answered
    evidence["challenger"] += traffic.challenger
    if evidence["judge"]["kind"] == "choice":
        return evidence | rollout_rewards.measured(store, rollout, label_of, caller_of, now=now)
    since = rollout.created - _SLACK
    statements = store.count(Feedback, asked=True, kind=LABEL_KINDS, created_after=since)
    statements += store.count(Annotation, purpose=ASKED, created_after=since)
    if statements != evidence["statements"]:
        evidence |= {"statements": statements, "said": elapsed}
    # What was said may be there before its prediction, or the other model's answer, is in the tables.
    if sure or elapsed - evidence["said"] < _LATE:
        weights = doubts.weights(store, rollout, label_of, statements, sure=sure) if statements else None
        rows, doubted = labelled(store, rollout, label_of, weights)
        evidence |= _measured(store, rollout, rows) | {"doubted": doubted}
    return evidence


def labelled(
    store: Store, rollout: Rollout, label_of: LabelOf, weights: Weights | None = None
) -> tuple[list[Labelled], int]:
    """The predictions that judge *rollout*, in the order of writing, and how many nobody spoke of who is believed.

    Labels are counted as the gate counts them (:mod:`tidemill.data.ballots`), so that many new names decide no more
    here than there. One thing is stricter: whose word is doubted has none, since a roll-out has no time to try it.

    Args:
        weights: what everybody's word weighs; the same unless given.
    """
    since = rollout.created - _SLACK
    said: list[Feedback | Annotation] = [
        *store.find(Feedback, asked=True, kind=LABEL_KINDS, superseded_by=None, created_after=since),
        *store.find(Annotation, purpose=ASKED, superseded_by=None, created_after=since),
    ]
    subjects = {statement.subject for statement in said}
    rows = audited_since(store, rollout.evidence["start"], among=subjects)
    found = {p.id: p for _, p in sorted(rows, key=lambda row: row[0])}
    votes: dict[str, dict[Voice, tuple[Vote, bool]]] = {identifier: {} for identifier in found}
    heads = heads_of(store)
    for statement in sorted(said, key=lambda s: (s.created, s.id)):
        prediction, voice = found.get(statement.subject), voice_of(statement, heads)
        if prediction is None or not statement.author:  # what was erased says nothing
            continue
        label = label_of(statement, prediction) if isinstance(statement, Feedback) else statement.label
        if label is not None:
            label = sorted(set(label)) if isinstance(label, list | tuple) else label
            weight = None if weights is None else weights.of(prediction.key, voice)
            votes[prediction.id][voice] = Vote(voice, label, weight), decides(statement)
    split = {known.key: known.split for known in store.find(LiveKey, key={p.key for p in found.values()})}
    judged: list[Labelled] = []
    doubted = 0
    for prediction in found.values():
        cast = votes[prediction.id].values()
        answers = _answers(rollout, prediction)
        if not cast or answers is None or split.get(prediction.key, "train") == "train":
            continue
        outcome = count([vote for vote, last in cast if last] or [vote for vote, _ in cast])
        if outcome.doubted or (outcome.behind and all(map(is_doubted, outcome.behind))):
            doubted += 1
        elif outcome.label is not None:
            judged.append(Labelled(prediction, *answers, outcome.label))
    return judged, doubted


def _answers(rollout: Rollout, prediction: Prediction) -> tuple[JSON, JSON] | None:
    """The champion's answer and the challenger's; ``None`` for a prediction of other models."""
    other = prediction.shadow
    if other is None:
        return None
    given = {prediction.model_id: prediction.answer, other["model_id"]: other["answer"]}
    if given.keys() != {rollout.champion_id, rollout.challenger_id}:
        return None
    return given[rollout.champion_id], given[rollout.challenger_id]


def _measured(store: Store, rollout: Rollout, rows: Sequence[Labelled]) -> JSON:
    """What the labels say: sums, interval and means."""
    facts: JSON = {"asked": asked_since(store, rollout.evidence["start"])}
    facts["responded"] = len({row.prediction.key for row in rows})
    if not rows:
        return facts | {"labels": None, "interval": None, "scores": None}
    judge = rollout.evidence["judge"]
    champion = _scores(judge, rows, [row.champion for row in rows])
    challenger = _scores(judge, rows, [row.challenger for row in rows])
    weights = np.array([1.0 / row.prediction.audit_probability for row in rows])
    gap = challenger - champion
    both = np.concatenate([champion, challenger])
    span = 1.0 if judge["metric"] in _BOUNDED else float(np.abs(gap).max()) or float(np.ptp(both))
    found = sums(gap, weights, np.array([row.caller for row in rows]), span)
    means = {
        "champion": float(np.average(champion, weights=weights)),
        "challenger": float(np.average(challenger, weights=weights)),
        "better": int((gap > 0).sum()),
        "worse": int((gap < 0).sum()),
    }
    measured = interval(found, rollout.evidence["policy"]["alpha"])
    return facts | {"labels": asdict(found), "interval": as_json(measured), "scores": means}


def _scores(judge: JSON, rows: Sequence[Labelled], answers: Sequence[JSON]) -> Floats:
    """The metric of each row, float64 ``[n]``, larger is better: as the gate scores it, from what was journaled."""
    metric, kind = judge["metric"], judge["kind"]
    if kind == "regression":
        target = np.array([float(row.label) for row in rows])
        values = np.array([float(answer["value"]) for answer in answers])
        return row_scores(metric, target, values, spread=judge["spread"])
    labels = _labels(judge, rows)
    place = {label: code for code, label in enumerate(labels)}
    probabilities = np.zeros((len(rows), len(labels)))
    for row, answer in enumerate(answers):
        for label, p in answer["scores"].items():
            probabilities[row, place[label]] = p
    if kind == "multilabel":
        truth = _bits(place, [row.label for row in rows])
        return row_scores(metric, truth, probabilities, _bits(place, [answer["labels"] for answer in answers]))
    given = np.array([-1 if answer["label"] is None else place[answer["label"]] for answer in answers])
    codes = np.array([place[row.label] for row in rows])
    return row_scores(metric, codes, probabilities, given, costs=_costs(judge, labels))


def _labels(judge: JSON, rows: Sequence[Labelled]) -> list[str]:
    """Every label that either model, a person or a price names."""
    named: dict[str, None] = {}
    for row in rows:
        named |= dict.fromkeys([*row.champion["scores"], *row.challenger["scores"]])
        named |= dict.fromkeys(row.label if isinstance(row.label, list | tuple) else [row.label])
    for true, prices in judge["costs"].items():
        named |= dict.fromkeys([true, *prices])
    return list(named)


def _bits(place: dict[str, int], labels: Sequence[Sequence[str]]) -> npt.NDArray[np.uint8]:
    bits = np.zeros((len(labels), len(place)), np.uint8)
    for row, named in enumerate(labels):
        bits[row, [place[label] for label in named]] = 1
    return bits


def _costs(judge: JSON, labels: Sequence[str]) -> Decisions | None:
    if judge["metric"] != "utility":
        return None
    rule = DecisionRule(costs=judge["costs"], abstain_cost=judge["abstain_cost"])
    return Decisions(costs=np.asarray(cost_matrix(rule, labels)), abstain_cost=judge["abstain_cost"])
