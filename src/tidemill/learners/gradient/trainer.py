"""The training step and what surrounds it: as little as possible above a bare PyTorch loop."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from tidemill.features._base import Features
from tidemill.learners.gradient.batches import Batch, Batches, row_bytes
from tidemill.learners.gradient.device import bfloat16_pays
from tidemill.learners.gradient.optimizer import Optimizer, sparse_tables
from tidemill.learners.gradient.schedule import one_cycle
from tidemill.learners.gradient.settings import Settings
from tidemill.learners.gradient.state import (
    State,
    load_network,
    merge,
    network_tensors,
)
from tidemill.networks.inputs import network_inputs

SCORED_BYTES = 1 << 19
"""Input scored at once; a wide convolution's activations take a hundred times as much."""

NORMALISATIONS = (nn.modules.batchnorm._NormBase, nn.GroupNorm)  # noqa: SLF001
QUANTILES = (0.05, 0.95)
"""Between them lie nine tenths of a regression's targets."""


class Trainer:
    """A network, its optimiser, the running average of its weights, and how many steps they have taken.

    Args:
        network: on the device; its weights are changed in place.
        settings: see there.
        steps: length of the schedule.
        kind: ``classification`` (target int64 ``[n]``), ``multilabel`` (target uint8 ``[n, labels]``) or ``regression``
            (target float32 ``[n]``).
        device: where the batches are.
        class_weight: float32 ``[classes]`` on the device, or ``None``.
        scale: what regression errors are divided by, so that the loss does not depend on the target's unit.
    """

    merge = staticmethod(merge)

    def __init__(
        self,
        network: nn.Module,
        settings: Settings,
        *,
        steps: int,
        kind: str,
        device: torch.device,
        class_weight: Tensor | None = None,
        scale: float = 1.0,
    ) -> None:
        convolutional = any(isinstance(m, nn.Conv2d) for m in network.modules())
        self.network = network.to(device)
        if convolutional:
            self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.settings = settings
        self.kind = kind
        self.device = device
        self.class_weight = class_weight
        self.scale = scale
        self.step = 0
        normalised = any(isinstance(m, NORMALISATIONS) for m in network.modules())
        self.peak = settings.peak(normalised=normalised)
        self.rates = one_cycle(steps, self.peak, settings.warmup)
        self.bfloat16 = settings.precision == "bfloat16" or (
            settings.precision == "auto" and bfloat16_pays(device, network)
        )
        self.optimizer = Optimizer(self.network, settings.optimizer, settings.weight_decay)
        images = convolutional and kind == "classification"
        given = settings.label_smoothing
        self.smoothing = given if given is not None else 0.1 if images else 0.0
        share = settings.average if settings.average is not None else 0.0 if sparse_tables(network) else 0.05
        self.averages = share > 0
        horizon = max(1, round(share * steps))
        self.every = max(1, horizon // 8)
        self.decay = 1 - self.every / max(horizon, self.every)
        self.averaged = copy.deepcopy(network).eval() if self.averages else network
        self._pairs = [
            (mean, own)
            for mean, own in zip(self.averaged.state_dict().values(), network.state_dict().values(), strict=True)
            if own.is_floating_point()
        ]

    def train(self, batches: Iterable[Batch]) -> Iterator[Tensor]:
        """Take one step for each batch; yields its loss, float32 ``[]`` on the device, after the weights changed."""
        network, optimizer, rates = self.network, self.optimizer, self.rates
        clip, every, average = self.settings.clip, self.every, self.averages
        network.train()
        for batch in batches:
            with self._format():
                out = network(**batch.features)
            loss = self._loss(out, batch)
            loss.backward()  # type: ignore[no-untyped-call]
            if clip is not None:
                nn.utils.clip_grad_norm_(network.parameters(), clip)
            optimizer.step(rates[min(self.step, len(rates) - 1)])
            self.step += 1
            if average and self.step % every == 0:
                self._average()
            yield loss.detach()

    def _format(self) -> contextlib.AbstractContextManager[Any]:
        if self.bfloat16:
            return torch.autocast(self.device.type, torch.bfloat16)
        return contextlib.nullcontext()

    def _loss(self, out: Tensor, batch: Batch) -> Tensor:
        if self.kind == "regression":
            each = self._errors(out.float(), batch.target)
        elif self.kind == "multilabel":
            wanted = batch.target.float()
            if self.smoothing:
                wanted = wanted * (1 - self.smoothing) + self.smoothing / 2
            each = functional.binary_cross_entropy_with_logits(out.float(), wanted, reduction="none").mean(1)
        elif batch.weight is None:
            return functional.cross_entropy(
                out.float(), batch.target, self.class_weight, label_smoothing=self.smoothing
            )
        else:
            each = functional.cross_entropy(
                out.float(), batch.target, self.class_weight, reduction="none", label_smoothing=self.smoothing
            )
        if batch.weight is None:
            return each.mean()
        return (each * batch.weight).sum() / batch.weight.sum().clamp(min=1e-8)

    def _errors(self, out: Tensor, target: Tensor) -> Tensor:
        """Squared error of the value; of an interval's ends the pinball loss (Koenker and Bassett, 1978)."""
        errors = (target[:, None] - out) / self.scale
        value = errors[:, 0]
        if self.settings.robust:
            loss = functional.huber_loss(value, torch.zeros_like(value), reduction="none")
        else:
            loss = value.square() / 2
        for column, level in zip(range(1, errors.shape[1]), QUANTILES, strict=False):
            miss = errors[:, column]
            loss = loss + torch.maximum(level * miss, (level - 1) * miss)
        return loss

    @torch.no_grad()
    def _average(self) -> None:
        # the first averages are plain means, so that the random start weighs nothing
        share = max(1 - self.decay, 1 / (self.step // self.every))
        torch._foreach_lerp_([m for m, _ in self._pairs], [o for _, o in self._pairs], share)

    def state(self) -> State:
        """A copy of all that training changes; the trainer goes on untouched."""
        tensors = network_tensors(self.network, "network") | self.optimizer.tensors()
        if self.averaged is not self.network:
            tensors |= network_tensors(self.averaged, "average")
        tensors["random/cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":  # what drops out there is drawn there
            tensors["random/cuda"] = torch.cuda.get_rng_state(self.device)
        return State(tensors, {"step": self.step})

    def load(self, state: State) -> None:
        """Go on from *state* exactly as the trainer that gave it would have."""
        load_network(self.network, state.tensors, "network")
        self.optimizer.load(state.tensors)
        if self.averaged is not self.network:
            load_network(self.averaged, state.tensors, "average")
        torch.set_rng_state(state.tensors["random/cpu"])
        if self.device.type == "cuda" and "random/cuda" in state.tensors:
            torch.cuda.set_rng_state(state.tensors["random/cuda"], self.device)
        self.step = int(state.counters["step"])

    def local_update(
        self,
        state: State,
        arrays: Mapping[str, Any],
        steps: int,
        *,
        batch_size: int = 64,
        seed: int = 0,
    ) -> State:
        """The state after *steps* steps on *arrays*, starting from *state*.

        Args:
            state: where to start; not changed.
            arrays: feature arrays by name, ``target``, and perhaps ``weight``.
            steps: how many; the learning rate follows the trainer's schedule at the state's step.
            batch_size: rows a step.
            seed: decides the order of the rows.
        """
        self.load(state)
        features = {name: array for name, array in arrays.items() if name not in ("target", "weight")}
        rows = len(arrays["target"])
        batches = Batches(
            features, arrays["target"], arrays.get("weight"), rows, min(batch_size, rows), seed, self.device
        )
        while (left := steps - (self.step - int(state.counters["step"]))) > 0:
            epoch, start = divmod(self.step, batches.steps)
            for _, _ in zip(range(left), self.train(batches.epoch(epoch, start)), strict=False):
                pass
        return self.state()

    @torch.no_grad()
    def scores(self, features: Features, rows: slice) -> npt.NDArray[np.float32]:
        """Raw scores of the averaged network in float32, ``[n, classes]``."""
        return score(self.averaged, features, rows, self.device)


@torch.no_grad()
def score(
    network: nn.Module,
    features: Features,
    rows: slice,
    device: torch.device,
) -> npt.NDArray[np.float32]:
    """A network's outputs for some rows, float32 ``[n, classes]``, batch by batch."""
    network.eval()
    size = max(64, min(1024, SCORED_BYTES // max(row_bytes(features), 1)))
    start, stop, _ = rows.indices(len(next(iter(features.values()))))
    parts = []
    for first in range(start, stop, size):
        block = slice(first, min(first + size, stop))
        batch = {name: tensor.to(device) for name, tensor in network_inputs(features, block).items()}
        parts.append(network(**batch).float().cpu().numpy())
    return np.concatenate(parts) if parts else np.empty((0, 0), np.float32)
