"""Progress of long work on stderr: live bars on a terminal, plain lines elsewhere.

Events are ``{"stage", "what", "done", "total", "estimated", "recipe"}``, as the facade sends them.
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
    from rich.progress import Progress, Task

    from tidemill.cli.session import Session

Listener = Callable[[dict[str, Any]], None]
_PAUSE = 20.0  # seconds after which a step that goes on says where it is
_TAKING_TURNS = "tune"  # the stage whose recipes race: all of it is one step
_BESIDE = 60  # columns that a live bar takes before its description


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
    """``cnn: epoch 3`` or ``reading train.csv``; of a decision its outcome, since the answer holds the reason."""
    what, recipe = str(event.get("what") or ""), event.get("recipe")
    if event.get("stage") == "deploy" and what.startswith(("promoted: ", "refused: ")):
        what = what.partition(": ")[0]
    return what if not recipe or str(recipe) in what else f"{recipe}: {what}" if what else str(recipe)


def position(event: dict[str, Any]) -> str:
    """``3/10``, ``3/~10`` of about ten, ``3`` or nothing."""
    done, total = event.get("done"), event.get("total")
    if done is None:
        return ""
    about = "~" if event.get("estimated") else ""
    return f"{done:,}" if total is None else f"{done:,}/{about}{total:,}"


class PlainProgress:
    """A line when a step has ended: a stage, or its work on one recipe. Long steps say now and then where they are."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._lock = threading.Lock()
        self._step: tuple[str, str] | None = None
        self._began = self._said = 0.0
        self._text = ""

    def __call__(self, event: dict[str, Any]) -> None:
        """Take one event."""
        stage, now = str(event.get("stage", "")), time.monotonic()
        with self._lock:
            recipe = event.get("recipe")
            if recipe is None and self._step is not None and self._step[0] == stage:
                recipe = self._step[1]  # a part of what is being done, which does not know for whom
            step = (stage, "" if stage == _TAKING_TURNS else str(recipe or ""))
            if step != self._step:
                self._end(now)
                self._step, self._began, self._said = step, now, now
            self._text = f"{stage}: {describe({**event, 'recipe': recipe})} {position(event)}".rstrip(": ")
            if now - self._said >= _PAUSE:
                self._print(f"{self._text}, after {seconds(now - self._began)}")
                self._said = now

    def close(self) -> None:
        """Say how the last step ended."""
        with self._lock:
            self._end(time.monotonic())

    def _end(self, now: float) -> None:
        if self._step is not None:
            self._print(f"{self._text} ({seconds(now - self._began)})")
            self._step = None

    def _print(self, text: str) -> None:
        self._out.print(text, markup=False, highlight=False, soft_wrap=True)


class LiveProgress:
    """One bar a stage, with the time spent in it; ticked while another stage is at work."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._lock = threading.Lock()
        self._tasks: dict[str, Task] = {}
        self._left: dict[str, float] = {}
        self._current: str | None = None

    def __call__(self, event: dict[str, Any]) -> None:
        """Take one event."""
        stage = str(event.get("stage", ""))
        with self._lock:
            if stage != self._current:
                self._finish()
                self._begin(stage)
            task = self._tasks[stage]
            # Rich takes no total back once one was given, and keeps a tick; a stage may have several parts.
            task.total, task.finished_time = event.get("total"), None
            self._bars.update(
                task.id,
                description=self._fitting(describe(event)),
                completed=event.get("done") or 0,
                position=position(event),
            )

    def close(self) -> None:
        """Tick the last stage."""
        with self._lock:
            self._finish()

    def _begin(self, stage: str) -> None:
        self._current = stage
        if stage not in self._tasks:
            made = self._bars.add_task("", total=None, stage=stage, position="")
            self._tasks[stage] = next(task for task in self._bars.tasks if task.id == made)
            return
        task = self._tasks[stage]
        if task.start_time is not None:  # the clock stood still since it was left
            task.start_time += self._bars.get_time() - self._left[stage]

    def _finish(self) -> None:
        if self._current is not None:
            task = self._tasks[self._current]
            self._left[self._current] = self._bars.get_time()
            task.finished_time = None
            self._bars.update(task.id, total=1, completed=1, position="")

    def _fitting(self, text: str) -> str:
        """Cut where the line ends: Rich would rather squeeze every column."""
        room = max(10, self._bars.console.width - _BESIDE)
        return text if len(text) <= room else text[: room - 1] + "…"
