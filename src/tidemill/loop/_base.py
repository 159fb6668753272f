"""What a cycle is given, and how it tells what it is doing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from tidemill.annotation.functions import LabellingFunction
from tidemill.config import Config, Goal, parse_goal
from tidemill.data.schema import Signature
from tidemill.engines.nursery import can_fork
from tidemill.learners._base import Team
from tidemill.metrics.decisions import Decisions
from tidemill.records import Recipe
from tidemill.stages.train import Aim
from tidemill.store import Store
from tidemill.tasks import Task, answer_spec, metric_of, selection_of

OnEvent = Callable[[dict[str, Any]], None]
"""Told what happens: ``{"stage", "what", "done", "total", "estimated", "recipe"}``.

The last four stand where they make sense; ``estimated`` is true of a total that may yet change."""


ENOUGH_TIME, STARTING = (10.0, 0.5) if can_fork() else (30.0, 4.0)
"""Seconds of a budget from which on it pays to start processes for trials; and those that they take to start, all
together. Where each must import for itself, that is two or three."""
MOST_WORKERS = 4
"""How many there are at most unless the configuration says otherwise."""


def untraced(_stage: str) -> AbstractContextManager[None]:
    """Nobody traces."""
    return nullcontext()


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What does not change during a cycle.

    Attributes:
        sources: paths and ids of the data, ready to be opened.
        recipes: what is tried, baselines first: of a signature, some of the texts among its inputs, and what is told
            why a recipe is not offered.
        threads: CPU threads that training may use.
        team: processes that may train one network together; ``None``: each is trained by one.
        span: traces what is done inside under the name of its stage.
        functions: label training rows that nobody has labelled.
    """

    store: Store
    task: Task
    config: Config
    sources: tuple[str, ...]
    recipes: Callable[[Signature, Sequence[str], Callable[[str], None]], tuple[Recipe, ...]]
    threads: int
    team: Team | None = None
    span: Callable[[str], AbstractContextManager[None]] = untraced
    functions: tuple[LabellingFunction, ...] = ()

    def workers(self, budget: float | None) -> int:
        """How many trials are run at a time: as the configuration says, or as many as have a thread and a clock."""
        asked = self.config.tuning.workers
        if asked is not None:
            return asked
        return 1 if budget is None or budget < ENOUGH_TIME else max(1, min(self.threads, MOST_WORKERS))

    @property
    def goal(self) -> Goal:
        """What a candidate must keep to, to go to the gate."""
        return parse_goal(self.config.goal)

    @property
    def metric(self) -> str:
        """The per-row score that the gate judges."""
        return metric_of(self.task, self.config.decision)

    @property
    def selection(self) -> str:
        """The per-row score that tuning maximises and recipes are chosen by."""
        return selection_of(self.task, self.config.decision)

    def aim(self, signature: Signature) -> Aim:
        """What models of this signature are made for.

        Raises:
            ConfigError: ``decision`` in ``tidemill.yaml`` does not fit the task or its labels.
        """
        answer = answer_spec(self.task, signature, self.config)
        return Aim(task=self.task.name, answer=answer, metric=self.metric, selection=self.selection)

    def costs(self, signature: Signature) -> Decisions | None:
        """What answers and silence cost; ``None`` when nothing has a price."""
        return Decisions.of(self.aim(signature).answer) if self.metric == "utility" else None


def unheard(_event: dict[str, Any]) -> None:
    """Nobody listens."""
