"""Images in class folders, possibly under ``train``, ``val`` and ``test``; as a folder or as a zip."""

from __future__ import annotations

import os
import zipfile
import zlib
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa

from tidemill.data import images
from tidemill.data.sources._base import NO_SPLIT, Batch, ColumnSummary, Fault, Limits, Shapes, Source, Summary, rows_for
from tidemill.data.sources._files import fingerprint, split_of
from tidemill.data.sources._summary import summarise
from tidemill.data.sources._zip import checked_members, open_zip
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
    return path.suffix.casefold() in SUFFIXES and not any(p.startswith((".", "__MACOSX")) for p in path.parts)


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
    """What folder and zip share; the columns are ``image`` and ``label``."""

    def __init__(self, name: str, limits: Limits, entries: list[Entry]) -> None:
        super().__init__(name, limits)
        if not entries:
            raise SourceError(
                "there are no images in it.",
                where=name,
                mend="Give images in folders named after their classes; unpack what holds a table.",
            )
        self.entries = entries
        self._shape: tuple[int, ...] | None = None

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
        """Counts classes from the folders, and takes the shape from a sample; nothing is decoded."""
        shape = self.shape
        labels = [e.label for e in self.entries]
        split = np.array([e.split for e in self.entries], np.int8)
        table = Batch({"label": pa.array(labels, pa.large_string())}, split, pa.array([], pa.large_string()))
        counted = summarise(self.name, [table], self.notes, "label")
        image = ColumnSummary(name="image", type="image", distinct=0, missing=0, shape=shape)
        return Summary(
            columns=(image, *counted.columns),
            rows=counted.rows,
            splits=counted.splits,
            notes=tuple(self.notes),
            target="label",
        )

    def batches(self, size: int = 8192, *, shapes: Shapes | None = None) -> Iterator[Batch]:
        """The images that can be read, in the order of their paths; the others are faults."""
        shape = tuple((shapes or {}).get("image", self.shape))
        step = rows_for(size, int(np.prod(shape)))
        for start in range(0, len(self.entries), step):
            yield self._batch(self.entries[start : start + step], shape)

    def _batch(self, entries: list[Entry], shape: tuple[int, ...]) -> Batch:
        pixels = np.empty((len(entries), *shape), np.uint8)
        kept: list[Entry] = []
        faults: list[Fault] = []
        for entry in entries:
            try:
                data = self.read(entry)
                pixels[len(kept)] = images.decode(data, shape, max_pixels=self.limits.max_image_pixels)
            except InputError as error:
                faults.append(Fault(entry.path, "the image could not be read and was left out", error.what))
            else:
                kept.append(entry)
        labels = pa.array([e.label for e in kept], pa.large_string())
        split = np.array([e.split for e in kept], np.int8)
        origin = pa.array([f"{self.name}/{e.path}" for e in kept], pa.large_string())
        return Batch({"image": pixels[: len(kept)], "label": labels}, split, origin, tuple(faults))


class ImageFolder(ImageSource):
    """A folder of images in class folders."""

    def __init__(self, root: Path, limits: Limits) -> None:
        self.root = root
        found = []
        for folder, names, files in os.walk(root):  # symbolic links to folders are not followed
            names.sort()
            base = Path(folder).relative_to(root)
            found += [(base / f).as_posix() for f in files if is_image((base / f).as_posix())]
        super().__init__(root.name, limits, entries_of(sorted(found)))

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
        """Paths, sizes and times of all images."""
        return fingerprint("images", self.root, (p for e in self.entries if (p := self.root / e.path).exists()))


class ImageZip(ImageSource):
    """A zip of images in class folders; it is never unpacked to disk."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self.path = path
        self._zip = open_zip(path)
        members = checked_members(self._zip, path, limits)
        names = sorted(m.filename for m in members if is_image(m.filename))
        super().__init__(path.stem, limits, entries_of(names))

    def read(self, entry: Entry) -> bytes:
        """The member's bytes, checked against its checksum."""
        info = self._zip.getinfo(entry.path)
        if info.file_size > self.limits.max_file_bytes:
            raise InputError("the file is too large.")
        try:
            return self._zip.read(info)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError) as error:
            raise InputError(f"it cannot be unpacked ({error}).") from error

    def fingerprint(self) -> str:
        """Path, size and time of the zip."""
        return fingerprint("zip", self.path.parent, [self.path])
