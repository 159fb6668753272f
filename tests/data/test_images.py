"""Images: the same file gives the same pixels, and what is no image is refused in plain words."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tidemill.data import images
from tidemill.errors import InputError, TooLargeError


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TIFF", "GIF"])
def test_lossless_formats_give_the_pixels(kind: str) -> None:
    pixels = np.arange(48, dtype=np.uint8).reshape(6, 8)
    assert np.array_equal(images.decode(saved(Image.fromarray(pixels), kind))[..., 0], pixels)


def test_colours_grey_sixteen_bits_and_transparency() -> None:
    red = Image.new("RGB", (3, 2), (255, 0, 0))
    assert images.decode(saved(red)).shape == (2, 3, 3)
    assert images.decode(saved(red), (2, 3, 1)).max() == 76  # luma of pure red
    deep = Image.fromarray(np.full((2, 2), 40_000, np.uint16))
    assert images.decode(saved(deep)).tolist() == [[[156], [156]], [[156], [156]]]
    clear = Image.new("RGBA", (2, 2), (9, 9, 9, 0))
    assert images.decode(saved(clear)).min() == 255  # white paper shows through
    assert images.decode(saved(Image.new("P", (2, 2)))).shape == (2, 2, 3)


def test_orientation_of_the_camera() -> None:
    image = Image.fromarray(np.array([[0, 255], [0, 255], [0, 255]], np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(image, "JPEG", exif=exif, quality=95)
    assert images.probe(data) == (2, 3, 1) == images.decode(data).shape


def test_resizing_is_the_same_for_files_and_arrays() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (10, 12, 3), np.uint8)
    by_file = images.decode(saved(Image.fromarray(pixels)), (5, 7, 3))
    assert np.array_equal(by_file, images.from_array(pixels.tolist(), (5, 7, 3)))
    assert np.array_equal(by_file, images.fit_all(pixels[None], (5, 7, 3))[0])
    assert np.array_equal(by_file, images.from_pil(Image.fromarray(pixels), (5, 7, 3)))


def test_png_round_trip() -> None:
    for channels in (1, 3):
        pixels = np.random.default_rng(1).integers(0, 256, (4, 5, channels), np.uint8)
        assert np.array_equal(images.decode(images.encode_png(pixels)), pixels)


def test_hundred_megapixels_are_refused_by_the_header_alone() -> None:
    data = bytearray(saved(Image.new("L", (4, 4))))
    data[16:24] = struct.pack(">II", 20_000, 20_000)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    with pytest.raises(TooLargeError, match="pixels"):
        images.decode(bytes(data))
    assert images.probe(bytes(data), max_pixels=400_000_000) == (20_000, 20_000, 1), "who allows them may have them"
    with pytest.raises(TooLargeError, match=r"10 x 10 pixels.*megapixels"):
        images.decode(saved(Image.new("L", (10, 10))), max_pixels=99)


@pytest.mark.parametrize("cut", [0, 5, 30, 60])
def test_truncated_images(cut: int) -> None:
    data = saved(Image.fromarray(np.random.default_rng(2).integers(0, 256, (30, 30, 3), np.uint8)))
    with pytest.raises(InputError, match=r"no image|truncated"):
        images.decode(data[: cut or 3])


def test_postscript_stays_shut() -> None:
    with pytest.raises(InputError, match="no image"):
        images.decode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[1, 2], [3]], "differ in length"),
        ([["a", "b"]], "other than numbers"),
        ([[True, False]], "other than numbers"),
        ([[1, 300]], "from 1 to 300"),
        ([[-1, 3]], "from -1 to 3"),
        ([[0.5, 0.25]], "scaled to 0-1"),
        ([[float("nan"), 1.0]], "NaN"),
        ([1, 2, 3], "form"),
        ([[[1, 2], [3, 4]]], "form"),
        ([], "form"),
    ],
)
def test_arrays_that_are_no_image(values: object, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        images.from_array(values, (2, 2, 1))
    assert caught.value.mend


def test_rows_of_whole_numbers_are_read_as_numpy_reads_them() -> None:
    rows = np.random.default_rng(0).integers(0, 256, (6, 4))
    for values in (rows.tolist(), [[0, 255]], (rows / 1.0).tolist(), rows[..., None].tolist()):
        shape = (len(values), len(values[0]), 1)
        np.testing.assert_array_equal(images.from_array(values, shape), images.from_array(np.asarray(values), shape))
    for wrong in ([[1, 256]], [[-1, 2]], [[1, 2], [3]], [[True, False]], [["a", "b"]], [[]], ["ab", "cd"]):
        with pytest.raises(InputError):
            images.from_array(wrong, (1, 2, 1))
