"""Images in class folders or with a metadata file, possibly under ``train``, ``val`` and ``test``; folder or zip."""

from __future__ import annotations

import os
import posixpath
import tempfile
import zipfile
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa

from tidemill.data import images
from tidemill.data.sources._archive import DAMAGED, checked_members, is_hidden, open_zip
from tidemill.data.sources._base import (
    NO_SPLIT,
    Batch,
    ColumnSummary,
    Fault,
    Limits,
    RawColumn,
    Shapes,
    Source,
    Summary,
    rows_for,
)
from tidemill.data.sources._files import fingerprint, split_of
from tidemill.data.sources._metadata import Metadata, is_metadata
from tidemill.data.sources._summary import summarise
from tidemill.errors import InputError, SourceError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".ppm", ".pgm", ".pbm", ".tif", ".tiff"})
UNLABELLED = frozenset({"unlabelled", "unlabeled", "unknown"})
LARGEST_SIDE = 128
"""Images of mixed sizes, or larger than twice this, are stored scaled down to it."""
_SAMPLE = 256


@dataclass(frozen=True, slots=True)
class Entry:
    """One image: its path within the source, its split, its class (``None`` when unlabelled)."""

    path: str
    split: int
    label: str | None


def is_image(name: str) -> bool:
    """Told by the suffix; hidden files and what macOS adds to zips are none."""
    path = PurePosixPath(name)
    return path.suffix.casefold() in SUFFIXES and not is_hidden(name)


def entries_of(paths: list[str]) -> list[Entry]:
    """Split and class from the folders above each image.

    >>> [(e.split, e.label) for e in entries_of(["set/train/cat/1.png", "set/test/dog/2.png"])]
    [(0, 'cat'), (2, 'dog')]
    """
    parts = [PurePosixPath(p).parts for p in paths]
    skip = 0
    while parts and all(len(p) > skip + 2 for p in parts) and len({p[skip] for p in parts}) == 1:
        if _split(parts[0][skip]) != NO_SPLIT:
            break
        skip += 1
    found = []
    for path, part in zip(paths, parts, strict=True):
        folders = part[skip:-1]
        split = _split(folders[0]) if folders else NO_SPLIT
        if split != NO_SPLIT:
            folders = folders[1:]
        label = folders[0] if folders and folders[0].casefold() not in UNLABELLED else None
        found.append(Entry(path, split, label))
    return found


def _split(folder: str) -> int:
    return split_of(folder) if folder.isalnum() else NO_SPLIT


