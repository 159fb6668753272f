"""Typed columns on disk: appended chunk by chunk, then memory-mapped for good.

Fixed columns are plain ``.npy`` files; strings are two of them, values and offsets. A folder is complete when its
``manifest.json`` stands, which is written last and fsynced; anything else is a torso that the next attempt replaces.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

import numpy as np
import numpy.typing as npt

from tidemill.data.arrays import Column, Ragged
from tidemill.errors import StoreError
from tidemill.store.seam import sync_folder

MANIFEST = "manifest.json"
_HEADER = 192
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO, errno.EACCES, errno.EPERM)


class ArrayWriter:
    """Appends rows to a ``.npy`` file whose length is known only at the end.

    Args:
        path: the file.
        dtype: of every value.
        row: the shape of one row; ``()`` for one value a row.
    """

    def __init__(self, path: Path, dtype: npt.DTypeLike, row: tuple[int, ...] = ()) -> None:
        self.dtype = np.dtype(dtype)
        self.row = row
        self.rows = 0
        self._file = path.open("wb")
        self._file.write(bytes(_HEADER))

    def append(self, values: npt.NDArray[Any]) -> None:
        """Add rows ``[k, *row]``."""
        array = np.ascontiguousarray(values, self.dtype)
        self._file.write(array.reshape(-1).view(np.uint8).data)
        self.rows += len(array)

    def close(self) -> None:
        """Write the header, now that the length is known, and force everything to disk. Closing twice is fine."""
        if self._file.closed:
            return
        shape = (self.rows, *self.row)
        text = f"{{'descr': {self.dtype.str!r}, 'fortran_order': False, 'shape': {shape!r}, }}"
        body = text.encode().ljust(_HEADER - 11) + b"\n"
        with self._file:
            self._file.seek(0)
            self._file.write(b"\x93NUMPY\x01\x00" + (_HEADER - 10).to_bytes(2, "little") + body)
            self._file.flush()
            os.fsync(self._file.fileno())


class RaggedWriter:
    """Appends strings to two files, ``NAME.values.npy`` and ``NAME.offsets.npy``."""

    def __init__(self, folder: Path, name: str) -> None:
        self._values = ArrayWriter(folder / f"{name}.values.npy", np.uint8)
        self._offsets = ArrayWriter(folder / f"{name}.offsets.npy", np.int64)
        self._offsets.append(np.zeros(1, np.int64))
        self._end = 0

    def append(self, column: Ragged) -> None:
        """Add strings."""
        self._values.append(column.values[column.offsets[0] : column.offsets[-1]])
        self._offsets.append(column.offsets[1:] - column.offsets[0] + self._end)
        self._end += int(column.offsets[-1] - column.offsets[0])

    def close(self) -> None:
        """Finish both files."""
        self._values.close()
        self._offsets.close()


class ColumnsWriter:
    """Appends chunks of named columns to a folder; every chunk has the same columns.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with ColumnsWriter(Path(folder)) as writer:
    ...         writer.append({"age": np.array([39.0, 50.0]), "job": Ragged.from_strings(["clerk", "cook"])})
    ...     columns = open_columns(Path(folder), writer.kinds)
    ...     float(columns["age"][1]), columns["job"][1]
    (50.0, 'cook')
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kinds: dict[str, dict[str, str]] = {}
        self._writers: dict[str, ArrayWriter | RaggedWriter] = {}

    def append(self, columns: Mapping[str, Column]) -> None:
        """Add one chunk."""
        for name, column in columns.items():
            writer = self._writers.get(name) or self._start(name, column)
            writer.append(column)  # type: ignore[arg-type]

    def _start(self, name: str, column: Column) -> ArrayWriter | RaggedWriter:
        file = f"column{len(self.kinds)}"  # a column's name may hold anything, a file's may not
        writer: ArrayWriter | RaggedWriter
        if isinstance(column, Ragged):
            self.kinds[name] = {"kind": "ragged", "file": file}
            writer = RaggedWriter(self.folder, file)
        else:
            self.kinds[name] = {"kind": "array", "file": file}
            writer = ArrayWriter(self.folder / f"{file}.npy", column.dtype, column.shape[1:])
        self._writers[name] = writer
        return writer

    def close(self) -> None:
        """Finish all files."""
        for writer in self._writers.values():
            writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def save_array(path: Path, values: npt.NDArray[Any]) -> None:
    """One array as a ``.npy`` file, forced to disk."""
    writer = ArrayWriter(path, values.dtype, values.shape[1:])
    writer.append(values)
    writer.close()


