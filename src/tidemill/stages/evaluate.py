"""Evaluate: one model on one split, by the package's own way, so that what is judged is what serves."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.data.arrays import Columns, take
from tidemill.data.dataset import DatasetArrays
from tidemill.data.schema import Signature
from tidemill.errors import NotReadyError
from tidemill.metrics import row_scores, slice_masks, spread_of
from tidemill.metrics.choices import choice_summary
from tidemill.metrics.decisions import Decisions
from tidemill.metrics.off_policy import DECISIVE, contributions
from tidemill.metrics.summary import summarise
from tidemill.metrics.units import Floats
from tidemill.records import JSON, Model, Report, new_id
from tidemill.runtime import Predictor
from tidemill.runtime.answers import Answers
from tidemill.runtime.choosing import ChoicePredictor
from tidemill.runtime.offline import Hindsight, in_hindsight
from tidemill.store import Store
from tidemill.tasks import Task

_CHUNK = 4096
_CALLS = 60
_BATCH = 256
_WORST = 24


@dataclass(frozen=True, slots=True)
class RowOutcomes:
    """What a model did on each labelled row of a split; what the gate is made from.

    Attributes:
        rows: int64 ``[n]``, rows of the dataset.
        keys: uint64 ``[n]``, their split keys.
        weights: float64 ``[n]``, inverse inclusion probabilities.
        target: codes ``[n]``, 0 and 1 ``[n, labels]``, or values ``[n]``.
        probabilities: float32 ``[n, labels of the dataset]``, or ``[n, 1]`` or ``[n, 3]``: value, low, high.
        answers: by the model's own spec, in the dataset's labels: codes int32 ``[n]`` with -1 where it abstains, uint8
            ``[n, labels]``, or values ``[n]``.
        guesses: int32 ``[n]``, what a classifier would answer where it abstains; ``answers`` itself for the others.
        scores: float64 ``[n]``, the metric by row, larger is better; of choices what each adds to the doubly robust
            estimate of the policy's reward.
        hindsight: of choices, what the scores are made of.
    """

    rows: npt.NDArray[np.int64]
    keys: npt.NDArray[np.uint64]
    weights: Floats
    target: npt.NDArray[Any]
    probabilities: npt.NDArray[np.float32]
    answers: npt.NDArray[Any]
    guesses: npt.NDArray[Any]
    scores: Floats
    hindsight: Hindsight | None = None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A stored report with the row outcomes behind it."""

    report: Report
    outcomes: RowOutcomes


def evaluate(
    store: Store,
    dataset: DatasetArrays,
    predictor: Predictor,
    split: str,
    *,
    model_id: str,
    task: Task,
    metric: str,
    costs: Decisions | None = None,
    slices: Sequence[str] | None = None,
    latency: bool = True,
    on_event: Callable[[JSON], None] | None = None,
) -> Evaluation:
    """Judge a model on the labelled rows of a split, and record the report.

    A report of the same model, dataset and split is used again; the row outcomes are always computed.

    Args:
        split: one of :data:`tidemill.data.splits.SPLITS`. Mistakes are shown for ``validation`` and
            ``recent-validation`` only, so that nobody overfits a test set by eye.
        task: gives the columns to slice by unless *slices* names others.
        metric: the per-row score.
        costs: what ``utility`` is measured in.
        slices: columns to slice by.
        latency: measure latency and throughput too, which takes a moment.
        on_event: told of the progress.

    Raises:
        NotReadyError: the split has no labelled rows.
    """
    rows = dataset.rows(split)
    if not len(rows):
        raise NotReadyError(
            f"the split {split!r} has no labelled rows", where=dataset.id, mend="Label some, or choose another split."
        )
    outcomes = _outcomes(dataset, predictor, rows, metric, costs, split, on_event)
    known = store.find(Report, model_id=model_id, dataset_id=dataset.id, split=split, limit=1)
    if known:
        return Evaluation(known[0], outcomes)
    signature = dataset.signature
    names = list(task.slices(signature) if slices is None else slices)
    columns = {name: column for name, column in dataset.columns(rows).items() if name in names} if names else {}
    content: JSON = {
        "schema": 1,
        "split": split,
        "metric": metric,
        "target": signature.target,
        **_summary(predictor, signature, outcomes, columns, names, costs),
        "latency": timed(dataset, predictor, rows) if latency else None,
        "size_bytes": store.get(Model, model_id).size_bytes,
        "mistakes": _mistakes(dataset, outcomes) if split in ("validation", "recent-validation") else [],
    }
    report = Report(id=new_id("report"), model_id=model_id, dataset_id=dataset.id, split=split, content=content)
    store.insert(report)
    return Evaluation(report, outcomes)


