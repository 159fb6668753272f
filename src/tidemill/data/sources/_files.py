"""Opening files: names of splits, unpacking with a guard, fingerprints."""

from __future__ import annotations

import bz2
import difflib
import gzip
import hashlib
import io
import lzma
import os
import re
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from typing import IO, cast

from tidemill.data.sources._base import NO_SPLIT, TEST, TRAIN, VALIDATION, Limits
from tidemill.errors import SourceError, TooLargeError

_SPLIT_WORDS = {
    "train": TRAIN, "training": TRAIN, "tr": TRAIN,
    "val": VALIDATION, "valid": VALIDATION, "validation": VALIDATION, "dev": VALIDATION,
    "test": TEST, "testing": TEST, "t10k": TEST, "holdout": TEST,
}  # fmt: skip
GZIP = b"\x1f\x8b"
_PACKERS = ((GZIP, "gzip"), (b"BZh", "bzip2"), (b"\xfd7zXZ", "xz"))
_PACKED_SUFFIXES = (".gz", ".bz2", ".xz")


def unpacked_name(name: str) -> str:
    """The name without what a packer added to it.

    >>> unpacked_name("rows.csv.gz"), unpacked_name("rows.csv")
    ('rows.csv', 'rows.csv')
    """
    return next((name.removesuffix(s) for s in _PACKED_SUFFIXES if name.casefold().endswith(s)), name)


def suffix_of(path: PurePath) -> str:
    """The suffix that tells the format: lower case, behind ``.gz`` and its like."""
    return PurePath(unpacked_name(path.name)).suffix.casefold()


def common_root(files: Sequence[Path]) -> Path:
    """The deepest folder that holds all files."""
    return Path(os.path.commonpath([path.parent for path in files]))


def split_of_file(path: Path, root: Path) -> int:
    """The split that a file's name speaks of, or else one of the folders between *root* and the file.

    >>> split_of_file(Path("d/test/part-1.csv"), Path("d")), split_of_file(Path("d/part-1.csv"), Path("d"))
    (2, -1)
    """
    own = split_of(unpacked_name(path.name))
    if own != NO_SPLIT:
        return own
    folders = path.relative_to(root).parts[:-1]
    return next((s for f in folders if f.isalnum() and (s := split_of(f)) != NO_SPLIT), NO_SPLIT)


def split_of(name: str) -> int:
    """The split that a file or folder name speaks of, -1 for none.

    >>> split_of("adult-test.csv"), split_of("train"), split_of("latest.csv"), split_of("t10k-images-idx3-ubyte.gz")
    (2, 0, -1, 2)
    """
    words = re.split(r"[^a-z0-9]+", name.casefold())
    return next((_SPLIT_WORDS[word] for word in words if word in _SPLIT_WORDS), NO_SPLIT)


def split_of_value(value: str) -> int:
    """The split that a value of a column ``split`` names, -1 for none."""
    return _SPLIT_WORDS.get(value.strip().casefold(), NO_SPLIT)


def fingerprint(kind: str, root: Path, files: Iterable[Path]) -> str:
    """64 hex digits that change when one of the files is renamed, resized or written."""
    digest = hashlib.sha256(f"{kind}\0{root.resolve()}\0".encode())
    for path in sorted(files):
        stat = path.stat()
        digest.update(f"{path.relative_to(root)}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def near_names(path: Path) -> str:
    """Files and folders beside a name that is not there, which look like it."""
    try:
        beside = [p.name for p in path.parent.iterdir() if not p.name.startswith(".")]
    except OSError:
        return ""
    return " or ".join(difflib.get_close_matches(path.name, beside, 3, 0.5))


def require(path: Path) -> None:
    """Refuse a file that is not there, cannot be read, or is empty.

    Raises:
        SourceError: with how to mend it.
    """
    if not path.exists():
        near = near_names(path)
        mend = f"Did you mean {near}?" if near else "Check the path that was given, or stands under `data`."
        raise SourceError("there is no such file.", where=str(path), mend=mend)
    if not path.is_file():  # reading a pipe would wait for ever
        raise SourceError("this is no regular file.", where=str(path), mend="Save it as a file first.")
    try:
        with path.open("rb") as file:
            start = file.read(1)
    except OSError as error:
        message = f"the file cannot be read ({error.strerror or error})."
        raise SourceError(message, where=str(path), mend="Check its permissions.") from error
    if not start:
        raise SourceError("the file is empty.", where=str(path), mend="Give a file with at least one row.")


def require_names(names: Iterable[str], where: str) -> None:
    """Refuse names that are no UTF-8: origins and labels are made of them, and nothing could write them down.

    Raises:
        SourceError: there is one.
    """
    for name in names:
        if not name.isascii() and not name.isprintable():
            try:
                name.encode()
            except UnicodeEncodeError:
                message = f"the name {name!a} is no UTF-8."
                raise SourceError(message, where=ascii(where)[1:-1], mend="Rename it.") from None


def _unpacking(path: Path, packer: str) -> gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile:
    if packer == "gzip":
        return gzip.GzipFile(path, "rb")
    return bz2.BZ2File(path) if packer == "bzip2" else lzma.LZMAFile(path)


class Guarded(io.RawIOBase):
    """A packed file as it unpacks, which refuses bombs and truncated files in the words of this house."""

    def __init__(self, path: Path, limits: Limits, packer: str) -> None:
        self._path = path
        self._limits = limits
        self._packer = packer
        self._file = cast("IO[bytes]", _unpacking(path, packer))
        self._packed = max(1, path.stat().st_size)
        self._read = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill *buffer* as far as one read goes."""
        try:
            data = self._file.read(len(buffer))
        except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
            message = f"the {self._packer} file is truncated or damaged."
            raise SourceError(message, where=str(self._path), mend="Download or copy it again.") from error
        self._read += len(data)
        if self._read > 1 << 20 and self._read > self._packed * self._limits.max_archive_ratio:
            raise TooLargeError(
                f"the file unpacks to more than {self._limits.max_archive_ratio:g} times its size.",
                where=str(self._path),
                mend="Unpack it yourself if you trust it, or raise limits.archive_ratio.",
            )
        if self._read > self._limits.max_archive_bytes:
            raise TooLargeError(
                f"the file unpacks to more than the {self._limits.max_archive_bytes:,} bytes allowed.",
                where=str(self._path),
                mend="Split it, unpack it yourself, or raise limits.archive_gb.",
            )
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close the file beneath."""
        self._file.close()
        super().close()


def packer_of(path: Path) -> str | None:
    """What a file was packed with, told by its first bytes: ``gzip``, ``bzip2``, ``xz`` or nothing."""
    with path.open("rb") as file:
        start = file.read(6)
    return next((packer for mark, packer in _PACKERS if start.startswith(mark)), None)


def open_stream(path: Path, limits: Limits) -> IO[bytes]:
    """A file as a stream of bytes; gzip, bzip2 and xz are unpacked as they are read.

    Raises:
        SourceError: it is missing, empty or, later while reading, truncated.
        TooLargeError: while reading, when it unpacks to far more than its size, or to more than the limit.
    """
    require(path)
    packer = packer_of(path)
    if packer is None:
        return path.open("rb")
    return cast("IO[bytes]", io.BufferedReader(Guarded(path, limits, packer), 1 << 20))
