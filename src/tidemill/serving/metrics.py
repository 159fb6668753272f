"""What a serving process counts and times: plain numbers in lists, so that counting costs an answer nearly nothing.

There are no locks. Each histogram is filled by one thread: those of the stages by whichever thread does that stage's
work, once a batch; that of a request's whole time by the event loop. Whoever reads sees each number as it stands; what
belongs together may be one observation apart. :mod:`tidemill.serving.exposition` says it in Prometheus's words.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson
import psutil

from tidemill.errors import BusyError
from tidemill.records import JSON
from tidemill.serving.access import NEEDS, NEEDS_BELOW
from tidemill.store import FeedbackOutcome, Store

SECONDS = (1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)
STAGES = ("queue", "encode", "predict", "journal", "total")
"""What an answer's time is made of, and the whole of it."""
INTERVAL = 1.0
FOLDER = "metrics"
"""Where in the store's folder each serving process leaves its numbers for the others."""


class Histogram:
    """Counts by size.

    Args:
        bounds: the upper end of each bucket but the last, which has none.

    Attributes:
        counts: int ``[len(bounds) + 1]``, observations in each bucket alone.
        total: their sum.

    >>> times = Histogram((1.0, 2.0))
    >>> times.add(0.5), times.add(1.0, 3), times.add(9.0)
    (None, None, None)
    >>> times.counts, times.total
    ([4, 0, 1], 12.5)
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float, times: int = 1) -> None:
        """Observe *value*, *times* times."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times

    def to_json(self) -> JSON:
        """The numbers as they stand."""
        return {"counts": list(self.counts), "total": self.total}


class Route:
    """The requests of one route.

    Attributes:
        times: their seconds.
        statuses: how many were answered with each status.
    """

    __slots__ = ("statuses", "times")

    def __init__(self) -> None:
        self.times = Histogram(SECONDS)
        self.statuses: dict[int, int] = {}


class Meter:
    """Everything that one serving process counts.

    Attributes:
        stages: seconds by stage, one observation a request; all requests of a batch share those of its stages.
        batches: rows of each batch.
        routes: whole requests, by route.
        predictions: rows answered, by model.
        statements: pieces of feedback, by kind and outcome.
        swaps: how often another deployment was taken up.
    """

    def __init__(self) -> None:
        self.stages = {name: Histogram(SECONDS) for name in STAGES}
        self.batches = Histogram(ROWS)
        self.routes: dict[str, Route] = {}
        self.predictions: dict[str, int] = {}
        self.statements: dict[tuple[str, str], int] = {}
        self.swaps = 0

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count a request that has been answered; on the event loop."""
        route = self.routes.get(path)  # most paths are routes
        if route is None:
            route = self.routes.setdefault(route_of(path), Route())
        route.times.add(seconds)
        route.statuses[status] = route.statuses.get(status, 0) + 1

    def answered(self, model: str, rows: int) -> None:
        """Count answers of *model*; each model answers on one thread."""
        self.predictions[model] = self.predictions.get(model, 0) + rows

    def stated(self, outcomes: Iterable[FeedbackOutcome]) -> None:
        """Count feedback that has been committed; on the thread that commits."""
        for outcome in outcomes:
            place = outcome.feedback.kind, outcome.status
            self.statements[place] = self.statements.get(place, 0) + 1

    def to_json(self) -> JSON:
        """All numbers as they stand."""
        routes = _now(self.routes)
        return {
            "stages": {name: times.to_json() for name, times in self.stages.items()},
            "batches": self.batches.to_json(),
            "durations": {name: route.times.to_json() for name, route in routes},
            "requests": [[name, status, n] for name, route in routes for status, n in _now(route.statuses)],
            "predictions": dict(_now(self.predictions)),
            "feedback": [[kind, outcome, count] for (kind, outcome), count in _now(self.statements)],
            "swaps": self.swaps,
        }


def _now(counted: dict[Any, Any]) -> list[tuple[Any, Any]]:
    """The items of what other threads add to; ``list`` of a dictionary is one step of the interpreter."""
    return list(counted.items())


@lru_cache(maxsize=1024)
def route_of(path: str) -> str:
    """The route of *path*, of which there are few however many paths callers make up.

    >>> route_of("/v1/predict"), route_of("/v1/trace/pred_1"), route_of("/v2/models/tides/infer"), route_of("/x")
    ('/v1/predict', '/v1/trace/*', '/v2/models/*/infer', 'other')
    """
    if path in NEEDS:
        return path
    start = next((start for start, _ in NEEDS_BELOW if path.startswith(start)), None)
    if start is None:
        return "other"
    return f"{start}*/infer" if path.endswith("/infer") else f"{start}*"


class Colleagues:
    """The numbers of all serving processes of a project: each leaves its own in a file, and any can tell them all.

    Each has a number of its own from 1, the lowest that was free when it started, so that a process which takes the
    place of a dead one goes on under its name. A file counts as long as the process that wrote it lives.

    Args:
        store: whose processes.
        numbers: those of this process.

    Attributes:
        number: of this process.
    """

    def __init__(self, store: Store, numbers: Callable[[], JSON]) -> None:
        self._numbers = numbers
        self._folder = store.root / FOLDER
        self._pid = os.getpid()
        self._started = psutil.Process(self._pid).create_time()
        self._claim = contextlib.ExitStack()
        self.number = next(number for number in itertools.count(1) if self._claimed(store, number))
        self._path = self._folder / f"{self.number}.json"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tidemill-metrics", daemon=True)

    def start(self) -> None:
        """Leave this process's numbers where the others find them, again and again."""
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL):
            self._leave()

    def _claimed(self, store: Store, number: int) -> bool:
        try:
            self._claim.enter_context(store.lock(f"worker-{number}"))
        except BusyError:
            return False
        return True

    def _leave(self) -> None:
        draft = self._path.with_suffix(".part")
        left = {"pid": self._pid, "started": self._started, "numbers": self._numbers()}
        with contextlib.suppress(OSError):  # a full disk only keeps the others from seeing them
            self._folder.mkdir(exist_ok=True)
            draft.write_bytes(orjson.dumps(left))
            draft.replace(self._path)

    def gather(self) -> dict[int, tuple[int, JSON]]:
        """The process id and the numbers of every living process, by its number; those of others a second old."""
        found: dict[int, tuple[int, JSON]] = {}
        for path in self._folder.glob("*.json"):
            left = _living(path)
            if left is not None:
                found[int(path.stem)] = left["pid"], left["numbers"]
        found[self.number] = self._pid, self._numbers()
        return dict(sorted(found.items()))

    def close(self) -> None:
        """Leave nothing behind, and give the number back."""
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
            self._path.with_suffix(".part").unlink(missing_ok=True)  # of a write that a full disk ended
        self._claim.close()


def _living(path: Path) -> JSON | None:
    """What a process left that still lives."""
    try:
        left: JSON = orjson.loads(path.read_bytes())
        return left if psutil.Process(left["pid"]).create_time() == left["started"] else None
    except (OSError, ValueError, psutil.Error):  # it was removed just now, or its writer is gone
        return None
