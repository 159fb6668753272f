"""The conductor: looks each second at the roll-out that is under way, and lets it advance or end."""

from __future__ import annotations

import logging
import threading
import time

from tidemill.errors import BusyError, TidemillError
from tidemill.monitor.rollout_evidence import Doubts
from tidemill.monitor.rollout_steps import step
from tidemill.serving._base import ServedProject
from tidemill.stages.deploy import end_rollout
from tidemill.store import running_rollout

logger = logging.getLogger("tidemill.serving")

INTERVAL = 1.0
PAUSE = 20.0
"""How many times as long as a look took nothing is looked at: many labels must not keep the answers waiting."""


class Conductor:
    """Drives roll-outs from a thread of its own.

    Several processes may each have one: whoever holds the lock looks for all.

    Args:
        project: whose roll-outs.
        interval: seconds between two looks.
    """

    def __init__(self, project: ServedProject, *, interval: float = INTERVAL) -> None:
        self._project = project
        self._interval = interval
        self._doubts = Doubts(project.config.feedback)
        self._broken: dict[str, str] = {}
        self._said: str | None = None
        self._stop = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tidemill-conductor", daemon=True)

    def start(self) -> None:
        """Begin looking."""
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._stop = True
        self._wake.set()
        self._thread.join()

    def give_up(self, rollout: str, reason: str) -> None:
        """End *rollout* as soon as may be: here its challenger cannot answer."""
        self._broken[rollout] = reason
        self._wake.set()

    def look(self) -> None:
        """Do once what there is to do."""
        store = self._project.store
        for rollout, reason in list(self._broken.items()):
            ended = end_rollout(store, rollout, "rolled-back", reason)
            logger.warning("the roll-out of %s is %s: %s", ended.challenger_id, ended.status, ended.reason)
            del self._broken[rollout]
        if running_rollout(store) is None:
            return
        with store.lock("rollout"):
            before = running_rollout(store)
            if before is None:
                return
            after = step(store, before, self._project.task.label, self._doubts, now=time.time())
        if (after.status, after.phase) != (before.status, before.phase):
            stands = after.phase if after.status == "running" else after.status
            logger.info("the roll-out of %s is %s: %s", after.challenger_id, stands, after.reason)

    def _run(self) -> None:
        took = 0.0
        while not self._stop:
            self._wake.wait(max(self._interval, PAUSE * took))
            self._wake.clear()
            began = time.monotonic()
            try:
                self.look()
                self._said = None
            except BusyError:  # another process looks at it
                continue
            except TidemillError as error:
                self._say(str(error))
            except Exception as error:  # whatever it is, the service goes on answering, and the next look comes
                self._say(f"{type(error).__name__}: {error}", error)
            finally:
                took = time.monotonic() - began

    def _say(self, what: str, error: Exception | None = None) -> None:
        if what != self._said:
            logger.error("the roll-out could not be looked at, and stands as it was: %s", what, exc_info=error)
        self._said = what
