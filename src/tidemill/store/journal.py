"""The journal: payloads appended to segment files, acknowledged after fsync."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

from tidemill.errors import StoreError
from tidemill.records import new_id
from tidemill.store import seam, segments
from tidemill.store.group import GroupCommitter

_FULL = "Free some space; nothing that was acknowledged is lost."


class Journal:
    """The journal segments that one process writes.

    Every process has segments of its own, locked while it lives. A payload is acknowledged when its future resolves,
    and that is after the fsync of the segment and of its folder. After a failed write (a full disk) the next append
    starts a new segment; after a failed fsync nobody knows what the disk holds, and nothing is acknowledged any more.

    Args:
        folder: where the segments lie; made when it is missing.
        name: the beginning of their names.
        segment_bytes: a segment that has grown this large is closed, and the next one begun.

    Raises:
        StoreError: the first segment cannot be made.
    """

    def __init__(self, folder: Path, name: str, *, segment_bytes: int = 32 << 20) -> None:
        self._folder = folder
        self._name = name
        self._limit = segment_bytes
        self._broken = ""
        self._descriptor = -1
        self._size = 0
        self._open_segment()
        self._group: GroupCommitter[bytes, None] = GroupCommitter(self._commit, name=f"the {name} journal", limit=4096)

    def append(self, payloads: Sequence[bytes]) -> Future[None]:
        """Append *payloads*, all or none of them acknowledged; the future resolves when they survive a loss of power.

        Raises:
            StoreError: the journal is closed, or an fsync failed earlier. A failure of this very write or fsync comes
                out of the future.
        """
        if self._broken:
            raise self._refusal()
        return self._group.submit(b"".join(map(segments.frame, payloads)))

    def close(self) -> None:
        """Make durable what was appended, and give the segment to the ingester."""
        self._group.close()
        self._close_segment()

    def _commit(self, group: list[bytes]) -> list[None]:
        if self._broken:
            raise self._refusal()
        if self._descriptor < 0 or self._size >= self._limit:
            self._open_segment()
        content = b"".join(group)
        try:
            seam.write_all(self._descriptor, content)
        except OSError as error:
            # Not cut off and written again: the ingester may have read whole frames of it already.
            self._close_segment()
            raise self._failure("a prediction cannot be written", error) from error
        self._sync()
        self._size += len(content)
        return [None] * len(group)

    def _open_segment(self) -> None:
        self._close_segment()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            descriptor = None
            while descriptor is None:
                path = self._folder / f"{self._name}-{new_id('seg')}-{os.getpid()}{segments.SUFFIX}"
                descriptor = segments.create(path)
            self._descriptor, self._size = descriptor, len(segments.HEADER)
            seam.write_all(descriptor, segments.HEADER)
            self._sync()
            seam.sync_folder(self._folder)
            seam.sync_folder(self._folder.parent)
        except OSError as error:
            self._close_segment()
            raise self._failure("a journal segment cannot be made", error) from error

    def _sync(self) -> None:
        try:
            seam.sync(self._descriptor)
        except OSError as error:
            self._broken = f"fsync failed, so nothing more is acknowledged ({error.strerror})"
            self._close_segment()
            raise self._refusal() from error

    def _close_segment(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _refusal(self) -> StoreError:
        return StoreError(self._broken, where=str(self._folder), mend="Check the disk, then start again.")

    def _failure(self, what: str, error: OSError) -> StoreError:
        return StoreError(f"{what} ({error.strerror})", where=str(self._folder), mend=_FULL)
