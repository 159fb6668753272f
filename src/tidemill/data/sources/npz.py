"""NumPy archives (``.npz``), read member by member without unpacking them into memory."""

from __future__ import annotations

import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tidemill.data import images
from tidemill.data.sources._archive import DAMAGED, checked_members, open_zip
from tidemill.data.sources._base import Batch, Limits, RawColumn, Shapes, Source, Summary, numbered, rows_for
from tidemill.data.sources._files import fingerprint, require, split_of, split_of_value
from tidemill.data.sources._summary import summarise
from tidemill.errors import SourceError

_TARGETS = frozenset({"y", "labels", "label", "target", "targets"})
MAX_COLUMNS = 4096
_NO_HEADER = (*DAMAGED, TypeError, MemoryError, tokenize.TokenError)  # it is read as Python
_PLAIN = "Save plain arrays of numbers, times or strings in C order."


@dataclass(frozen=True, slots=True)
class Member:
    """One array of the archive: its name, its role as a column, its split, its type and shape."""

    name: str
    column: str
    split: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


class NpzSource(Source):
    """Arrays of one length: ``x``/``y``, ``images``/``labels``, Keras's ``x_train`` … ``y_test``, or one a column.

    Arrays ``[n, h, w]`` and ``[n, h, w, c]`` become the column ``image``, ``[n, d]`` the columns ``x_0`` …, and ``[n]``
    a column of their own; ``y`` and its kin become ``label``, where NaN, an empty string, or -1 beside labels from 0 on
    mean unlabelled. An array ``split`` of words gives each row's split.
    """

    def __init__(self, path: Path, limits: Limits) -> None:
        super().__init__(path.name, limits)
        require(path)
        self.path = path
        self._zip = open_zip(path)
        members = [self._member(m.filename) for m in checked_members(self._zip, path, limits)]
        self.groups = self._groups(members)
        self.scale = self._pixel_scale()
        self.negative = self._negative_means_unlabelled()
        for group in self.groups:
            self.notes.append("npz: " + ", ".join(f"{m.name} {list(m.shape)} as {m.column!r}" for m in group))

    def _member(self, filename: str) -> Member:
        name = filename.removesuffix(".npy")
        try:
            with self._zip.open(filename) as stream:
                shape, fortran, dtype = _header(stream)
        except _NO_HEADER as error:
            message = f"{filename!r} is no NumPy array ({error})."
            raise SourceError(message, where=str(self.path), mend="Save it again with numpy.savez.") from error
        if dtype.hasobject or (fortran and len(shape) > 1):
            what = "Python objects" if dtype.hasobject else "values in Fortran order"
            raise SourceError(f"{name!r} holds {what}.", where=str(self.path), mend=_PLAIN)
        if not _is_plain(dtype):
            raise SourceError(f"{name!r} holds values of type {dtype}.", where=str(self.path), mend=_PLAIN)
        words = set(name.casefold().replace("-", "_").split("_"))
        if len(shape) >= 3:
            column = "image"
        elif len(shape) == 2:
            column = "x"
        elif words & _TARGETS:
            column = "label"
        else:
            column = name
        return Member(name, column, split_of(name), dtype, shape)

    def _groups(self, members: list[Member]) -> list[list[Member]]:
        by_split: dict[int, list[Member]] = {}
        for member in members:
            if not member.shape:
                self.notes.append(f"npz: {member.name!r} is a single value and is left out")
                continue
            by_split.setdefault(member.split, []).append(member)
        if not by_split:
            raise SourceError("the archive holds no arrays.", where=str(self.path), mend="Save it with numpy.savez.")
        for group in by_split.values():
            lengths = {m.shape[0] for m in group}
            if len(lengths) > 1:
                said = ", ".join(f"{m.name} {m.shape[0]}" for m in group)
                raise SourceError(f"its arrays differ in length: {said}.", where=str(self.path))
            wide = next((m for m in group if m.column == "x" and m.shape[1] > MAX_COLUMNS), None)
            if wide:
                raise SourceError(f"{wide.name!r} has {wide.shape[1]:,} columns.", where=str(self.path),
                                  mend=f"Give at most {MAX_COLUMNS}, or images as [n, h, w].")  # fmt: skip
            for member in group:
                self._check_image(member)
        return [by_split[s] for s in sorted(by_split)]

    def _check_image(self, member: Member) -> None:
        if member.column == "image":
            shape = self._image_shape(member)
            if len(member.shape) > 4 or shape[2] not in (1, 3) or shape[0] * shape[1] > self.limits.max_image_pixels:
                message = f"{member.name!r} of shape {list(member.shape)} is no set of images."
                raise SourceError(message, where=str(self.path), mend="Give [n, h, w] or [n, h, w, 1 or 3].")

    @staticmethod
    def _image_shape(member: Member) -> tuple[int, ...]:
        return member.shape[1:] if len(member.shape) == 4 else (*member.shape[1:], 1)

    def fingerprint(self) -> str:
        """Path, size and time of the archive."""
        return fingerprint("npz", self.path.parent, [self.path])

    def summary(self) -> Summary:
        """One pass over all arrays."""
        names = {m.column for group in self.groups for m in group}
        return summarise(self.name, self.batches(), self.notes, "label" if "label" in names else None)

    def batches(self, size: int = 8192, *, shapes: Shapes | None = None) -> Iterator[Batch]:
        """All rows: train, then validation, then test."""
        first = 1
        for group in self.groups:
            rows = group[0].shape[0]
            widest = max(int(np.prod(m.shape[1:])) * m.dtype.itemsize for m in group)
            step = rows_for(size, widest)
            readers = [(m, self._chunks(m, step)) for m in group]
            for start in range(0, rows, step):
                count = min(step, rows - start)
                split = np.full(count, group[0].split, np.int8)
                columns: dict[str, RawColumn] = {}
                for member, chunks in readers:
                    values = next(chunks)
                    if member.column == "split" and member.dtype.kind in "US":
                        split = np.array([split_of_value(str(v)) for v in values], np.int8)
                    else:
                        columns.update(self._columns(member, values, shapes or {}))
                yield Batch(columns, split, numbered(self.name, first, count))
                first += count

    def _columns(self, member: Member, values: npt.NDArray[Any], shapes: Shapes) -> dict[str, RawColumn]:
        if member.column == "image":
            own = self._image_shape(member)
            pixels = self._pixels(values.reshape(len(values), *own))
            return {"image": images.fit_all(pixels, tuple(shapes.get("image", own)))}
        if member.column == "x":
            return {f"x_{i}": pa.array(np.ascontiguousarray(values[:, i])) for i in range(values.shape[1])}
        if member.dtype.kind in "US":
            return {member.column: pa.array([_text(v) for v in values.tolist()], pa.large_string())}
        column = pa.array(values)
        if member.column == "label" and self.negative:
            column = pa.array(values, mask=values == -1)
        return {member.column: column}

    def _pixels(self, values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        if values.dtype == np.uint8:
            return values
        scaled = np.nan_to_num(values.astype(np.float32)) * self.scale
        return np.asarray(np.clip(np.rint(scaled), 0, 255), np.uint8)

    def _pixel_scale(self) -> float:
        """By what to multiply pixels that are not bytes: told by the largest of the first thousand images."""
        member = next((m for g in self.groups for m in g if m.column == "image" and m.dtype != np.uint8), None)
        if member is None:
            return 1.0
        if member.dtype.kind not in "uifb":
            raise SourceError(f"{member.name!r} holds no numbers.", where=str(self.path))
        step = rows_for(1000, int(np.prod(member.shape[1:])) * 8)
        largest = float(np.nanmax(next(self._chunks(member, step))))
        scale = 255.0 if largest <= 1 else 255 / 16 if largest <= 16 else 1.0 if largest <= 255 else 255 / 65535
        if scale != 1.0:
            self.notes.append(f"npz: pixels up to {largest:g} are multiplied by {scale:g}")
        return scale

    def _negative_means_unlabelled(self) -> bool:
        seen: set[int] = set()
        for member in (m for g in self.groups for m in g if m.column == "label" and m.dtype.kind == "i"):
            for chunk in self._chunks(member, 1 << 20):
                seen.update(np.unique(chunk)[:1001].tolist())
        answer = -1 in seen and min(seen) == -1 and len(seen) > 2 and 0 in seen
        if answer:
            self.notes.append("npz: the label -1 is taken for unlabelled")
        return answer

    def _chunks(self, member: Member, step: int) -> Iterator[npt.NDArray[Any]]:
        per_row = int(np.prod(member.shape[1:], dtype=np.int64)) * member.dtype.itemsize
        filename = f"{member.name}.npy"
        with self._zip.open(filename if filename in self._zip.namelist() else member.name) as stream:
            _header(stream)
            for start in range(0, member.shape[0], step):
                count = min(step, member.shape[0] - start)
                try:
                    data = stream.read(count * per_row)
                except DAMAGED as error:
                    message = f"{member.name!r} is damaged ({error})."
                    raise SourceError(message, where=str(self.path), mend="Copy the file again.") from error
                if len(data) < count * per_row:
                    message = f"{member.name!r} holds less than its header says."
                    raise SourceError(message, where=str(self.path), mend="Copy the file again.")
                values = np.frombuffer(data, member.dtype).astype(member.dtype.newbyteorder("="), copy=False)
                if member.dtype.kind == "U" and not _is_unicode(values):
                    message = f"{member.name!r} holds what are no characters."
                    raise SourceError(message, where=str(self.path), mend="Save it again with numpy.savez.")
                yield values.reshape(count, *member.shape[1:])


def _is_unicode(values: npt.NDArray[np.str_]) -> bool:
    """Whether all of their characters are some; NumPy itself takes any four bytes for one."""
    codes = values.view(np.uint32)
    return not ((codes > 0x10FFFF) | ((codes >= 0xD800) & (codes < 0xE000))).any()


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether it is in Fortran order, and type, of the array that *stream* holds.

    Raises:
        ValueError and others: it holds none.
    """
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    if any(side < 0 for side in shape):
        raise ValueError(f"its shape is {shape}")
    return tuple(shape), fortran, dtype


def _is_plain(dtype: np.dtype[Any]) -> bool:
    """Whether its values can stand in a column.

    >>> _is_plain(np.dtype(">f4")), _is_plain(np.dtype("U3")), _is_plain(np.dtype("c8")), _is_plain(np.dtype("V2"))
    (True, True, False, False)
    """
    if dtype.itemsize == 0 or dtype.kind not in "biufMmUS":
        return False
    try:
        pa.array(np.zeros(0, dtype.newbyteorder("=")))
    except pa.ArrowException:  # extended floats, times without a unit
        return False
    return True


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
