"""A network that starts from a checkpoint: its encoder, perhaps with adapters, and a fresh head."""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from tidemill.checkpoints import open_checkpoint
from tidemill.checkpoints.backbones import Backbone, load_backbone
from tidemill.errors import ExtraMissingError, TrainingError
from tidemill.features._base import FeatureInfo
from tidemill.networks._base import check_shares, check_sizes, needed

MOST_ADAPTED = 0.01
"""Of all weights, the share that adapters and head may be unless the rank is given."""
USUAL_RANK = 8


class Pretrained(nn.Module):
    """The encoder of a checkpoint and a linear layer over its vector.

    Args:
        info: holds ``tokens`` of the checkpoint's own tokeniser, or ``image``.
        classes: number of logits.
        checkpoint: where it starts; see :mod:`tidemill.checkpoints`.
        adapter: ``lora`` (Hu et al., 2021, https://arxiv.org/abs/2106.09685) keeps the encoder's weights and learns a
            product of two small matrices beside those of its attention; ``None`` trains everything.
        rank: of these matrices; ``None`` is 8, or less where that would be more than one weight in a hundred.
        dropout: share of the vector that is silenced while training.
        side: of images in pixels; ``None`` is what the checkpoint was trained on.

    Raises:
        TrainingError: the checkpoint cannot be used, reads other features, or an argument is out of range.
        ExtraMissingError: transformers or peft is not installed.
    """

    wide = True
    """Its matrices are so large that bfloat16 pays where the processor multiplies it."""

    def __init__(
        self,
        info: Mapping[str, FeatureInfo],
        classes: int,
        *,
        checkpoint: str,
        adapter: str | None = None,
        rank: int | None = None,
        dropout: float = 0.1,
        side: int | None = None,
    ) -> None:
        super().__init__()
        check_shares("pretrained", dropout=dropout)
        opened = open_checkpoint(checkpoint)
        if opened.kind == "text":
            needed(info, "tokens", "pretrained", "tokenizer")
        else:
            needed(info, "image", "pretrained", "pixels")
        if adapter not in (None, "lora"):
            raise TrainingError(f"there is no adapter {adapter!r}", where="network", mend="Use lora, or none.")
        self.backbone: Backbone = load_backbone(opened, side=side)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(self.backbone.width, classes)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        self.adapted = adapter == "lora"
        if self.adapted:
            if rank is not None:
                check_sizes("pretrained", 1, rank=rank)
            self._adapt(rank)
        self.fixed = frozenset(name for name, p in self.named_parameters() if not p.requires_grad)
        """Weights that no training changes: neither a checkpoint of it nor an average holds them."""

    def forward(self, **features: Tensor) -> Tensor:
        """Logits ``[n, classes]`` of ``tokens`` int32 ``[n, length]`` or ``image`` uint8 ``[n, h, w, c]``."""
        read = features["tokens"] if "tokens" in features else features["image"]
        out: Tensor = self.head(self.dropout(self.backbone(read)))
        return out

    def _adapt(self, rank: int | None) -> None:
        try:
            import peft
        except ImportError as error:
            raise ExtraMissingError(
                "adapters need the package `peft`", mend="pip install 'tidemill[transfer]'"
            ) from error
        targets = adaptable(self.backbone.model)
        sizes = [sum(module.weight.shape[:2]) for name, module in _weighed(self.backbone.model) if name in targets]
        total = sum(p.numel() for p in self.parameters())
        if rank is None:
            rank = USUAL_RANK
            while rank > 1 and sum(sizes) * rank + self.head.weight.numel() > MOST_ADAPTED * total:
                rank //= 2
        config = peft.LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=targets, bias="none")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it asks transformers in words that those have changed since
            self.backbone.model = peft.get_peft_model(self.backbone.model, config)

    def merged(self) -> Pretrained:
        """A copy whose adapters are added to the weights they stand beside; itself where it has none."""
        if not self.adapted:
            return self
        whole = copy.deepcopy(self)
        model: Any = whole.backbone.model
        whole.backbone.model = model.merge_and_unload()
        whole.adapted, whole.fixed = False, frozenset()
        return whole

    def levels(self) -> dict[str, int]:
        """How far from the input each parameter stands: 0 for embeddings, one more a block, the head last."""
        keys = {name: _level(name) for name, _ in self.named_parameters()}
        order = {key: i for i, key in enumerate(sorted(set(keys.values())))}
        return {name: order[key] for name, key in keys.items()}


def adaptable(model: nn.Module) -> list[str]:
    """The layers that adapters stand beside: the linear ones of attention, else all linear ones, else convolutions."""
    linear = [name for name, module in _weighed(model) if isinstance(module, nn.Linear)]
    attention = [name for name in linear if re.search(r"(^|\.)(attention|attn|self_attn)(\.|$)", name)]
    return attention or linear or [name for name, _ in _weighed(model)]


def _weighed(model: nn.Module) -> list[tuple[str, Any]]:
    return [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d) and getattr(module, "groups", 1) == 1
    ]


def _level(name: str) -> tuple[int, ...]:
    """What parameters are ordered by: the input, the blocks by their numbers, what follows them, the head."""
    if name.startswith("head."):
        return (3,)
    numbers = [int(part) for part in re.findall(r"\.(\d+)(?=\.)", name.partition("lora_")[0])]
    if numbers:
        return (1, *numbers[:2])
    return (0,) if "embed" in name else (2,)


def without_gradient(network: nn.Module) -> frozenset[str]:
    """The names of all parameters that a network's parts keep as they are (``fixed``)."""
    return frozenset(
        f"{path}.{name}" if path else name
        for path, module in network.named_modules()
        for name in getattr(module, "fixed", ())
    )


def levels_of(network: nn.Module) -> dict[str, int]:
    """:meth:`Pretrained.levels` of the one inside a network, under the network's own names; empty without one."""
    for path, module in network.named_modules():
        if isinstance(module, Pretrained):
            return {f"{path}.{name}" if path else name: level for name, level in module.levels().items()}
    return {}


def merged(network: nn.Module) -> nn.Module:
    """The network with every adapter added to the weights it stands beside; a copy where there are any."""
    if isinstance(network, Pretrained):
        return network.merged()
    inner = getattr(network, "network", None)
    if isinstance(inner, Pretrained) and inner.adapted:
        whole = copy.copy(network)
        whole._modules = {**network._modules, "network": inner.merged()}  # noqa: SLF001
        return whole
    return network


def is_pretrained(network: nn.Module) -> bool:
    """Whether it starts from a checkpoint, without which it cannot be rebuilt."""
    return any(isinstance(module, Pretrained) for module in network.modules())
