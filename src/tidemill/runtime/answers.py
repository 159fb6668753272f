"""From raw scores to an answer, by the spec that the manifest carries.

* ``{"kind": "classification", "labels": [...], "temperature": 1.0}``: probabilities are softmax(scores / temperature);
  an answer is ``{"label": …, "score": its probability, "scores": {label: probability}}``.
* ``{"kind": "regression"}``: an answer is ``{"value": number}``.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.errors import InputError, PackageError


class Answers:
    """The spec, checked once and ready for use.

    Raises:
        PackageError: an unknown kind, fewer than two labels, or a temperature that is no number above zero.

    >>> Answers({"kind": "regression"}).of(np.array([[1.5]], np.float32))
    [{'value': 1.5}]
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.kind: str = spec.get("kind", "")
        labels = spec.get("labels", [])
        if not isinstance(labels, list | tuple) or not all(isinstance(label, str) for label in labels):
            raise _broken("labels is no list of texts")
        self.labels: tuple[str, ...] = tuple(labels)
        temperature = spec.get("temperature", 1.0)
        if self.kind not in ("classification", "regression"):
            raise _broken(f"kind is {self.kind!r}")
        if self.kind == "classification" and (len(self.labels) < 2 or len(set(self.labels)) < len(self.labels)):
            raise _broken("it needs two or more labels, each once")
        if not (isinstance(temperature, int | float) and math.isfinite(temperature) and temperature > 0):
            raise _broken(f"temperature is {temperature!r}")
        self._sharpness = np.float32(1 / temperature)

    @property
    def width(self) -> int:
        """How many scores a row has."""
        return len(self.labels) if self.kind == "classification" else 1

    def probabilities(self, scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """float32 ``[n, k]`` that sum to 1 a row; for regression the values themselves."""
        if self.kind == "regression":
            return scores
        shifted = (scores - scores.max(axis=1, keepdims=True)) * self._sharpness
        powers: npt.NDArray[np.float32] = np.exp(shifted, out=shifted)
        powers /= powers.sum(axis=1, keepdims=True)
        return powers

    def of(self, scores: npt.NDArray[np.float32]) -> list[dict[str, Any]]:
        """One JSON answer a row."""
        if self.kind == "regression":
            return [{"value": value} for value in scores[:, 0].tolist()]
        labels = self.labels
        probabilities = self.probabilities(scores)
        best = scores.argmax(axis=1).tolist()
        return [
            {"label": labels[top], "score": row[top], "scores": dict(zip(labels, row, strict=True))}
            for top, row in zip(best, probabilities.tolist(), strict=True)
        ]


def probabilities(spec: Mapping[str, Any], scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Probabilities ``[n, k]`` (or values ``[n, 1]``) by *spec*.

    >>> probabilities({"kind": "classification", "labels": ["a", "b"]}, np.zeros((1, 2), np.float32)).tolist()
    [[0.5, 0.5]]
    """
    return Answers(spec).probabilities(scores)


def answers(spec: Mapping[str, Any], scores: npt.NDArray[np.float32]) -> list[dict[str, Any]]:
    """One JSON answer a row by *spec*."""
    return Answers(spec).of(scores)


def parse_label(spec: Mapping[str, Any], value: Any, *, where: str | None = None) -> str | float:
    """A label that someone states, as the spec writes it: one of the labels, or a finite number.

    A label may differ in case and outer blanks, and a numeric one may come as a number.

    Raises:
        InputError: it is none; the message names the nearest.

    >>> parse_label({"kind": "classification", "labels": ["3", "8"]}, 8)
    '8'
    """
    if spec.get("kind") == "regression":
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise InputError(f"{value!r} is not a number", where=where, mend="Give a finite number.")
        return number
    labels: list[str] = list(spec["labels"])
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


def _broken(what: str) -> PackageError:
    return PackageError(f"the answer spec is wrong: {what}", where="manifest.json", mend="Export the model again.")
