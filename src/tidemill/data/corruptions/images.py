"""What happens to images: noise of the sensor, blur, weather and light, and what files do to them.

Levels are those of ImageNet-C where it has them; lengths in pixels are shares of the shorter side, since images here
are of any size. Pixels are uint8 ``[n, h, w, c]``; nothing but JPEG and scaling, which are Pillow's, loops over images.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from tidemill.data.corruptions._base import Corruption

Images = npt.NDArray[np.uint8]
Random = np.random.Generator


def _pixels(values: npt.NDArray[np.floating[Any]]) -> Images:
    found: Images = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return found


def _noise(images: Images, level: float, random: Random) -> Images:
    return _pixels(images + 255 * level * random.standard_normal(images.shape, np.float32))


def _shot(images: Images, level: float, random: Random) -> Images:
    return _pixels(random.poisson(images / 255.0 * level).astype(np.float32) * (255 / level))


def _impulse(images: Images, level: float, random: Random) -> Images:
    drawn = random.random(images.shape[:3], np.float32)[..., None]
    return np.where(drawn < level / 2, 0, np.where(drawn < level, 255, images)).astype(np.uint8)


def _blur(images: Images, level: float, _random: Random) -> Images:
    width = level * max(20, min(images.shape[1:3]))  # a share of fewer pixels would reach no neighbour
    return _pixels(ndimage.gaussian_filter(images.astype(np.float32), (0, width, width, 0), mode="nearest"))


def _motion(images: Images, level: float, _random: Random) -> Images:
    """The camera moved across while it looked; a length between whole pixels is mixed of both."""
    length = level * images.shape[2]
    short = int(length) // 2 * 2 + 1
    rest = (length + 1 - short) / 2
    wide = images.astype(np.float32)
    less = ndimage.uniform_filter1d(wide, short, axis=2, mode="nearest")
    more = ndimage.uniform_filter1d(wide, short + 2, axis=2, mode="nearest")
    return _pixels(less + np.float32(np.clip(rest, 0, 1)) * (more - less))


def _fog(images: Images, level: float, random: Random) -> Images:
    """Bright clouds of several sizes over the image, and what is behind them the paler."""
    n, height, width, _ = images.shape
    cloud = np.zeros((n, height, width), np.float32)
    for parts in (2, 4, 8):
        coarse = random.random((n, min(parts, height), min(parts, width)), np.float32)
        zoom = (1, height / coarse.shape[1], width / coarse.shape[2])
        cloud += ndimage.zoom(coarse, zoom, order=1, mode="nearest", grid_mode=True) / parts
    cloud /= cloud.max((1, 2), keepdims=True)
    return _pixels((images + np.float32(255 * level) * cloud[..., None]) / np.float32(1 + level))


def _brightness(images: Images, level: float, _random: Random) -> Images:
    return _pixels(images + np.float32(255 * level))


def _dark(images: Images, level: float, _random: Random) -> Images:
    return _pixels(images * np.float32(level))


def _contrast(images: Images, level: float, _random: Random) -> Images:
    mean = images.mean((1, 2), keepdims=True, dtype=np.float32)
    return _pixels(mean + (images - mean) * np.float32(level))


def _each(images: Images, change: Callable[[Image.Image], Image.Image]) -> Images:
    grey = images.shape[3] == 1
    found = [np.asarray(change(Image.fromarray(one[..., 0] if grey else one))) for one in images]
    return np.stack(found).reshape(images.shape) if found else images


def _pixelate(images: Images, level: float, _random: Random) -> Images:
    height, width = images.shape[1:3]
    small = max(1, round(width * level)), max(1, round(height * level))

    def coarse(image: Image.Image) -> Image.Image:
        return image.resize(small, Image.Resampling.BOX).resize((width, height), Image.Resampling.NEAREST)

    return _each(images, coarse)


def _jpeg(images: Images, level: float, _random: Random) -> Images:
    def squeezed(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=int(level))
        return Image.open(file)

    return _each(images, squeezed)


CORRUPTIONS = (
    Corruption("noise", "normal noise on every pixel", (0.08, 0.12, 0.18, 0.26, 0.38), _noise),
    Corruption("shot noise", "too little light: pixels count few photons", (60, 25, 12, 5, 3), _shot),
    Corruption("impulse noise", "pixels that are black or white", (0.03, 0.06, 0.09, 0.17, 0.27), _impulse),
    Corruption("blur", "out of focus", (0.02, 0.03, 0.04, 0.055, 0.075), _blur),
    Corruption("motion blur", "the camera moved across", (0.05, 0.1, 0.15, 0.2, 0.3), _motion),
    Corruption("fog", "pale clouds in front", (0.5, 1.0, 1.5, 2.0, 3.0), _fog),
    Corruption("brightness", "every pixel brighter", (0.1, 0.2, 0.3, 0.4, 0.5), _brightness),
    Corruption("darkness", "every pixel darker", (0.7, 0.5, 0.35, 0.25, 0.15), _dark),
    Corruption("contrast", "pixels nearer to the image's mean", (0.4, 0.3, 0.2, 0.1, 0.05), _contrast),
    Corruption("pixelate", "fewer, larger pixels", (0.6, 0.5, 0.4, 0.3, 0.25), _pixelate),
    Corruption("JPEG", "saved as a JPEG file of low quality", (25, 18, 15, 10, 7), _jpeg),
)
