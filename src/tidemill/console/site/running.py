"""Cycles from the console: started in a process of their own, watched through the store, stopped whoever runs them."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time

from tidemill.config import parse_duration
from tidemill.engines.local import LocalEngine, LocalJob
from tidemill.errors import BusyError, ConflictError, NotReadyError, TidemillError
from tidemill.project import OpenProject, rollouts
from tidemill.project import progress as kept
from tidemill.records import JSON, Cycle, Step

logger = logging.getLogger("tidemill.console")

_PATIENCE = 30.0


class Cycles:
    """Starts and stops the cycles of a project, one at a time.

    Args:
        project: whose.
        target: the function that runs one, ``module:function``, of ``folder``, ``trigger`` and ``budget``.
    """

    def __init__(self, project: OpenProject, target: str) -> None:
        self._project = project
        self._target = target
        self._lock = threading.Lock()
        self._job: LocalJob | None = None
        self._thread: threading.Thread | None = None

    def start(self, trigger: str, budget: str | None = None) -> None:
        """Begin a cycle, or go on with the one that was stopped.

        Args:
            trigger: why, in words.
            budget: such as ``60s``; what the configuration says unless given.

        Raises:
            InputError: the budget is no duration.
            BusyError: one runs already.
            ConflictError: a roll-out is under way.
        """
        if budget is not None:
            parse_duration(budget, where="budget")
        rollouts.require_none(self._project)
        with self._lock:
            if self.runs() or (self._thread is not None and self._thread.is_alive()):
                raise BusyError("a cycle runs already", mend="Watch it here, or stop it first.")
            kept.path_of(self._project.store.root).unlink(missing_ok=True)
            engine = LocalEngine(threads=max(1, self._project.threads - 1), log=self._project.store.root / "cycles.log")
            arguments = {"folder": str(self._project.dir), "trigger": trigger, "budget": budget}
            self._job = engine.submit(self._target, arguments)
            self._thread = threading.Thread(target=self._wait, args=(self._job,), name="tidemill-cycle", daemon=True)
            self._thread.start()

    def runs(self) -> bool:
        """Whether a cycle runs now, whoever began it.

        Whether the lock is held is tried: one that was killed leaves its number behind, which another process may have
        by now, in a container sooner than not.
        """
        return self._project.store.holder("cycle", sure=True) is not None

    def begins(self) -> bool:
        """Whether one was started here that has not told anything yet: its process has much to import."""
        return self._job is not None and not self.runs() and not kept.path_of(self._project.store.root).exists()

    def stop(self) -> None:
        """End the cycle that runs, as Ctrl-C does: the next one goes on from where it stood.

        Raises:
            NotReadyError: none runs.
            ConflictError: it may not be stopped from here.
        """
        pid = self._project.store.holder("cycle", sure=True)
        if pid is None and self._job is not None:
            pid = self._job.pid
        if pid is None or pid == os.getpid():
            raise NotReadyError("no cycle runs", mend="Start one.")
        try:
            os.kill(pid, signal.SIGINT)
        except ProcessLookupError:
            raise NotReadyError("the cycle has just ended", mend="Look at what came of it.") from None
        except PermissionError:
            raise ConflictError(
                f"the cycle runs as process {pid} of another user",
                mend="Ask whoever started it to stop it, with Ctrl-C.",
            ) from None

    def now(self) -> JSON | None:
        """How the newest cycle stands.

        Returns:
            ``{"id", "status", "trigger", "created", "finished", "error", "steps", "newest", "lines", "decision"}``;
            *status* is ``running``, ``starting``, ``interrupted`` (its process is gone), ``stopped``, ``failed`` or
            ``done``; *steps* are ``{"name", "status", "seconds"}``. ``None`` when there has been none.
        """
        store = self._project.store
        newest = store.find(Cycle, newest_first=True, limit=1)
        told = kept.read(store.root) or {}
        starting = self.begins()
        if not newest and not starting:
            return {"status": "refused", "error": told["fault"]} if "fault" in told else None
        cycle = newest[0] if newest else None
        runs = self.runs()
        status: str = "starting" if starting else cycle.status if cycle is not None else "starting"
        if status == "running" and not runs:
            status = "interrupted"
        found: JSON = {"status": status, "fault": told.get("fault"), "newest": None, "lines": [], "steps": []}
        if runs:
            found |= {"newest": told.get("newest"), "lines": told.get("lines", [])}
        if cycle is None or starting:
            return found
        steps = [
            {"name": s.name, "status": s.status, "seconds": (s.finished or time.time()) - s.created}
            for s in store.find(Step, cycle_id=cycle.id)
        ]
        return found | {
            "id": cycle.id,
            "trigger": cycle.trigger,
            "created": cycle.created,
            "finished": cycle.finished,
            "error": cycle.error,
            "decision": cycle.decision_id,
            "steps": steps,
        }

    def close(self) -> None:
        """Stop what was started here, as the service ends."""
        job, thread = self._job, self._thread
        if job is not None:
            job.stop()
        if thread is not None:
            thread.join(_PATIENCE)

    def _wait(self, job: LocalJob) -> None:
        """Wait for the end of a cycle, and keep why it could not begin, which no record of the store tells."""
        status = job.wait()
        try:
            if status != 130:  # stopped by a person
                job.result()
        except TidemillError as error:
            logger.warning("the cycle that was started here failed: %s", error)
            kept.write(kept.path_of(self._project.store.root), {"fault": str(error), "at": time.time()})
        finally:
            self._job = None
