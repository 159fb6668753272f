"""Tune: proposals depend only on the seed and on what finished before, so a killed search comes to the same end."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidemill.errors import ConfigError, TrainingError
from tidemill.learners._base import Pruned
from tidemill.records import JSON
from tidemill.stages.tune import Fit, Report, Study, Tuned

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


def search(fit: Fit, trials: int, journal: Path, *, seed: int = 0) -> Tuned:
    """As many trials in all as asked for, some of which may stand in the journal already."""
    study = Study(SPACE, seed=seed, journal=journal)
    while len(study.trials()) < trials:
        study.trial(fit)
    return study.best()


def test_it_finds_better_than_the_defaults(tmp_path: Path) -> None:
    found = search(bowl, 25, tmp_path / "a.journal", seed=3)
    assert found.trials == 25
    assert found.score > -1.0
    assert set(found.params) == set(SPACE)


def test_the_first_trial_keeps_the_defaults(tmp_path: Path) -> None:
    seen: list[JSON] = []

    def fit(params: JSON, report: Report) -> float:
        seen.append(params)
        return 1.0 if not params else 0.0

    assert search(fit, 3, tmp_path / "a.journal").params == {}
    assert seen[0] == {} and all(seen[1:])


def test_a_killed_search_goes_on_to_the_same_end(tmp_path: Path) -> None:
    whole: list[JSON] = []
    resumed: list[JSON] = []

    def remember(into: list[JSON], stop_at: int | None = None) -> Fit:
        def fit(params: JSON, report: Report) -> float:
            if stop_at is not None and len(into) == stop_at:
                raise KeyboardInterrupt
            into.append(params)
            return bowl(params, report)

        return fit

    expected = search(remember(whole), 12, tmp_path / "whole.journal", seed=5)
    with pytest.raises(KeyboardInterrupt):
        search(remember(resumed, stop_at=4), 12, tmp_path / "cut.journal", seed=5)
    (tmp_path / "cut.journal.lock").touch()  # as a writer leaves it that was killed while it wrote
    got = search(remember(resumed), 12, tmp_path / "cut.journal", seed=5)
    assert resumed == whole
    assert got == expected


def test_a_journal_whose_last_line_is_torn_goes_on_with_what_was_finished(tmp_path: Path) -> None:
    journal = tmp_path / "a.journal"
    search(bowl, 4, journal)
    known = Study(SPACE, seed=0, journal=journal).trials()
    for torn in (b'{"op_code":5,"worker_id":"a","tri', b"\0" * 40):
        with journal.open("ab") as file:
            file.write(torn)
        assert Study(SPACE, seed=0, journal=journal).trials() == known
    whole = search(bowl, 6, tmp_path / "whole.journal")
    assert search(bowl, 6, journal) == whole
    journal.write_bytes(b'{"op_code":0')
    assert Study(SPACE, seed=0, journal=journal).trials() == []


def test_searches_that_take_turns_propose_what_each_would_alone(tmp_path: Path) -> None:
    seen: dict[str, list[JSON]] = {"alone": [], "here": [], "there": []}

    def fit(into: list[JSON]) -> Fit:
        return lambda params, report: into.append(params) or bowl(params, report)  # type: ignore[func-returns-value]

    search(fit(seen["alone"]), 9, tmp_path / "alone.journal", seed=4)
    studies = {name: Study(SPACE, seed=4, journal=tmp_path / f"{name}.journal") for name in ("here", "there")}
    for name in ["here", "there", "here", "here", "there", "here", "here", "here", "here", "here", "there", "here"]:
        studies[name].trial(fit(seen[name]))
    assert seen["here"] == seen["alone"] and seen["there"] == seen["alone"][:3]


def test_what_trials_took_stands_in_the_journal(tmp_path: Path) -> None:
    journal = tmp_path / "a.journal"
    search(bowl, 3, journal)
    once, again = (Study(SPACE, seed=0, journal=journal).trials() for _ in range(2))
    assert once == again and len(once) == 3 and all(seconds > 0 for _, seconds in once)


def test_pruned_and_failed_trials_count_and_are_told(tmp_path: Path) -> None:
    study = Study(SPACE, seed=0, journal=tmp_path / "a.journal")

    def fit(params: JSON, report: Report) -> float:
        number = len(study.trials())
        if number == 1:
            raise Pruned
        if number == 2:
            raise TrainingError("it diverged")
        return 0.5

    told = [study.trial(fit) for _ in range(4)]
    assert told == [score for score, _ in study.trials()] == [0.5, None, None, 0.5]
    assert study.best().trials == 4


def test_when_every_trial_fails_the_reason_is_said(tmp_path: Path) -> None:
    def fit(params: JSON, report: Report) -> float:
        raise TrainingError("it diverged")

    with pytest.raises(TrainingError, match="diverged"):
        search(fit, 2, tmp_path / "a.journal")


def test_a_score_that_is_no_number_is_a_failed_trial(tmp_path: Path) -> None:
    scores = iter([0.5, float("nan"), 0.25])
    found = search(lambda _params, _report: next(scores), 3, tmp_path / "a.journal")
    assert (found.trials, found.score) == (3, 0.5)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"type": "float", "low": 1.0}, "high is missing"),
        ({"type": "float", "low": 2.0, "high": 1.0}, "low is 2.0 and high is 1.0"),
        ({"type": "odd"}, "unknown type 'odd'"),
        ({"type": "float", "low": 0.0, "high": 1.0, "log": True}, "log is true and low is 0.0"),
        ({"type": "int", "low": 1, "high": float("inf")}, "high is inf, which is no whole number"),
        ({"type": "categorical", "choices": []}, "there must be one at least"),
        ({"type": "categorical", "choices": [1, 1]}, "a choice stands there twice"),
        ({"type": "categorical", "choices": [[1]]}, "a choice is no text, number, true, false or null"),
        ({"type": "int", "low": 1, "high": 3, "step": 2}, "unknown key 'step'"),
    ],
)
def test_a_malformed_space_is_named(tmp_path: Path, spec: JSON, said: str) -> None:
    with pytest.raises(ConfigError, match=r"space\.depth") as caught:
        Study({"depth": spec}, seed=0, journal=tmp_path / "a.journal")
    assert said in str(caught.value)


def test_a_space_without_a_choice_is_refused(tmp_path: Path) -> None:
    space = {"depth": {"type": "int", "low": 3, "high": 3}, "kind": {"type": "categorical", "choices": ["a"]}}
    with pytest.raises(ConfigError, match="leaves nothing to choose"):
        Study(space, seed=0, journal=tmp_path / "a.journal")
