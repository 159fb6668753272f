"""What may be asked about, from the data and from traffic, put in one order with a reason for each.

Candidates of the data are unlabelled training rows, drawn at random where there are many; those of traffic are the
newest answers of which nobody has said what would have been right. What users rated badly comes first among these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.annotation.choosing import Pick, Pool, disagreement_of, ordered
from tidemill.annotation.doubts import doubts_of
from tidemill.annotation.vectors import vectors_of
from tidemill.data.arrays import Column, stacked
from tidemill.data.dataset import DatasetArrays
from tidemill.errors import InputError, TidemillError
from tidemill.records import JSON, Prediction
from tidemill.runtime import Predictor

FROM_DATA, FROM_TRAFFIC = 5000, 2000
"""Candidates that are looked at: some thousands hold enough hard cases, and scoring them takes a moment."""
KNOWN = 2000
"""Labelled rows that candidates are compared with."""

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Something to ask about, with what the champion says of it.

    Attributes:
        subject: id of a sample or a prediction.
        row: of the dataset version, for a sample.
        prediction: for an answer given in traffic.
        answer: the champion's.
        complaint: what users said against that answer, in words.
    """

    subject: str
    row: int | None = None
    prediction: Prediction | None = None
    answer: JSON = field(default_factory=dict)
    complaint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A candidate in its place."""

    candidate: Candidate
    signal: str
    reason: str


def order_candidates(
    candidates: Sequence[Candidate],
    dataset: DatasetArrays | None,
    predictor: Predictor | None,
    rivals: Sequence[tuple[str, Predictor]],
    most: int,
    rng: np.random.Generator,
) -> list[Asked]:
    """The *most* candidates to ask about first, in order.

    Args:
        candidates: of one kind of answer.
        dataset: the version that rows are of; its labelled rows tell what is new.
        predictor: the champion, for what its features make of a row; without one answers alone are looked at.
        rivals: other models of the same signature with the names they are called by.
        most: how many.
        rng: draws, and breaks ties.
    """
    if not candidates:
        return []
    answers = [c.answer for c in candidates]
    spec: JSON = {} if predictor is None else predictor.manifest.answer
    doubts = doubts_of(answers, spec, rng)
    doubt = np.array([1.0 if c.complaint else 1.0 - rank for c, (rank, _) in zip(candidates, doubts, strict=True)])
    known = np.empty(0, np.int64) if dataset is None else dataset.rows("train")
    labels = 10**9 if dataset is None else len(known)  # traffic alone: there is a model, so there were labels
    shown = np.sort(rng.choice(known, min(len(known), KNOWN), replace=False)) if len(known) else known
    columns = None if predictor is None else _columns(candidates, dataset, predictor)
    vectors, taught = _vectors(columns, dataset, predictor, shown, len(candidates))
    guess, counts = _classes(answers, dataset, known)
    rows = np.flatnonzero(np.isfinite(doubt)) if columns is None else columns[1]
    pool = Pool(
        doubt=doubt[rows],
        vectors=vectors,
        known=taught,
        labels=labels,
        disagreement=None if columns is None else _disagreement(columns[0], predictor, rivals),
        guess=None if guess is None else guess[rows],
        counts=counts,
    )
    voices = [] if columns is None else [(name, rival) for name, rival in rivals]
    said = _said_by(columns[0], voices) if columns is not None and voices else {}
    found = []
    for pick in ordered(pool, most, rng):
        place = int(rows[pick.row])
        found.append(_asked(candidates[place], pick, doubts[place][1], said, guess, counts, place))
    return found


def _asked(
    candidate: Candidate,
    pick: Pick,
    doubt: str,
    said: dict[str, list[JSON]],
    guess: npt.NDArray[np.int64] | None,
    counts: npt.NDArray[np.int64] | None,
    place: int,
) -> Asked:
    if candidate.complaint:
        return Asked(candidate=candidate, signal="feedback", reason=candidate.complaint)
    signal, reason = pick.signal, doubt
    if signal == "disagreement" and said:
        others = ", ".join(f"{name} says {_short(answers[pick.row])}" for name, answers in said.items())
        reason = f"models disagree: the champion says {_short(candidate.answer)}, {others}"
    elif signal == "novel":
        reason = "nothing like it has a label yet"
    elif signal == "typical":
        reason = "it stands for many that are like it, and few labels are known yet"
    elif signal == "balance" and guess is not None and counts is not None:
        label = candidate.answer.get("label") or candidate.answer.get("guess")
        reason = f"the model takes it for {label}, of which only {int(counts[guess[place]])} are known"
    return Asked(candidate=candidate, signal=signal, reason=reason)


def _short(answer: JSON) -> str:
    if "value" in answer:
        return f"{answer['value']:.4g}"
    if "labels" in answer:
        return ", ".join(answer["labels"]) or "none"
    return str(answer.get("label") or answer.get("guess"))


def _columns(
    candidates: Sequence[Candidate], dataset: DatasetArrays | None, predictor: Predictor
) -> tuple[dict[str, Column], Rows] | None:
    """The inputs of those candidates that the champion can read, and which these are."""
    parts: list[dict[str, Column]] = []
    places: list[Rows] = []
    sampled = [i for i, c in enumerate(candidates) if c.row is not None]
    if sampled and dataset is not None:
        parts.append(dataset.columns(np.array([candidates[i].row for i in sampled], np.int64)))
        places.append(np.array(sampled, np.int64))
    given: list[int] = []
    records: list[JSON] = []
    for i, candidate in enumerate(candidates):
        if candidate.prediction is not None:
            given.append(i)
            records.append(candidate.prediction.inputs)
    if records:
        try:
            parts.append(predictor.encode(records))
        except InputError:  # asked of a model with other inputs: one by one, and what does not fit is left out
            given, records = _readable(given, records, predictor)
            if records:
                parts.append(predictor.encode(records))
        if records:
            places.append(np.array(given, np.int64))
    if not parts:
        return None
    joined = {name: stacked([part[name] for part in parts]) for name in parts[0]}
    return joined, np.concatenate(places)


def _readable(given: list[int], records: list[JSON], predictor: Predictor) -> tuple[list[int], list[JSON]]:
    kept: list[tuple[int, JSON]] = []
    for place, record in zip(given, records, strict=True):
        try:
            predictor.encode([record])
        except InputError:
            continue
        kept.append((place, record))
    return [place for place, _ in kept], [record for _, record in kept]


def _vectors(
    columns: tuple[dict[str, Column], Rows] | None,
    dataset: DatasetArrays | None,
    predictor: Predictor | None,
    shown: Rows,
    many: int,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Vectors of the candidates, and of labelled rows in the same space."""
    if columns is None or predictor is None:
        return np.zeros((many, 1), np.float32), np.zeros((0, 1), np.float32)
    inputs, rows = columns
    if dataset is not None and len(shown):
        taught = dataset.columns(shown)
        inputs = {name: stacked([column, taught[name]]) for name, column in inputs.items()}
    found = vectors_of(predictor.features(inputs))
    return found[: len(rows)], found[len(rows) :]


