"""Schedule: a cycle at the times that a line of cron names, each of them once, whatever the clock does.

The clock is not trusted. What is remembered is up to when was looked, and which times fired. When the clock is set
forward over several times, or the service was down while they passed, the last of them fires and stands for all. When
it is set back, looking goes on from there, and a time that fired does not fire again.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import ClassVar
from zoneinfo import ZoneInfo

from cronsim import CronSim

from tidemill.monitor.triggers._base import Look
from tidemill.records import JSON

KEPT = 1500
"""Times that fired and are remembered: a day's worth of one each minute."""


class Schedule:
    """Fires at each time of *cron*.

    Args:
        cron: five fields: minute, hour, day of the month, month, day of the week.
        zone: name of the time zone in which they are meant.
    """

    name: ClassVar[str] = "schedule"
    heavy: ClassVar[bool] = False
    fires = True

    def __init__(self, cron: str, zone: str = "UTC") -> None:
        self._cron = cron
        self._name = zone
        self._zone = UTC if zone == "UTC" else ZoneInfo(zone)
        self._between = (0.0, 0.0)
        self._calm = Look(waiting="")

    def look(self, memory: JSON, now: float) -> Look:
        """Fire when a time has come since the look before."""
        if self._between[0] <= now < self._between[1] and memory == self._calm.memory:
            return self._calm  # asked several times a second, and nothing comes before the next time
        look, following = self._look(memory, now)
        if look.reason is None:
            self._between, self._calm = (now, following.timestamp()), look
        return look

    def _look(self, memory: JSON, now: float) -> tuple[Look, datetime]:
        last, following = self._last(now), self._next(now)
        waiting, found = f"next at {self._shown(following)}", {"next": following.timestamp()}
        line = f"{self._cron} {self._name}"
        if memory.get("line") != line:  # the first look, or another schedule: what passed before is none of its times
            memory = {"line": line, "seen": now, "fired": []}
        elif now < memory["seen"]:
            memory = {**memory, "seen": now}
        elif last is not None and (time := last.timestamp()) > memory["seen"] and time not in memory["fired"]:
            memory = {**memory, "seen": now, "fired": [*memory["fired"], time][-KEPT:]}
            reason = f"scheduled for {self._shown(last)}"
            return Look(waiting=waiting, reason=reason, found=found, memory=memory), following
        return Look(waiting=waiting, found=found, memory=memory), following

    def _last(self, now: float) -> datetime | None:
        """The newest of its times that is not later than *now*."""
        return next(CronSim(self._cron, datetime.fromtimestamp(int(now) + 1, self._zone), reverse=True), None)

    def _next(self, now: float) -> datetime:
        return next(CronSim(self._cron, datetime.fromtimestamp(now, self._zone)))

    def _shown(self, moment: datetime) -> str:
        return f"{moment:%Y-%m-%d %H:%M} {self._name}"
