"""A small disk for tests, which fills and grows when they want it to."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def disk(folder: Path, size: str) -> Iterator[Callable[[], None]]:
    """A small disk mounted on *folder*; the function makes it large."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk; files that cannot grow are tested without it")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=False)
    if mounted.returncode:
        pytest.skip("this root may not mount a disk")
    try:
        yield lambda: subprocess.run(["mount", "-o", "remount,size=64m", folder], check=True) and None
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
