"""Annotate: which questions people should be asked next, and why.

Two queues, never mixed up. The *audit* queue asks for the labels of randomly drawn traffic, and of unlabelled samples
of the test and validation splits; the gate lives on it, so it is never ordered by what a model finds hard. The *useful*
queue asks what would teach the model most: contradictions between authors first, then what is held back of what they
said, then inputs on which the champion is least certain: its two best labels are closest (margin sampling; Scheffer et
al., 2001), of several labels one lies closest to its threshold, or the interval of a number is wide beside the others'.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from heapq import nlargest
from typing import Any, Literal

import numpy as np

from tidemill.data.dataset import DatasetArrays
from tidemill.data.settled import Settled
from tidemill.errors import NotFoundError
from tidemill.records import JSON, Annotation, Feedback, LiveKey, Prediction, QueueItem, new_id
from tidemill.runtime import Predictor
from tidemill.store import Store

MOST = 500
"""How many questions each queue holds; the rest waits for the next refresh."""
A_REASON = 25
"""How many questions are asked for one reason to hold labels back: the answers decide on the others, too."""
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
    spec: JSON = {} if predictor is None else predictor.manifest.answer
    items = [*_audit(store, settled), *_settle(store, dataset, settled), *_useful_traffic(store, spec, seed)]
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
    """Inputs on which authors disagree, and some of those whose label is held back."""
    items: list[QueueItem] = []
    asked: Counter[str] = Counter()
    reasons: dict[str, str] = {}
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
        items.append(_item("settle", subject, float(len(items)), reason, inputs))
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
    answers: list[JSON] = []
    for chunk in np.array_split(pool, max(1, len(pool) // 1024)):
        if len(chunk):
            answers += predictor.answers(predictor.scores(dataset.columns(chunk)))
    found = _doubts(answers, predictor.manifest.answer, rng)
    items: list[QueueItem] = []
    for place in sorted(range(len(answers)), key=lambda i: found[i][0])[:MOST]:
        rank, reason = found[place]
        row = int(pool[place])
        items.append(
            _item("useful", dataset.sample_id(row), rank, reason, dataset.show(row), suggestion=answers[place])
        )
    return items


def _useful_traffic(store: Store, spec: JSON, seed: int) -> list[QueueItem]:
    """Answers given lately on inputs nobody spoke of, the least certain first."""
    lately = store.find(Prediction, audited=False, newest_first=True, limit=10 * MOST)
    subjects = [p.id for p in lately]
    spoken: set[str] = set()
    for start in range(0, len(subjects), MOST):
        portion = subjects[start : start + MOST]
        spoken |= {f.subject for f in store.find(Feedback, subject=portion)}
        spoken |= {a.subject for a in store.find(Annotation, subject=portion)}
    spoken_keys = {p.key for p in lately if p.id in spoken}
    open_ = list(
        {p.key: p for p in lately if p.key not in spoken_keys and {"scores", "value"} & p.answer.keys()}.values()
    )
    found = _doubts([p.answer for p in open_], spec, np.random.default_rng(seed))
    hardest = sorted(zip(found, open_, strict=True), key=lambda pair: (pair[0][0], pair[1].id))[:MOST]
    return [_item("useful", p.id, rank, reason, p.inputs, suggestion=p.answer) for (rank, reason), p in hardest]


def _doubts(answers: Sequence[JSON], spec: JSON, rng: np.random.Generator) -> list[tuple[float, str]]:
    """For each answer its rank (0: the model could not be less certain) and the reason in plain words.

    Args:
        answers: as the model gave them, all of one kind.
        spec: the champion's, for the thresholds of several labels; 0.5 where it says none.
        rng: for the order of numbers whose intervals say nothing.
    """
    if answers and "value" in answers[0]:
        return _interval_doubts(answers, rng)
    known = spec.get("thresholds") or []
    thresholds = dict(zip(spec.get("labels", []), known, strict=True)) if known else {}
    return [_label_doubt(a, thresholds) if "labels" in a else _class_doubt(a) for a in answers]


def _class_doubt(answer: JSON) -> tuple[float, str]:
    best = nlargest(2, answer["scores"].items(), key=lambda item: item[1])
    (first, p1), (second, p2) = best if len(best) == 2 else (*best, ("anything else", 0.0))
    said = "the model gave no answer: it wavers" if answer.get("label") is None else "the model wavers"
    return float(p1 - p2), f"{said} between {first} ({p1:.0%}) and {second} ({p2:.0%})"


def _label_doubt(answer: JSON, thresholds: JSON) -> tuple[float, str]:
    """How near the closest label is to being given or not; 1 where it could not be farther."""
    near, label, p = min((abs(p - thresholds.get(name, 0.5)), name, p) for name, p in answer["scores"].items())
    given = label in answer["labels"]
    said = f"is only just {'' if given else 'not '}given"
    least = thresholds.get(label, 0.5)
    return min(1.0, 2 * near), f"the model is in doubt about {label}: at {p:.0%} it {said}, which takes {least:.0%}"


def _interval_doubts(answers: Sequence[JSON], rng: np.random.Generator) -> list[tuple[float, str]]:
    """By the width of intervals beside the usual width; at random where all are alike or there are none."""
    widths = np.array([high - low for low, high in (a.get("interval") or (0.0, 0.0) for a in answers)], np.float64)
    usual = float(np.median(widths)) or float(widths.mean())
    if usual <= 0 or np.allclose(widths, usual):
        said = "no interval" if not widths.any() else "intervals of the same width to all"
        return [(float(rank), f"the model gives {said}, so the order is random") for rank in rng.random(len(answers))]
    found = []
    for answer, width in zip(answers, (widths / usual).tolist(), strict=True):
        low, high = answer.get("interval") or (answer["value"],) * 2
        reason = f"the model expects {answer['value']:.4g}, but anything from {low:.4g} to {high:.4g}"
        found.append((1 / (1 + width), f"{reason}: {width:.1f} times the usual interval"))
    return found
