"""Triggers at work: who looks, where, and what is done about it, while a server answers.

What takes no time is looked at here several times a second. What takes longer, drift and live quality, is looked at by
a process of its own now and then, so that answers do not wait for it. So are cycles run. Of several processes that
serve one project, one looks, and another takes over when it ends.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tidemill.config import parse_duration
from tidemill.engines._base import Engine, Job
from tidemill.engines.local import LocalEngine
from tidemill.errors import BusyError, ConflictError, TidemillError
from tidemill.loop import OnEvent
from tidemill.monitor.triggers import Look, Trigger, triggers_of
from tidemill.monitor.watches import Watches
from tidemill.project import OpenProject, housekeeping
from tidemill.records import JSON, Annotation, Feedback, Prediction, Record
from tidemill.store import running_rollout, standing

logger = logging.getLogger("tidemill.triggers")

POLL = 0.25
"""Seconds between two looks at what is cheap."""
STANDBY = 5.0
"""Seconds after which a process that does not look asks again whether it should."""
REST_FIRST, REST_LAST = 5.0, 600.0
"""Seconds after a failed cycle before another one starts: twice as many each time."""
STOPPED = 130
"""How the process of a cycle ends that was stopped, as Ctrl-C does, from a terminal or the console."""
LONGEST = 1800.0
"""Seconds after which a long look is given up."""


@contextlib.contextmanager
def watched(project: OpenProject, on_event: OnEvent) -> Iterator[None]:
    """While inside, look at the project's triggers and do what they ask for, on a thread of its own."""
    stop = threading.Event()
    engine = LocalEngine(threads=max(1, project.threads - 1), log=project.store.root / "cycles.log")
    watcher = Watcher(project, engine, on_event)
    thread = threading.Thread(target=watcher.run, args=(stop,), name="tidemill-triggers", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def look_job(folder: str, memories: dict[str, JSON], now: float) -> dict[str, JSON]:
    """Look at the heavy triggers, as a job of an engine: see :mod:`tidemill.engines`.

    Returns:
        By trigger ``{"look": …}``, or ``{"fault": why it could not look}``.
    """
    project = OpenProject(Path(folder))
    found: dict[str, JSON] = {}
    with contextlib.closing(project.store):
        for trigger in _triggers(project):
            if trigger.heavy:
                said = _looked(trigger, memories.get(trigger.name, {}), now)
                found[trigger.name] = {"fault": said} if isinstance(said, str) else {"look": dataclasses.asdict(said)}
    return found


def _triggers(project: OpenProject) -> list[Trigger]:
    return triggers_of(project.config, project.store, project.task, project.open_champion)


def _looked(trigger: Trigger, memory: JSON, now: float) -> Look | str:
    """What it found, or why it could not look."""
    try:
        return trigger.look(memory, now)
    except TidemillError as error:
        return str(error)
    except Exception as error:  # a model or a column can fail in ways of its own; the other triggers must not
        logger.exception("the trigger %s could not look", trigger.name)
        return f"{type(error).__name__}: {error}"


class Watcher:
    """Looks, and acts, one cycle at a time.

    Args:
        project: whose triggers.
        engine: where cycles and long looks run.
        on_event: told what happens.
        clock: tells UTC seconds.
    """

    def __init__(
        self, project: OpenProject, engine: Engine, on_event: OnEvent, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._project = project
        self._engine = engine
        self._on_event = on_event
        self._clock = clock
        self._triggers = _triggers(project)
        self._watches = Watches(project.store)
        self._every = parse_duration(project.config.triggers.every)
        self._cycle: Job | None = None
        self._long_look: Job | None = None
        self._stood = ""
        self._look_at = 0.0
        self._give_up_at = 0.0
        self._seen: JSON | None = None
        self._rest = REST_FIRST
        self._rest_until = 0.0
        self._said = ""

    def run(self, stop: threading.Event) -> None:
        """Look until *stop* is set, whenever no other process does."""
        while not stop.is_set():
            try:
                with self._project.store.lock("triggers"):
                    self._watch(stop)
            except BusyError:
                self._tell_once("another process of this project starts the cycles")
                stop.wait(STANDBY)
            except TidemillError as error:  # the folder of locks cannot be written
                self._tell_once(f"nothing starts cycles: {error}")
                stop.wait(STANDBY)

    def _watch(self, stop: threading.Event) -> None:
        try:
            while not stop.wait(POLL):
                self.step()
        finally:
            self.close()

    def close(self) -> None:
        """Stop what runs; a cycle goes on from there at the next start."""
        for job in (self._cycle, self._long_look):
            if job is not None:
                job.stop()
                job.wait(timeout=30)
        self._cycle = self._long_look = None

    def step(self) -> None:
        """Look once at what is due, and act."""
        self._hear_of_cycle()
        self._hear_of_long_look()
        for trigger in self._triggers:
            if self._cycle is None and not trigger.heavy:  # what starts cycles waits for the one that runs
                self._look(trigger)
        self._begin_long_look()

    def _look(self, trigger: Trigger) -> None:
        with contextlib.suppress(TidemillError):  # the database is away: the service says so, and it is asked again
            memory = self._watches.memory(trigger.name)
            self._heard(trigger.name, _looked(trigger, memory, self._clock()))

    def _begin_long_look(self) -> None:
        now = time.monotonic()
        names = [trigger.name for trigger in self._triggers if trigger.heavy]
        if self._long_look is not None or now < self._look_at or not names:
            return
        self._look_at = now + self._every
        try:
            stands, seen = standing(self._project.store), self._newest()
            if seen == self._seen:
                return
            memories = {name: self._watches.memory(name) for name in names}
        except TidemillError:
            return
        self._seen, self._stood = seen, stands
        arguments = {"folder": str(self._project.dir), "memories": memories, "now": self._clock()}
        self._long_look = self._submit("tidemill.api.watching:look_job", arguments)
        self._give_up_at = now + LONGEST

    def _newest(self) -> JSON:
        """What a long look would look at; the same again, and there is nothing new to see."""
        store = self._project.store
        kinds: tuple[type[Record], ...] = (Feedback, Annotation, Prediction)
        newest = {kind.prefix: [r.id for r in store.find(kind, newest_first=True, limit=1)] for kind in kinds}
        return {"deployment": store.revision(), **newest}

    def _hear_of_long_look(self) -> None:
        if self._long_look is None:
            return
        if self._long_look.poll() is None:
            if time.monotonic() > self._give_up_at:
                self._long_look.stop()
            return
        job, self._long_look = self._long_look, None
        try:
            found = job.result()
        except TidemillError as error:
            found = {trigger.name: {"fault": str(error)} for trigger in self._triggers if trigger.heavy}
        for name, said in found.items():
            self._heard(name, said["fault"] if "fault" in said else Look(**said["look"]), stood=self._stood)

    def _heard(self, name: str, said: Look | str, *, stood: str | None = None) -> None:
        """Keep what a trigger found, and act; *stood*: what stood when a long look at it began."""
        if isinstance(said, str):
            self._watches.failed(name, said, self._clock())
            return
        acted = said.reason is not None and self._act(said, stood)
        if said.reason is not None and not acted:
            self._seen = None  # it is asked again, though nothing may be new
        self._watches.looked(name, said, self._clock(), acted=acted, at_once=stood is not None)

    def _act(self, look: Look, stood: str | None = None) -> bool:
        """Do what a look asks for; whether it was done. Nothing is while a roll-out runs, which decides what serves.

        What a long look found of a model that no longer serves says nothing of the one that does: it is dropped.
        """
        store = self._project.store
        try:
            if running_rollout(store) is not None or stood not in (None, standing(store)):
                return False
        except TidemillError:
            return False
        if look.action == "rollback":
            done = self._roll_back(look, stood)
            if done is not None:
                return done
        if self._cycle is not None or time.monotonic() < self._rest_until:
            return False
        self._on_event({"stage": "feedback", "what": f"starting a cycle: {look.reason}"})
        arguments = {"folder": str(self._project.dir), "trigger": look.reason}
        self._cycle = self._submit("tidemill.api.running:cycle_job", arguments)
        return self._cycle is not None

    def _submit(self, target: str, arguments: JSON) -> Job | None:
        try:
            return self._engine.submit(target, arguments)
        except OSError as error:  # no more processes, or a disk that is full
            self._tell_once(f"no process could be started: {error}")
            self._rested()
            return None

    def _rested(self) -> None:
        self._rest_until = time.monotonic() + self._rest
        self._rest = min(2 * self._rest, REST_LAST)

    def _roll_back(self, look: Look, stood: str | None) -> bool | None:
        """Put the deployment before this one back; ``None`` where that cannot be done, and a cycle is the next best."""
        try:
            housekeeping.rollback(self._project, reason=look.reason, seen=stood)
            back = self._project.model().id
        except ConflictError:  # another model came into force at this moment, or a roll-out began
            return False
        except TidemillError as error:
            self._tell_once(f"nothing was rolled back although {look.reason}: {error}")
            return None
        self._on_event({"stage": "deploy", "what": f"rolled back to {back}: {look.reason}"})
        return True

    def _hear_of_cycle(self) -> None:
        if self._cycle is None or self._cycle.poll() is None:
            return
        job, self._cycle = self._cycle, None
        if job.wait() == STOPPED:
            self._on_event(
                {"stage": "deploy", "what": "the cycle was stopped by somebody; the next one goes on from there"}
            )
            self._rest = REST_LAST  # whoever stopped it does not want it back in a few seconds
            self._rested()
            return
        try:
            done = job.result()
            decision = done["decision"] or {"outcome": "no model", "reason": "labels are needed first"}
            self._on_event({"stage": "deploy", "what": f"{decision['outcome']}: {decision['reason']}"})
            self._rest = REST_FIRST
        except TidemillError as error:
            self._on_event({"stage": "deploy", "what": f"the cycle failed: {error}"})
            self._rested()
        self._seen = None  # what the cycle changed is looked at, too

    def _tell_once(self, what: str) -> None:
        if what != self._said:
            self._on_event({"stage": "feedback", "what": what})
        self._said = what
