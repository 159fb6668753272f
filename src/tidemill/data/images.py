"""Images as uint8 arrays ``[height, width, channels]``: decoding with limits, and fitting to a signature's shape.

Import and requests use the same functions, so the same file gives the same pixels on both ways.
"""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from tidemill.errors import InputError, TooLargeError

Pixels = npt.NDArray[np.uint8]
Shape = tuple[int, ...]

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "PPM", "TIFF")
"""Pillow's decoders that may read files from outside; the others (PostScript, …) stay shut."""
MAX_PIXELS = 50_000_000

# Our own limit is looked at before anything is decoded, says how to mend it, and may be raised beyond Pillow's.
Image.MAX_IMAGE_PIXELS = None

_GREY = ("1", "L", "I", "F", "I;16", "I;16B")
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error, OverflowError)


def probe(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Shape:
    """Height, width and channels (1 or 3) of an image file, from its header alone.

    Raises:
        InputError: it is no image that can be read.
        TooLargeError: it has too many pixels.
    """
    with _open(data, max_pixels) as image:
        height, width = image.height, image.width
        try:
            # The class's own: a PNG's would decode all of it, to see whether something follows the pixels.
            turned = Image.Image.getexif(image).get(0x0112, 1) >= 5  # the camera lay on its side
        except _DAMAGED as error:
            raise InputError(f"the image is truncated or damaged ({error}).", mend="Save it again.") from error
        if turned:
            height, width = width, height
        return height, width, 1 if image.mode in _GREY else 3


def decode(data: bytes, shape: Shape | None = None, *, max_pixels: int = MAX_PIXELS) -> Pixels:
    """An image file as uint8 ``[h, w, c]``.

    Args:
        data: the bytes of a PNG, JPEG, GIF (first frame), BMP, WebP, PPM/PGM or TIFF file.
        shape: ``(h, w, c)`` to fit to; the file's own when ``None``.
        max_pixels: width times height at most.

    Raises:
        InputError: it is no image, or truncated.
        TooLargeError: it has too many pixels; nothing of it was decoded.
    """
    with _open(data, max_pixels) as image:
        return from_pil(image, shape, max_pixels=max_pixels)


def from_pil(image: Image.Image, shape: Shape | None = None, *, max_pixels: int = MAX_PIXELS) -> Pixels:
    """A Pillow image as uint8 ``[h, w, c]``; as :func:`decode`."""
    if image.width * image.height > max_pixels:
        raise _too_large(image, max_pixels)
    try:
        upright = ImageOps.exif_transpose(image)
        channels = shape[2] if shape else (1 if upright.mode in _GREY else 3)
        return _fit(_eight_bits(upright), shape, channels)
    except _DAMAGED as error:
        raise InputError(f"the image is truncated or damaged ({error}).", mend="Save it again.") from error


def _open(data: bytes, max_pixels: int) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except _DAMAGED as error:
        raise InputError(
            "the bytes are no image that can be read.", mend=f"Give one of {', '.join(FORMATS)}, complete."
        ) from error
    if image.width * image.height > max_pixels:
        raise _too_large(image, max_pixels)
    return image


def _too_large(image: Image.Image, max_pixels: int) -> TooLargeError:
    mend = f"Scale it down to at most {max_pixels / 1e6:g} megapixels."
    return TooLargeError(f"the image has {image.width} x {image.height} pixels.", mend=mend)


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        values = np.asarray(image)
        return Image.fromarray((np.clip(values, 0, 65535) >> 8).astype(np.uint8))
    if image.mode == "F":
        return Image.fromarray(np.clip(np.nan_to_num(np.asarray(image)), 0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")  # what is transparent lies on white, as a page shows it
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image


def _fit(image: Image.Image, shape: Shape | None, channels: int) -> Pixels:
    image = image.convert("L" if channels == 1 else "RGB")
    if shape and (image.height, image.width) != (shape[0], shape[1]):
        image = image.resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
    return np.asarray(image, np.uint8).reshape(image.height, image.width, channels).copy()


def fit(pixels: Pixels, shape: Shape) -> Pixels:
    """One image uint8 ``[h, w, c]`` scaled and converted to *shape*; itself when it fits already.

    >>> fit(np.zeros((4, 4, 1), np.uint8), (2, 2, 3)).shape
    (2, 2, 3)
    """
    if pixels.shape == tuple(shape):
        return pixels
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    return _fit(image, shape, shape[2])


def fit_all(pixels: Pixels, shape: Shape) -> Pixels:
    """Many images uint8 ``[n, h, w, c]`` fitted to *shape*; the same array when they fit already."""
    if pixels.shape[1:] == tuple(shape):
        return pixels
    fitted = np.empty((len(pixels), *shape), np.uint8)
    for i, image in enumerate(pixels):
        fitted[i] = fit(image, shape)
    return fitted


def from_array(values: Any, shape: Shape) -> Pixels:
    """One image from numbers ``[h, w]`` or ``[h, w, c]`` between 0 and 255, fitted to *shape*.

    Raises:
        InputError: it has another form, or values that are no pixels.
    """
    mend = f"Give whole numbers from 0 to 255 as [{shape[0]}][{shape[1]}] or [{shape[0]}][{shape[1]}][{shape[2]}]."
    try:
        array = _plain(values) if isinstance(values, list) else None
        if array is None:
            array = np.asarray(values)
    except ValueError as error:
        raise InputError("the rows of the image differ in length.", mend=mend) from error
    if array.dtype == bool or array.dtype.kind not in "uif":
        raise InputError("the image holds something other than numbers.", mend=mend)
    if array.ndim == 1 and array.size == int(np.prod(shape)):
        array = array.reshape(shape)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3) or 0 in array.shape:
        raise InputError(f"the image has the form {list(array.shape)}.", mend=mend)
    if array.dtype != np.uint8:
        array = _checked(array, mend)
    return fit(np.ascontiguousarray(array, np.uint8), shape)


def _plain(values: list[Any]) -> npt.NDArray[np.uint8] | None:
    """Rows of whole numbers from 0 to 255, as nearly everybody sends them, five times as fast as NumPy reads them.

    ``None`` for anything else.
    """
    try:
        widths = set(map(len, values))
        if len(widths) != 1 or not isinstance(values[0], list) or isinstance(values[0][0], bool):
            return None
        return np.frombuffer(bytes(itertools.chain.from_iterable(values)), np.uint8).reshape(len(values), widths.pop())
    except (TypeError, ValueError, IndexError):
        return None


def _checked(array: npt.NDArray[Any], mend: str) -> npt.NDArray[Any]:
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise InputError("the image holds NaN or infinity.", mend=mend)
        rounded = np.rint(array)
        if array.max() <= 1 and not np.array_equal(rounded, array):
            raise InputError("the pixels seem to be scaled to 0-1.", mend="Multiply them by 255 and round.")
        array = rounded
    if array.min() < 0 or array.max() > 255:
        raise InputError(f"the image holds values from {array.min():g} to {array.max():g}.", mend=mend)
    return array


def encode_png(pixels: Pixels) -> bytes:
    """One image uint8 ``[h, w, c]`` as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(buffer, "PNG")
    return buffer.getvalue()
