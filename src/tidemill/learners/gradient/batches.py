"""Batches: each one vectorised gather from the memory-mapped arrays, shuffled and augmented from a seed alone.

What batch *i* of epoch *e* holds follows from ``(seed, e, i)`` and nothing else, so a resumed run needs no random
state to continue where it stopped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tidemill.features._base import Feature, Features, Sparse
from tidemill.networks.inputs import sparse_inputs, token_counts

CHUNK_BYTES = 1 << 20
"""Batches are gathered together until they fill about this much: less overhead a step, and it still fits the cache."""


@dataclass(frozen=True, slots=True)
class Mixed:
    """The rows that a batch's rows were mixed with: their targets and weights, and what share is a row's own."""

    target: Tensor
    weight: Tensor | None
    share: float

    def part(self, rows: slice) -> Mixed:
        """Some consecutive rows."""
        return Mixed(self.target[rows], None if self.weight is None else self.weight[rows], self.share)


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's rows on the device; ``weight`` is ``None`` when all are one, ``mixed`` when none was mixed."""

    features: dict[str, Tensor]
    target: Tensor
    weight: Tensor | None
    mixed: Mixed | None = None

    def part(self, start: int, stop: int) -> Batch:
        """The rows from *start* to before *stop*."""
        rows = slice(start, stop)
        features: dict[str, Tensor] = {}
        for name, tensor in self.features.items():
            whole = name.removesuffix("_values").removesuffix("_offsets")
            if f"{whole}_offsets" not in self.features:
                features[name] = tensor[rows]
                continue
            offsets = self.features[f"{whole}_offsets"]
            first = int(offsets[start])
            last = int(offsets[stop]) if stop < len(offsets) else len(self.features[whole])
            features[name] = offsets[rows] - first if name.endswith("_offsets") else tensor[first:last]
        return Batch(
            features,
            self.target[rows],
            None if self.weight is None else self.weight[rows],
            None if self.mixed is None else self.mixed.part(rows),
        )

    def total(self) -> float:
        """The sum of its rows' weights."""
        return float(len(self.target)) if self.weight is None else float(self.weight.sum())


@dataclass(frozen=True, slots=True)
class Batches:
    """The training rows of a problem, cut into steps.

    Attributes:
        features: arrays ``[n, ...]``; rows from ``rows`` on are not touched.
        target: ``[n]`` or ``[n, labels]``.
        weight: ``[n]`` or ``None``.
        rows: how many rows train.
        size: rows a batch; what does not fill a last batch waits for the next epoch's order.
        seed: every order and augmentation follows from it.
        device: where the tensors go.
        augment: called with ``image`` and a generator.
        chosen: which rows train, int64 ``[rows]``; ``None`` is the first ones.
        change: called with every batch and a generator.
        place: of how many processes that share each batch this is which one, from 0, and how many there are.
    """

    features: Features
    target: npt.NDArray[Any]
    weight: npt.NDArray[np.float32] | None
    rows: int
    size: int
    seed: int
    device: torch.device
    augment: Callable[[npt.NDArray[np.uint8], np.random.Generator], npt.NDArray[np.uint8]] | None = None
    chosen: npt.NDArray[np.int64] | None = None
    change: Callable[[Batch, np.random.Generator], Batch] | None = None
    place: tuple[int, int] = (0, 1)

    @property
    def steps(self) -> int:
        """Batches an epoch."""
        return max(1, self.rows // self.size)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, from batch *start* on."""
        order = np.random.default_rng((self.seed, number)).permutation(self.rows)
        if self.chosen is not None:
            order = self.chosen[order]
        many = max(1, min(64, CHUNK_BYTES // max(row_bytes(self.features) * self.size, 1)))
        for chunk in range(start // many, -(-self.steps // many)):
            first = chunk * many
            last = min(first + many, self.steps)
            rows = order[first * self.size : last * self.size]
            random, skip = np.random.default_rng((self.seed, number, chunk)), max(start - first, 0)
            for i, batch in enumerate(self._cut(rows, random, skip), first + skip):
                if self.change is None:
                    yield batch
                else:
                    yield self.change(batch, np.random.default_rng((self.seed, number, i, self.place[0], 1)))

    def _cut(self, rows: npt.NDArray[np.int64], random: np.random.Generator, skip: int) -> Iterator[Batch]:
        if "tokens" in self.features:
            rows = self._alike(rows, random)
        one, of = self.place
        size = len(range(one, self.size, of))
        if of > 1:
            rows = rows.reshape(-1, self.size)[:, one::of].reshape(-1)
        block = {name: array[rows] for name, array in self.features.items()}
        if self.augment is not None:
            block["image"] = self.augment(block["image"], random)  # type: ignore[arg-type]
        target = self._move(self.target[rows])
        weight = None if self.weight is None else self._move(self.weight[rows])
        names = list(block)
        split = zip(*(self._split(name, array, size) for name, array in block.items()), strict=True)
        targets = torch.split(target, size)
        weights = (None,) * len(targets) if weight is None else torch.split(weight, size)
        for i, (parts, y, w) in enumerate(zip(split, targets, weights, strict=True)):
            if i < skip:
                continue
            features: dict[str, Tensor] = {}
            for name, part in zip(names, parts, strict=True):
                if isinstance(part, dict):
                    features |= part
                else:
                    features[name] = part
            yield Batch(features, y, w)

    def _alike(self, rows: npt.NDArray[np.int64], random: np.random.Generator) -> npt.NDArray[np.int64]:
        """The same rows, so that those of about the same number of tokens share a batch; batches in random order."""
        lengths = token_counts(self.features["tokens"][rows])
        order = np.argsort(lengths * random.uniform(0.9, 1.1, len(lengths)), kind="stable")
        whole = len(order) // self.size * self.size
        shuffled = random.permutation(order[:whole].reshape(-1, self.size)).reshape(-1)
        places: npt.NDArray[np.int64] = np.concatenate([shuffled, order[whole:]])
        return rows[places]

    def _split(self, name: str, array: Feature, size: int) -> list[Any]:
        if isinstance(array, Sparse):
            starts = range(0, len(array), size)
            cut = (array[start : start + size] for start in starts)
            return [{k: self._move(v) for k, v in sparse_inputs(name, part).items()} for part in cut]
        parts = list(torch.split(self._move(array), size))
        if name == "tokens":
            counts = np.maximum.reduceat(token_counts(array), range(0, len(array), size)).tolist()
            return [part[:, : max(count, 1)] for part, count in zip(parts, counts, strict=True)]
        return parts

    def _move(self, array: npt.NDArray[Any]) -> Tensor:
        tensor = torch.from_numpy(array)
        if self.device.type == "cpu":
            return tensor
        return tensor.pin_memory().to(self.device, non_blocking=True)


def row_bytes(features: Features) -> int:
    """What one row takes on average."""
    total = 0
    for array in features.values():
        if isinstance(array, Sparse):
            total += 12 * len(array.indices) // max(len(array), 1)
        else:
            total += array.dtype.itemsize * math.prod(array.shape[1:])
    return total


def row_values(features: Features) -> int:
    """How many values one row brings into the first layer, about: a token or an n-gram stands for an embedding."""
    total = 0
    for name, array in features.items():
        if isinstance(array, Sparse):
            total += 32 * len(array.indices) // max(len(array), 1)
        else:
            total += math.prod(array.shape[1:]) * (64 if name == "tokens" else 1)
    return total