def _classes(
    answers: Sequence[JSON], dataset: DatasetArrays | None, known: Rows
) -> tuple[npt.NDArray[np.int64] | None, npt.NDArray[np.int64] | None]:
    """What the champion takes each candidate for, and how many labels of each class are known."""
    if dataset is None or dataset.signature.kind != "classification":
        return None, None
    codes = {label: code for code, label in enumerate(dataset.signature.labels)}
    guess = [codes.get(a.get("label") or a.get("guess") or "", -1) for a in answers]
    if min(guess) < 0:
        return None, None
    counts = np.bincount(dataset.target[known], minlength=len(codes)).astype(np.int64)
    return np.array(guess, np.int64), counts


def _disagreement(
    columns: dict[str, Column], predictor: Predictor | None, rivals: Sequence[tuple[str, Predictor]]
) -> npt.NDArray[np.float64] | None:
    if predictor is None or not rivals or predictor.manifest.answer["kind"] != "classification":
        return None
    several = [predictor.probabilities(columns)]
    for _, rival in rivals:
        try:
            found = rival.probabilities(columns)
        except TidemillError:
            continue
        if found.shape == several[0].shape:
            several.append(found)
    return disagreement_of(several) if len(several) > 1 else None


def _said_by(columns: dict[str, Column], rivals: Sequence[tuple[str, Predictor]]) -> dict[str, list[JSON]]:
    return {name: rival.answers(rival.scores(columns)) for name, rival in rivals}


def sampled_candidates(
    dataset: DatasetArrays, predictor: Predictor, rng: np.random.Generator, most: int = FROM_DATA
) -> list[Candidate]:
    """Unlabelled training rows with the champion's answers, at most so many."""
    rows = dataset.unanswered("train")
    pool = np.sort(rng.choice(rows, min(len(rows), most), replace=False))
    found: list[Candidate] = []
    for start in range(0, len(pool), 1024):
        chunk = pool[start : start + 1024]
        answers: list[dict[str, Any]] = predictor.answer(dataset.columns(chunk))
        found += [
            Candidate(subject=dataset.sample_id(int(row)), row=int(row), answer=answer)
            for row, answer in zip(chunk.tolist(), answers, strict=True)
        ]
    return found
