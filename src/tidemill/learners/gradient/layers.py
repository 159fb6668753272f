"""Rates by layer, and layers that begin to train one after the other: how a pretrained network is fine-tuned.

After Howard and Ruder, *Universal Language Model Fine-tuning for Text Classification* (2018),
https://arxiv.org/abs/1801.06146.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from tidemill.networks.pretrained import levels_of


def rate_factors(network: nn.Module, layer_decay: float, head_rate: float) -> dict[str, float]:
    """What each parameter's learning rate is multiplied by; empty for a network that starts from no checkpoint.

    Args:
        layer_decay: factor from a layer to the one below it.
        head_rate: factor of the fresh head over the checkpoint's last layer.
    """
    levels = levels_of(network)
    top = max(levels.values(), default=0)
    return {name: head_rate if level == top else layer_decay ** (top - 1 - level) for name, level in levels.items()}


class Thaw:
    """Lets the layers of a pretrained network begin to train one after the other, from the head down.

    What it does at a step follows from the step alone, so a resumed run needs no state of it.

    Args:
        network: a network; nothing happens to one that starts from no checkpoint.
        steps: after so many all layers train.
    """

    def __init__(self, network: nn.Module, steps: int) -> None:
        levels = levels_of(network)
        self._top = max(levels.values(), default=0)
        self._each = steps / self._top if self._top else 0.0
        named = network.named_parameters() if steps else ()
        self._parameters: list[tuple[int, Tensor]] = [
            (levels[name], p) for name, p in named if name in levels and p.requires_grad
        ]
        self._lowest = 0

    def at(self, step: int) -> None:
        """Freeze and thaw what *step* asks for."""
        if not self._parameters:
            return
        lowest = max(0, self._top - math.floor(step / self._each))
        if lowest == self._lowest:
            return
        self._lowest = lowest
        for level, parameter in self._parameters:
            parameter.requires_grad_(level >= lowest)
