"""The schedule: each of its times fires once, whatever the clock does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.monitor.triggers import Schedule
from tidemill.records import JSON

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Run:
    """A schedule whose looks are remembered as the watcher does; ``down()`` is a process that ended."""

    def __init__(self, cron: str, zone: str = "UTC") -> None:
        self.cron, self.zone = cron, zone
        self.memory: JSON = {}
        self.fired: list[str] = []
        self.waiting = ""
        self.down()

    def down(self) -> None:
        self.schedule = Schedule(self.cron, self.zone)

    def at(self, moment: datetime) -> bool:
        look = self.schedule.look(self.memory, moment.timestamp())
        self.memory, self.waiting = look.memory, look.waiting
        if look.reason is not None:
            self.fired.append(look.reason.removeprefix("scheduled for "))
        return look.reason is not None


def test_it_fires_at_its_times_in_its_zone_and_says_when_next() -> None:
    run = Run("30 3 * * *", "Europe/Berlin")
    assert not run.at(START) and run.waiting == "next at 2026-03-02 03:30 Europe/Berlin"
    berlin = ZoneInfo("Europe/Berlin")
    assert not run.at(datetime(2026, 3, 2, 3, 29, 59, tzinfo=berlin))
    assert run.at(datetime(2026, 3, 2, 3, 30, tzinfo=berlin))
    assert not run.at(datetime(2026, 3, 2, 3, 30, 0, 250_000, tzinfo=berlin))
    assert run.fired == ["2026-03-02 03:30 Europe/Berlin"]


def test_times_missed_while_it_was_down_fire_once_and_those_before_the_first_start_never() -> None:
    run = Run("0 * * * *")
    assert not run.at(START + timedelta(minutes=5))
    run.down()
    assert run.at(START + timedelta(days=2, minutes=20))
    assert not run.at(START + timedelta(days=2, minutes=21))
    assert run.fired == ["2026-03-03 12:00 UTC"]
    run.cron = "15 * * * *"
    run.down()
    assert not run.at(START + timedelta(days=2, minutes=22)), "what passed before is none of the new one's times"
    assert run.at(START + timedelta(days=2, minutes=75))


def test_a_clock_that_jumps_fires_no_time_twice() -> None:
    run = Run("0 3 * * *")
    night = datetime(2026, 3, 2, 3, tzinfo=UTC)
    for moment in (START, night - timedelta(minutes=30), night + timedelta(minutes=30)):  # forward over it
        run.at(moment)
    assert run.fired == ["2026-03-02 03:00 UTC"]
    run.at(night - timedelta(minutes=29))  # and back
    for seconds in range(-1700, 60, 7):
        run.at(night + timedelta(seconds=seconds))
    assert len(run.fired) == 1
    run.at(datetime(2038, 1, 1, tzinfo=UTC))  # years ahead, and a restart there
    run.down()
    run.at(night + timedelta(hours=1))
    run.down()
    run.at(night + timedelta(hours=23))
    assert run.at(night + timedelta(hours=24)), "a time of its own, which has not fired yet"
    assert run.fired == ["2026-03-02 03:00 UTC", "2037-12-31 03:00 UTC", "2026-03-03 03:00 UTC"]


@pytest.mark.parametrize("cron", ["30 2 * * *", "*/30 * * * *", "0 */2 * * *"])
@pytest.mark.parametrize("night", [datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 10, 24, 12, tzinfo=UTC)])
def test_summer_time_begins_and_ends_without_a_double(cron: str, night: datetime) -> None:
    run, zone = Run(cron, "Europe/Berlin"), ZoneInfo("Europe/Berlin")
    fired = [m for m in (night + timedelta(minutes=n) for n in range(36 * 60)) if run.at(m)]
    times = CronSim(cron, night.astimezone(zone))
    expected = [time.astimezone(UTC) for time, _ in zip(times, fired, strict=False)]
    assert fired == expected and len(fired) == len(run.memory["fired"]) >= 1


JUMPS = st.lists(st.one_of(st.integers(1, 90), st.integers(-4000, 4000)), min_size=1, max_size=120)


@settings(deadline=None)
@given(st.sampled_from(["*/7 * * * *", "0 * * * *", "5 4 * * *"]), JUMPS, st.data())
def test_whatever_the_clock_does_a_time_fires_once_at_most(cron: str, jumps: list[int], data: st.DataObject) -> None:
    run, now = Run(cron), START
    run.at(now)
    for jump in jumps:
        now += timedelta(minutes=jump)
        if data.draw(st.booleans()):
            run.down()
        if run.at(now):
            slot = datetime.strptime(run.fired[-1], "%Y-%m-%d %H:%M UTC").replace(tzinfo=UTC)
            following = next(CronSim(cron, slot))
            assert slot <= now < following
    assert len(run.fired) == len(set(run.fired))
