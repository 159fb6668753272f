"""Target arrays of the four kinds: their form, which rows have a label, and what people's labels are in them.

=================  ==============================  =======================
kind               array                           unlabelled
=================  ==============================  =======================
``classification`` int32 codes ``[n]``             -1
``multilabel``     int8 ``[n, labels]`` of 0 and 1 a whole row of -1
``regression``     float32 ``[n]``                 NaN
``choice``         float32 ``[n]``: rewards        NaN
=================  ==============================  =======================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.data.keys import mix
from tidemill.data.schema import NUMBERS, Kind, Signature

Mask = npt.NDArray[np.bool_]
Target = npt.NDArray[Any]

LARGEST = float(np.finfo(np.float32).max)
"""Numbers beyond this are infinite as a target."""
_DTYPES: Mapping[Kind, type[np.generic]] = {
    "classification": np.int32,
    "multilabel": np.int8,
    "regression": np.float32,
    "choice": np.float32,
}


def row_form(signature: Signature) -> tuple[type[np.generic], tuple[int, ...]]:
    """The dtype of a target, and the shape of one row of it."""
    return _DTYPES[signature.kind], (len(signature.labels),) if signature.kind == "multilabel" else ()


def unlabelled(signature: Signature, n: int) -> Target:
    """The target of *n* rows of which nothing is known.

    >>> unlabelled(Signature(inputs=(), target="y", kind="multilabel", labels=("a", "b")), 1).tolist()
    [[-1, -1]]
    """
    dtype, row = row_form(signature)
    return np.full((n, *row), np.nan if signature.kind in NUMBERS else -1, dtype)


def is_labelled(target: Target) -> Mask:
    """Which rows have a label, bool ``[n]``; a row of several labels has one also when it is none of them."""
    if target.dtype.kind == "f":
        return np.asarray(~np.isnan(target), np.bool_)
    return np.asarray((target if target.ndim == 1 else target[:, 0]) >= 0, np.bool_)


def label_bits(target: Target) -> npt.NDArray[np.uint64]:
    """One number a row, uint64 ``[n]``: equal for equal labels. Unlabelled rows are equal to one another.

    >>> a, b, c = label_bits(np.array([[0, 1], [1, 0], [0, 1]], np.int8)).tolist()
    >>> a == c, a == b
    (True, False)
    """
    if target.ndim == 1:
        return target.astype(np.float64).view(np.uint64)
    packed = np.packbits(target > 0, axis=1)
    words = np.zeros((len(target), -(-packed.shape[1] // 8) * 8), np.uint8)
    words[:, : packed.shape[1]] = packed
    bits = np.where(is_labelled(target), np.uint64(1), np.uint64(0))
    for word in words.view(np.uint64).T:
        bits = mix(bits) ^ word
    return mix(bits)


def class_counts(target: Target, classes: int) -> npt.NDArray[np.int64]:
    """How many labelled rows each class has, int64 ``[classes]``; all of them as one class for the other kinds."""
    known = is_labelled(target)
    if target.ndim > 1 or target.dtype.kind == "f":
        return np.array([int(known.sum())], np.int64)
    return np.bincount(target[known], minlength=max(1, classes)).astype(np.int64)


def classes_of(target: Target) -> npt.NDArray[np.int64]:
    """The class of each row for splitting, int64 ``[n]``: its code; 0 for every labelled row of the other kinds."""
    if target.ndim == 1 and target.dtype.kind == "i":
        return target.astype(np.int64)
    return np.where(is_labelled(target), 0, -1).astype(np.int64)


class Stated:
    """Labels as people state them, as values of a target array.

    >>> stated = Stated(Signature(inputs=(), target="y", kind="multilabel", labels=("a", "b")))
    >>> stated.value(["b"]).tolist(), stated.value([]).tolist(), stated.value(["z"])
    ([0, 1], [0, 0], None)
    """

    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        self._codes = {label: code for code, label in enumerate(signature.labels)}

    def value(self, label: Any) -> Any | None:
        """One row of the target; ``None`` when the label does not fit the signature."""
        kind = self._signature.kind
        if kind == "classification":
            return self._codes.get(str(label))
        if kind in NUMBERS:
            known = isinstance(label, int | float) and not isinstance(label, bool) and abs(label) <= LARGEST
            return float(label) if known else None
        if not isinstance(label, list | tuple | set | frozenset):
            label = [label]
        codes = [self._codes.get(str(one), -1) for one in label]
        if -1 in codes:
            return None
        row = np.zeros(len(self._codes), np.int8)
        row[codes] = 1
        return row

    def shown(self, value: Any) -> str:
        """A labelled row of the target as people read it."""
        labels = self._signature.labels
        if self._signature.kind == "classification":
            return labels[int(value)]
        if self._signature.kind in NUMBERS:
            return f"{float(value):g}"
        return readable([label for label, given in zip(labels, value, strict=True) if given])


def readable(label: Any) -> str:
    """A stated label as people read it: several as a list, none of them in words.

    >>> readable(["b", "a"]), readable([]), readable(2.5), readable("a")
    ('a, b', 'none of them', '2.5', 'a')
    """
    if isinstance(label, list | tuple | set | frozenset):
        return ", ".join(sorted(map(str, label))) or "none of them"
    return f"{label:g}" if isinstance(label, float) else str(label)


def settled_number(values: Sequence[float], weights: Sequence[float] | None = None, tie: float = 0.0) -> float | None:
    """What several numbers stated for one thing amount to; ``None`` when that is open.

    The number that has more weight than every other; else, from three statements on, their median, which a single slip
    does not move far. Two that differ contradict each other.

    Args:
        values: one a statement.
        weights: what each counts, more than 0; the same unless given.
        tie: share of their sum by which the weights of two numbers may differ and be as good as equal.

    >>> settled_number([3, 3, 9]), settled_number([3, 4, 9]), settled_number([3, 9]), settled_number([3, 9], [1, 2])
    (3.0, 4.0, None, 9.0)
    """
    given = np.ones(len(values)) if weights is None else np.asarray(weights, np.float64)
    numbers, place = np.unique(np.asarray(values, np.float64), return_inverse=True)
    weighed = np.bincount(place, given)
    most = np.sort(weighed)[::-1]
    if len(most) == 1 or most[0] - most[1] > tie * (most[0] + most[1]):
        return float(numbers[weighed.argmax()])
    if len(values) <= 2:
        return None
    below = weighed.cumsum() / weighed.sum()
    middle = int(np.searchsorted(below, 0.5 - 1e-9))
    between = abs(below[middle] - 0.5) < 1e-9  # as of an even number of equal weights
    return float(numbers[middle : middle + 2].mean() if between else numbers[middle])
