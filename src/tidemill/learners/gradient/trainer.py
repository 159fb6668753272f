"""The training step and what surrounds it: as little as possible above a bare PyTorch loop."""

from __future__ import annotations

import contextlib
import copy
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from tidemill.errors import TrainingError
from tidemill.features._base import Features
from tidemill.features._memory import given_back, out_of_memory
from tidemill.learners.gradient.batches import Batch, Batches, row_bytes
from tidemill.learners.gradient.device import bfloat16_pays
from tidemill.learners.gradient.layers import Thaw, rate_factors
from tidemill.learners.gradient.optimizer import Optimizer, sparse_tables
from tidemill.learners.gradient.own import faults_told
from tidemill.learners.gradient.peers import Peers
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
        peers: the processes that train the network together; ``None`` where this one is alone.

    Attributes:
        parts: into how many pieces a batch is cut whose gradients are added up: 1 until the device ran out of memory.
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
        peers: Peers | None = None,
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
        self.peers = peers
        self.step = 0
        self.parts = 1
        normalised = any(isinstance(m, NORMALISATIONS) for m in network.modules())
        self.peak = settings.peak(normalised=normalised)
        self.rates = one_cycle(steps, self.peak, settings.warmup)
        self.bfloat16 = settings.precision == "bfloat16" or (
            settings.precision == "auto" and bfloat16_pays(device, network)
        )
        factors = rate_factors(network, settings.layer_decay, settings.head_rate)
        self.optimizer = Optimizer(self.network, settings.optimizer, settings.weight_decay, factors)
        self.thaw = Thaw(network, round(settings.unfreeze * steps))
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
        """Take one step for each batch; yields its loss, float32 ``[]`` on the device, after the weights changed.

        Where the device runs out of memory, the batch is halved and the step repeated: the halves' gradients are added
        up, so that the step is the same but for what a network learns of a batch as a whole (batch normalisation).

        Raises:
            TrainingError: not even a few rows find a place, or a user's own network raises something.
        """
        network, optimizer, rates = self.network, self.optimizer, self.rates
        clip, every, average, peers = self.settings.clip, self.every, self.averages, self.peers
        network.train()
        for batch in batches:
            self.thaw.at(self.step)
            while (loss := self._gradients(batch)) is None:
                self._halve(len(batch.target))
            if peers is not None:
                loss = peers.share(network, loss, batch.total())
            if clip is not None:
                nn.utils.clip_grad_norm_(network.parameters(), clip)
            optimizer.step(rates[min(self.step, len(rates) - 1)])
            self.step += 1
            if average and self.step % every == 0:
                self._average()
            yield loss

    def _gradients(self, batch: Batch) -> Tensor | None:
        """Add up the gradients of a batch; its loss, or ``None`` where memory does not suffice."""
        try:
            if self.parts == 1:
                return self._backward(batch, 1.0)
            rows, whole = len(batch.target), max(batch.total(), 1e-8)
            cuts = np.linspace(0, rows, max(1, min(self.parts, rows // self._least())) + 1).round().astype(int).tolist()
            parts = [batch.part(first, last) for first, last in itertools.pairwise(cuts)]
            return torch.stack([self._backward(part, part.total() / whole) for part in parts]).sum()
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
        return None  # outside: while the error is held, so is all that the step took

    def _backward(self, batch: Batch, share: float) -> Tensor:
        with faults_told(self.network):
            with self._format():
                out = self.network(**batch.features)
            loss = self._loss(out, batch.target, batch.weight)
            if batch.mixed is not None:
                other = self._loss(out, batch.mixed.target, batch.mixed.weight)
                loss = batch.mixed.share * loss + (1 - batch.mixed.share) * other
            if share != 1.0:
                loss = loss * share
            loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _least(self) -> int:
        """Rows that a part must have: batch normalisation needs two."""
        norms = (nn.modules.batchnorm._BatchNorm,)  # noqa: SLF001
        return 2 if any(isinstance(m, norms) for m in self.network.modules()) else 1

    def _halve(self, rows: int) -> None:
        for parameter in self.network.parameters():
            parameter.grad = None
        given_back(self.device)
        if 2 * self.parts > max(1, rows // self._least()):
            raise TrainingError(
                f"{self.device} has too little memory for a step on {-(-rows // self.parts)} rows",
                where=f"step {self.step}",
                mend="Use a smaller network or shorter inputs, or end what else uses the device.",
            )
        self.parts *= 2

    def _format(self) -> contextlib.AbstractContextManager[Any]:
        if self.bfloat16:
            return torch.autocast(self.device.type, torch.bfloat16)
        return contextlib.nullcontext()

    def _loss(self, out: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        if self.kind == "regression":
            each = self._errors(out.float(), target)
        elif self.kind == "multilabel":
            wanted = target.float()
            if self.smoothing:
                wanted = wanted * (1 - self.smoothing) + self.smoothing / 2
            each = functional.binary_cross_entropy_with_logits(out.float(), wanted, reduction="none").mean(1)
        elif weight is None:
            return functional.cross_entropy(out.float(), target, self.class_weight, label_smoothing=self.smoothing)
        else:
            each = functional.cross_entropy(
                out.float(), target, self.class_weight, reduction="none", label_smoothing=self.smoothing
            )
        if weight is None:
            return each.mean()
        return (each * weight).sum() / weight.sum().clamp(min=1e-8)

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
        return State(tensors, {"step": self.step, "parts": self.parts})

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
        self.parts = int(state.counters.get("parts", 1))

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
    """A network's outputs for some rows, float32 ``[n, classes]``, batch by batch; smaller ones where memory is short.

    Raises:
        TrainingError: there is too little memory for a single row.
    """
    network.eval()
    size = max(64, min(1024, SCORED_BYTES // max(row_bytes(features), 1)))
    first, stop, _ = rows.indices(len(next(iter(features.values()))))
    parts = []
    while first < stop:
        found = _scored(network, features, slice(first, min(first + size, stop)), device)
        if found is not None:
            parts.append(found)
            first += size
        elif size == 1:
            raise TrainingError(
                f"{device} has too little memory for scoring one row", mend="End what else uses the device."
            )
        else:
            size //= 2
            given_back(device)
    return np.concatenate(parts) if parts else np.empty((0, 0), np.float32)


def _scored(
    network: nn.Module, features: Features, block: slice, device: torch.device
) -> npt.NDArray[np.float32] | None:
    try:
        batch = {name: tensor.to(device) for name, tensor in network_inputs(features, block).items()}
        with faults_told(network):
            found: npt.NDArray[np.float32] = network(**batch).float().cpu().numpy()
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        return None
    return found
