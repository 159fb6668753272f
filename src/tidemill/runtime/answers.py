"""From raw scores to an answer, by the spec that the manifest carries.

``classification``: ``{"kind", "labels", "temperature"}`` and, where there are any, ``bias`` (one number a label),
``doubt`` (``{"share", "sharpness"}``, both 0 to 1), ``costs`` (a square of numbers, true label by answered label),
``abstain_cost``, ``min_precision`` and ``threshold``.
    Probabilities are softmax(scores / temperature + bias); where there is doubt, a share of them is that of flatter
    ones, softmax(sharpness · scores / temperature + bias). An answer is
    ``{"label", "score": its probability, "scores": {label: probability}}``, or where the model abstains
    ``{"label": null, "abstained": true, "guess", "score", "scores"}`` with what it would have said.
``multilabel``: ``{"kind", "labels", "scale", "bias", "thresholds"}``, the last three one number a label.
    Probabilities are sigmoid(scores · scale + bias). An answer is ``{"labels": [...], "scores": {label: probability}}``
    with the labels whose probability reaches their threshold.
``regression``: ``{"kind"}`` and perhaps ``interval`` (``{"level": 0.9, "offset": q}``).
    An answer is ``{"value": number}``, and where there is an interval ``{"value", "interval": [low, high], "level"}``.
    The interval reaches from the model's raw low minus *q* to its raw high plus *q*; a model that gives a value alone
    has both there, and an end on the wrong side of the value counts as the value.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.data.targets import LARGEST
from tidemill.errors import InputError, PackageError
from tidemill.metrics.decisions import Decisions

Scores = npt.NDArray[np.float32]
_FAR = 1e37
"""Differences of scores within it are still finite."""


class Answers:
    """The spec, checked once and ready for use.

    Attributes:
        kind: ``classification``, ``multilabel`` or ``regression``.
        labels: in the order of the scores; none for regression.
        rule: how a classifier decides.
        level: share of true values that intervals are to cover; ``None`` where answers have none.

    Raises:
        PackageError: the spec makes no sense; the message says where.

    >>> Answers({"kind": "regression"}).of(np.array([[1.5]], np.float32))
    [{'value': 1.5}]
    >>> Answers({"kind": "multilabel", "labels": ["cat", "dog"]}).of(np.zeros((1, 2), np.float32))
    [{'labels': ['cat', 'dog'], 'scores': {'cat': 0.5, 'dog': 0.5}}]
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.kind: str = spec.get("kind", "")
        if self.kind not in ("classification", "multilabel", "regression"):
            raise _broken(f"kind is {self.kind!r}")
        labels = spec.get("labels", [])
        if not isinstance(labels, list | tuple) or not all(isinstance(label, str) for label in labels):
            raise _broken("labels is no list of texts")
        self.labels: tuple[str, ...] = tuple(labels)
        least = {"classification": 2, "multilabel": 1, "regression": 0}[self.kind]
        if len(self.labels) < least or len(set(self.labels)) < len(self.labels):
            raise _broken(f"it needs {least} or more labels, each once")
        self.rule = Decisions()
        self.level: float | None = None
        self._shift: Scores | None = None
        self._doubt: tuple[np.float32, np.float32] | None = None
        if self.kind == "classification":
            self._classification(spec)
        elif self.kind == "multilabel":
            self._multilabel(spec)
        else:
            self._regression(spec)

    def _classification(self, spec: Mapping[str, Any]) -> None:
        self._sharpness = np.float32(1 / _number(spec, "temperature", 1.0, above=0.0))
        if spec.get("bias") is not None:
            self._shift = _numbers(spec, "bias", len(self.labels), 0.0)
        if spec.get("doubt") is not None:
            doubt = spec["doubt"]
            if not isinstance(doubt, Mapping):
                raise _broken("doubt is no object")
            share, sharpness = (_number(doubt, key, 0.0, least=0.0, most=1.0) for key in ("share", "sharpness"))
            self._doubt = np.float32(share), np.float32(sharpness)
        if spec.get("costs") is not None:
            rows = spec["costs"]
            if not isinstance(rows, list | tuple) or len(rows) != len(self.labels):
                raise _broken("costs is no square of numbers, one row a label")
            for row in rows:
                _numbers({"costs": row}, "costs", len(self.labels), 0.0, least=0.0)
        for key, most in (("abstain_cost", math.inf), ("min_precision", 1.0), ("threshold", 1.0)):
            if spec.get(key) is not None:
                _number(spec, key, 0.0, least=0.0, most=most)
        self.rule = Decisions.of(spec)
        if self.rule.largest <= 0:
            raise _broken("every answer costs 0")
        self._plain = self.rule.costs is None and not self.rule.abstains

    def _multilabel(self, spec: Mapping[str, Any]) -> None:
        width = len(self.labels)
        self._scale = _numbers(spec, "scale", width, 1.0, least=0.0)
        self._bias = _numbers(spec, "bias", width, 0.0)
        self._thresholds = _numbers(spec, "thresholds", width, 0.5, least=0.0)

    def _regression(self, spec: Mapping[str, Any]) -> None:
        interval = spec.get("interval")
        if interval is None:
            return
        if not isinstance(interval, Mapping):
            raise _broken("interval is no object")
        self.level = _number(interval, "level", 0.9, above=0.0, most=1.0)
        self._offset = np.float32(_number(interval, "offset", 0.0))

    @property
    def classes(self) -> int:
        """Number of labels; 1 for regression."""
        return max(1, len(self.labels))

    @property
    def widths(self) -> tuple[int, ...]:
        """How many scores a row may have."""
        return (1, 3) if self.kind == "regression" else (len(self.labels),)

    def probabilities(self, scores: Scores) -> Scores:
        """float32 ``[n, k]`` that sum to 1 a row; for multilabel one probability a label.

        For regression the value ``[n, 1]``, or where answers have an interval ``[n, 3]``: value, low, high. Always
        finite: scores that left float32 count as the largest, and what is no number as 0.
        """
        if not np.isfinite(scores).all():
            bound = LARGEST if self.kind == "regression" else _FAR
            scores = np.clip(np.nan_to_num(scores), -bound, bound)
        if self.kind == "classification":
            if self._doubt is None:
                return self._softmax(scores, self._sharpness)
            share, sharpness = self._doubt
            mixed = self._softmax(scores, self._sharpness)
            mixed *= 1 - share
            mixed += share * self._softmax(scores, sharpness * self._sharpness)
            return mixed
        if self.kind == "multilabel":
            return _sigmoid(scores * self._scale + self._bias)
        value = scores[:, :1]
        if self.level is None:
            return value
        low, high = value, value
        if scores.shape[1] == 3:  # quantiles may cross, and the offset is that of ends which do not
            low, high = np.minimum(scores[:, 1:2], value), np.maximum(scores[:, 2:3], value)
        with np.errstate(over="ignore"):
            ends = low - self._offset, high + self._offset
        # The offset may be negative: the value always lies inside its interval.
        found = np.concatenate([value, np.minimum(ends[0], value), np.maximum(ends[1], value)], axis=1)
        return np.clip(found, -LARGEST, LARGEST, out=found)

    def _softmax(self, scores: Scores, sharpness: np.float32) -> Scores:
        if self._shift is None:
            shifted = (scores - scores.max(axis=1, keepdims=True)) * sharpness
        else:
            shifted = scores * sharpness + self._shift
            shifted -= shifted.max(axis=1, keepdims=True)
        powers: Scores = np.exp(shifted, out=shifted)
        powers /= powers.sum(axis=1, keepdims=True)
        return powers

    def decide(self, probabilities: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What is answered: codes int64 ``[n]``, -1 where the model abstains.

        For multilabel uint8 ``[n, L]``, for regression the values ``[n]``.
        """
        if self.kind == "classification":
            return self.rule.choose(probabilities)
        if self.kind == "multilabel":
            return (probabilities >= self._thresholds).astype(np.uint8)
        return probabilities[:, 0]

    def of(self, scores: Scores) -> list[dict[str, Any]]:
        """One JSON answer a row."""
        found = self.probabilities(scores)
        labels = self.labels
        if self.kind == "regression":
            if self.level is None:
                return [{"value": value} for value in found[:, 0].tolist()]
            return [{"value": v, "interval": [low, high], "level": self.level} for v, low, high in found.tolist()]
        rows = found.tolist()
        if self.kind == "multilabel":
            chosen = self.decide(found).tolist()
            return [
                {
                    "labels": [label for label, is_in in zip(labels, picked, strict=True) if is_in],
                    "scores": dict(zip(labels, row, strict=True)),
                }
                for picked, row in zip(chosen, rows, strict=True)
            ]
        best = found.argmax(axis=1).tolist() if self._plain else self.rule.guess(found).tolist()
        given = self.rule.choose(found).tolist() if self.rule.abstains else best
        return [
            {"label": labels[top], "score": row[top], "scores": dict(zip(labels, row, strict=True))}
            if answer >= 0
            else {
                "label": None,
                "abstained": True,
                "guess": labels[top],
                "score": row[top],
                "scores": dict(zip(labels, row, strict=True)),
            }
            for top, answer, row in zip(best, given, rows, strict=True)
        ]


def _sigmoid(values: Scores) -> Scores:
    """Without overflow: only ever the power of a number that is not positive."""
    power = np.exp(-np.abs(values))
    return np.asarray(np.where(values >= 0, 1.0, power) / (1.0 + power), np.float32)


def probabilities(spec: Mapping[str, Any], scores: Scores) -> Scores:
    """Probabilities ``[n, k]`` (or values, see :meth:`Answers.probabilities`) by *spec*.

    >>> probabilities({"kind": "classification", "labels": ["a", "b"]}, np.zeros((1, 2), np.float32)).tolist()
    [[0.5, 0.5]]
    """
    return Answers(spec).probabilities(scores)


def answers(spec: Mapping[str, Any], scores: Scores) -> list[dict[str, Any]]:
    """One JSON answer a row by *spec*."""
    return Answers(spec).of(scores)


def parse_label(spec: Mapping[str, Any], value: Any, *, where: str | None = None) -> str | float | list[str]:
    """A label that someone states, as the spec writes it: one of the labels, a finite number, or for multilabel a list
    of labels in the spec's order, each once, perhaps none.

    A label may differ in case and outer blanks, and a numeric one may come as a number. For multilabel one label may
    stand for a list of one.

    Raises:
        InputError: it is none; the message names the nearest.

    >>> parse_label({"kind": "classification", "labels": ["3", "8"]}, 8)
    '8'
    >>> parse_label({"kind": "multilabel", "labels": ["cat", "dog"]}, ["Dog", "cat", "dog"])
    ['cat', 'dog']
    """
    if spec.get("kind") == "regression":
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise InputError(f"{value!r} is not a number", where=where, mend="Give a finite number.")
        if abs(number) > LARGEST:
            raise InputError(f"{number:g} is too large a number", where=where, mend=f"Give one within ±{LARGEST:.3g}.")
        return number
    labels: list[str] = list(spec["labels"])
    if spec.get("kind") == "multilabel":
        stated = value if isinstance(value, list | tuple) else [value]
        chosen = {_one_label(labels, item, where) for item in stated}
        return [label for label in labels if label in chosen]
    if isinstance(value, list | tuple | dict):
        raise InputError(f"{value!r} is not one label", where=where, mend="Give one label, as a text.")
    return _one_label(labels, value, where)


def _one_label(labels: list[str], value: Any, where: str | None) -> str:
    integral = isinstance(value, float) and value.is_integer()
    text = str(int(value) if integral else value).strip()
    if text in labels:
        return text
    folded = [label for label in labels if label.strip().casefold() == text.casefold()]
    if len(folded) == 1:
        return folded[0]
    near = difflib.get_close_matches(text, labels, 1, 0.5)
    shown = ", ".join(labels[:10]) + (", …" if len(labels) > 10 else "")
    mend = f"Did you mean {near[0]!r}?" if near else f"The labels are {shown}."
    raise InputError(f"there is no label {value!r}", where=where, mend=mend)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _number(
    spec: Mapping[str, Any],
    key: str,
    default: float,
    *,
    above: float = -math.inf,
    least: float = -math.inf,
    most: float = math.inf,
) -> float:
    value = spec.get(key, default)
    if not _is_number(value) or not above < value or not least <= value <= most:
        raise _broken(f"{key} is {value!r}")
    return float(value)


def _numbers(
    spec: Mapping[str, Any], key: str, count: int, default: float, *, least: float = -math.inf
) -> npt.NDArray[np.float32]:
    values = spec.get(key)
    if values is None:
        return np.full(count, default, np.float32)
    if not isinstance(values, list | tuple) or len(values) != count:
        raise _broken(f"{key} is no list of {count} numbers")
    if not all(_is_number(value) and value >= least for value in values):
        raise _broken(f"{key} holds what is no number, or is too small")
    return np.array(values, np.float32)


def _broken(what: str) -> PackageError:
    return PackageError(f"the answer spec is wrong: {what}", where="manifest.json", mend="Export the model again.")
