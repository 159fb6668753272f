"""Blobs: files named by the SHA-256 of their content, written whole or not at all."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import fsspec

from tidemill.errors import NotFoundError, StoreError
from tidemill.store import seam


class Blobs:
    """The blobs of one project, below *folder*, in 256 folders by their first two digits."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = fsspec.filesystem("file", auto_mkdir=True)

    def path(self, sha256: str) -> Path:
        """Where the blob lies, or would lie.

        Raises:
            NotFoundError: *sha256* is not 64 lower-case hex digits.
        """
        if len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
            raise NotFoundError(f"{sha256!r} is not a SHA-256", mend="Give 64 lower-case hex digits.")
        return self._folder / sha256[:2] / sha256

    def put(self, content: bytes) -> str:
        """Store *content* durably; the same content is stored once. Returns its SHA-256 as 64 hex digits.

        Raises:
            StoreError: the disk is full or failed.
        """
        name = hashlib.sha256(content).hexdigest()
        path = self.path(name)
        if path.is_file() and path.stat().st_size == len(content):
            return name
        draft = path.with_name(f".{name}-{os.getpid()}-{os.urandom(4).hex()}")
        try:
            try:
                with self._files.open(str(draft), "wb") as file:
                    file.write(content)
                    file.flush()
                    seam.sync(file.fileno())
                draft.replace(path)
            finally:
                draft.unlink(missing_ok=True)
            seam.sync_folder(path.parent)
            seam.sync_folder(self._folder)
        except OSError as error:
            raise StoreError(
                f"the blob cannot be written ({error.strerror})", where=str(path), mend="Free some space and try again."
            ) from error
        return name

    def remove(self, sha256: str) -> None:
        """Remove a blob for good; nothing, where there is none.

        Raises:
            StoreError: the disk failed.
        """
        path = self.path(sha256)
        try:
            path.unlink(missing_ok=True)
            if path.parent.is_dir():
                seam.sync_folder(path.parent)
        except OSError as error:
            raise StoreError(
                f"the blob cannot be removed ({error.strerror})",
                where=str(path),
                mend="Check that you may write there.",
            ) from error

    def get(self, sha256: str) -> bytes:
        """The content of a blob.

        Raises:
            NotFoundError: there is no such blob.
            StoreError: the file no longer is what its name says.
        """
        path = self.path(sha256)
        try:
            with self._files.open(str(path), "rb") as file:
                content = bytes(file.read())
        except FileNotFoundError:
            raise NotFoundError(f"there is no blob {sha256}", where=str(self._folder)) from None
        if hashlib.sha256(content).hexdigest() != sha256:
            raise StoreError("the blob is damaged", where=str(path), mend="Restore it from a backup.")
        return content
