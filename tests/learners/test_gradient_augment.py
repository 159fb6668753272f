"""Augmentation on the real digits and CIFAR: writing is not mirrored, scenes are, and shifts keep the picture."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from tidemill.learners.gradient.augment import Augment, mirror_is_safe


def test_digits_are_not_mirrored() -> None:
    data = load_digits()
    assert not mirror_is_safe((data.images * 15).astype(np.uint8)[..., None], data.target)


def test_scenes_are_mirrored(data_dir: Path) -> None:
    archive = zipfile.ZipFile(next((data_dir / "cifar10-5k").glob("*.zip")))
    names = sorted(name for name in archive.namelist() if "/train/" in f"/{name}" and name.endswith(".png"))[::4]
    images = np.stack([np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB")) for name in names])
    _, target = np.unique([name.split("/")[-2] for name in names], return_inverse=True)
    assert len(images) == 1000
    assert mirror_is_safe(images, target)


def test_shifts_move_by_at_most_the_given_pixels_and_repeat_the_border() -> None:
    images = np.zeros((1024, 9, 11, 1), np.uint8)
    images[:, 4, 5] = 255
    images[:, :, 0] = 7
    moved = Augment(1, 2, flip=False)(images.copy(), np.random.default_rng(0))
    _, ys, xs, _ = np.nonzero(moved == 255)
    assert len(ys) == 1024
    assert set(ys) == {3, 4, 5}
    assert set(xs) == {3, 4, 5, 6, 7}
    assert (moved[xs > 5][:, :, 0] == 7).all()


def test_flips_mirror_about_half() -> None:
    images = np.zeros((400, 4, 4, 1), np.uint8)
    images[:, :, 0] = 1
    flipped = Augment(0, 0, flip=True)(images.copy(), np.random.default_rng(0))[:, 0, 3, 0]
    assert 150 < flipped.sum() < 250
