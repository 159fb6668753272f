"""Tune: proposals depend only on the seed and on what finished before, so a killed search comes to the same end."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidemill.errors import ConfigError, TrainingError
from tidemill.learners._base import Pruned
from tidemill.records import JSON
from tidemill.stages.tune import Report, tune

SPACE = {
    "x": {"type": "float", "low": -2.0, "high": 2.0},
    "n": {"type": "int", "low": 1, "high": 9},
    "kind": {"type": "categorical", "choices": ["a", "b"]},
}


def bowl(params: JSON, report: Report) -> float:
    """Best at x = 1, n = 4; the defaults score -100."""
    if not params:
        return -100.0
    score = -((params["x"] - 1) ** 2) - (params["n"] - 4) ** 2 / 10
    report(1, score)
    return float(score)


def test_it_finds_better_than_the_defaults(tmp_path: Path) -> None:
    found = tune(bowl, SPACE, trials=25, seed=3, journal=tmp_path / "a.journal")
    assert found.trials == 25
    assert found.score > -1.0
    assert set(found.params) == set(SPACE)


def test_the_first_trial_keeps_the_defaults(tmp_path: Path) -> None:
    seen: list[JSON] = []

    def fit(params: JSON, report: Report) -> float:
        seen.append(params)
        return 1.0 if not params else 0.0

    assert tune(fit, SPACE, trials=3, seed=0, journal=tmp_path / "a.journal").params == {}
    assert seen[0] == {} and all(seen[1:])


def test_a_killed_search_goes_on_to_the_same_end(tmp_path: Path) -> None:
    whole: list[JSON] = []
    resumed: list[JSON] = []

    def remember(into: list[JSON], stop_at: int | None) -> object:
        def fit(params: JSON, report: Report) -> float:
            if stop_at is not None and len(into) == stop_at:
                raise KeyboardInterrupt
            into.append(params)
            return bowl(params, report)

        return fit

    expected = tune(remember(whole, None), SPACE, trials=12, seed=5, journal=tmp_path / "whole.journal")  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        tune(remember(resumed, 4), SPACE, trials=12, seed=5, journal=tmp_path / "cut.journal")  # type: ignore[arg-type]
    (tmp_path / "cut.journal.lock").touch()  # as a writer leaves it that was killed while it wrote
    got = tune(remember(resumed, None), SPACE, trials=12, seed=5, journal=tmp_path / "cut.journal")  # type: ignore[arg-type]
    assert resumed == whole
    assert got == expected


def test_pruned_and_failed_trials_count_and_are_told(tmp_path: Path) -> None:
    told: list[tuple[int, float | None]] = []

    def fit(params: JSON, report: Report) -> float:
        if len(told) == 1:
            raise Pruned
        if len(told) == 2:
            raise TrainingError("it diverged")
        return 0.5

    found = tune(
        fit, SPACE, trials=4, seed=0, journal=tmp_path / "a.journal", on_trial=lambda n, s: told.append((n, s))
    )
    assert told == [(0, 0.5), (1, None), (2, None), (3, 0.5)]
    assert found.trials == 4


def test_when_every_trial_fails_the_reason_is_said(tmp_path: Path) -> None:
    def fit(params: JSON, report: Report) -> float:
        raise TrainingError("it diverged")

    with pytest.raises(TrainingError, match="diverged"):
        tune(fit, SPACE, trials=2, seed=0, journal=tmp_path / "a.journal")


def test_a_score_that_is_no_number_is_a_failed_trial(tmp_path: Path) -> None:
    scores = iter([0.5, float("nan"), 0.25])
    found = tune(lambda _params, _report: next(scores), SPACE, trials=3, seed=0, journal=tmp_path / "a.journal")
    assert (found.trials, found.score) == (3, 0.5)


@pytest.mark.parametrize(
    "spec",
    [
        {"type": "float", "low": 1.0},
        {"type": "float", "low": 2.0, "high": 1.0},
        {"type": "odd"},
        {"type": "float", "low": 0.0, "high": 1.0, "log": True},
    ],
)
def test_a_malformed_space_is_named(tmp_path: Path, spec: JSON) -> None:
    with pytest.raises(ConfigError, match=r"space\.depth"):
        tune(bowl, {"depth": spec}, trials=2, seed=0, journal=tmp_path / "a.journal")
