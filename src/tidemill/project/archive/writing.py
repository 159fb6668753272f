"""Writing an archive."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import io
import os
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Self

import orjson
import pyarrow as pa

from tidemill.errors import ConflictError, StoreError
from tidemill.project.archive._format import BLOCK, CHUNK, MANIFEST
from tidemill.records import JSON
from tidemill.store.seam import sync, sync_folder


class ArchiveWriter:
    """Writes an archive, which has its name only when it is whole; leaving the block before :meth:`finish` removes it.

    Args:
        path: the archive; nothing may be there yet.

    Raises:
        ConflictError: something is there.
        StoreError: the disk is full or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.members: list[JSON] = []
        if path.exists():
            raise _taken(path)
        self._draft = path.with_name(f".{path.name}.{os.getpid()}.part")
        with self._telling():
            path.parent.mkdir(parents=True, exist_ok=True)
            _sweep(path)
            # Its owner's alone: the project's secret and perhaps a password are in it.
            self._descriptor = os.open(self._draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            self._stream = pa.CompressedOutputStream(pa.PythonFile(os.fdopen(os.dup(self._descriptor), "wb")), "zstd")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):  # what is still in its buffer goes nowhere
                self._stream.close()
            os.close(self._descriptor)
            self._descriptor = -1
            self._draft.unlink(missing_ok=True)

    def add(self, name: str, content: bytes) -> None:
        """A member of bytes."""
        self.add_file(name, io.BytesIO(content), len(content))

    def add_file(self, name: str, file: IO[bytes], size: int) -> None:
        """A member of the first *size* bytes of *file*.

        Raises:
            StoreError: the file is shorter, or the disk is full.
        """
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.mtime = size, 0o600, int(time.time())
        digest, left = hashlib.sha256(), size
        with self._telling():
            self._stream.write(info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape"))
            while left:
                chunk = file.read(min(left, CHUNK))
                if not chunk:
                    raise StoreError(
                        "a file became shorter while it was copied", where=name, mend="Make the backup again."
                    )
                digest.update(chunk)
                self._stream.write(chunk)
                left -= len(chunk)
            self._stream.write(bytes(-size % BLOCK))
        self.members.append({"name": name, "bytes": size, "sha256": digest.hexdigest()})

    def finish(self, **facts: Any) -> int:
        """Write the manifest with *facts*, make everything durable, and give the archive its name; its size in bytes.

        Raises:
            ConflictError: something got that name meanwhile.
        """
        manifest = orjson.dumps({"members": self.members, **facts})
        self.add(MANIFEST, manifest)
        with self._telling():
            self._stream.write(bytes(2 * BLOCK))
            self._stream.close()
            sync(self._descriptor)
            _name(self._draft, self.path)
            sync_folder(self.path.parent)
            return self.path.stat().st_size

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            mend = "Free some space, or name another place." if error.errno == errno.ENOSPC else "Name another place."
            raise StoreError(
                f"the backup cannot be written ({error.strerror or error})", where=str(self.path), mend=mend
            ) from error


def _taken(path: Path) -> ConflictError:
    return ConflictError("something is there already", where=str(path), mend="Name another file.")


def _name(draft: Path, path: Path) -> None:
    """Give the draft its name, unless something has got it meanwhile."""
    try:
        os.link(draft, path)
    except FileExistsError:
        raise _taken(path) from None
    except OSError:  # a file system without links
        if path.exists():
            raise _taken(path) from None
        draft.rename(path)


def _sweep(path: Path) -> None:
    """Remove drafts whose writers were killed."""
    for draft in path.parent.glob(f".{path.name}.*.part"):
        with contextlib.suppress(OSError), draft.open("rb") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            draft.unlink()
