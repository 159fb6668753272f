"""Traffic against training data: a test a column, one on what the model answers, one on everything together.

Training rows and recent requests are samples of inputs, one row a key, and are compared column by column
(:mod:`tidemill.monitor.drift`). What the model makes of them cannot be compared with training rows, which it knows:
its answers on those are surer, and its vocabulary holds all their words. So the answers, and the features that it sees,
are compared with rows that were held out from training. The latter is a classifier two-sample test (Lopez-Paz and
Oquab, *ICLR* 2017): a linear classifier learns on one half of both samples to tell requests from held-out rows, and the
other half says by Mann and Whitney's test whether it can. It sees short random sketches of the features, so it is cheap
for every kind of input, and notices what no column shows alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from scipy.special import ndtr

from tidemill.data.arrays import Column, length, take
from tidemill.data.dataset import DatasetArrays
from tidemill.data.describe import describe, describe_numbers
from tidemill.data.encode import encode
from tidemill.data.previews import read_column, some
from tidemill.data.schema import Field, Signature
from tidemill.errors import InputError
from tidemill.monitor.drift import Difference, compare_numbers, drift, label_counts, label_differences
from tidemill.monitor.sketch import sketch
from tidemill.records import JSON, Prediction
from tidemill.runtime import Predictor
from tidemill.store import Store

ROWS = 2000
"""Rows of each sample at most."""
LEAST = 100
"""Held-out rows below which nothing is said of answers and features."""
TOGETHER = 0.1
"""How much more often than by chance a classifier tells two samples apart (the area under its curve less 1/2) at size
1; 0.75 is large."""
_READ, _BYTES = 5 * ROWS, 100_000_000
_ACROSS = 32
_CHUNK = 256
_SAMPLES = ("the data", "traffic")

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Traffic:
    """Inputs that were asked about, one a key, the newest of each.

    Attributes:
        columns: the encoded inputs.
        rows: how many.
        newest: UTC seconds of the newest prediction; 0 where there is none.
    """

    columns: dict[str, Column]
    rows: int
    newest: float


@dataclass(frozen=True, slots=True)
class Described:
    """A sample as it is compared.

    Attributes:
        columns: a description by column.
        answers: what the model answers: ``{"labels": …, "certainty": …}`` or ``{"numbers": …}``; ``None`` where it was
            not asked.
        features: float64 ``[n, d]``, sketches of what the model sees; no rows where it was not asked.
    """

    columns: dict[str, JSON]
    answers: JSON | None
    features: Floats


def recent_traffic(
    store: Store, signature: Signature, *, after: float | None = None, before: float | None = None, most: int = ROWS
) -> Traffic:
    """The newest inputs between two moments (UTC seconds), at most *most*, without what does not fit *signature*."""
    found = store.find(Prediction, created_after=after, created_before=before, newest_first=True, limit=_READ)
    newest: dict[str, Prediction] = {}
    size = 0
    for prediction in found:
        if prediction.erased or prediction.key in newest:
            continue
        newest[prediction.key] = prediction
        size += len(orjson.dumps(prediction.inputs))
        if len(newest) == most or size > _BYTES:
            break
    records = _fitting(signature, [p.inputs for p in newest.values()])
    latest = max((p.created for p in newest.values()), default=0.0)
    return Traffic(encode(signature, records) if records else {}, len(records), latest)


def _fitting(signature: Signature, records: Sequence[JSON]) -> Sequence[JSON]:
    try:
        encode(signature, records)
    except InputError:
        return [record for record in records if _fits(signature, record)]
    return records


def _fits(signature: Signature, record: JSON) -> bool:
    try:
        encode(signature, [record])
    except InputError:
        return False
    return True


def _told(signature: Signature) -> list[Field]:
    """The inputs that traffic and training rows both have: of choices those of the context."""
    return [f for f in signature.inputs if f.role == "input"]


def describe_traffic(predictor: Predictor, traffic: Traffic) -> Described:
    """A sample of traffic; it is both what columns and what answers are compared by."""
    signature = predictor.signature
    columns = {f.name: describe(traffic.columns[f.name], f.type) for f in _told(signature)}
    answers, features = _asked(predictor, _parts(traffic.columns))
    return Described(columns, answers, features)


def describe_training(predictor: Predictor, dataset: DatasetArrays, *, seed: int = 0) -> Described:
    """The training rows of a model by column, and rows held out from training by what the model makes of them."""
    rng = np.random.default_rng(seed)
    rows = some(dataset.rows("train", labelled=None), ROWS, rng)
    columns: dict[str, JSON] = {}
    for f in _told(predictor.signature):
        column, sizes = read_column(dataset, f.name, rows)
        columns[f.name] = describe(column, f.type, sizes=sizes)
    held = [dataset.rows(split, labelled=None) for split in ("reference", "validation")]
    held_out = next((some(part, ROWS, rng) for part in held if len(part) >= LEAST), np.empty(0, np.int64))
    if not len(held_out):
        return Described(columns, None, np.empty((0, 0)))
    answers, features = _asked(predictor, dataset.chunks(held_out, _CHUNK))
    return Described(columns, answers, features)


def compare(signature: Signature, before: Described, after: Described, names: tuple[str, str] = _SAMPLES) -> list[JSON]:
    """What :func:`tidemill.monitor.drift.drift` says of two samples, with two more lines: ``answer`` and ``whole``."""
    others: list[tuple[str, list[Difference]]] = []
    if before.answers is not None and after.answers is not None:
        others.append(("answer", _answers(before.answers, after.answers, names)))
    if len(before.features) and len(after.features):
        others.append(("whole", [_together(before.features, after.features, names)]))
    return drift(_told(signature), before.columns, after.columns, names=names, others=others)


def _parts(columns: Mapping[str, Column]) -> Iterator[dict[str, Column]]:
    n = length(columns)
    for start in range(0, n, _CHUNK):
        yield take(columns, np.arange(start, min(start + _CHUNK, n)))


def _asked(predictor: Predictor, parts: Iterator[dict[str, Column]]) -> tuple[JSON, Floats]:
    """What the model answers, and sketches of its features, chunk by chunk so that texts and images stay few."""
    answers: list[JSON] = []
    features: list[Floats] = []
    for part in parts:
        features.append(sketch(predictor.features(part)))
        answers += predictor.answer(part)
    return _summed(answers), np.concatenate(features)


def _summed(answers: Sequence[JSON]) -> JSON:
    if answers and "value" in answers[0]:
        return {"numbers": describe_numbers(np.array([a["value"] for a in answers], np.float64))}
    if answers and "action" in answers[0]:
        chosen = Counter(str(answer["action"]) for answer in answers)
        return {"labels": label_counts(list(chosen), list(chosen.values()), None), "certainty": None}
    several = bool(answers) and "labels" in answers[0]
    counts: dict[str, int] = {}
    for answer in answers:
        for label in answer["labels"] if several else [answer["label"] or "no answer"]:
            counts[label] = counts.get(label, 0) + 1
    certainty = None if several else describe_numbers(np.array([a["score"] for a in answers], np.float64))
    rows = len(answers) if several else None
    return {"labels": label_counts(list(counts), list(counts.values()), rows), "certainty": certainty}


def _answers(before: JSON, after: JSON, names: tuple[str, str]) -> list[Difference]:
    if "numbers" in before:
        return compare_numbers(before["numbers"], after["numbers"], "values", names)
    found = label_differences(before["labels"], after["labels"], names)
    if before["certainty"] is not None:
        found += compare_numbers(before["certainty"], after["certainty"], "certainty", names)
    return found


def _together(before: Floats, after: Floats, names: tuple[str, str]) -> Difference:
    """Whether a classifier can tell the samples apart."""
    area, p = told_apart(before, after)
    words = f"of an input tells {names[1]} from {names[0]} in {100 * area:.0f} % of pairs, where chance would in 50 %"
    return Difference(of="together", size=max(0.0, area - 0.5) / TOGETHER, p=p, statistics={"auc": area}, words=words)


def told_apart(left: Floats, right: Floats, *, seed: int = 0) -> tuple[float, float]:
    """How well a linear classifier tells two samples apart: the area under its ROC curve on rows that it did not learn
    from, and the one-sided p-value of Mann and Whitney's test that it is no better than chance.

    Args:
        left: float64 ``[n, d]``.
        right: float64 ``[m, d]``.
        seed: of the halves.
    """
    rng = np.random.default_rng(seed)
    sides = [side[rng.permutation(len(side))] for side in (left, right)]
    learn, judge = zip(*((side[: len(side) // 2], side[len(side) // 2 :]) for side in sides), strict=True)
    rows = np.concatenate(learn)
    centre, spread = rows.mean(axis=0), rows.std(axis=0)
    spread[spread < 1e-9] = 1.0

    across = rng.standard_normal((rows.shape[1], _ACROSS)) / rows.shape[1] ** 0.5

    def seen(values: Floats) -> Floats:
        scaled = np.clip((values - centre) / spread, -5, 5)
        # A change of the spread shows in the squares, one of how numbers hang together in those of their mixtures.
        return np.hstack([scaled, np.square(scaled) - 1, np.square(scaled @ across) - 1])

    # Each sample weighs the same, so that the larger does not decide where the middle is.
    weights = np.concatenate([np.full(len(part), 0.5 / max(1, len(part))) for part in learn])
    target = np.concatenate([np.full(len(part), sign) for part, sign in zip(learn, (-1.0, 1.0), strict=True)])
    design = seen(rows)
    design -= weights @ design
    penalty = 1.0 / np.sqrt(max(1, min(len(part) for part in learn)))
    gram = (design * weights[:, None]).T @ design + penalty * np.eye(design.shape[1])
    direction = np.linalg.solve(gram, design.T @ (weights * target))
    return _mann_whitney(*(seen(part) @ direction for part in judge))


def _mann_whitney(left: npt.NDArray[Any], right: npt.NDArray[Any]) -> tuple[float, float]:
    n, m = len(left), len(right)
    if not n or not m:
        return 0.5, 1.0
    values, place, counts = np.unique(np.concatenate([left, right]), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    area = (ranks[n:].sum() - m * (m + 1) / 2) / (n * m)
    ties = float((counts**3 - counts).sum()) / ((n + m) * max(1, n + m - 1))
    error = np.sqrt((n + m + 1 - ties) / (12 * n * m)) if len(values) > 1 else 0.0
    return float(area), float(ndtr(-(area - 0.5) / error)) if error > 0 else 1.0
