"""The steps of a cycle: each runs once, its output is committed when it is done, and a resumed cycle reads it back."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import TypeVar

from tidemill.loop._base import OnEvent, untraced
from tidemill.records import JSON, Cycle, new_id
from tidemill.store import Store

T = TypeVar("T")


class Steps:
    """What the parts of a cycle share: its steps, the time they take, and who listens.

    Args:
        store: where outputs are committed.
        cycle: whose steps they are.
        on_event: told what happens.
        span: traces each stage.

    Attributes:
        seconds: wall time by stage, of this process alone when the cycle was resumed.
    """

    def __init__(
        self,
        store: Store,
        cycle: Cycle,
        on_event: OnEvent,
        span: Callable[[str], AbstractContextManager[None]] = untraced,
    ) -> None:
        self.store = store
        self._span = span
        self.cycle = cycle
        self.on_event = on_event
        self.seconds: dict[str, float] = {}

    def once(self, name: str, work: Callable[[str], JSON], *, stage: str | None = None) -> JSON:
        """The output of a step: committed earlier, or made now by *work* and committed.

        Args:
            name: unique in the cycle.
            work: is given the step's token, which stays the same however often the step is started.
            stage: under which its time counts.
        """
        step = self.store.begin_step(self.cycle.id, name, new_id("token"))
        if step.status == "done" and step.output is not None:
            return step.output
        output = self.timed(stage, partial(work, step.token)) if stage else work(step.token)
        self.store.finish_step(step, output)
        return output

    def timed(self, stage: str, work: Callable[[], T]) -> T:
        """What *work* returns; its time counts under *stage*."""
        started = time.perf_counter()
        try:
            with self._span(stage):
                return work()
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - started

    def say(self, stage: str, what: str, **more: object) -> None:
        """Tell whoever listens."""
        self.on_event({"stage": stage, "what": what, **more})