class ImageSource(Source):
    """What folder and zip share.

    The columns are ``image`` and ``label``, the class folder; with a metadata file, ``image`` and the file's columns.
    """

    def __init__(self, name: str, limits: Limits, paths: list[str], metadata: Metadata | None = None) -> None:
        super().__init__(name, limits)
        if not paths:
            raise SourceError(
                "there are no images in it.",
                where=name,
                mend="Give images in folders named after their classes; unpack what holds a table.",
            )
        self.entries = entries_of(paths)
        self._metadata = metadata
        self._rows: dict[str, int | None] = {}
        self._faults: list[Fault] = []
        self._shape: tuple[int, ...] | None = None
        if metadata is not None:
            found, self._faults = metadata.match(paths)
            self._rows = dict(zip(paths, found, strict=True))
            self.entries = [_with_split(e, metadata.split(self._rows[e.path])) for e in self.entries]
            self.notes.append(f"what the images show stands in a metadata file: {', '.join(metadata.columns)}")
            self.notes += metadata.notes

    def _columns(self, entries: list[Entry]) -> dict[str, RawColumn]:
        """What is known of the images besides their pixels."""
        if self._metadata is None:
            return {"label": pa.array([e.label for e in entries], pa.large_string())}
        rows = pa.array([self._rows[e.path] for e in entries], pa.int64())
        return {n: c.take(rows) for n, c in self._metadata.columns.items()}

    @abstractmethod
    def read(self, entry: Entry) -> bytes:
        """The bytes of one image.

        Raises:
            InputError: they cannot be read.
        """

    @property
    def shape(self) -> tuple[int, ...]:
        """Height, width and channels in which the images are stored, from a sample of their headers."""
        if self._shape is None:
            self._shape = self._choose_shape()
        return self._shape

    def _choose_shape(self) -> tuple[int, ...]:
        step = max(1, len(self.entries) // _SAMPLE)
        sizes: Counter[tuple[int, ...]] = Counter()
        fault = ""
        for entry in self.entries[::step]:
            try:
                sizes[images.probe(self.read(entry), max_pixels=self.limits.max_image_pixels)] += 1
            except InputError as error:
                fault = f"{entry.path}: {error}"
        if not sizes:
            raise SourceError(
                f"none of the images looked at can be read; {fault}", where=self.name, mend="Give images that open."
            )
        channels = 3 if any(s[2] == 3 for s in sizes) else 1
        height, width = (int(np.median(np.repeat([s[i] for s in sizes], list(sizes.values())))) for i in (0, 1))
        mixed = len({s[:2] for s in sizes}) > 1
        if max(height, width) > (LARGEST_SIDE if mixed else 2 * LARGEST_SIDE):
            scale = LARGEST_SIDE / max(height, width)
            height, width = max(1, round(height * scale)), max(1, round(width * scale))
            mixed = True
        if mixed:
            self.notes.append(f"images are scaled to {height} x {width} pixels")
        return height, width, channels

    def summary(self) -> Summary:
        """Counts classes from the folders or the metadata, and takes the shape from a sample; nothing is decoded."""
        shape = self.shape
        target = "label" if self._metadata is None else self._metadata.target
        split = np.array([e.split for e in self.entries], np.int8)
        table = Batch(self._columns(self.entries), split, pa.array([], pa.large_string()))
        counted = summarise(self.name, [table], self.notes, target)
        image = ColumnSummary(name="image", type="image", distinct=0, missing=0, shape=shape)
        return Summary(
            columns=(image, *counted.columns),
            rows=counted.rows,
            splits=counted.splits,
            notes=counted.notes,
            target=target,
        )

    def batches(self, size: int = 8192, *, shapes: Shapes | None = None) -> Iterator[Batch]:
        """The images that can be read, in the order of their paths; the others are faults."""
        shape = tuple((shapes or {}).get("image", self.shape))
        step = rows_for(size, int(np.prod(shape)))
        for start in range(0, len(self.entries), step):
            yield self._batch(self.entries[start : start + step], shape, self._faults if start == 0 else [])

    def _batch(self, entries: list[Entry], shape: tuple[int, ...], known_faults: list[Fault]) -> Batch:
        pixels = np.empty((len(entries), *shape), np.uint8)
        kept: list[Entry] = []
        faults = list(known_faults)
        for entry in entries:
            try:
                data = self.read(entry)
                pixels[len(kept)] = images.decode(data, shape, max_pixels=self.limits.max_image_pixels)
            except InputError as error:
                faults.append(Fault(entry.path, "the image could not be read and was left out", error.what))
            else:
                kept.append(entry)
        split = np.array([e.split for e in kept], np.int8)
        origin = pa.array([f"{self.name}/{e.path}" for e in kept], pa.large_string())
        return Batch({"image": pixels[: len(kept)], **self._columns(kept)}, split, origin, tuple(faults))


def _with_split(entry: Entry, split: int) -> Entry:
    return entry if split == NO_SPLIT else Entry(entry.path, split, entry.label)


class ImageFolder(ImageSource):
    """A folder of images in class folders, or with metadata files.

    Args:
        root: the folder.
        limits: what it may cost.
        name: what to call the source.
        paths: only these images, relative to the root.
    """

    def __init__(self, root: Path, limits: Limits, *, name: str | None = None, paths: list[str] | None = None) -> None:
        self.root = root
        found = [] if paths is None else paths
        self._tables: list[Path] = []
        for folder, names, files in os.walk(root):  # symbolic links to folders are not followed
            names[:] = sorted(n for n in names if not n.startswith("."))
            base = Path(folder).relative_to(root)
            self._tables += [Path(folder) / f for f in sorted(files) if is_metadata(f)]
            if paths is None:
                found += [(base / f).as_posix() for f in files if is_image((base / f).as_posix())]
        placed = [(p.parent.relative_to(root).as_posix(), p) for p in self._tables]
        metadata = Metadata(_one_each(placed), limits) if placed else None
        super().__init__(name or root.name, limits, sorted(found), metadata)

    def read(self, entry: Entry) -> bytes:
        """The file's bytes; a link that leads out of the folder is refused."""
        path = self.root / entry.path
        try:
            if path.is_symlink() and not path.resolve().is_relative_to(self.root.resolve()):
                raise InputError("the link leads out of the folder.")
            if path.stat().st_size > self.limits.max_file_bytes:
                raise InputError("the file is too large.")
            return path.read_bytes()
        except OSError as error:
            raise InputError(f"the file cannot be read ({error.strerror}).") from error

    def fingerprint(self) -> str:
        """Paths, sizes and times of all images and metadata files."""
        files = [*(self.root / e.path for e in self.entries), *self._tables]
        return fingerprint("images", self.root, (p for p in files if p.exists()))


class ImageZip(ImageSource):
    """A zip of images in class folders, or with metadata files; it is never unpacked to disk."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self.path = path
        self.limits = limits  # metadata is read before the images are known
        self._zip = open_zip(path)
        members = checked_members(self._zip, path, limits)
        names = sorted(m.filename for m in members if is_image(m.filename))
        tables = [m for m in members if is_metadata(m.filename) and not is_hidden(m.filename)]
        with tempfile.TemporaryDirectory(prefix="tidemill-") as folder:
            placed = []
            for number, table in enumerate(tables):
                parent, name = posixpath.split(table.filename)
                copy = Path(folder) / str(number) / name
                copy.parent.mkdir()
                copy.write_bytes(self._unpacked(table))
                placed.append((parent or ".", copy))
            metadata = Metadata(_one_each(placed), limits) if placed else None
        super().__init__(path.stem, limits, names, metadata)

    def _unpacked(self, info: zipfile.ZipInfo) -> bytes:
        if info.file_size > self.limits.max_file_bytes:
            raise SourceError(f"{info.filename!r} is too large.", where=str(self.path), mend="Split it.")
        try:
            return self._zip.read(info)
        except DAMAGED as error:
            message = f"{info.filename!r} cannot be unpacked ({error})."
            raise SourceError(message, where=str(self.path), mend="Download or pack it again.") from error

    def read(self, entry: Entry) -> bytes:
        """The member's bytes, checked against its checksum."""
        info = self._zip.getinfo(entry.path)
        if info.file_size > self.limits.max_file_bytes:
            raise InputError("the file is too large.")
        try:
            return self._zip.read(info)
        except DAMAGED as error:
            raise InputError(f"it cannot be unpacked ({error}).") from error

    def fingerprint(self) -> str:
        """Path, size and time of the zip."""
        return fingerprint("zip", self.path.parent, [self.path])


def _one_each(placed: list[tuple[str, Path]]) -> list[tuple[str, Path]]:
    """The metadata files, of which a folder has one."""
    twice = [folder for folder, count in Counter(folder for folder, _ in placed).items() if count > 1]
    if twice:
        message = "a folder holds two metadata files."
        where = ", ".join(f"{folder}/{path.name}" for folder, path in placed if folder == twice[0])
        raise SourceError(message, where=where, mend="Keep metadata.csv or metadata.jsonl, not both.")
    return placed
