"""Triggers: what starts a cycle without being asked, one kind a file."""

from __future__ import annotations

from collections.abc import Callable

from tidemill.config import Config, parse_duration
from tidemill.data.rewards import REWARDS, settled_for
from tidemill.errors import ConfigError
from tidemill.monitor.triggers._base import Action, Look, Trigger
from tidemill.monitor.triggers.drift import Drift
from tidemill.monitor.triggers.labels import NewLabels, labels_since_cycle
from tidemill.monitor.triggers.quality import Quality
from tidemill.monitor.triggers.schedule import Schedule
from tidemill.records import LABEL_KINDS, Deployment
from tidemill.runtime import Predictor
from tidemill.store import Store
from tidemill.tasks._base import Task

__all__ = [
    "Action",
    "Drift",
    "Look",
    "NewLabels",
    "Quality",
    "Schedule",
    "Trigger",
    "labels_since_cycle",
    "triggers_of",
]


def triggers_of(
    config: Config, store: Store, task: Task, open_champion: Callable[[], tuple[Deployment, Predictor]]
) -> list[Trigger]:
    """The triggers that ``triggers`` in ``tidemill.yaml`` asks for.

    Raises:
        ConfigError: the floor of a share is above 1.
    """
    settings = config.triggers
    if task.kind not in ("regression", "choice") and settings.quality is not None and settings.quality > 1:
        raise ConfigError(
            f"the floor of live quality is {settings.quality:g}, and quality is a share of 1 at most",
            where="triggers.quality",
            mend="Write 0.9 for 90 %.",
        )
    rest = parse_duration(settings.rest)
    found: list[Trigger] = []
    if settings.after_labels is not None:
        found.append(NewLabels(store, settings.after_labels, REWARDS if task.kind == "choice" else LABEL_KINDS))
    if settings.schedule is not None:
        found.append(Schedule(settings.schedule, settings.time_zone))
    if settings.drift != "ignore":
        fires = settings.drift == "cycle"
        found.append(Drift(store, open_champion, least=settings.drift_inputs, fires=fires, rest=rest))
    found.append(
        Quality(
            store,
            lambda: settled_for(store, task.kind, task.label, config),
            task.kind,
            floor=settings.quality,
            least=settings.quality_labels,
            response=config.audit.min_response,
            action=settings.on_quality,
            rest=rest,
        )
    )
    return found
