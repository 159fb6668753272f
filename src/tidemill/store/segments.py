"""The format of a journal segment.

A segment is 8 bytes of :data:`HEADER`, then frames: 4 bytes ``TMfr``, the payload's length and a CRC-32 of length and
payload (both unsigned 32 bits, little-endian), and the payload. The mark lets a reader find the next whole frame
behind a damaged one; the length is in the sum so that a run of zeros, which a loss of power may leave, is no frame.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HEADER = b"TMjrnl\x00\x01"
SUFFIX = ".journal"
DAMAGED = ".damaged"

_MARK = b"TMfr"
_FRAME = struct.Struct("<4sII")


class Entry(NamedTuple):
    """One whole frame: where it starts and ends in the segment, and its payload."""

    start: int
    end: int
    payload: bytes


def frame(payload: bytes) -> bytes:
    """The bytes that hold *payload* in a segment.

    >>> [entry.payload for entry in entries(HEADER + frame(b"one") + frame(b"two"), len(HEADER))]
    [b'one', b'two']
    """
    return _FRAME.pack(_MARK, len(payload), _crc(len(payload), payload)) + payload


def entries(data: bytes | mmap.mmap, position: int, *, closed: bool = False) -> Iterator[Entry]:
    """The whole frames of *data*, the bytes of a segment, from *position* on.

    An incomplete or altered frame ends it; in a *closed* segment, to which nobody appends, the next whole frame behind
    it is looked for, and the gap shows in :attr:`Entry.start`.

    >>> torn = HEADER + frame(b"one") + frame(b"two")[:-1]
    >>> [entry.payload for entry in entries(torn, len(HEADER))]
    [b'one']
    """
    while True:
        entry = _entry(data, position)
        if entry is not None:
            yield entry
            position = entry.end
            continue
        position = data.find(_MARK, position + 1) if closed else -1
        if position < 0:
            return


def is_torn(rest: bytes) -> bool:
    """Whether *rest*, what follows the last whole frame, is what an interrupted write leaves.

    That is nothing, zeros, or the beginning of a frame; anything else was whole once and has been altered.
    """
    if not rest.strip(b"\0") or len(rest) < _FRAME.size:
        return True
    mark, length, _ = _FRAME.unpack_from(rest)
    return bool(mark == _MARK and length > len(rest) - _FRAME.size)


def has_writer(descriptor: int) -> bool:
    """Whether a living process may still append to the segment; if not, the segment is now locked by the caller."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def create(path: Path) -> int | None:
    """Make a segment that is locked by its writer; its descriptor, or ``None`` if the ingester removed it meanwhile."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    # Between these two calls the ingester may find it empty and without a writer, and remove it.
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    if os.fstat(descriptor).st_nlink:
        return descriptor
    os.close(descriptor)
    return None


def _entry(data: bytes | mmap.mmap, position: int) -> Entry | None:
    start = position + _FRAME.size
    if position < 0 or start > len(data):
        return None
    mark, length, crc = _FRAME.unpack_from(data, position)
    if mark != _MARK or length > len(data) - start:
        return None
    payload = data[start : start + length]
    return Entry(position, start + length, payload) if _crc(length, payload) == crc else None


def _crc(length: int, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(length.to_bytes(4, "little")))
