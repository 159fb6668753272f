"""Progress of long work on stderr: live bars on a terminal, plain lines elsewhere.

Events are ``{"stage", "what", "done", "total", "recipe"}``, as the facade sends them.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from tidemill.cli.show.units import seconds

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from tidemill.cli.session import Session

Listener = Callable[[dict[str, Any]], None]
_PAUSE = 1.0  # seconds between two plain lines of one stage


@contextlib.contextmanager
def progress(session: Session) -> Iterator[Listener]:
    """A listener that shows events for as long as the block runs."""
    if not session.err.is_terminal:
        lines = PlainProgress(session.err)
        yield lines
        lines.close()
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.fields[stage]:<9}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[position]:>11}", style="dim"),
        TimeElapsedColumn(),
        TextColumn("{task.description}", style="dim", markup=False),
    )
    with Progress(*columns, console=session.err, transient=False) as bars:
        live = LiveProgress(bars)
        yield live
        live.close()


def describe(event: dict[str, Any]) -> str:
    """``cnn: epoch 3`` or ``reading train.csv``."""
    what, recipe = str(event.get("what") or ""), event.get("recipe")
    return what if not recipe or str(recipe) in what else f"{recipe}: {what}" if what else str(recipe)


def position(event: dict[str, Any]) -> str:
    """``3/10``, ``3`` or nothing."""
    done, total = event.get("done"), event.get("total")
    if done is None:
        return ""
    return f"{done:,}" if total is None else f"{done:,}/{total:,}"


class PlainProgress:
    """A line when a stage begins, when it ends, and now and then between."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._lock = threading.Lock()
        self._stage: str | None = None
        self._began = self._said = 0.0
        self._last = ""
        self._recipe: str | None = None

    def __call__(self, event: dict[str, Any]) -> None:
        """Take one event."""
        stage, now = str(event.get("stage", "")), time.monotonic()
        with self._lock:
            if stage != self._stage:
                self._end(now)
                self._stage, self._began, self._said, self._last = stage, now, now - _PAUSE, ""
            text = f"{stage}: {describe(event)} {position(event)}".rstrip(": ")
            recipe = event.get("recipe")
            if text != self._last and (recipe != self._recipe or now - self._said >= _PAUSE):
                self._print(text)
                self._said, self._last, self._recipe = now, text, recipe

    def close(self) -> None:
        """Say how long the last stage took."""
        with self._lock:
            self._end(time.monotonic())

    def _end(self, now: float) -> None:
        if self._stage is not None:
            self._print(f"{self._stage}: done in {seconds(now - self._began)}")
            self._stage = None

    def _print(self, text: str) -> None:
        self._out.print(text, markup=False, highlight=False, soft_wrap=True)


class LiveProgress:
    """One bar a stage, the finished ones ticked."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._lock = threading.Lock()
        self._tasks: dict[str, TaskID] = {}
        self._current: str | None = None

    def __call__(self, event: dict[str, Any]) -> None:
        """Take one event."""
        stage = str(event.get("stage", ""))
        with self._lock:
            if stage != self._current:
                self._finish()
                self._current = stage
            if stage not in self._tasks:
                self._tasks[stage] = self._bars.add_task("", total=None, stage=stage, position="")
            self._bars.update(
                self._tasks[stage],
                description=describe(event),
                total=event.get("total"),
                completed=event.get("done") or 0,
                position=position(event),
            )

    def close(self) -> None:
        """Tick the last stage."""
        with self._lock:
            self._finish()

    def _finish(self) -> None:
        if self._current is not None:
            self._bars.update(self._tasks[self._current], total=1, completed=1, position="")
