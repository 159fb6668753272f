"""Classes that a model learned after it was made: told apart from the old ones by prototypes, beside its package.

A row's representation, what the model's last layer reads, is whitened by how rows of one class vary, and brought to
length 1. There each class, old or new, has a prototype. How much nearer the row is to a new one than to the nearest old
one, beyond an offset, says how probable the new class is; the old ones share the rest as the model has it, so that
between them nothing changes.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from tidemill.errors import PackageError

Floats = npt.NDArray[np.float32]
_SCHEMA = "1"
_LARGEST = 256 << 20
_TINY = np.float32(1e-30)


@dataclass(frozen=True, slots=True)
class Classes:
    """What is known of them.

    Attributes:
        labels: of the new classes.
        centre: float32 ``[d]``, taken off a representation.
        matrix: float32 ``[d, r]``, whitens it.
        old: float32 ``[k, r]``, prototypes of length 1.
        new: float32 ``[m, r]``, the same for the new classes.
        offsets: float32 ``[m]``: how much nearer a row must be to a new class, as a cosine, to be as probably of it.
        sharpness: by how much the log odds of a new class grow with the cosine.
    """

    labels: tuple[str, ...]
    centre: Floats
    matrix: Floats
    old: Floats
    new: Floats
    offsets: Floats
    sharpness: float

    def placed(self, inner: Floats) -> Floats:
        """Representations ``[n, d]`` where prototypes lie: ``[n, r]`` of length 1."""
        return unit((inner - self.centre) @ self.matrix)

    def nearer(self, inner: Floats) -> Floats:
        """By how much rows are nearer to each new class than to any old one, as cosines ``[n, m]``."""
        place = self.placed(inner)
        return np.asarray(place @ self.new.T - (place @ self.old.T).max(axis=1, keepdims=True), np.float32)

    def shares(self, inner: Floats) -> Floats:
        """The probability of each new class, ``[n, m]``; what is left is that of all old ones together."""
        odds = (self.nearer(inner) - self.offsets) * np.float32(self.sharpness)
        top = np.maximum(odds.max(axis=1, keepdims=True), 0.0)
        powers = np.exp(odds - top)
        return np.asarray(powers / (powers.sum(axis=1, keepdims=True) + np.exp(-top)), np.float32)

    def with_class(self, label: str, prototype: Floats, offset: float) -> Classes:
        """The same and one class more."""
        return dataclasses.replace(
            self,
            labels=(*self.labels, label),
            new=np.concatenate([self.new, unit(prototype[None])]).astype(np.float32),
            offsets=np.append(self.offsets, np.float32(offset)).astype(np.float32),
        )

    def to_bytes(self) -> bytes:
        """As safetensors: nothing in it runs when it is opened."""
        arrays = {name: np.ascontiguousarray(getattr(self, name), np.float32) for name in _ARRAYS}
        facts = {"schema": _SCHEMA, "labels": json.dumps(self.labels), "sharpness": repr(float(self.sharpness))}
        return save(arrays, facts)

    @classmethod
    def from_bytes(cls, content: bytes, where: str = "state") -> Classes:
        """What :meth:`to_bytes` wrote.

        Raises:
            PackageError: it is damaged, of another schema, or holds what is no number.
        """
        try:
            facts = _facts(content)
            if facts.get("schema") != _SCHEMA:
                raise _broken(f"its schema is {facts.get('schema')!r}", where)
            arrays = load(content)
            found = cls(tuple(json.loads(facts["labels"])), **arrays, sharpness=float(facts["sharpness"]))
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise _broken(str(error)[:200], where) from error
        if (fault := found.fault()) is not None:
            raise _broken(fault, where)
        return found

    def fault(self) -> str | None:
        """Why its arrays do not belong together; ``None`` when they do."""
        d, r = self.matrix.shape if self.matrix.ndim == 2 else (-1, -1)
        m = len(self.labels)
        wanted = {"centre": (d,), "matrix": (d, r), "new": (m, r), "offsets": (m,)}
        for name, shape in wanted.items():
            if getattr(self, name).shape != shape:
                return f"{name} is {getattr(self, name).shape}, not {shape}"
        if self.old.ndim != 2 or self.old.shape[1] != r or not len(self.old) or not m:
            return "there are no classes in it"
        if len(set(self.labels)) < m or not all(isinstance(label, str) for label in self.labels):
            return "a class is in it twice"
        sound = all(np.isfinite(getattr(self, name)).all() for name in _ARRAYS) and np.isfinite(self.sharpness)
        return None if sound else "it holds what is no number"


_ARRAYS = ("centre", "matrix", "old", "new", "offsets")


def _facts(content: bytes) -> dict[str, str]:
    """The texts at the head of safetensors; the format: 8 bytes of length, then JSON."""
    if len(content) > _LARGEST:
        raise ValueError(f"{len(content)} bytes are too many")
    length = int.from_bytes(content[:8], "little")
    head = json.loads(content[8 : 8 + length])
    return dict(head.get("__metadata__", {}))


def unit(rows: Any) -> Floats:
    """Rows brought to length 1; what is all zero stays so."""
    lengths = np.sqrt(np.square(rows).sum(axis=1, keepdims=True))
    return np.asarray(rows / np.maximum(lengths, 1e-12), np.float32)


def with_labels(answer: Mapping[str, Any], labels: tuple[str, ...]) -> dict[str, Any]:
    """The answer spec of a model that knows *labels*, too; its scores are logarithms of calibrated probabilities.

    >>> with_labels({"kind": "classification", "labels": ["a", "b"], "temperature": 2.0}, ("c",))
    {'kind': 'classification', 'labels': ['a', 'b', 'c'], 'temperature': 1.0}
    """
    calibrated = {key: value for key, value in answer.items() if key not in ("bias", "doubt", "temperature", "costs")}
    return {**calibrated, "labels": [*answer["labels"], *labels], "temperature": 1.0}


def joined(probabilities: Floats, shares: Floats) -> Floats:
    """Scores ``[n, k + m]`` of old classes' probabilities ``[n, k]`` and new ones' shares ``[n, m]``.

    >>> np.exp(joined(np.array([[0.5, 0.5]], np.float32), np.array([[0.2]], np.float32))).round(2).tolist()
    [[0.4000000059604645, 0.4000000059604645, 0.20000000298023224]]
    """
    rest = 1.0 - shares.sum(axis=1, keepdims=True)
    both = np.concatenate([probabilities * rest, shares], axis=1)
    return np.asarray(np.log(np.maximum(both, _TINY)), np.float32)


def _broken(what: str, where: str) -> PackageError:
    return PackageError(f"the learned classes cannot be read: {what}", where=where, mend="Learn them again.")
