"""What the cycle that runs now is doing, in a small file beside the store, for whoever watches from another process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from tidemill.records import JSON
from tidemill.store import Store

EVERY = 0.5
"""Seconds between two writings, unless something else begins."""
LINES = 40
"""Of the newest things that began."""

OnEvent = Callable[[dict[str, Any]], None]


class Progress:
    """Writes what a cycle tells into the file, and hands it on.

    It is for people to watch: a disk that is full or a folder that is gone keeps no cycle from its work.

    Args:
        store: the project's.
        on_event: told everything as before.
    """

    def __init__(self, store: Store, on_event: OnEvent) -> None:
        self._path = path_of(store.root)
        self._on_event = on_event
        self._lines: list[JSON] = []
        self._next = 0.0
        self._began = time.time()

    def __call__(self, event: dict[str, Any]) -> None:
        """One event, as :data:`tidemill.loop.OnEvent` is told them."""
        self._on_event(event)
        now = time.time()
        line = {name: event.get(name) for name in ("stage", "what", "recipe")}
        new = not self._lines or {name: self._lines[-1][name] for name in line} != line
        if new:
            self._lines = [*self._lines[1 - LINES :], {**line, "at": now}]
        if new or now >= self._next:
            self._next = now + EVERY
            self._write({**line, "done": event.get("done"), "total": event.get("total"), "at": now})

    def _write(self, newest: JSON) -> None:
        content = {"pid": os.getpid(), "began": self._began, "newest": newest, "lines": self._lines}
        write(self._path, content)


def path_of(root: Path) -> Path:
    """Where the file lies."""
    return root / "progress.json"


def write(path: Path, content: JSON) -> None:
    """Replace the file; what cannot be written is not."""
    draft = path.with_name(f".progress-{os.getpid()}")
    try:
        draft.write_bytes(orjson.dumps(content, default=str))
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)


def read(root: Path) -> JSON | None:
    """What the newest cycle told last, ``{"pid", "began", "newest", "lines"}``, or ``{"fault", "at"}`` where it could
    not begin; ``None`` when there is nothing.
    """
    try:
        found: JSON = orjson.loads(path_of(root).read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None
    return found
