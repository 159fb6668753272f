"""The few calls by which bytes reach the disk, in one place, so that a test can watch and fail them."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


def write(descriptor: int, content: bytes | memoryview) -> int:
    """Write some of *content*; how many bytes. One call of the system."""
    return os.write(descriptor, content)


def write_all(descriptor: int, content: bytes) -> None:
    """Write the whole of *content*, in as many calls as it takes."""
    rest = memoryview(content)
    while rest:
        rest = rest[write(descriptor, rest) :]


def sync(descriptor: int) -> None:
    """Return when everything written to *descriptor* survives a loss of power."""
    if hasattr(fcntl, "F_FULLFSYNC"):  # macOS: fsync stops at the disk's own cache
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    elif hasattr(os, "fdatasync"):
        os.fdatasync(descriptor)  # includes the new size, leaves out the times
    else:
        os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Return when the names in *folder* survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
