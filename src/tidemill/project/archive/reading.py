"""Reading an archive, of which nothing is taken for granted."""

from __future__ import annotations

import contextlib
import hashlib
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from tidemill.errors import InputError, NotFoundError, StoreError
from tidemill.project.archive._format import (
    BLOCK,
    CHUNK,
    HEADER,
    LARGEST_JSON,
    LONGEST_NAME,
    MAGIC,
    MANIFEST,
    ROOMS,
    VERSION,
)
from tidemill.records import JSON

_FOREIGN = "Use an archive as `tidemill backup` wrote it."
_AGAIN = "Use another copy of it, or an older backup."


class Member:
    """One member while it is read: ``name``, ``size`` in bytes, and its content once."""

    def __init__(self, name: str, size: int, source: _Source) -> None:
        self.name = name
        self.size = size
        self._source = source
        self._left = size
        self._digest = hashlib.sha256()

    def chunks(self) -> Iterator[bytes]:
        """What has not been read of it."""
        while self._left:
            chunk = self._source.take(min(self._left, CHUNK))
            self._left -= len(chunk)
            self._digest.update(chunk)
            yield chunk

    def read(self, limit: int = LARGEST_JSON) -> bytes:
        """All of it.

        Raises:
            InputError: it is larger than *limit*.
        """
        if self.size > limit:
            raise InputError(
                f"{self.name} is larger than anything a backup has", where=self._source.where, mend=_FOREIGN
            )
        return b"".join(self.chunks())

    def sha256(self) -> str:
        """Of its content, the rest of which is read for it."""
        for _ in self.chunks():
            pass
        return self._digest.hexdigest()


def read_header(path: Path) -> JSON:
    """What the archive says of itself.

    Raises:
        NotFoundError: there is no such file.
        InputError: it is no backup, or one of a newer Tidemill.
        StoreError: it is torn or cannot be read.
    """
    with _opened(path) as source:
        return _header(next(_entries(source), None), source)


def members(path: Path) -> Iterator[Member]:
    """The members between header and manifest. When the last one has been taken, all are known to be as written.

    Raises:
        InputError: it is no backup, one of a newer Tidemill, or holds what no backup holds.
        StoreError: it is torn, or a byte of it was altered.
    """
    with _opened(path) as source:
        found: dict[str, JSON] = {}
        manifest: bytes | None = None
        for entry in _entries(source):
            if manifest is not None or entry.name in found:
                raise InputError(f"{entry.name!r} stands where nothing may", where=source.where, mend=_FOREIGN)
            if entry.name == MANIFEST:
                manifest = entry.read()
                continue
            if not found:
                _header(entry, source)
            elif not _is_safe(entry.name):
                raise InputError(
                    f"it holds a file under the name {entry.name[:200]!r}, which leads out of it",
                    where=source.where,
                    mend=_FOREIGN,
                )
            else:
                yield entry
            found[entry.name] = {"name": entry.name, "bytes": entry.size, "sha256": entry.sha256()}
        if manifest is None:
            raise source.torn("its end is missing")
        _compare(_json(manifest, source), found, source)


def read_manifest(path: Path) -> JSON:
    """The manifest, after everything before it was found as it says."""
    for _ in members(path):
        pass
    with _opened(path) as source:
        return _json(next(e for e in _entries(source) if e.name == MANIFEST).read(), source)


class _Source:
    """The unpacked bytes of an archive, in order."""

    def __init__(self, stream: Any, where: str) -> None:
        self._stream = stream
        self.where = where

    def take(self, size: int) -> bytes:
        """The next *size* bytes.

        Raises:
            StoreError: there are fewer.
        """
        parts, left = [], size
        while left:
            part = self.some(left)
            if not part:
                raise self.torn("its end is missing")
            parts.append(part)
            left -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def some(self, size: int) -> bytes:
        """At most *size* bytes; none at the end."""
        try:
            return bytes(self._stream.read(size))
        except OSError as error:
            if error.errno is not None:
                raise StoreError(
                    f"the archive cannot be read ({error.strerror})", where=self.where, mend="Check the disk."
                ) from error
            raise self.torn(str(error)) from error

    def torn(self, why: str) -> StoreError:
        """It is not what was written."""
        return StoreError(f"the backup is torn or was altered ({why})", where=self.where, mend=_AGAIN)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[_Source]:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise NotFoundError("there is no such file", where=str(path), mend="Check the path.") from None
    except OSError as error:
        raise StoreError(
            f"the archive cannot be read ({error.strerror})", where=str(path), mend="Check the path."
        ) from error
    with file:
        if file.read(len(MAGIC)) != MAGIC:
            raise InputError("this is no backup", where=str(path), mend=_FOREIGN)
        file.seek(0)
        with pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd") as stream:
            yield _Source(stream, str(path))


def _entries(source: _Source) -> Iterator[Member]:
    long_name: str | None = None
    while True:
        block = source.take(BLOCK)
        if not block.strip(b"\0"):
            break
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.TarError, ValueError) as error:
            raise source.torn(f"a header cannot be read: {error}") from error
        if info.type == tarfile.GNUTYPE_LONGNAME and 0 < info.size <= LONGEST_NAME:
            name = source.take(info.size + -info.size % BLOCK)[: info.size]
            long_name = name.rstrip(b"\0").decode("utf-8", "surrogateescape")
            continue
        if info.type != tarfile.REGTYPE or info.size < 0:
            raise InputError(f"{info.name[:200]!r} in it is no plain file", where=source.where, mend=_FOREIGN)
        entry = Member(long_name or info.name, info.size, source)
        long_name = None
        yield entry
        entry.sha256()
        source.take(-info.size % BLOCK)
    while rest := source.some(CHUNK):
        if rest.strip(b"\0"):
            raise source.torn("something follows its end")


def _header(entry: Member | None, source: _Source) -> JSON:
    if entry is None or entry.name != HEADER:
        raise InputError("this is no backup", where=source.where, mend=_FOREIGN)
    header = _json(entry.read(), source)
    version = header.get("version")
    if header.get("format") != "tidemill-backup" or not isinstance(version, int):
        raise InputError("this is no backup", where=source.where, mend=_FOREIGN)
    if version > VERSION:
        raise InputError(
            f"this backup was made by a newer Tidemill ({header.get('tidemill')}, archives of version {version})",
            where=source.where,
            mend="Update Tidemill, then restore it.",
        )
    return header


def _json(content: bytes, source: _Source) -> JSON:
    try:
        found = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise source.torn(f"what it says of itself cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise source.torn("what it says of itself cannot be read")
    return found


def _compare(manifest: JSON, found: dict[str, JSON], source: _Source) -> None:
    listed = manifest.get("members")
    if not isinstance(listed, list) or not all(isinstance(m, dict) for m in listed):
        raise source.torn("what it says of itself cannot be read")
    said = {str(member.get("name")): member for member in listed}
    for name, member in found.items():
        if said.get(name) != member:
            raise source.torn(f"{name} is not what was written")
    if missing := said.keys() - found.keys():
        raise source.torn(f"{min(missing)} is missing")


def _is_safe(name: str) -> bool:
    """Whether a name stays within its room.

    >>> _is_safe("state/models/a/model.onnx"), _is_safe("state/../../etc/passwd"), _is_safe("/etc/passwd")
    (True, False, False)
    """
    parts = name.split("/")
    plain = all(part not in {"", ".", ".."} for part in parts) and not {"\\", "\0"} & set(name)
    return plain and len(parts) > 1 and parts[0] in ROOMS
