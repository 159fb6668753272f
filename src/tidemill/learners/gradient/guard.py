"""A guard against busy neighbours: when several threads are slower than one, one is used until they leave."""

from __future__ import annotations

import resource
import statistics
import time

import torch

WINDOW = 8
"""Steps from which a median is taken."""

SHORTEST = 0.5
"""Seconds until the question is asked again for the first time."""

WARM_UP = 3 * WINDOW
"""Steps that say nothing of neighbours: threads start, memory is mapped, and two threads look slower than one."""

PREEMPTIONS = 100.0
"""Involuntary context switches a second from which on a neighbour is suspected; an idle machine shows a few."""


class ThreadGuard:
    """Watches the time of the steps and sets torch's thread count.

    With one thread or fewer to begin with it does nothing. It suspects a neighbour when the steps take three times as
    long as the fastest so far, or when the system keeps taking the processor away; then it tries one thread for a few
    steps, stays with what was faster, and asks again after ½, 1, 2, … seconds. A sum over two threads rounds otherwise
    than a sum over one, so a fit that must repeat bit for bit goes without a guard.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.current = threads
        self.reduced = 0
        self._times: list[float] = []
        self._best = float("inf")
        self._before: float | None = None  # the median that a trial has to beat
        self._mark = time.perf_counter()
        self._switches = preemptions()
        self._again = self._mark
        self._pause = SHORTEST
        self._warm = 0

    def stepped(self, seconds: float) -> None:
        """Take note of one step's duration."""
        if self.threads < 2:
            return
        self._warm += 1
        if self._warm <= WARM_UP:
            self._mark, self._switches = time.perf_counter(), preemptions()
            return
        self.reduced += self.current < self.threads
        self._times.append(seconds)
        if len(self._times) < WINDOW:
            return
        median = statistics.median(self._times)
        self._times.clear()
        now = time.perf_counter()
        if self._before is not None:
            self._conclude(median, now)
        elif now >= self._again and (self.current < self.threads or self._suspects(median, now)):
            self._before = median
            self._use(self.threads if self.current == 1 else 1)
        if self.current == self.threads:
            self._best = min(self._best, median)
        self._mark, self._switches = now, preemptions()

    def _suspects(self, median: float, now: float) -> bool:
        rate = (preemptions() - self._switches) / max(now - self._mark, 1e-6)
        return median > 3 * self._best or rate > PREEMPTIONS

    def _conclude(self, median: float, now: float) -> None:
        """End a trial: keep the thread count that was faster."""
        if self._before is not None and median > 0.8 * self._before:
            self._use(self.threads if self.current == 1 else 1)
            self._pause = min(2 * self._pause, 60.0)
        else:
            self._pause = SHORTEST
        self._before = None
        self._again = now + self._pause

    def _use(self, threads: int) -> None:
        self.current = threads
        torch.set_num_threads(threads)


def preemptions() -> int:
    """How often the system took the processor away from this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
