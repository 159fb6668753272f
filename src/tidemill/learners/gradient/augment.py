"""Augmentation of image batches: random shifts, and mirror images where the data allow them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.uint8]

GROUP = 8
"""Neighbours in a shuffled batch that share one shift: one slice copy for eight images, not one for each."""


@dataclass(frozen=True, slots=True)
class Augment:
    """What is done to training images; both sides are uint8 ``[n, h, w, c]``.

    Attributes:
        dy, dx: largest shift in pixels.
        flip: mirror every image with probability one half.
    """

    dy: int
    dx: int
    flip: bool

    def __call__(self, images: Images, random: np.random.Generator) -> Images:
        """A new batch. Pixels that a shift brings in repeat the border."""
        n, height, width, _ = images.shape
        if self.flip:
            mirrored = random.random(n) < 0.5
            images[mirrored] = images[mirrored, :, ::-1]
        if not (self.dy or self.dx):
            return images
        padded = np.pad(images, ((0, 0), (self.dy, self.dy), (self.dx, self.dx), (0, 0)), mode="edge")
        groups = -(-n // GROUP)
        ys = random.integers(0, 2 * self.dy + 1, groups).tolist()
        xs = random.integers(0, 2 * self.dx + 1, groups).tolist()
        for group, (y, x) in enumerate(zip(ys, xs, strict=True)):
            rows = slice(group * GROUP, (group + 1) * GROUP)
            images[rows] = padded[rows, y : y + height, x : x + width]
        return images


def make_augment(images: Images, target: npt.NDArray[Any], *, shift: float | None, flip: bool | None) -> Augment:
    """The augmentation that fits these training images.

    Args:
        images: the training rows, uint8 ``[n, h, w, c]``; at most 2,000 of them are looked at.
        target: class codes ``[n]``, or a row of 0 and 1 for each image ``[n, labels]``.
        shift: largest shift as a share of the side; ``None`` is 1/24.
        flip: ``None`` asks :func:`mirror_is_safe`.
    """
    share = 1 / 24 if shift is None else shift
    dy, dx = (round(side * share) for side in images.shape[1:3])
    return Augment(dy, dx, mirror_is_safe(images, target) if flip is None else flip)


def mirror_is_safe(images: Images, target: npt.NDArray[Any], rows: int = 2000) -> bool:
    """Whether mirror images still look like their own classes (or sets of labels), as natural scenes do and writing
    does not.

    Every image is assigned to the nearest class mean, once as it is and once mirrored. When mirroring costs a tenth of
    the accuracy or more, left and right mean something in this data.
    """
    take = np.linspace(0, len(images) - 1, min(rows, len(images))).astype(np.int64)
    codes = np.asarray(target[take])
    if codes.ndim == 2:  # the set of an image's labels is its class
        codes = np.unique(codes, axis=0, return_inverse=True)[1].reshape(-1)
    block = np.asarray(images[take], np.float32).mean(3)
    classes, index = np.unique(codes, return_inverse=True)
    flat = block.reshape(len(block), -1)
    means = np.stack([flat[index == i].mean(0) for i in range(len(classes))])
    half = (means**2).sum(1) / 2
    plain = ((flat @ means.T - half).argmax(1) == index).mean()
    mirrored = ((block[:, :, ::-1].reshape(len(block), -1) @ means.T - half).argmax(1) == index).mean()
    return bool(mirrored > 0.9 * plain)
