"""Near copies: samples so alike that training on one and judging on the other would be leakage.

Texts are near when they differ in case, white space and punctuation only (see :func:`tidemill.data.keys.near_text`).
Images are near when they show the same picture saved twice: their 8 x 8 thumbnails sort close to one another by the
signs of their gradients (the idea of difference hashing), and the pixels confirm it. Tables of numbers and categories
have no near copies: there, rows that agree are facts about the world.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from tidemill.data.arrays import Columns, Ragged, length
from tidemill.data.keys import Keys, hash_column, mix, near_text, once_each, salt
from tidemill.data.schema import Signature

SIDE = 8
THUMB_DIFFERENCE = 6
PIXEL_MEAN = 4.0
PIXEL_OUTLIER = 48
OUTLIER_SHARE = 0.002
_CHUNK = 4096

Thumbs = npt.NDArray[np.uint8]
Pairs = npt.NDArray[np.int64]
Fetch = Callable[[npt.NDArray[np.int64]], npt.NDArray[np.uint8]]


def near_keys(columns: Columns, signature: Signature, hashes: Mapping[str, Keys] | None = None) -> Keys | None:
    """uint64 ``[n]``, equal for rows that are near copies by their texts; ``None`` when no input is a text.

    Other inputs must agree exactly. What :func:`tidemill.data.keys.hash_columns` says of them may be given as *hashes*.
    """
    if all(f.type != "text" for f in signature.inputs):
        return None
    keys = np.full(length(columns), salt("near"), np.uint64)
    for field in signature.inputs:
        column = columns[field.name]
        if isinstance(column, Ragged):
            near = once_each(column, near_text)
        else:
            near = hash_column(column) if hashes is None else hashes[field.name]
        keys = mix(keys ^ (near + salt(field.name)))
    return keys


def thumbnails(pixels: npt.NDArray[np.uint8]) -> Thumbs:
    """Grey means over an 8 x 8 grid, uint8 ``[n, 64]``, of images uint8 ``[n, h, w, c]``."""
    grey = pixels.mean(axis=3, dtype=np.float32)
    return np.rint(_cells(_cells(grey, 1), 2)).astype(np.uint8).reshape(len(pixels), SIDE * SIDE)


def _cells(values: npt.NDArray[np.float32], axis: int) -> npt.NDArray[np.float32]:
    size = values.shape[axis]
    if size < SIDE:
        return np.asarray(np.take(values, np.arange(SIDE) * size // SIDE, axis), np.float32)
    starts = np.arange(SIDE) * size // SIDE
    widths = np.diff(np.append(starts, size)).astype(np.float32)
    shape = [1] * values.ndim
    shape[axis] = SIDE
    return np.asarray(np.add.reduceat(values, starts, axis) / widths.reshape(shape), np.float32)


def near_pairs(thumbs: Thumbs, fetch: Fetch) -> Pairs:
    """Pairs of rows whose images are near copies, int64 ``[p, 2]``.

    Args:
        thumbs: uint8 ``[n, 64]`` of distinct images, memory-mapped or not.
        fetch: gives the pixels uint8 ``[k, h, w, c]`` of some rows.
    """
    if len(thumbs) < 2:
        return np.empty((0, 2), np.int64)
    pairs = []
    for turn in range(4):
        code = _code(thumbs, turn)
        order = np.argsort(code, kind="stable")
        pairs += [_alike(thumbs, order[:-distance], order[distance:]) for distance in (1, 2)]
    candidates = np.unique(np.sort(np.concatenate(pairs), axis=1), axis=0)
    return candidates[_confirmed(candidates, fetch)]


def _code(thumbs: Thumbs, turn: int) -> Keys:
    """Gradient signs packed into 56 bits: across, or down, and either with its halves exchanged."""
    codes = np.empty(len(thumbs), np.uint64)
    weights = np.uint64(1) << np.arange(SIDE * (SIDE - 1), dtype=np.uint64)[::-1]
    if turn % 2:
        weights = np.roll(weights, SIDE * (SIDE - 1) // 2)
    for start in range(0, len(thumbs), _CHUNK):
        grid = thumbs[start : start + _CHUNK].astype(np.int16).reshape(-1, SIDE, SIDE)
        signs = grid[:, :, 1:] > grid[:, :, :-1] + 8 if turn < 2 else grid[:, 1:] > grid[:, :-1] + 8
        codes[start : start + _CHUNK] = (signs.reshape(len(grid), -1) * weights).sum(axis=1, dtype=np.uint64)
    return codes


def _alike(thumbs: Thumbs, left: npt.NDArray[np.int64], right: npt.NDArray[np.int64]) -> Pairs:
    found = []
    for start in range(0, len(left), _CHUNK):
        a, b = left[start : start + _CHUNK], right[start : start + _CHUNK]
        difference = np.abs(thumbs[a].astype(np.int16) - thumbs[b]).max(axis=1)
        close = difference <= THUMB_DIFFERENCE
        found.append(np.stack([a[close], b[close]], axis=1))
    return np.concatenate(found)


def _confirmed(pairs: Pairs, fetch: Fetch) -> npt.NDArray[np.bool_]:
    kept = np.zeros(len(pairs), bool)
    step = 256
    for start in range(0, len(pairs), step):
        part = pairs[start : start + step]
        left, right = fetch(part[:, 0]), fetch(part[:, 1])
        difference = np.abs(left.astype(np.int16) - right).reshape(len(part), -1)
        outliers = (difference > PIXEL_OUTLIER).mean(axis=1)
        kept[start : start + step] = (difference.mean(axis=1) <= PIXEL_MEAN) & (outliers <= OUTLIER_SHARE)
    return kept
