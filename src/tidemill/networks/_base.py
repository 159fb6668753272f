"""What the networks share: pixels made zero-mean, and outputs brought to the target's scale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tidemill.errors import TrainingError
from tidemill.features._base import FeatureInfo


class Pixels(nn.Module):
    """uint8 ``[n, h, w, c]`` to float32 ``[n, c, h, w]`` with mean 0 and deviation 1 in each channel.

    The permutation moves no memory: the result is what torch calls channels-last, the layout in which convolutions
    run fastest.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, info: FeatureInfo) -> None:
        super().__init__()
        channels = info.shape[-1]
        mean = torch.tensor(info.meta.get("mean", [127.5] * channels), dtype=torch.float32)
        std = torch.tensor(info.meta.get("std", [127.5] * channels), dtype=torch.float32)
        self.register_buffer("mean", mean)
        self.register_buffer("scale", 1.0 / std.clamp(min=1.0))

    def forward(self, image: Tensor) -> Tensor:
        """Normalised pixels, channels-last in memory."""
        return ((image.float() - self.mean) * self.scale).permute(0, 3, 1, 2)


class Scaled(nn.Module):
    """A network whose outputs are brought from mean 0 and deviation 1 to the target's own scale.

    Args:
        network: gives ``[n, 1]``, or with *interval* ``[n, 3]``.
        mean, std: of the target.
        interval: the second and third output say how far the ends of an interval lie below and above the value, by
            softplus, so that they never cross it. The value does not learn from the interval's loss.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: float, std: float, *, interval: bool = False) -> None:
        super().__init__()
        self.network = network
        self.interval = interval
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))

    def forward(self, **features: Tensor) -> Tensor:
        """Float32 ``[n, 1]``: the value; or ``[n, 3]``: value, low, high; in the target's unit."""
        out: Tensor = self.network(**features).float()
        if self.interval:
            value, below, above = out.unbind(1)
            fixed = value.detach()
            out = torch.stack([value, fixed - functional.softplus(below), fixed + functional.softplus(above)], 1)
        return out * self.std + self.mean


def check_sizes(network: str, least: int, **given: Any) -> None:
    """Refuse sizes that are no whole numbers from *least* on.

    Raises:
        TrainingError: it names the first.
    """
    for name, value in given.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise TrainingError(
                f"{name} of the network {network!r} is {value!r}",
                where="network",
                mend=f"Give a whole number from {least} on.",
            )


def check_shares(network: str, **given: Any) -> None:
    """Refuse shares that are no numbers from 0 to below 1.

    Raises:
        TrainingError: it names the first.
    """
    for name, value in given.items():
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1:
            raise TrainingError(
                f"{name} of the network {network!r} is {value!r}",
                where="network",
                mend="Give a number from 0 to below 1.",
            )


def needed(info: Mapping[str, FeatureInfo], feature: str, network: str, step: str) -> FeatureInfo:
    """The one *feature* that a network reads, or a clear refusal that names the *step* which writes it.

    Raises:
        TrainingError: it is not among the features.
    """
    if feature not in info:
        raise TrainingError(
            f"the network {network!r} needs the feature {feature!r}, but has only {', '.join(sorted(info)) or 'none'}",
            where="network",
            mend=f"Add the step {step!r} to the recipe's features.",
        )
    return info[feature]


def cardinalities(info: FeatureInfo) -> list[int]:
    """How many codes each category column has."""
    values: list[Any] = list(info.meta["cardinalities"])
    return [int(v) for v in values]
