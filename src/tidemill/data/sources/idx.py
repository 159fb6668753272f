"""IDX files as MNIST comes in them: images and labels side by side, plain or gzipped."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tidemill.data import images
from tidemill.data.sources._base import (
    Batch,
    ColumnSummary,
    Limits,
    RawColumn,
    Shapes,
    Source,
    Summary,
    numbered,
    rows_for,
)
from tidemill.data.sources._files import fingerprint, open_stream, packer_of, split_of
from tidemill.data.sources._summary import summarise
from tidemill.errors import SourceError

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


@dataclass(frozen=True, slots=True)
class Pair:
    """One file of images with its labels (``None``: unlabelled), how many, and of what shape."""

    images: Path
    labels: Path | None
    rows: int
    shape: tuple[int, ...]
    split: int


def looks_like_idx(path: Path, limits: Limits) -> bool:
    """Told by the first four bytes, behind gzip if need be."""
    with path.open("rb") as file:
        start = file.read(4)
    if packer_of(path):
        with open_stream(path, limits) as stream:
            start = stream.read(4)
    return len(start) == 4 and start[:2] == b"\0\0" and start[2] in _TYPES and 1 <= start[3] <= 4


def read_header(stream: IO[bytes], path: Path) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """The type and the shape that an IDX file declares.

    Raises:
        SourceError: it is no IDX file, or shorter than its header.
    """
    start = stream.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in _TYPES or not 1 <= start[3] <= 4:
        raise SourceError("this is no IDX file.", where=str(path), mend="Give the file as it was downloaded.")
    sizes = stream.read(4 * start[3])
    if len(sizes) < 4 * start[3]:
        raise SourceError("the file ends within its header.", where=str(path), mend="Download it again.")
    return np.dtype(_TYPES[start[2]]), struct.unpack(f">{start[3]}I", sizes)


class IdxSource(Source):
    """Pairs of IDX files; the columns are ``image`` and ``label``.

    Args:
        files: image files, label files, or both; the label file of an image file is found by its name.
        name: what to call the source.
        limits: what it may cost.
    """

    def __init__(self, files: list[Path], name: str, limits: Limits) -> None:
        super().__init__(name, limits)
        pictures = [p for p in files if len(self._header(p)[1]) >= 3]
        if not pictures:
            mend = "Give the images beside the labels, or a CSV file."
            raise SourceError("there is no IDX file of images.", where=name, mend=mend)
        self.pairs = [self._pair(p, split_of(p.name)) for p in pictures]
        self.pairs.sort(key=lambda pair: (pair.split, pair.images.name))
        shapes = {pair.shape for pair in self.pairs}
        if len(shapes) > 1:
            raise SourceError(f"the image files differ in shape: {sorted(shapes)}.", where=name)
        self.shape = self.pairs[0].shape
        for pair in self.pairs:
            labels = pair.labels.name if pair.labels else "no labels"
            self.notes.append(f"IDX: {pair.rows:,} images of {self.shape} from {pair.images.name} with {labels}")

    def _header(self, path: Path) -> tuple[np.dtype[Any], tuple[int, ...]]:
        with open_stream(path, self.limits) as stream:
            return read_header(stream, path)

    def _pair(self, path: Path, split: int) -> Pair:
        kind, shape = self._header(path)
        if kind != np.dtype(">u1") or 0 in shape[1:]:
            mend = "Give images of unsigned bytes."
            raise SourceError(f"its values are {kind.name} of shape {shape}, not pixels.", where=str(path), mend=mend)
        size = shape[1:] if len(shape) == 4 else (*shape[1:], 1)
        if size[2] not in (1, 3) or size[0] * size[1] > self.limits.max_image_pixels:
            raise SourceError(f"images of shape {size} cannot be used.", where=str(path))
        if math.prod(shape) > self._most(path):
            raise _truncated(path)
        name = path.name.replace("images", "labels").replace("idx3", "idx1").replace("idx4", "idx1")
        stem = name.removesuffix(".gz")
        labels = next((p for n in (stem, f"{stem}.gz") if n != path.name and (p := path.with_name(n)).exists()), None)
        if labels is not None and labels != path:
            _, declared = self._header(labels)
            if declared != shape[:1]:
                raise SourceError(f"it holds {declared[0]} labels for {shape[0]} images.", where=str(labels))
            return Pair(path, labels, shape[0], size, split)
        return Pair(path, None, shape[0], size, split)

    def _most(self, path: Path) -> float:
        """The bytes that a file can hold at most, packed or not."""
        packed = path.stat().st_size
        return max(1 << 20, packed * self.limits.max_archive_ratio) if packer_of(path) else packed

    def fingerprint(self) -> str:
        """Paths, sizes and times of all files."""
        files = [p for pair in self.pairs for p in (pair.images, pair.labels) if p is not None]
        return fingerprint("idx", self.pairs[0].images.parent, files)

    def summary(self) -> Summary:
        """Reads the labels only."""
        batches = (b for pair in self.pairs for b in self._labels_only(pair))
        counted = summarise(self.name, batches, self.notes, "label")
        image = ColumnSummary(name="image", type="image", distinct=0, missing=0, shape=self.shape)
        return Summary(
            columns=(image, *counted.columns),
            rows=counted.rows,
            splits=counted.splits,
            notes=counted.notes,
            target="label",
        )

    def _labels_only(self, pair: Pair) -> Iterator[Batch]:
        for start, labels in self._labels(pair, 1 << 16):
            column: dict[str, RawColumn] = {"label": labels}
            yield Batch(column, np.full(len(labels), pair.split, np.int8), numbered(pair.images.name, start + 1, 0))

    def _labels(self, pair: Pair, step: int) -> Iterator[tuple[int, pa.Array]]:
        if pair.labels is None:
            for start in range(0, pair.rows, step):
                yield start, pa.nulls(min(step, pair.rows - start), pa.int64())
            return
        with open_stream(pair.labels, self.limits) as stream:
            kind, _ = read_header(stream, pair.labels)
            for start in range(0, pair.rows, step):
                values = _take(stream, kind, (min(step, pair.rows - start),), pair.labels)
                yield start, pa.array(values.astype(kind.newbyteorder("=")))

    def batches(self, size: int = 8192, *, shapes: Shapes | None = None) -> Iterator[Batch]:
        """All images in the order of the files."""
        shape = tuple((shapes or {}).get("image", self.shape))
        step = rows_for(size, max(int(np.prod(shape)), int(np.prod(self.shape))))
        for pair in self.pairs:
            with open_stream(pair.images, self.limits) as stream:
                kind, _ = read_header(stream, pair.images)
                for start, labels in self._labels(pair, step):
                    pixels = _take(stream, kind, (len(labels), *self.shape), pair.images)
                    columns: dict[str, RawColumn] = {"image": images.fit_all(pixels, shape), "label": labels}
                    split = np.full(len(labels), pair.split, np.int8)
                    yield Batch(columns, split, numbered(pair.images.name, start + 1, len(labels)))


def _take(stream: IO[bytes], kind: np.dtype[Any], shape: tuple[int, ...], path: Path) -> npt.NDArray[Any]:
    wanted = int(np.prod(shape)) * kind.itemsize
    data = stream.read(wanted)
    if len(data) < wanted:
        raise _truncated(path)
    return np.frombuffer(data, kind).reshape(shape)


def _truncated(path: Path) -> SourceError:
    what = "the file is truncated: it holds less than its header says."
    return SourceError(what, where=str(path), mend="Download or copy it again.")
