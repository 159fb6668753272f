"""Batches: each one vectorised gather from the memory-mapped arrays, shuffled and augmented from a seed alone.

What batch *i* of epoch *e* holds follows from ``(seed, e, i)`` and nothing else, so a resumed run needs no random
state to continue where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Arrays = Mapping[str, npt.NDArray[Any]]

CHUNK_BYTES = 1 << 20
"""Batches are gathered together until they fill about this much: less overhead a step, and it still fits the cache."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's rows on the device; ``weight`` is ``None`` when all are one."""

    features: dict[str, Tensor]
    target: Tensor
    weight: Tensor | None


@dataclass(frozen=True, slots=True)
class Batches:
    """The training rows of a problem, cut into steps.

    Attributes:
        features: arrays ``[n, ...]``; rows from ``rows`` on are not touched.
        target: ``[n]``.
        weight: ``[n]`` or ``None``.
        rows: how many rows train.
        size: rows a batch; what does not fill a last batch waits for the next epoch's order.
        seed: every order and augmentation follows from it.
        device: where the tensors go.
        augment: called with ``image`` and a generator.
    """

    features: Arrays
    target: npt.NDArray[Any]
    weight: npt.NDArray[np.float32] | None
    rows: int
    size: int
    seed: int
    device: torch.device
    augment: Callable[[npt.NDArray[np.uint8], np.random.Generator], npt.NDArray[np.uint8]] | None = None

    @property
    def steps(self) -> int:
        """Batches an epoch."""
        return max(1, self.rows // self.size)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, from batch *start* on."""
        order = np.random.default_rng((self.seed, number)).permutation(self.rows)
        row_bytes = sum(a.dtype.itemsize * int(np.prod(a.shape[1:])) for a in self.features.values())
        many = max(1, min(64, CHUNK_BYTES // max(row_bytes * self.size, 1)))
        for chunk in range(start // many, -(-self.steps // many)):
            first = chunk * many
            last = min(first + many, self.steps)
            rows = order[first * self.size : last * self.size]
            yield from self._cut(rows, np.random.default_rng((self.seed, number, chunk)), max(start - first, 0))

    def _cut(self, rows: npt.NDArray[np.int64], random: np.random.Generator, skip: int) -> Iterator[Batch]:
        block = {name: array[rows] for name, array in self.features.items()}
        if self.augment is not None:
            block["image"] = self.augment(block["image"], random)
        features = {name: self._move(array) for name, array in block.items()}
        target = self._move(self.target[rows])
        weight = None if self.weight is None else self._move(self.weight[rows])
        names = list(features)
        split = zip(*(torch.split(tensor, self.size) for tensor in features.values()), strict=True)
        targets = torch.split(target, self.size)
        weights = (None,) * len(targets) if weight is None else torch.split(weight, self.size)
        for i, (tensors, y, w) in enumerate(zip(split, targets, weights, strict=True)):
            if i >= skip:
                yield Batch(dict(zip(names, tensors, strict=True)), y, w)

    def _move(self, array: npt.NDArray[Any]) -> Tensor:
        tensor = torch.from_numpy(array)
        if self.device.type == "cpu":
            return tensor
        return tensor.pin_memory().to(self.device, non_blocking=True)
