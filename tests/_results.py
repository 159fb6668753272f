"""Figures that long tests find: printed, and kept as JSON in the file that ``TIDEMILL_TEST_RESULTS`` names."""

from __future__ import annotations

import fcntl
import json
import os
import sys
from pathlib import Path
from typing import Any


def note(name: str, **figures: Any) -> None:
    """Print *figures*, and keep them under *name* beside those of other tests, which may run at the same time."""
    print(f"{name}: {json.dumps(figures)}", file=sys.stderr)
    if not (path := os.environ.get("TIDEMILL_TEST_RESULTS")):
        return
    with Path(path).open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        known: dict[str, Any] = json.loads(file.read() or "{}")
        file.truncate(0)
        json.dump({**known, name: figures}, file, indent=1, sort_keys=True)
