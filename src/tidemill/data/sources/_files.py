"""Finding and opening files: names of splits, gzip with a guard, fingerprints."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO, cast

from tidemill.data.sources._base import NO_SPLIT, TEST, TRAIN, VALIDATION, Limits
from tidemill.errors import SourceError, TooLargeError

_SPLIT_WORDS = {
    "train": TRAIN, "training": TRAIN, "tr": TRAIN,
    "val": VALIDATION, "valid": VALIDATION, "validation": VALIDATION, "dev": VALIDATION,
    "test": TEST, "testing": TEST, "t10k": TEST, "holdout": TEST,
}  # fmt: skip
GZIP = b"\x1f\x8b"


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


def require(path: Path) -> None:
    """Refuse a file that is not there, cannot be read, or is empty.

    Raises:
        SourceError: with how to mend it.
    """
    if not path.exists():
        mend = "Check the path that was given, or stands under `data` in tidemill.yaml."
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


class Guarded(io.RawIOBase):
    """A gzip stream that refuses bombs and truncated files in the words of this house."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self._path = path
        self._limits = limits
        self._file = cast("IO[bytes]", gzip.open(path, "rb"))  # noqa: SIM115 - closed by close()
        self._packed = max(1, path.stat().st_size)
        self._read = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill *buffer* as far as one read goes."""
        try:
            data = self._file.read(len(buffer))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            message = "the gzip file is truncated or damaged."
            raise SourceError(message, where=str(self._path), mend="Download or copy it again.") from error
        self._read += len(data)
        if self._read > 1 << 20 and self._read > self._packed * self._limits.max_archive_ratio:
            raise TooLargeError(
                f"the file unpacks to more than {self._limits.max_archive_ratio:g} times its size.",
                where=str(self._path),
                mend="Unpack it yourself if you trust it, or raise limits.archive_ratio.",
            )
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close the file beneath."""
        self._file.close()
        super().close()


def open_stream(path: Path, limits: Limits) -> IO[bytes]:
    """A file as a stream of bytes; gzip is unpacked as it is read.

    Raises:
        SourceError: it is missing, empty or, later while reading, truncated.
        TooLargeError: while reading, when it unpacks to far more than its size.
    """
    require(path)
    with path.open("rb") as file:
        packed = file.read(2) == GZIP
    return cast("IO[bytes]", io.BufferedReader(Guarded(path, limits), 1 << 20)) if packed else path.open("rb")
