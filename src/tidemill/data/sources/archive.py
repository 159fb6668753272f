"""Zip and tar archives (also packed by gzip, bzip2 or xz) of tables, texts or images.

They are unpacked into a temporary folder within the limits and read from there; the folder goes with the source. A zip
of images is read as it is, see :class:`tidemill.data.sources.images.ImageZip`.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tidemill.data.sources._archive import unpack_tar, unpack_zip
from tidemill.data.sources._base import Batch, Limits, Shapes, Source, Summary
from tidemill.data.sources._files import fingerprint, unpacked_name
from tidemill.errors import SourceError, StoreError


class ArchiveSource(Source):
    """What lies in an archive, as its folder would be read.

    Args:
        path: the archive.
        limits: what it may cost.
        opened: opens the unpacked folder, under a name.
        wanted: which members are of use.
        target: what to call the target column of a table without a header; part of the fingerprint.
    """

    def __init__(
        self,
        path: Path,
        limits: Limits,
        opened: Callable[[Path, str], Source],
        wanted: Callable[[str], bool],
        target: str | None = None,
    ) -> None:
        super().__init__(path.name, limits)
        self.path = path
        self._target = target
        self._folder = root = Path(tempfile.mkdtemp(prefix="tidemill-"))
        weakref.finalize(self, shutil.rmtree, root, ignore_errors=True)
        try:
            (unpack_zip if zipfile.is_zipfile(path) else unpack_tar)(path, root, limits, wanted)
        except OSError as error:
            message = f"the archive cannot be unpacked into {root.parent} ({error.strerror or error})."
            raise StoreError(message, mend="Free some space, or set TMPDIR to a folder that has some.") from error
        if not any(root.iterdir()):
            raise SourceError(
                "there is nothing in the archive that Tidemill reads.",
                where=str(path),
                mend="Pack images or text files in class folders, or a CSV, TSV, JSONL or Parquet file.",
            )
        self._inner = self._open(opened, root)
        self.notes = self._inner.notes

    def _open(self, opened: Callable[[Path, str], Source], root: Path) -> Source:
        while len(inside := list(root.iterdir())) == 1 and inside[0].is_dir():
            root = inside[0]  # a packed folder is that folder
        try:
            return opened(root, Path(unpacked_name(self.path.name)).stem)
        except SourceError as error:
            raise self._here(error) from error

    def _here(self, error: SourceError) -> SourceError:
        """The same words, with the archive's path for the temporary one."""
        inside = None if error.where is None else error.where.removeprefix(str(self._folder)).lstrip("/")
        return SourceError(error.what, where=f"{self.path}, {inside}" if inside else str(self.path), mend=error.mend)

    def fingerprint(self) -> str:
        """Path, size and time of the archive."""
        return fingerprint(f"archive {self._target}", self.path.parent, [self.path])

    def summary(self) -> Summary:
        """That of what lies in it."""
        try:
            return self._inner.summary()
        except SourceError as error:
            raise self._here(error) from error

    def batches(self, size: int = 8192, *, shapes: Shapes | None = None) -> Iterator[Batch]:
        """All rows of what lies in it."""
        try:
            yield from self._inner.batches(size, shapes=shapes)
        except SourceError as error:
            raise self._here(error) from error