def _summary(
    predictor: Predictor,
    signature: Signature,
    outcomes: RowOutcomes,
    columns: Columns,
    names: Sequence[str],
    costs: Decisions | None,
) -> JSON:
    if outcomes.hindsight is not None:
        assert isinstance(predictor, ChoicePredictor)
        found = choice_summary(
            outcomes.hindsight.weighed,
            outcomes.keys,
            outcomes.weights,
            rewards=predictor.spec.rewards,
            masks=slice_masks(columns, names),
        )
        return {"kind": "choice", "labels": list(signature.labels), "shares": outcomes.hindsight.shares, **found}
    return summarise(
        signature.kind,
        outcomes.target,
        outcomes.probabilities,
        outcomes.keys,
        outcomes.weights,
        answers=outcomes.answers,
        guesses=outcomes.guesses if signature.kind == "classification" else None,
        costs=costs,
        level=Answers(predictor.manifest.answer).level,
        labels=signature.labels,
        masks=slice_masks(columns, names, outcomes.target, signature.labels),
    )


def _chosen(
    dataset: DatasetArrays,
    predictor: ChoicePredictor,
    rows: npt.NDArray[np.int64],
    split: str,
    on_event: Callable[[JSON], None] | None,
) -> RowOutcomes:
    """The outcomes where the package chooses, of which the rows hold another policy's choices and their rewards."""

    def told(done: int) -> None:
        if on_event is not None:
            on_event({"stage": "evaluate", "what": f"judging choices of {split}", "done": done, "total": len(rows)})

    found = in_hindsight(dataset, predictor, rows, told)
    greedy = np.array(found.greedy, object)
    return RowOutcomes(
        rows=rows,
        keys=np.asarray(dataset.keys[rows]),
        weights=np.asarray(dataset.weight[rows], np.float64),
        target=found.weighed.reward,
        probabilities=found.weighed.importance.astype(np.float32)[:, None],
        answers=greedy,
        guesses=greedy,
        scores=contributions(DECISIVE, found.weighed),
        hindsight=found,
    )


def _outcomes(
    dataset: DatasetArrays,
    predictor: Predictor,
    rows: npt.NDArray[np.int64],
    metric: str,
    costs: Decisions | None,
    split: str,
    on_event: Callable[[JSON], None] | None,
) -> RowOutcomes:
    if isinstance(predictor, ChoicePredictor):
        return _chosen(dataset, predictor, rows, split, on_event)
    kind, labels = dataset.signature.kind, dataset.signature.labels
    rule = Answers(predictor.manifest.answer)
    found, answers, guesses, done = [], [], [], 0
    for columns in dataset.chunks(rows, _CHUNK):
        p = rule.probabilities(predictor.scores(columns))
        given = rule.decide(p)
        if kind == "classification":
            guess = rule.rule.guess(p) if rule.rule.abstains else given
            p = align(p, rule.labels, labels)
            guesses.append(recode(guess, rule.labels, labels, p))
            given = np.where(given < 0, given, guesses[-1]).astype(np.int32)
        elif kind == "multilabel":
            p, given = align(p, rule.labels, labels), align(given, rule.labels, labels)
        found.append(p)
        answers.append(given)
        done += len(p)
        if on_event is not None:
            on_event({"stage": "evaluate", "what": f"answering {split}", "done": done, "total": len(rows)})
    target, probabilities, answered = np.asarray(dataset.target[rows]), np.concatenate(found), np.concatenate(answers)
    spread = training_spread(dataset)
    return RowOutcomes(
        rows=rows,
        keys=np.asarray(dataset.keys[rows]),
        weights=np.asarray(dataset.weight[rows], np.float64),
        target=target,
        probabilities=probabilities,
        answers=answered,
        guesses=np.concatenate(guesses) if guesses else answered,
        scores=row_scores(metric, target, probabilities, answered, costs=costs, spread=spread),
    )


def training_spread(dataset: DatasetArrays) -> float:
    """The variance of the training rows' values, the *spread* of ``r2``; 1 for other kinds."""
    return spread_of(dataset.target[dataset.rows("train")]) if dataset.signature.kind == "regression" else 1.0


