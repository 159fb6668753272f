"""The race: trials go where the next gain is cheapest, and a race that was cut short goes on to the same end."""

from __future__ import annotations

import pytest

from tidemill.loop.race import Share, entrants, following, race


class Landscape:
    """A search whose trials have known scores; it counts them and may be killed before one."""

    def __init__(self, scores: list[float | None], log: list[str], name: str, kill_at: int | None = None) -> None:
        self._all, self._log, self._name, self._kill_at = scores, log, name, kill_at
        self.done: list[float | None] = []

    def scores(self) -> list[float | None]:
        return list(self.done)

    def trial(self) -> None:
        if self._kill_at is not None and len(self._log) == self._kill_at:
            raise KeyboardInterrupt
        self._log.append(self._name)
        self.done.append(self._all[min(len(self.done), len(self._all) - 1)])


def curves() -> dict[str, list[float | None]]:
    return {
        "flat": [0.80],  # it is best at first and never gets better
        "rising": [0.60 + 0.03 * i for i in range(20)],
        "hopeless": [0.30, 0.31, 0.31],
    }


SHARES = {name: Share(seconds=2.0, most=50) for name in ("flat", "rising", "hopeless")}


def test_what_still_improves_gets_more() -> None:
    log: list[str] = []
    runners = {name: Landscape(scores, log, name) for name, scores in curves().items()}
    race(SHARES, runners, 60.0)
    assert log[:3] == ["flat", "rising", "hopeless"]
    counts = {name: log.count(name) for name in SHARES}
    assert sum(counts.values()) == 30
    assert counts["rising"] > 2 * counts["flat"] and counts["rising"] > 2 * counts["hopeless"]
    assert max(s for s in runners["rising"].done if s is not None) > 0.80  # the leader at first was overtaken


def test_a_dear_recipe_must_promise_as_much_a_second() -> None:
    shares = {"cheap": Share(seconds=1.0, most=50), "dear": Share(seconds=10.0, most=50)}
    log: list[str] = []
    rising: list[float | None] = [0.5 + 0.01 * i for i in range(60)]
    race(shares, {name: Landscape(rising, log, name) for name in shares}, 40.0)
    assert log.count("cheap") > 10 and log.count("dear") <= 2


@pytest.mark.parametrize("kill_at", range(30))
def test_a_race_that_was_killed_goes_on_to_the_same_end(kill_at: int) -> None:
    whole: list[str] = []
    race(SHARES, {name: Landscape(scores, whole, name) for name, scores in curves().items()}, 60.0)
    cut: list[str] = []
    killed = {name: Landscape(scores, cut, name, kill_at) for name, scores in curves().items()}
    with pytest.raises(KeyboardInterrupt):
        race(SHARES, killed, 60.0)
    for runner in killed.values():
        runner._kill_at = None
    race(SHARES, killed, 60.0)
    assert cut == whole


def test_failed_and_pruned_trials_cost_what_was_planned() -> None:
    log: list[str] = []
    broken: list[float | None] = [None]
    runners = {"broken": Landscape(broken, log, "broken"), "flat": Landscape([0.5], log, "flat")}
    race({name: Share(seconds=1.0, most=100) for name in runners}, runners, 20.0)
    assert len(log) == 20 and log.count("broken") <= 11


def test_a_first_trial_is_run_whatever_it_costs_and_the_budget_bounds_the_rest() -> None:
    shares = {"a": Share(seconds=3.0, most=9), "b": Share(seconds=50.0, most=9)}
    log: list[str] = []
    race(shares, {name: Landscape([0.1], log, name) for name in shares}, 10.0)
    assert log == ["a", "b"]
    assert following(shares, {"a": [0.1], "b": [0.1]}, 56.0) == "a"
    assert following({"a": Share(seconds=1.0, most=1)}, {"a": [0.1]}, 56.0) is None


def test_without_a_clock_everyone_gets_the_trials_that_were_asked_for() -> None:
    work = {"most": 4, "seconds": None, "share": None}
    shares, budget = entrants({"a": work, "b": work, "baseline": {"most": 1, "seconds": None, "share": None}})
    log: list[str] = []
    race(shares, {name: Landscape([0.1, 0.2], log, name) for name in shares}, budget)
    assert sorted(log) == ["a"] * 4 + ["b"] * 4
