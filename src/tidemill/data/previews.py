"""Rows of a dataset version as people look at them: texts cut, images small, dates as dates."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.data import images
from tidemill.data.arrays import Column, Ragged, Rows
from tidemill.data.dataset import DatasetArrays
from tidemill.data.schema import NUMBERS, Field
from tidemill.data.targets import is_labelled
from tidemill.records import JSON

_CUT = 16_384  # bytes of a text that are read
_SIDE, _WORDS, _COLUMNS = 64, 300, 12
_LABELS, _PICTURES = 24, 12  # of a montage: labels, and images of each


def some(rows: Rows, most: int, rng: np.random.Generator) -> Rows:
    """All rows, or as many as *most* drawn at random, in order."""
    return rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))


def read_column(dataset: DatasetArrays, name: str, rows: Rows) -> tuple[Column, npt.NDArray[np.int64] | None]:
    """One input of some rows, in memory; texts are cut at 16 kB, with the bytes that each had before."""
    starts = np.cumsum([0, *[part.n for part in dataset.parts]])
    at = np.searchsorted(starts, rows, side="right") - 1
    arrays: list[npt.NDArray[Any]] = []
    texts: list[Ragged] = []
    sizes = []
    for i, part in enumerate(dataset.parts):
        mine = rows[at == i] - starts[i]
        column = part.columns[name]
        if isinstance(column, Ragged):
            length = column.offsets[mine + 1] - column.offsets[mine]
            sizes.append(length)
            texts.append(_cut(column, mine, np.minimum(length, _CUT)))
        else:
            arrays.append(np.asarray(column[mine]))
    if arrays:  # rows are sorted, as are the parts
        return np.concatenate(arrays), None
    offsets = np.cumsum(np.concatenate([[0], *[t.offsets[1:] - t.offsets[:-1] for t in texts]]))
    return Ragged(np.concatenate([t.values for t in texts]), offsets.astype(np.int64)), np.concatenate(sizes)


def _cut(column: Ragged, rows: Rows, length: npt.NDArray[np.int64]) -> Ragged:
    """The first bytes of some texts; never half a character."""
    first = column.offsets[rows]
    ends = first + length
    whole = ends == column.offsets[rows + 1]
    for _ in range(3):  # UTF-8 continues a character by up to three bytes 10xxxxxx
        inside = ~whole & (ends > first)
        inside[inside] = (column.values[ends[inside]] & 0xC0) == 0x80
        ends = ends - inside
    offsets = np.concatenate([[0], np.cumsum(ends - first)]).astype(np.int64)
    places = np.arange(offsets[-1]) + np.repeat(first - offsets[:-1], ends - first)
    return Ragged(np.asarray(column.values[places]), offsets)


def preview(dataset: DatasetArrays, row: int) -> JSON:
    """The inputs of a row for people: the first twelve, texts cut, images small."""
    return {f.name: _shown(dataset, f, row) for f in dataset.signature.inputs[:_COLUMNS]}


def _shown(dataset: DatasetArrays, f: Field, row: int) -> Any:
    column, _ = read_column(dataset, f.name, np.array([row]))
    if isinstance(column, Ragged):
        text = column[0]
        return (text if len(text) <= _WORDS else f"{text[: _WORDS - 1]}…") or None
    if f.type == "image":
        step = -(-max(column.shape[1:3]) // _SIDE)
        png = images.encode_png(np.ascontiguousarray(column[0, ::step, ::step]))
        return f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return _plain_number(float(column[0]), f.type)


def _plain_number(value: float, kind: str) -> Any:
    if np.isnan(value):
        return None
    if kind == "date":
        day, _, clock = str(np.datetime64(round(value * 1e6), "us").astype("datetime64[s]")).partition("T")
        return day if clock == "00:00:00" else f"{day} {clock} UTC"
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def pictures(dataset: DatasetArrays, rows: Rows, rng: np.random.Generator) -> list[JSON]:
    """Some images of each label, the first labels' where there are many; without labels, of all rows.

    Args:
        dataset: the version; without a column of images there are none.
        rows: which may be shown, int64 ``[n]``.
        rng: chooses.

    Returns:
        ``[{"label", "images": [data URL, …]}]``; the label is ``None`` where all rows are meant.
    """
    signature = dataset.signature
    field = next((f for f in signature.inputs if f.type == "image"), None)
    if field is None or not len(rows):
        return []

    def drawn(label: str | None, having: Rows, most: int) -> JSON:
        return {"label": label, "images": [_shown(dataset, field, int(row)) for row in some(having, most, rng)]}

    target = dataset.target[rows]
    known = is_labelled(target)
    if signature.kind in NUMBERS or not known.any():
        return [drawn(None, rows, _LABELS)]
    found = []
    for code, label in enumerate(signature.labels[:_LABELS]):
        having = rows[(target == code if target.ndim == 1 else target[:, code] == 1) & known]
        if len(having):
            found.append(drawn(label, having, _PICTURES))
    return found