def align(values: npt.NDArray[Any], labels: Sequence[str], wanted: Sequence[str]) -> npt.NDArray[Any]:
    """Columns of a model's labels in the order of a dataset's, of the same dtype; 0 for a label it does not know.

    >>> align(np.array([[0.2, 0.8]]), ["cat", "dog"], ["ant", "dog", "cat"]).tolist()
    [[0.0, 0.8, 0.2]]
    """
    if tuple(labels) == tuple(wanted):
        return values
    place = {label: code for code, label in enumerate(labels)}
    found = np.zeros((len(values), len(wanted)), values.dtype)
    for code, label in enumerate(wanted):
        if label in place:
            found[:, code] = values[:, place[label]]
    return found


def recode(
    codes: npt.NDArray[Any], labels: Sequence[str], wanted: Sequence[str], probabilities: npt.NDArray[Any]
) -> npt.NDArray[np.int32]:
    """A model's codes ``[n]`` as a dataset's; where that has the label no more, its most probable one instead.

    >>> recode(np.array([1, 0]), ["cat", "dog"], ["ant", "cat"], np.array([[0.0, 0.2], [0.0, 0.8]])).tolist()
    [1, 1]
    """
    place = {label: code for code, label in enumerate(wanted)}
    found = np.array([place.get(label, -1) for label in labels], np.int32)[codes]
    return np.asarray(np.where(found < 0, probabilities.argmax(axis=1), found), np.int32)


def timed(dataset: DatasetArrays, predictor: Predictor, rows: npt.NDArray[np.int64]) -> JSON:
    """What answers take, one row a call and in a batch; medians, because a neighbour's burst must decide nothing."""
    sample = rows[np.linspace(0, len(rows) - 1, min(_BATCH, len(rows))).astype(np.int64)]
    batch = dataset.columns(sample)
    singles = [take(batch, np.array([i % len(sample)])) for i in range(_CALLS)]

    def seconds(columns: Any) -> float:
        started = time.perf_counter()
        predictor.probabilities(columns)
        return time.perf_counter() - started

    for columns in singles[:5]:
        seconds(columns)
    single = np.array([seconds(columns) for columns in singles]) * 1000
    whole = float(np.median([seconds(batch) for _ in range(5)]))
    return {
        "single": {
            "p50_ms": round(float(np.median(single)), 4),
            "p99_ms": round(float(np.quantile(single, 0.99)), 4),
            "calls": _CALLS,
        },
        "batch": {"rows": len(sample), "rows_per_second": round(len(sample) / whole, 1)},
    }


def _mistakes(dataset: DatasetArrays, outcomes: RowOutcomes) -> list[JSON]:
    """The rows where the model was most sure of a wrong answer, or most wrong, the worst first."""
    kind, labels = dataset.signature.kind, dataset.signature.labels
    if outcomes.hindsight is not None:  # nobody knows what would have been right
        return []
    target, p = outcomes.target, outcomes.probabilities
    if kind == "classification":
        loss, wrong = -row_scores("log_loss", target, p), outcomes.guesses != target
    elif kind == "multilabel":
        loss, wrong = -row_scores("label_log_loss", target, p), (outcomes.answers != target).any(axis=1)
    else:
        loss = -row_scores("mae", target, p)
        wrong = loss > 0
    order = np.flatnonzero(wrong)
    order = order[np.argsort(-loss[order], kind="stable")][:_WORST]
    found = []
    for i in order:
        row = int(outcomes.rows[i])
        entry: JSON = {"sample": dataset.sample_id(row), "origin": dataset.origin(row), "inputs": dataset.show(row)}
        if kind == "classification":
            code, answer = int(target[i]), int(outcomes.guesses[i])
            entry |= {"label": labels[code], "label_score": float(p[i, code])}
            entry |= {"answer": labels[answer], "score": float(p[i, answer])}
            if outcomes.answers[i] < 0:
                entry["abstained"] = True
        elif kind == "multilabel":
            entry |= {"label": _named(labels, target[i]), "answer": _named(labels, outcomes.answers[i])}
            doubtful = [code for code in range(len(labels)) if target[i, code] != outcomes.answers[i, code]]
            entry["scores"] = {labels[code]: float(p[i, code]) for code in doubtful}
        else:
            entry |= {"label": float(target[i]), "answer": float(p[i, 0])}
            if p.shape[1] == 3:
                entry["interval"] = p[i, 1:].astype(float).tolist()
        found.append(entry | {"loss": float(loss[i])})
    return found


def _named(labels: Sequence[str], row: npt.NDArray[Any]) -> list[str]:
    return [label for label, holds in zip(labels, row, strict=True) if holds]
