"""Everything that training changes, as named tensors and counters: what a checkpoint holds and what merges.

Data-parallel, federated and meta-learning all need the same three things of a learner: its *state*, an *update* of a
state on some arrays, and a way to *merge* states.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from tidemill.errors import StoreError
from tidemill.networks.pretrained import without_gradient


@dataclass(frozen=True, slots=True)
class State:
    """A moment of training.

    Attributes:
        tensors: ``network/…`` weights and buffers, ``average/…`` their running average, ``best/…`` the average at the
            best validation score, ``optimizer/PARAMETER/…`` its moments, ``random/cpu`` torch's generator, and on such
            a device ``random/cuda`` the device's own.
        counters: JSON: ``step`` and whatever else the trainer counts.
    """

    tensors: dict[str, Tensor]
    counters: dict[str, Any]


def merge(states: Sequence[State], weights: Sequence[float] | None = None) -> State:
    """The weighted mean of states that started from the same network (McMahan et al., 2017, FedAvg).

    Args:
        states: at least one; all with the same tensors.
        weights: one for each state, for example its number of rows; ``None`` counts all alike.

    Returns:
        Means of all floating tensors; integers, random states and counters are the first state's.
    """
    share = [1.0] * len(states) if weights is None else list(weights)
    total = sum(share)
    merged = {}
    for name, first in states[0].tensors.items():
        if first.is_floating_point():
            mean = sum(s.tensors[name].double() * (w / total) for s, w in zip(states, share, strict=True))
            merged[name] = torch.as_tensor(mean).to(first.dtype)
        else:
            merged[name] = first.clone()
    return State(merged, dict(states[0].counters))


def network_tensors(network: nn.Module, prefix: str) -> dict[str, Tensor]:
    """Copies of the weights and buffers that training changes, on the CPU, under ``prefix/NAME``."""
    fixed = without_gradient(network)
    state = network.state_dict().items()
    return {f"{prefix}/{name}": t.detach().to("cpu", copy=True) for name, t in state if name not in fixed}


def load_network(network: nn.Module, tensors: Mapping[str, Tensor], prefix: str) -> None:
    """Put what :func:`network_tensors` copied back, in place."""
    fixed = without_gradient(network)
    with torch.no_grad():
        for name, own in network.state_dict().items():
            if name not in fixed:
                own.copy_(tensors[f"{prefix}/{name}"])


def write_checkpoint(folder: Path, state: State, fingerprint: str) -> None:
    """Write ``checkpoint.safetensors`` so that a crash at any moment leaves the old one or the new one.

    Raises:
        StoreError: the file cannot be written.
    """
    path = folder / "checkpoint.safetensors"
    part = path.with_suffix(".part")
    tensors = {name: tensor.contiguous() for name, tensor in state.tensors.items()}
    data = save(tensors, {"fingerprint": fingerprint, "counters": json.dumps(state.counters)})
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise StoreError(
            f"the checkpoint cannot be written: {error.strerror}", where=str(path), mend="Free some disk space."
        ) from error


def read_checkpoint(folder: Path, fingerprint: str) -> State | None:
    """The state that :func:`write_checkpoint` left; ``None`` when there is none, or it is of another training."""
    path = folder / "checkpoint.safetensors"
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            if facts.get("fingerprint") != fingerprint:
                return None
            return State({name: file.get_tensor(name) for name in file.keys()}, json.loads(facts["counters"]))  # noqa: SIM118
    except SafetensorError as error:
        raise StoreError(
            f"the checkpoint is damaged: {error}", where=str(path), mend="Delete it, and training starts afresh."
        ) from error
