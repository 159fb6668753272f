"""The challenger of a roll-out while it is served: on a thread of its own, so that it holds up nobody else's answers.

In the shadow its answers are only logged, after the champion's have been handed over, and it is spared first when there
is much to do. As a canary it answers its share of the callers. Whatever it fails at, or does not answer in time, the
champion answers instead; enough of that ends the roll-out.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

import numpy as np

from tidemill.data.arrays import Column, length
from tidemill.data.encode import encode
from tidemill.data.schema import Signature
from tidemill.records import Deployment, Rollout
from tidemill.runtime import Predictor

logger = logging.getLogger("tidemill.serving")

SHADOW_ROWS = 4096
"""Rows that may wait for answers which nobody waits for; those that the audit drew have ten times as much room."""
CANARY_ROWS = 1024
"""Rows of callers that may wait for the challenger; the champion answers the others."""
END = 5.0

OnBroken = Callable[[str, str], None]
"""Told the roll-out's id, and why its challenger is given up."""


@dataclass(slots=True)
class Job:
    """Rows for the challenger to answer.

    Attributes:
        columns: the rows as the champion reads them.
        records: the same as the caller sent them, for a challenger that reads other columns.
        done: is given the answers, on the challenger's thread.
        failed: called instead when there are none; ``None`` where nobody waits.
        since: when it was handed over, by the monotonic clock.
        taken: its end has been told: by whoever was first.
    """

    columns: Mapping[str, Column]
    records: Sequence[Mapping[str, Any]]
    done: Callable[[list[dict[str, Any]]], None]
    failed: Callable[[], None] | None = None
    since: float = field(default_factory=time.monotonic)
    taken: bool = False


class Challenger:
    """Answers rows on its own thread until it is closed or given up.

    Args:
        rollout: its roll-out, as it began.
        predictor: the model, warmed up; nobody else uses it meanwhile.
        champion: what the champion reads.
        patience: seconds after which the champion answers a caller in its place.
        max_pixels: width times height that one image may have.
        on_broken: told when it is given up.

    Attributes:
        shed: rows in the shadow that it was spared.
        faults: how often it failed or came too late.
    """

    def __init__(
        self,
        rollout: Rollout,
        predictor: Predictor,
        champion: Signature,
        *,
        patience: float,
        max_pixels: int,
        on_broken: OnBroken,
    ) -> None:
        self.rollout = rollout
        self.predictor = predictor
        self.shed = 0
        self.faults = 0
        self._reads_alike = predictor.signature.inputs == champion.inputs
        self._patience = patience
        self._max_pixels = max_pixels
        self._on_broken = on_broken
        self._most_faults = int(rollout.evidence["policy"]["max_faults"])
        self._lock = threading.Lock()
        self._waiting: dict[int, Job] = {}  # those for which callers wait, the oldest first
        self._rows = {"canary": 0, "shadow": 0}
        self._open = True
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="tidemill-challenger", daemon=True)
        self._thread.start()

    def answer(self, job: Job) -> bool:
        """Answer callers; whether it was taken on. It is not after the end, and where too many wait already."""
        rows = length(job.columns)
        with self._lock:
            if not self._open or self._rows["canary"] + rows > CANARY_ROWS:
                return False
            self._rows["canary"] += rows
            self._waiting[id(job)] = job
            self._queue.put(job)
        return True

    def shadow(self, job: Job, *, audited: bool) -> None:
        """Answer for the log, if there is room."""
        rows = length(job.columns)
        with self._lock:
            if self._open and self._rows["shadow"] + rows <= SHADOW_ROWS * (10 if audited else 1):
                self._rows["shadow"] += rows
                self._queue.put(job)
            else:
                self.shed += rows

    def look(self) -> None:
        """Let the champion answer those who have waited for too long; asked now and then by another thread."""
        before = time.monotonic() - self._patience
        with self._lock:
            late = [job for job in self._waiting.values() if job.since < before and not job.taken]
            for job in late:
                job.taken = True
        for job in late:
            assert job.failed is not None
            job.failed()
        if late:
            self._fault(f"it had not answered after {self._patience:g} seconds")

    def close(self) -> None:
        """:meth:`end`, and wait until the thread has ended."""
        self.end()
        self._thread.join(timeout=END)

    def end(self) -> None:
        """Answer nothing more; the champion answers those who wait."""
        with self._lock:
            if not self._open:
                return
            self._open = False
            left = [job for job in self._waiting.values() if not job.taken]
            for job in left:
                job.taken = True
        for job in left:
            assert job.failed is not None
            job.failed()
        self._queue.put(None)

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            try:
                answers = None if job.taken or not self._open else self._answers(job)
            except Exception as error:  # a challenger can fail in ways of its own; callers must not notice
                logger.warning("%s failed", self.rollout.challenger_id, exc_info=error)
                answers = None
                self._fault(f"{type(error).__name__}: {error}")
            self._finish(job, answers)

    def _answers(self, job: Job) -> list[dict[str, Any]]:
        columns = job.columns
        if not self._reads_alike:
            columns = encode(self.predictor.signature, job.records, max_pixels=self._max_pixels)
        scores = self.predictor.scores(columns)
        if not np.isfinite(scores).all():
            raise ArithmeticError("it gave scores that are not finite")
        return self.predictor.answers(scores)

    def _finish(self, job: Job, answers: list[dict[str, Any]] | None) -> None:
        with self._lock:
            first, job.taken = not job.taken, True
            waited_for = self._waiting.pop(id(job), None) is not None
            self._rows["canary" if waited_for else "shadow"] -= length(job.columns)
        if not first:
            return
        if answers is not None:
            job.done(answers)
        elif job.failed is not None:
            job.failed()

    def _fault(self, what: str) -> None:
        self.faults += 1
        if self.faults < self._most_faults:
            return
        times = "" if self.faults == 1 else f" {self.faults} times, the last time"
        self._on_broken(self.rollout.id, f"The challenger failed{times}: {what}.")
        self.end()


@dataclass(frozen=True, slots=True)
class Rolling:
    """A roll-out as it now stands, and its challenger.

    Attributes:
        rollout: the roll-out; its share and phase may have changed since the challenger began.
        challenger: what answers.
    """

    rollout: Rollout
    challenger: Challenger

    @property
    def deployment(self) -> Deployment:
        """What stands in the canary's answers where a deployment otherwise does."""
        rollout = self.rollout
        return Deployment(
            id=rollout.id,
            created=rollout.created,
            name=rollout.name,
            model_id=rollout.challenger_id,
            action="promote",
            reason=rollout.reason,
            decision_id=rollout.decision_id,
        )

    def same_as(self, rollout: Rollout | None) -> bool:
        """Whether *rollout* is this one, at whatever stage."""
        return rollout is not None and rollout.id == self.rollout.id
