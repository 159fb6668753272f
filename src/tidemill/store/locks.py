"""Locks between processes: the kernel holds them, so a process that died holds none."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from tidemill.errors import BusyError, StoreError


@contextlib.contextmanager
def held(folder: Path, name: str, *, wait: float = 0.0) -> Iterator[None]:
    """Hold ``folder/name.lock``, which names the holder's pid.

    The lock belongs to the open file, so two threads of one process exclude each other too. The file stays when the
    lock is given back: removing it would let two holders lock two files of one name.

    Args:
        folder: where the lock files lie; made when it is missing.
        name: what the lock protects.
        wait: how many seconds to wait for another holder.

    Raises:
        BusyError: a living holder has it.
    """
    path = folder / f"{name}.lock"
    descriptor = _open(path)
    try:
        _take(descriptor, path, name, time.monotonic() + wait)
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def holder(folder: Path, name: str, *, sure: bool = False) -> int | None:
    """The pid of the living process that holds ``folder/name.lock``; ``None`` when nobody does.

    Args:
        folder: where the lock files lie.
        name: what the lock protects.
        sure: also try whether it is held. A process that was killed leaves its pid behind, which another one may have
            by now; but whoever takes the lock in this very moment finds it taken.
    """
    try:
        descriptor = os.open(folder / f"{name}.lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        text = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
        if not text.isdecimal() or not _lives(int(text)):
            return None
        if sure:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return None
        return int(text)
    finally:
        os.close(descriptor)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StoreError(
            f"the lock cannot be made ({error.strerror})", where=str(path), mend="Check that you may write there."
        ) from error


def _take(descriptor: int, path: Path, name: str, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(0.01)
                continue
            pid = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            raise BusyError(
                f"process {pid} is busy with {name!r} on this project",
                where=str(path),
                mend="Wait until it has finished, or end that process.",
            ) from None
        break
    with contextlib.suppress(OSError):  # the pid is for people: a full disk must not keep the lock from working
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
