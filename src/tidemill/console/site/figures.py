"""What takes long, kept: each thing is a file beside the store, made anew in the background when it is out of date.

All serving processes of a project share the files, and so does the next start.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import orjson

from tidemill.engines.local import LocalEngine, LocalJob
from tidemill.errors import TidemillError
from tidemill.project import OpenProject
from tidemill.project.figures import figures, is_news
from tidemill.records import JSON, Feedback
from tidemill.store.glances import last_number

SMALL = 2000
"""Pieces of feedback up to which a thread of the service settles them; more take a process of their own, so that the
answers of the service do not wait."""
REST = 20.0
"""How many times as long as it took one waits before it is done again, so that it takes a twentieth of a core."""
_LEAST, _PATIENCE = 1.0, 0.15


class Figures:
    """What :func:`tidemill.project.figures.figures` finds, and other work that a page may ask for.

    Args:
        project: whose.
    """

    def __init__(self, project: OpenProject) -> None:
        self._project = project
        self._path = project.store.root / "console" / "figures.json"
        self._lock = threading.Lock()
        self._known: tuple[int, JSON] | None = None
        self._next = 0.0
        self._works: dict[str, threading.Thread] = {}
        self._jobs: dict[str, LocalJob] = {}
        self._faults: dict[tuple[str, str], str] = {}
        self._closed = False

    def look(self) -> JSON | None:
        """What is known; found anew in the background where something is new. ``None`` before the first time."""
        known = self._read()
        if known is None or is_news(self._project.store, known):
            self._refresh()
            known = self._read()
        return known

    def fault(self, name: str, of: str = "") -> str | None:
        """Why the last work of this name on this thing failed, if it did."""
        return self._faults.get((name, of))

    def forgive(self, name: str, of: str = "") -> None:
        """Forget that it failed, so that it is tried again."""
        self._faults.pop((name, of), None)

    def works(self, name: str) -> bool:
        """Whether work of this name is under way here."""
        thread = self._works.get(name)
        return thread is not None and thread.is_alive()

    def begin(
        self,
        name: str,
        target: str,
        arguments: JSON,
        done: Callable[[JSON], None] | None = None,
        *,
        of: str = "",
    ) -> None:
        """Have a function run in a process of its own, unless work of this name is under way, on whatever thing.

        Args:
            name: of the work.
            target: the function, ``module:function``.
            arguments: for it.
            done: takes what it returns.
            of: the thing that it works on, by which :meth:`fault` tells why it failed.
        """

        def work() -> None:
            engine = LocalEngine(threads=1, log=self._project.store.root / "console.log")
            job = self._jobs[name] = engine.submit(target, arguments)
            result = job.result()
            if done is not None:
                done(result)

        self._start(name, work, of)

    def close(self) -> None:
        """Stop what is under way."""
        self._closed = True
        for job in list(self._jobs.values()):
            job.stop()
        for thread in list(self._works.values()):
            thread.join(timeout=30)

    def _start(self, name: str, work: Callable[[], None], of: str = "") -> threading.Thread | None:
        def guarded() -> None:
            try:
                work()
                self._faults.pop((name, of), None)
            except (TidemillError, OSError) as error:
                self._faults[name, of] = str(error)
            finally:
                self._jobs.pop(name, None)

        with self._lock:
            if self._closed or self.works(name):
                return None
            thread = self._works[name] = threading.Thread(target=guarded, name=f"tidemill-{name}", daemon=True)
            thread.start()
            return thread

    def _refresh(self) -> None:
        if time.monotonic() < self._next:
            return
        if last_number(self._project.store, Feedback) > SMALL:
            self.begin(
                "figures", "tidemill.project.figures:figures_job", {"folder": str(self._project.dir)}, self._keep
            )
            return
        thread = self._start("figures", lambda: self._keep(figures(self._project)))
        if thread is not None:
            thread.join(_PATIENCE)  # mostly it is done by then, and the page shows what is

    def _keep(self, found: JSON) -> None:
        self._next = time.monotonic() + max(_LEAST, REST * found["seconds"])
        self._path.parent.mkdir(exist_ok=True)
        draft = self._path.with_name(f".figures-{os.getpid()}-{threading.get_ident()}")
        draft.write_bytes(orjson.dumps(found))
        draft.replace(self._path)

    def _read(self) -> JSON | None:
        try:
            changed = self._path.stat().st_mtime_ns
            if self._known is None or self._known[0] != changed:
                self._known = (changed, orjson.loads(self._path.read_bytes()))
        except (OSError, orjson.JSONDecodeError):
            return None
        return self._known[1]


def newest_file(path: Path) -> int:
    """When a file was last changed; 0 when there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
