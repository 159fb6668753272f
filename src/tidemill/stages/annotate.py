"""Annotate: which questions people should be asked next, and why.

Two queues, never mixed up. The *audit* queue asks for the labels of randomly drawn traffic, and of unlabelled samples
of the test and validation splits; the gate lives on it, so it is never ordered by what a model finds hard. The *useful*
queue asks what would teach the model most: contradictions between authors first, then what is held back of what they
said and labels that are probably wrong, then inputs by :mod:`tidemill.annotation.pool`: those that users complained of,
on which the champion is least certain, on which models disagree, or that are like nothing that has a label.

Its rows are the ranking that everybody is asked by: a question keeps its id for as long as it waits, so that a new
ranking takes away neither what somebody is looking at nor what was skipped. What was asked by hand stays as it is.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from tidemill.annotation.pool import FROM_TRAFFIC, Candidate, order_candidates, sampled_candidates
from tidemill.config import AnnotationPolicy
from tidemill.data.dataset import DatasetArrays
from tidemill.data.settled import Settled
from tidemill.errors import NotFoundError
from tidemill.records import JSON, LABEL_KINDS, Annotation, Feedback, LiveKey, Prediction, QueueItem, Turn, new_id
from tidemill.runtime import Predictor
from tidemill.store import Store

MOST = 500
"""How many questions each queue holds; the rest waits for the next refresh."""
DOUBTFUL = 100
"""How many labels that are probably wrong are asked about again."""
A_REASON = 25
"""How many questions are asked for one reason to hold labels back: the answers decide on the others, too."""
ENOUGH = 1000
"""Labelled samples of a split from which on no more of its samples are asked for."""
AT_ONCE = 500
"""Predictions that are read at a time: there may be as many as ever were drawn."""


def annotate(
    store: Store,
    dataset: DatasetArrays | None,
    predictor: Predictor | None,
    settled: Settled,
    *,
    seed: int,
    policy: AnnotationPolicy | None = None,
    rivals: Sequence[tuple[str, Predictor]] = (),
    doubtful: Sequence[JSON] = (),
) -> dict[str, int]:
    """Make both queues anew.

    Args:
        dataset: the newest dataset version, for unlabelled imported samples; ``None`` before there is one.
        predictor: the champion, for its uncertainty; without one the order is random.
        settled: what people have said so far.
        seed: of the random order.
        policy: how many people answer a question.
        rivals: other models of the same signature, and what they are called, for their disagreement.
        doubtful: labels that are probably wrong, the least believable first, as
            :func:`tidemill.monitor.label_errors.summarise_label_errors` lists them.

    Returns:
        How many questions each purpose has: ``{"audit": n, "settle": n, "useful": n}``.
    """
    if dataset is not None and dataset.signature.kind == "choice":  # nobody can say what would have been right
        return {"audit": 0, "settle": 0, "useful": 0}
    policy = policy or AnnotationPolicy()
    items = [*_audit(store, settled), *_settle(store, dataset, settled)]
    if dataset is not None:
        items += _held_out(dataset, seed)
        items += _doubtful(dataset, settled, doubtful, {item.subject for item in items})
    items += _useful(store, dataset, predictor, rivals, seed)
    with store.transaction():
        open_ = store.find(QueueItem, done=False)
        by_hand = [q for q in open_ if q.ask or q.signal == "asked"]
        asked = {(q.subject, q.purpose) for q in by_hand if not q.ask}
        before = {(q.subject, q.purpose): q for q in open_ if not (q.ask or q.signal == "asked")}
        kept = by_hand
        kept += [
            _kept(item, before.pop((item.subject, item.purpose), None), policy)
            for item in items
            if (item.subject, item.purpose) not in asked
        ]
        # Before somebody's eyes, or begun by some of those who are to answer: it is gone on with.
        looked_at = _looked_at(store, [q.id for q in before.values()])
        kept += [q for q in before.values() if q.id in looked_at or 0 < q.given < q.need]
        store.delete(QueueItem, store.ids(QueueItem, done=False))
        store.insert(*kept)
    counts = {"audit": 0, "settle": 0, "useful": 0}
    for item in kept:
        counts[item.purpose] += 1
    return counts


def _kept(item: QueueItem, before: QueueItem | None, policy: AnnotationPolicy) -> QueueItem:
    """*item* as the question that it is already, where it is one, for as many people as the policy says."""
    shared = item.purpose != "settle" and _draw(item.subject) < policy.overlap_share
    need = policy.overlap if shared else 1
    if before is None:
        return replace(item, need=need)
    return replace(item, id=before.id, created=before.created, need=max(need, before.given + 1), given=before.given)


def _looked_at(store: Store, questions: Sequence[str]) -> set[str]:
    """Those of the questions that are kept for somebody now."""
    now = time.time()
    return {turn.question for turn in store.find(Turn, question=questions, state="open") if turn.until > now}


def _draw(subject: str) -> float:
    """A number from 0 to 1 that is always the same for a subject."""
    return int.from_bytes(hashlib.blake2b(subject.encode(), digest_size=6).digest()) / 2**48


def _item(
    purpose: Literal["audit", "useful", "settle"],
    subject: str,
    rank: float,
    reason: str,
    inputs: JSON,
    suggestion: JSON | None = None,
    signal: str = "",
) -> QueueItem:
    return QueueItem(
        id=new_id(QueueItem.prefix),
        subject=subject,
        purpose=purpose,
        rank=rank,
        reason=reason,
        inputs=inputs,
        suggestion=suggestion,
        signal=signal,
    )


def _audit(store: Store, settled: Settled) -> list[QueueItem]:
    """Drawn keys whose label was not given yet, oldest first; no suggestion, so that nobody is anchored by it."""
    keys = {k.key for k in store.find(LiveKey, split=["recent-validation", "recent-test"])}
    keys -= {s.prediction.key for s in settled.live if s.split != "train"}
    waiting: list[QueueItem] = []
    drawn = store.ids(Prediction, audited=True)
    for start in range(0, len(drawn), AT_ONCE):
        for prediction in store.find(Prediction, id=drawn[start : start + AT_ONCE]):
            if not keys or len(waiting) == MOST:
                return waiting
            if prediction.key in keys:
                keys.discard(prediction.key)
                reason = f"drawn at random (1 in {1 / prediction.audit_probability:.0f}) to judge models"
                rank = float(len(waiting))
                waiting.append(_item("audit", prediction.id, rank, reason, prediction.inputs, signal="drawn"))
    return waiting


def _held_out(dataset: DatasetArrays, seed: int) -> list[QueueItem]:
    """Unlabelled samples of the splits that choose and judge, in random order, while these hold few labels."""
    items: list[QueueItem] = []
    rng = np.random.default_rng(seed)
    for split, use in (("reference", "judge models"), ("validation", "choose among models")):
        missing = max(0, ENOUGH - len(dataset.rows(split)))
        for row in rng.permutation(dataset.rows(split, labelled=False))[: min(missing, MOST // 2)]:
            subject = dataset.sample_id(int(row))
            reason = f"drawn at random to {use}"
            items.append(_item("audit", subject, float(len(items)), reason, dataset.show(int(row)), signal="drawn"))
    return items


def _settle(store: Store, dataset: DatasetArrays | None, settled: Settled) -> list[QueueItem]:
    """Inputs on which authors disagree, and some of those whose label is held back."""
    items: list[QueueItem] = []
    asked: Counter[str] = Counter()
    reasons: dict[str, str] = {}
    torn = settled.contradictions
    for subject, votes in list(settled.contradictions.items())[:MOST]:
        reasons[subject] = f"people disagree: {', '.join(f'{label} ({n})' for label, n in votes.items())}"
    for subject, reason in settled.held.items():
        if asked[reason] < A_REASON and len(reasons) < MOST:
            asked[reason] += 1
            reasons[subject] = f"held back: {reason}"
    for subject, reason in reasons.items():
        if subject.startswith(Prediction.prefix):
            prediction = store.get(Prediction, subject)
            if prediction.audited and subject in settled.held:
                continue  # it waits in the other queue
            inputs = prediction.inputs
        elif dataset is not None:
            try:
                inputs = dataset.show(dataset.row_of(subject))
            except NotFoundError:  # the source no longer has it
                continue
        else:
            continue
        signal = "disagreement" if subject in torn else "held"
        items.append(_item("settle", subject, float(len(items)), reason, inputs, signal=signal))
    return items


def _doubtful(dataset: DatasetArrays, settled: Settled, doubtful: Sequence[JSON], asked: set[str]) -> list[QueueItem]:
    """Labels of the data that are probably wrong and of which no annotator has spoken, without what the model says."""
    items: list[QueueItem] = []
    for found in doubtful[:DOUBTFUL]:
        subject = found["sample"]
        if subject in settled.annotations or subject in asked or found["split"] not in ("train", "validation"):
            continue
        try:
            row = dataset.row_of(subject)
        except NotFoundError:
            continue
        stated = found["label"]
        label = ", ".join(stated) or "none" if isinstance(stated, list) else stated
        reason = f"the data says {label}, and a model that had not seen it says otherwise"
        items.append(_item("settle", subject, float(MOST + len(items)), reason, dataset.show(row), signal="doubtful"))
    return items


def _useful(
    store: Store,
    dataset: DatasetArrays | None,
    predictor: Predictor | None,
    rivals: Sequence[tuple[str, Predictor]],
    seed: int,
) -> list[QueueItem]:
    """What would teach the model most, of the data and of traffic, in one order."""
    rng = np.random.default_rng(seed)
    if dataset is not None and dataset.signature.kind == "choice":  # nobody can say what would have been right
        return []
    candidates = _traffic(store)
    items: list[QueueItem] = []
    if dataset is not None and predictor is None:
        items += _unordered(dataset, rng)
    elif dataset is not None and predictor is not None:
        candidates += sampled_candidates(dataset, predictor, rng)
    for place, asked in enumerate(order_candidates(candidates, dataset, predictor, rivals, MOST, rng)):
        one = asked.candidate
        inputs = one.prediction.inputs if one.prediction is not None else None
        if inputs is None:
            assert dataset is not None and one.row is not None
            inputs = dataset.show(one.row)
        items.append(
            _item("useful", one.subject, float(place), asked.reason, inputs, suggestion=one.answer, signal=asked.signal)
        )
    return items


def _unordered(dataset: DatasetArrays, rng: np.random.Generator) -> list[QueueItem]:
    """Unlabelled imported samples while there is no model."""
    rows = dataset.unanswered("train")
    chosen = rng.permutation(rng.choice(rows, min(len(rows), MOST), replace=False))
    reason = "no model yet, so the order is random"
    return [
        _item("useful", dataset.sample_id(int(row)), 1.0 + place, reason, dataset.show(int(row)), signal="random")
        for place, row in enumerate(chosen)
    ]


def _traffic(store: Store) -> list[Candidate]:
    """The newest answers of which nobody has said what is right, one for each input."""
    lately = store.find(Prediction, audited=False, newest_first=True, limit=FROM_TRAFFIC)
    subjects = [p.id for p in lately]
    spoken: set[str] = set()
    remarks: list[Feedback] = []
    for start in range(0, len(subjects), MOST):
        portion = subjects[start : start + MOST]
        said = store.find(Feedback, subject=portion)
        spoken |= {f.subject for f in said if f.kind in LABEL_KINDS}
        remarks += [f for f in said if f.kind not in LABEL_KINDS and f.superseded_by is None and not f.erased]
        spoken |= {a.subject for a in store.find(Annotation, subject=portion)}
    spoken_keys = {p.key for p in lately if p.id in spoken}
    open_ = {p.key: p for p in lately if p.key not in spoken_keys and {"scores", "value"} & p.answer.keys()}
    against = _complaints(store, remarks)
    return [Candidate(subject=p.id, prediction=p, answer=p.answer, complaint=against.get(p.id)) for p in open_.values()]


def _complaints(store: Store, remarks: Sequence[Feedback]) -> dict[str, str]:
    """What was said against answers, by prediction: ratings and rewards under the middle of all such, and comments."""
    found: dict[str, str] = {}
    for kind in ("rating", "reward"):
        values = [f.value for f in store.find(Feedback, kind=kind, newest_first=True, limit=FROM_TRAFFIC)]
        numbers = [float(v) for v in values if isinstance(v, int | float)]
        middle = float(np.median(numbers)) if numbers else 0.0
        for f in remarks:
            if f.kind == kind and isinstance(f.value, int | float) and (f.value < middle or f.value < 0):
                found[f.subject] = f"users were not pleased: a {kind} of {f.value:g}, and {middle:g} is usual"
    for f in remarks:
        if f.kind == "comment":
            found.setdefault(f.subject, "somebody commented on the answer")
    return found