def open_array(path: Path) -> npt.NDArray[Any]:
    """A ``.npy`` file, memory-mapped read-only.

    Raises:
        StoreError: it is missing or damaged.
    """
    try:
        return cast("npt.NDArray[Any]", np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        if path.exists() and path.stat().st_size == _HEADER:  # nothing to map in an empty array
            return cast("npt.NDArray[Any]", np.load(path, allow_pickle=False))
        message = f"an array of the data set cannot be read ({error})."
        raise StoreError(
            message, where=str(path), mend="Remove its folder; the next cycle imports the data again."
        ) from error


def open_columns(folder: Path, kinds: Mapping[str, Mapping[str, str]]) -> dict[str, Column]:
    """The columns that a :class:`ColumnsWriter` wrote, memory-mapped."""
    columns: dict[str, Column] = {}
    for name, kind in kinds.items():
        if kind["kind"] == "ragged":
            values = open_array(folder / f"{kind['file']}.values.npy")
            columns[name] = Ragged(values, open_array(folder / f"{kind['file']}.offsets.npy"))
        else:
            columns[name] = open_array(folder / f"{kind['file']}.npy")
    return columns


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder to fill beside *target*, which it becomes when the block ends without an error.

    Raises:
        StoreError: the disk is full or cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise _unwritable(target, error) from error
    try:
        yield folder
        if not is_complete(target):
            shutil.rmtree(target, ignore_errors=True)
            folder.replace(target)
            sync_folder(target.parent)
    except OSError as error:
        if error.errno not in _DISK:  # something else than our writing failed in the block
            raise
        raise _unwritable(target, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def allocate(path: Path) -> None:
    """Take the disk space of a file that is going to be written through a map.

    A page of a map that finds no room on a full disk ends the process by SIGBUS, without a word.

    Raises:
        StoreError: the disk is full.
    """
    try:
        with path.open("r+b") as file:
            if size := os.fstat(file.fileno()).st_size:
                os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> StoreError:
    message = f"the data cannot be written ({error.strerror or error})."
    return StoreError(message, where=str(path), mend="Free disk space or mend the permissions, then start again.")


def write_manifest(folder: Path, content: Mapping[str, Any]) -> None:
    """Complete a folder: its manifest, forced to disk."""
    with _opened(folder / MANIFEST) as file:
        json.dump(content, file, ensure_ascii=False, indent=1)
    sync_folder(folder)


def replace_manifest(folder: Path, content: Mapping[str, Any]) -> None:
    """Give a complete folder another manifest, at once.

    Raises:
        StoreError: it cannot be written.
    """
    draft = folder / f".{MANIFEST}"
    try:
        with _opened(draft) as file:
            json.dump(content, file, ensure_ascii=False, indent=1)
        draft.replace(folder / MANIFEST)
        sync_folder(folder)
    except OSError as error:
        raise _unwritable(folder, error) from error


@contextmanager
def _opened(path: Path) -> Iterator[IO[str]]:
    with path.open("w", encoding="utf-8") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def is_complete(folder: Path) -> bool:
    """The folder's manifest stands."""
    return (folder / MANIFEST).is_file()


def read_manifest(folder: Path) -> dict[str, Any]:
    """What :func:`write_manifest` wrote.

    Raises:
        StoreError: the folder is incomplete or damaged.
    """
    try:
        return cast("dict[str, Any]", json.loads((folder / MANIFEST).read_text("utf-8")))
    except (OSError, ValueError) as error:
        message = "the folder is incomplete or damaged."
        raise StoreError(message, where=str(folder), mend="Remove it; the next cycle makes it again.") from error
