"""The race: trials go where the next gain is cheapest, and a race that was cut short goes on to the same end."""

from __future__ import annotations

import pytest

from tidemill.loop.race import Share, Terms, Trial, following, race, terms


class Landscape:
    """A search whose trials have known scores and costs; it counts them and may be killed before one."""

    def __init__(
        self, scores: list[float | None], log: list[str], name: str, kill_at: int | None = None, seconds: float = 2.0
    ) -> None:
        self._all, self._log, self._name, self._kill_at, self._seconds = scores, log, name, kill_at, seconds
        self.done: list[Trial] = []

    def trials(self) -> list[Trial]:
        return self.done

    def trial(self) -> None:
        if self._kill_at is not None and len(self._log) == self._kill_at:
            raise KeyboardInterrupt
        self._log.append(self._name)
        self.done.append(Trial(self._all[min(len(self.done), len(self._all) - 1)], self._seconds))


def curves() -> dict[str, list[float | None]]:
    return {
        "flat": [0.80],  # it is best at first and never gets better
        "rising": [0.60 + 0.03 * i for i in range(20)],
        "hopeless": [0.30, 0.31, 0.31],
    }


def agreed(budget: float, *names: str, **more: float) -> Terms:
    shares = {name: Share(seconds=2.0, most=50, **more) for name in names or ("flat", "rising", "hopeless")}
    return Terms(shares=shares, budget=budget)


def test_what_still_improves_gets_more() -> None:
    log: list[str] = []
    runners = {name: Landscape(scores, log, name) for name, scores in curves().items()}
    race(agreed(60.0), runners)
    assert log[:3] == ["flat", "rising", "hopeless"]
    counts = {name: log.count(name) for name in runners}
    assert sum(counts.values()) == 30
    assert counts["rising"] > 2 * counts["flat"] and counts["rising"] > 2 * counts["hopeless"]
    assert max(t.score for t in runners["rising"].done if t.score is not None) > 0.80  # the first leader was overtaken


def test_a_dear_recipe_must_promise_as_much_a_second() -> None:
    log: list[str] = []
    rising: list[float | None] = [0.5 + 0.01 * i for i in range(60)]
    costs = {"cheap": 1.0, "dear": 10.0}
    race(agreed(40.0, *costs), {name: Landscape(rising, log, name, seconds=s) for name, s in costs.items()})
    assert log.count("cheap") > 10 and log.count("dear") <= 2


@pytest.mark.parametrize("kill_at", range(30))
def test_a_race_that_was_killed_goes_on_to_the_same_end(kill_at: int) -> None:
    whole: list[str] = []
    race(agreed(60.0), {name: Landscape(scores, whole, name) for name, scores in curves().items()})
    cut: list[str] = []
    killed = {name: Landscape(scores, cut, name, kill_at) for name, scores in curves().items()}
    with pytest.raises(KeyboardInterrupt):
        race(agreed(60.0), killed)
    for runner in killed.values():
        runner._kill_at = None
    race(agreed(60.0), killed)
    assert cut == whole


@pytest.mark.parametrize(("seconds", "trials"), [(0.5, 80), (2.0, 20), (8.0, 5)])
def test_what_trials_took_counts_whatever_was_planned(seconds: float, trials: int) -> None:
    log: list[str] = []
    race(agreed(40.0, "a", "b"), {name: Landscape([0.5], log, name, seconds=seconds) for name in ("a", "b")})
    assert len(log) == trials


def test_failed_trials_cost_what_they_took_and_win_no_more() -> None:
    log: list[str] = []
    broken: list[float | None] = [None]
    runners = {"broken": Landscape(broken, log, "broken"), "flat": Landscape([0.5], log, "flat")}
    race(agreed(40.0, *runners), runners)
    assert len(log) == 20 and log.count("broken") <= 11


def test_a_first_trial_is_run_whatever_it_costs_and_the_budget_bounds_the_rest() -> None:
    log: list[str] = []
    race(agreed(10.0, "a", "b"), {name: Landscape([0.1], log, name, seconds=50.0) for name in ("a", "b")})
    assert log == ["a", "b"]
    one = Trial(0.1, 3.0)
    assert following(agreed(9.0, "a", "b"), {"a": [one], "b": [one]}) == "a"
    assert following(agreed(8.9, "a", "b"), {"a": [one], "b": [one]}) is None
    assert following(Terms(shares={"a": Share(seconds=1.0, most=1)}, budget=9.0), {"a": [one]}) is None


def test_the_refit_of_the_leader_is_kept_back_at_the_pace_of_its_best_trial() -> None:
    shares = {"dear": Share(seconds=2.0, most=9, refit=6.0), "cheap": Share(seconds=2.0, most=9, refit=2.0)}

    def left(score: float, seconds: float = 2.0) -> float:
        finished = {"dear": [Trial(score, seconds), Trial(None, 0.0)], "cheap": [Trial(0.5, 2.0)]}
        return Terms(shares=shares, budget=30.0, kept=1.0).left(finished)

    assert left(0.4) == pytest.approx(30 - 2 - 2 - 2)
    assert left(0.6) == pytest.approx(30 - 2 - 2 - 6)
    assert left(0.6, seconds=3.0) == pytest.approx(30 - 3 - 2 - 9)
    assert left(0.6, seconds=20.0) == pytest.approx(30 - 20 - 2 - 15)  # at most half


def test_without_a_clock_everyone_gets_the_trials_that_were_asked_for() -> None:
    work = {"most": 4, "seconds": None, "share": None, "refit": None}
    free = terms({"a": work, "b": work, "baseline": {**work, "most": 1}})
    log: list[str] = []
    race(free, {name: Landscape([0.1, 0.2], log, name, seconds=1.0) for name in free.shares})
    assert sorted(log) == ["a"] * 4 + ["b"] * 4
