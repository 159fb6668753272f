"""RandAugment on tensors: each image is changed by operations drawn at random, all images of a batch at once.

After Cubuk et al. (2020), https://arxiv.org/abs/1909.13719, without ``equalize``, which takes a histogram an image.
An operation takes pixels float32 ``[k, h, w, c]`` from 0 to 255 and how strong it is, float32 ``[k]`` from -1 to 1;
what has no direction reads its size alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

OPERATIONS = 2
"""How many change one image."""

Operation = Callable[[Tensor, Tensor], Tensor]


def randaugment(images: Tensor, random: np.random.Generator, strength: float) -> Tensor:
    """Changed images.

    Args:
        images: uint8 ``[n, h, w, c]``, left as they are.
        random: draws operations and directions.
        strength: of every operation, from 0 to 1.

    Returns:
        uint8 ``[n, h, w, c]``.
    """
    pixels = images.float()
    for _ in range(OPERATIONS):
        kinds = random.integers(0, len(KINDS), len(images))
        signs = np.where(random.random(len(images)) < 0.5, -strength, strength).astype(np.float32)
        for kind in np.unique(kinds).tolist():
            drawn = np.flatnonzero(kinds == kind)
            rows = torch.from_numpy(drawn).to(images.device)
            amount = torch.from_numpy(signs[drawn]).to(images.device)
            pixels[rows] = KINDS[kind](pixels[rows], amount).clamp(0, 255)
    return pixels.round().to(torch.uint8)


def _moved(pixels: Tensor, matrix: Tensor) -> Tensor:
    """Pixels of where *matrix* ``[k, 2, 3]`` points, in units of half a side; what comes in repeats the border."""
    planes = pixels.permute(0, 3, 1, 2)
    grid = functional.affine_grid(matrix, list(planes.shape), align_corners=False)
    return functional.grid_sample(planes, grid, padding_mode="border", align_corners=False).permute(0, 2, 3, 1)


def _matrix(a: Tensor, b: Tensor, x: Tensor, c: Tensor, d: Tensor, y: Tensor) -> Tensor:
    return torch.stack([a, b, x, c, d, y], 1).view(-1, 2, 3)


def _rotated(pixels: Tensor, amount: Tensor) -> Tensor:
    angle, none = amount * math.radians(30), torch.zeros_like(amount)
    height, width = pixels.shape[1:3]
    sine, cosine = angle.sin(), angle.cos()
    return _moved(pixels, _matrix(cosine, -sine * height / width, none, sine * width / height, cosine, none))


def _sheared_across(pixels: Tensor, amount: Tensor) -> Tensor:
    one, none = torch.ones_like(amount), torch.zeros_like(amount)
    return _moved(pixels, _matrix(one, 0.3 * amount, none, none, one, none))


def _sheared_down(pixels: Tensor, amount: Tensor) -> Tensor:
    one, none = torch.ones_like(amount), torch.zeros_like(amount)
    return _moved(pixels, _matrix(one, none, none, 0.3 * amount, one, none))


def _shifted_across(pixels: Tensor, amount: Tensor) -> Tensor:
    one, none = torch.ones_like(amount), torch.zeros_like(amount)
    return _moved(pixels, _matrix(one, none, 0.6 * amount, none, one, none))


def _shifted_down(pixels: Tensor, amount: Tensor) -> Tensor:
    one, none = torch.ones_like(amount), torch.zeros_like(amount)
    return _moved(pixels, _matrix(one, none, none, none, one, 0.6 * amount))


def _between(dull: Tensor, pixels: Tensor, amount: Tensor) -> Tensor:
    """As far from *dull* as 1 plus nine tenths of *amount* says: nearer below 1, beyond the image above."""
    return dull + (pixels - dull) * (1 + 0.9 * amount)[:, None, None, None]


def _brighter(pixels: Tensor, amount: Tensor) -> Tensor:
    return _between(torch.zeros_like(pixels), pixels, amount)


def _contrasted(pixels: Tensor, amount: Tensor) -> Tensor:
    return _between(pixels.mean((1, 2, 3), keepdim=True), pixels, amount)


def _coloured(pixels: Tensor, amount: Tensor) -> Tensor:
    return _between(pixels.mean(3, keepdim=True), pixels, amount)


def _sharpened(pixels: Tensor, amount: Tensor) -> Tensor:
    planes = functional.pad(pixels.permute(0, 3, 1, 2), (1, 1, 1, 1), mode="replicate")
    return _between(functional.avg_pool2d(planes, 3, 1).permute(0, 2, 3, 1), pixels, amount)


def _posterized(pixels: Tensor, amount: Tensor) -> Tensor:
    step = 2 ** (4 * amount.abs()).round()[:, None, None, None]
    return (pixels / step).floor() * step


def _solarized(pixels: Tensor, amount: Tensor) -> Tensor:
    bound = (256 * (1 - amount.abs()))[:, None, None, None]
    return torch.where(pixels >= bound, 255 - pixels, pixels)


def _stretched(pixels: Tensor, _amount: Tensor) -> Tensor:
    low, high = pixels.amin((1, 2), keepdim=True), pixels.amax((1, 2), keepdim=True)
    return torch.where(high > low, (pixels - low) * 255 / (high - low).clamp(min=1), pixels)


def _kept(pixels: Tensor, _amount: Tensor) -> Tensor:
    return pixels


KINDS: tuple[Operation, ...] = (
    _kept,
    _rotated,
    _sheared_across,
    _sheared_down,
    _shifted_across,
    _shifted_down,
    _brighter,
    _contrasted,
    _coloured,
    _sharpened,
    _posterized,
    _solarized,
    _stretched,
)
