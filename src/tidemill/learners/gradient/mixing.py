"""Augmentation of whole batches, written on tensors: images, tables and texts as they might have been.

Shifts and mirror images, which cost next to nothing, are made where batches are gathered (see
:mod:`tidemill.learners.gradient.augment`); what is here is off unless a recipe's parameters, or its search, ask for it.
All draws come from the generator that is given, on the CPU, so they are the same on every device.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tidemill.errors import TrainingError
from tidemill.learners._base import Problem
from tidemill.learners.gradient.batches import Batch, Mixed
from tidemill.learners.gradient.randaugment import randaugment
from tidemill.learners.gradient.settings import Settings

_NEEDS = {
    "randaugment": ({"image"}, {"image"}),
    "cutmix": ({"image"}, {"image"}),
    "mixup": ({"image", "x"}, {"image", "x", "codes"}),
    "noise": ({"x"}, None),
    "token_dropout": ({"tokens"}, None),
    "token_swap": ({"tokens"}, None),
}
"""Which of these features each needs, and beside which it may stand: what is mixed must be mixed as a whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is done to every batch; see :class:`tidemill.learners.gradient.settings.Settings` for the first six.

    Attributes:
        deviation: of the columns of ``x``, float32 ``[d]`` on the device, where there is noise.
        special: ids of tokens that are neither left out nor moved.
    """

    randaugment: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    noise: float = 0.0
    token_dropout: float = 0.0
    token_swap: float = 0.0
    deviation: Tensor | None = None
    special: tuple[int, ...] = ()

    def __call__(self, batch: Batch, random: np.random.Generator) -> Batch:
        """The changed batch; the one given is left as it is."""
        features = dict(batch.features)
        if self.randaugment:
            features["image"] = randaugment(features["image"], random, self.randaugment)
        if self.noise and self.deviation is not None:
            drawn = torch.from_numpy(random.standard_normal(tuple(features["x"].shape), np.float32))
            features["x"] = features["x"] + self.noise * self.deviation * drawn.to(features["x"].device)
        if self.token_dropout or self.token_swap:
            features["tokens"] = self._told_otherwise(features["tokens"], random)
        changed = dataclasses.replace(batch, features=features)
        if not (self.mixup or self.cutmix) or len(batch.target) < 2:
            return changed
        if self.cutmix and (not self.mixup or random.random() < 0.5):
            return cutmixed(changed, random, self.cutmix)
        return mixed_up(changed, random, self.mixup)

    def _told_otherwise(self, tokens: Tensor, random: np.random.Generator) -> Tensor:
        """Neighbours change places, then tokens are left out and those behind them move up."""
        if self.token_swap:
            tokens = swapped(tokens, random, self.token_swap, self.special)
        if self.token_dropout:
            tokens = thinned(tokens, random, self.token_dropout, self.special)
        return tokens


def make_change(
    settings: Settings, problem: Problem, rows: npt.NDArray[np.int64], device: torch.device
) -> Change | None:
    """The change that *settings* ask for; ``None`` where they ask for none.

    Args:
        settings: of the fit.
        problem: says which features there are.
        rows: those that train; at most 10,000 of them tell how far the columns of ``x`` spread.
        device: where batches lie.

    Raises:
        TrainingError: the features are not of the kind that a setting changes.
    """
    asked = {name: float(getattr(settings, name) or 0.0) for name in _NEEDS}
    have = set(problem.info)
    for name, value in asked.items():
        some, only = _NEEDS[name]
        if value and not (have & some and (only is None or have <= only)):
            raise TrainingError(
                f"{name} is for {' or '.join(sorted(some))}, and the features are {', '.join(sorted(have))}",
                where="params",
                mend=f"Set {name} to 0.",
            )
    if not any(asked.values()):
        return None
    deviation = None
    if asked["noise"]:
        sample = np.array(problem.features["x"][rows[:: -(-len(rows) // 10_000)]], np.float32)
        deviation = torch.from_numpy(np.nan_to_num(np.nanstd(sample, axis=0)).astype(np.float32)).to(device)
    special = tuple(problem.info["tokens"].meta.get("special", ())) if "tokens" in have else ()
    return Change(**asked, deviation=deviation, special=special)


def mixed_up(batch: Batch, random: np.random.Generator, alpha: float) -> Batch:
    """Each row mixed with another one: pixels and numbers in the share λ ~ Beta(α, α), of a row's categories each
    taken from either (mixup; Zhang et al., 2018, https://arxiv.org/abs/1710.09412).
    """
    share = float(random.beta(alpha, alpha))
    share = max(share, 1 - share)  # so that a row is told by its own target first
    other = torch.from_numpy(random.permutation(len(batch.target))).to(batch.target.device)
    features = {}
    for name, tensor in batch.features.items():
        if name == "codes":
            own = torch.from_numpy(random.random(tuple(tensor.shape)) < share).to(tensor.device)
            features[name] = torch.where(own, tensor, tensor[other])
        else:
            mixed = torch.lerp(tensor[other].float(), tensor.float(), share)
            features[name] = mixed.round().to(torch.uint8) if tensor.dtype == torch.uint8 else mixed
    return _both(batch, features, other, share)


def cutmixed(batch: Batch, random: np.random.Generator, alpha: float) -> Batch:
    """Each image with a box of another one in it, of the share 1 - λ of its area (CutMix; Yun et al., 2019,
    https://arxiv.org/abs/1905.04899).
    """
    images = batch.features["image"]
    height, width = images.shape[1:3]
    side = float(np.sqrt(1 - random.beta(alpha, alpha)))
    y, x = random.integers(0, height), random.integers(0, width)
    top, bottom = (int(np.clip(y + half * side * height / 2, 0, height).round()) for half in (-1, 1))
    left, right = (int(np.clip(x + half * side * width / 2, 0, width).round()) for half in (-1, 1))
    other = torch.from_numpy(random.permutation(len(batch.target))).to(images.device)
    cut = images.clone()
    cut[:, top:bottom, left:right] = images[other, top:bottom, left:right]
    share = 1 - (bottom - top) * (right - left) / (height * width)
    return _both(batch, {**batch.features, "image": cut}, other, share)


def _both(batch: Batch, features: dict[str, Tensor], other: Tensor, share: float) -> Batch:
    weight = None if batch.weight is None else batch.weight[other]
    return Batch(features, batch.target, batch.weight, Mixed(batch.target[other], weight, share))


def thinned(tokens: Tensor, random: np.random.Generator, share: float, special: tuple[int, ...] = ()) -> Tensor:
    """Texts without a share of their tokens, those behind them moved up, padding at the end; one token stays.

    Args:
        tokens: integers ``[n, length]``, 0 for padding.
        random: draws which.
        share: chance of a token to be left out.
        special: ids that always stay.
    """
    drawn = torch.from_numpy(random.random(tuple(tokens.shape), np.float32)).to(tokens.device)
    filled = tokens != 0
    keep = filled & ((drawn >= share) | (drawn == drawn.masked_fill(~filled, -1).amax(1, keepdim=True)))
    for one in special:
        keep |= filled & (tokens == one)
    order = torch.argsort(keep.logical_not().to(torch.int8), dim=1, stable=True)
    return torch.where(keep, tokens, 0).gather(1, order)


def swapped(tokens: Tensor, random: np.random.Generator, share: float, special: tuple[int, ...] = ()) -> Tensor:
    """Texts in which the chance of a token to change places with a neighbour is *share*; padding stays where it is."""
    length = tokens.shape[1]
    first = torch.arange(int(random.integers(0, 2)), length - 1, 2, device=tokens.device)
    if not len(first):
        return tokens
    left, right = tokens[:, first], tokens[:, first + 1]
    drawn = torch.from_numpy(random.random(tuple(left.shape), np.float32)).to(tokens.device)
    turn = (drawn < share) & (left != 0) & (right != 0)
    for one in special:
        turn &= (left != one) & (right != one)
    changed = tokens.clone()
    changed[:, first] = torch.where(turn, right, left)
    changed[:, first + 1] = torch.where(turn, left, right)
    return changed
