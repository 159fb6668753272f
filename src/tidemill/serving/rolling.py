"""The challenger of a roll-out while it is served: on a thread of its own, so that it holds up nobody else's answers.

In the shadow its answers are only logged, after the champion's have been handed over, and it is spared when there is
much to do. As a canary it answers its share of the callers. Whatever it fails at, or does not answer in time, the
champion answers instead; enough of that ends the roll-out.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tidemill.data.arrays import Column
from tidemill.data.encode import encode
from tidemill.data.schema import Signature
from tidemill.records import Deployment, Rollout
from tidemill.runtime import Predictor

logger = logging.getLogger("tidemill.serving")

SHADOW_ROWS = 4096
"""Rows that may wait for answers which nobody waits for; those that the audit drew have ten times as much room."""
CANARY_ROWS = 1024
"""Rows of callers that may wait for the challenger; the champion answers the others."""
GATHER = 0.05
"""Seconds for which rows in the shadow gather: a few large batches disturb the champion less than many small ones."""
BATCH_ROWS = 256
END = 5.0

_Word = Literal["gather", "end"]
Answers = list[dict[str, Any]]
Points = npt.NDArray[np.float64]
OnBroken = Callable[[str, str], None]
"""Told the roll-out's id, and why its challenger is given up."""
Log = Callable[[Sequence[str], Answers], None]
"""Takes the ids of predictions, and what the challenger would have answered."""


@dataclass(slots=True)
class Job:
    """Rows of callers for the challenger to answer.

    Attributes:
        columns: the rows as the champion reads them.
        records: the same as the callers sent them, for a challenger that reads other columns.
        done: is given the answers, on the challenger's thread.
        failed: called instead when there are none.
        points: what decides each row, where answers are drawn and must come out as they did before.
        since: when it was handed over, by the monotonic clock.
        taken: its end has been told: by whoever was first.
    """

    columns: Mapping[str, Column]
    records: Sequence[Mapping[str, Any]]
    done: Callable[[Answers], None]
    failed: Callable[[], None]
    points: Points | None = None
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
        self._open = True
        self._waiting: dict[int, Job] = {}  # the oldest first
        self._rows = 0
        self._shadows: deque[tuple[str, Mapping[str, Any], Log]] = deque()
        self._queue: SimpleQueue[Job | _Word] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="tidemill-challenger", daemon=True)
        self._thread.start()

    def answer(self, job: Job) -> bool:
        """Answer callers; whether it was taken on. It is not after the end, and where too many wait already."""
        rows = len(job.records)
        with self._lock:
            if not self._open or self._rows + rows > CANARY_ROWS:
                return False
            self._rows += rows
            self._waiting[id(job)] = job
            self._queue.put(job)
        return True

    def shadow(self, rows: Sequence[tuple[str, Mapping[str, Any]]], log: Log, *, audited: bool) -> None:
        """Answer for the log, if there is room: predictions by their ids, each with what was sent."""
        with self._lock:
            waiting = len(self._shadows)
            if not self._open or waiting + len(rows) > SHADOW_ROWS * (10 if audited else 1):
                self.shed += len(rows)
                return
            self._shadows.extend((identifier, record, log) for identifier, record in rows)
            if not waiting:
                self._queue.put("gather")

    def look(self) -> None:
        """Let the champion answer those who have waited for too long; asked now and then by another thread."""
        late = self._take(before=time.monotonic() - self._patience)
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
            self._shadows.clear()
        self._take()
        self._queue.put("end")

    def _take(self, before: float = math.inf) -> int:
        """Give to the champion what was handed over before then; how much there was."""
        with self._lock:
            found = [job for job in self._waiting.values() if job.since < before and not job.taken]
            for job in found:
                job.taken = True
        for job in found:
            job.failed()
        return len(found)

    def _run(self) -> None:
        due: float | None = None
        while True:
            if due is not None and time.monotonic() >= due:
                due = self._answer_shadows()
            try:
                job = self._queue.get(timeout=None if due is None else max(due - time.monotonic(), 0.0))
            except Empty:
                continue
            if job == "end":
                return
            if isinstance(job, Job):
                self._answer_callers(job)
            else:
                due = time.monotonic() + GATHER

    def _answer_callers(self, job: Job) -> None:
        columns = job.columns if self._reads_alike else None
        answers = None if job.taken else self._answers(job.records, columns, job.points)
        with self._lock:
            first, job.taken = not job.taken, True
            del self._waiting[id(job)]
            self._rows -= len(job.records)
        if first and answers is not None:
            job.done(answers)
        elif first:
            job.failed()

    def _answer_shadows(self) -> float | None:
        """Answer what has gathered, up to a bound; when there is more to do, if there is."""
        with self._lock:
            rows = [self._shadows.popleft() for _ in range(min(BATCH_ROWS, len(self._shadows)))]
            due = time.monotonic() if self._shadows else None
        if rows and (answers := self._answers([record for _, record, _ in rows])) is not None:
            rows[0][2]([identifier for identifier, _, _ in rows], answers)
        return due

    def _answers(
        self,
        records: Sequence[Mapping[str, Any]],
        columns: Mapping[str, Column] | None = None,
        points: Points | None = None,
    ) -> Answers | None:
        """One answer a row; ``None`` when it failed, which counts."""
        try:
            if columns is None:
                columns = encode(self.predictor.signature, records, max_pixels=self._max_pixels)
            return self.predictor.answer(columns, points)
        except Exception as error:  # a challenger can fail in ways of its own; callers must not notice
            logger.warning("%s failed", self.rollout.challenger_id, exc_info=error)
            self._fault(f"{type(error).__name__}: {error}")
            return None

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
