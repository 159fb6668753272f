"""Labels that nobody gave: functions vote on unlabelled training rows, and a label model says how likely each label is.

Only training rows are labelled so, never those that choose or judge. A label weighs as much in training as its chance
beats guessing, and whoever answers a question about the row replaces it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.annotation.functions import LabellingFunction, require_classes, votes_of
from tidemill.annotation.label_model import SILENT, Votes, fit_label_model, summarise_votes
from tidemill.data.parts import Part
from tidemill.data.schema import Signature
from tidemill.data.splits import TRAIN
from tidemill.data.targets import is_labelled
from tidemill.records import JSON

JUDGED = 5000
"""Labelled training rows on which functions are judged."""

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class WeakLabels:
    """What functions came to.

    Attributes:
        rows: that they label, int64 ``[n]``.
        codes: the likeliest label of each, int64 ``[n]``.
        belief: how likely it is, float64 ``[n]``.
        functions: what each function does, see :func:`tidemill.annotation.label_model.summarise_votes`.
    """

    rows: Rows
    codes: Rows
    belief: npt.NDArray[np.float64]
    functions: list[JSON]


def weak_labels(
    functions: Sequence[LabellingFunction],
    signature: Signature,
    parts: Sequence[Part],
    split: npt.NDArray[np.uint8],
    target: npt.NDArray[Any],
    min_belief: float,
    seed: int = 0,
) -> WeakLabels:
    """Label the training rows that have no label.

    Args:
        functions: at least one.
        signature: of the parts; one label a row.
        parts: the rows, one part after the other.
        split: of all rows.
        target: of all rows, codes.
        min_belief: chance under which a label is left out.
        seed: draws the labelled rows on which functions are judged.

    Raises:
        InputError: the task has no single label a row.
        ConfigError: a function fails, or names what there is not.
    """
    require_classes(signature)
    training, known = split == TRAIN, is_labelled(target)
    open_ = np.flatnonzero(training & ~known)
    shown = np.flatnonzero(training & known)
    if len(shown) > JUDGED:
        shown = np.sort(np.random.default_rng(seed).choice(shown, JUDGED, replace=False))
    rows = np.sort(np.concatenate([open_, shown])).astype(np.int64)
    votes = _votes(functions, signature, parts, rows)
    labels = np.where(known[rows], target[rows].astype(np.int64), SILENT)
    model = fit_label_model(votes, len(signature.labels), labels)
    wanted = (labels == SILENT) & (votes != SILENT).any(axis=1)
    chances = model.probabilities(votes[wanted])
    best = chances.argmax(axis=1).astype(np.int64)
    belief = chances[np.arange(len(best)), best]
    sure = belief >= min_belief
    told = summarise_votes(votes, [f.name for f in functions], labels, model)
    return WeakLabels(rows[wanted][sure], best[sure], belief[sure], told)


def weight_of(belief: npt.NDArray[np.float64], classes: int) -> npt.NDArray[np.float32]:
    """What a label weighs: 1 when it is certain, 0 when it is as likely as any other.

    >>> weight_of(np.array([1.0, 0.75, 0.5]), 2).tolist()
    [1.0, 0.5, 0.0]
    """
    return np.asarray((belief - 1 / classes) / (1 - 1 / classes), np.float32)


def _votes(functions: Sequence[LabellingFunction], signature: Signature, parts: Sequence[Part], rows: Rows) -> Votes:
    """The votes on rows that are numbered over all parts."""
    starts = np.cumsum([0, *[part.n for part in parts]])
    found = [np.empty((0, len(functions)), np.int64)]
    for part, start in zip(parts, starts, strict=False):
        mine = rows[(rows >= start) & (rows < start + part.n)] - start
        if len(mine):
            found.append(votes_of(functions, signature, part.columns, mine.tolist()))
    return np.concatenate(found)
