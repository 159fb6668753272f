"""Annotate: which questions people should be asked next, and why.

Two queues, never mixed up. The *audit* queue asks for the labels of randomly drawn traffic, and of unlabelled samples
of the test and validation splits; the gate lives on it, so it is never ordered by what a model finds hard. The *useful*
queue asks what would teach the model most: contradictions between authors first, then inputs on which the champion's
two best labels are closest (margin sampling; Scheffer et al., 2001).
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from tidemill.data.dataset import DatasetArrays
from tidemill.data.settled import Settled
from tidemill.records import JSON, Annotation, Feedback, LiveKey, Prediction, QueueItem, new_id
from tidemill.runtime import Predictor
from tidemill.runtime.answers import probabilities
from tidemill.store import Store

MOST = 500
"""How many questions each queue holds; the rest waits for the next refresh."""
ENOUGH = 1000
"""Labelled samples of a split from which on no more of its samples are asked for."""


def annotate(
    store: Store, dataset: DatasetArrays | None, predictor: Predictor | None, settled: Settled, *, seed: int
) -> dict[str, int]:
    """Make both queues anew.

    Args:
        dataset: the newest dataset version, for unlabelled imported samples; ``None`` before there is one.
        predictor: the champion, for its uncertainty; without one the order is random.
        settled: what people have said so far.
        seed: of the random order.

    Returns:
        How many questions each purpose has: ``{"audit": n, "settle": n, "useful": n}``.
    """
    items = [*_audit(store, settled), *_settle(store, dataset, settled), *_useful_traffic(store)]
    if dataset is not None:
        items += _held_out(dataset, seed)
        items += _useful_samples(dataset, dataset.rows("train", labelled=False), predictor, seed)
    with store.transaction():
        store.delete(QueueItem, [item.id for item in store.find(QueueItem, done=False)])
        store.insert(*items)
    counts = {"audit": 0, "settle": 0, "useful": 0}
    for item in items:
        counts[item.purpose] += 1
    return counts


def _item(
    purpose: Literal["audit", "useful", "settle"],
    subject: str,
    rank: float,
    reason: str,
    inputs: JSON,
    suggestion: JSON | None = None,
) -> QueueItem:
    return QueueItem(
        id=new_id(QueueItem.prefix),
        subject=subject,
        purpose=purpose,
        rank=rank,
        reason=reason,
        inputs=inputs,
        suggestion=suggestion,
    )


def _audit(store: Store, settled: Settled) -> list[QueueItem]:
    """Drawn keys whose label was not given yet, oldest first; no suggestion, so that nobody is anchored by it."""
    keys = {k.key for k in store.find(LiveKey, split=["recent-validation", "recent-test"])}
    keys -= {s.prediction.key for s in settled.live if s.split != "train"}
    waiting: list[QueueItem] = []
    for prediction in store.find(Prediction, audited=True):
        if prediction.key in keys and len(waiting) < MOST:
            keys.discard(prediction.key)
            probability = prediction.audit_probability
            reason = f"drawn at random (1 in {1 / probability:.0f}) to judge models"
            waiting.append(_item("audit", prediction.id, float(len(waiting)), reason, prediction.inputs))
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
            items.append(_item("audit", subject, float(len(items)), reason, dataset.show(int(row))))
    return items


def _settle(store: Store, dataset: DatasetArrays | None, settled: Settled) -> list[QueueItem]:
    """Inputs on which authors disagree."""
    items: list[QueueItem] = []
    for subject, votes in list(settled.contradictions.items())[:MOST]:
        if subject.startswith(Prediction.prefix):
            inputs = store.get(Prediction, subject).inputs
        elif dataset is not None:
            inputs = dataset.show(dataset.row_of(subject))
        else:
            continue
        said = ", ".join(f"{label} ({n})" for label, n in votes.items())
        items.append(_item("settle", subject, float(len(items)), f"people disagree: {said}", inputs))
    return items


def _useful_samples(
    dataset: DatasetArrays, rows: np.ndarray[Any, np.dtype[np.int64]], predictor: Predictor | None, seed: int
) -> list[QueueItem]:
    """Unlabelled imported samples, the champion's least certain first."""
    rng = np.random.default_rng(seed)
    # A pool of some thousands holds enough hard cases, and scoring it takes a moment however large the set is.
    pool = np.sort(rng.choice(rows, min(len(rows), 10 * MOST), replace=False))
    if predictor is None:
        chosen = rng.permutation(pool)[:MOST]
        return [
            _item(
                "useful",
                dataset.sample_id(int(row)),
                1.0 + place,
                "no model yet, so the order is random",
                dataset.show(int(row)),
            )
            for place, row in enumerate(chosen)
        ]
    items: list[QueueItem] = []
    margins, answers = [], []
    for chunk in np.array_split(pool, max(1, len(pool) // 1024)):
        if len(chunk):
            scores = predictor.scores(dataset.columns(chunk))
            best = np.sort(probabilities(predictor.manifest.answer, scores), axis=1)
            margins.append(best[:, -1] - best[:, -2])
            answers += predictor.answers(scores)
    order = np.argsort(np.concatenate(margins), kind="stable")[:MOST] if margins else np.empty(0, np.int64)
    for place in order:
        answer, row = answers[int(place)], int(pool[place])
        items.append(
            _item(
                "useful", dataset.sample_id(row), _margin(answer), _reason(answer), dataset.show(row), suggestion=answer
            )
        )
    return items


def _useful_traffic(store: Store) -> list[QueueItem]:
    """Answers given lately on inputs nobody spoke of, the least certain first."""
    lately = store.find(Prediction, audited=False, newest_first=True, limit=10 * MOST)
    subjects = [p.id for p in lately]
    spoken: set[str] = set()
    for start in range(0, len(subjects), MOST):
        portion = subjects[start : start + MOST]
        spoken |= {f.subject for f in store.find(Feedback, subject=portion)}
        spoken |= {a.subject for a in store.find(Annotation, subject=portion)}
    spoken_keys = {p.key for p in lately if p.id in spoken}
    by_key = {p.key: p for p in lately if p.key not in spoken_keys and "scores" in p.answer}
    hardest = sorted(by_key.values(), key=lambda p: (_margin(p.answer), p.id))[:MOST]
    return [_item("useful", p.id, _margin(p.answer), _reason(p.answer), p.inputs, suggestion=p.answer) for p in hardest]


def _margin(answer: JSON) -> float:
    best = sorted(answer["scores"].values())[-2:]
    return float(best[-1] - best[0])


def _reason(answer: JSON) -> str:
    (second, p2), (first, p1) = sorted(answer["scores"].items(), key=lambda item: item[1])[-2:]
    return f"the model wavers between {first} ({p1:.0%}) and {second} ({p2:.0%})"
