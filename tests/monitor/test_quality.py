"""Live quality: intervals that hold, and an alarm that looking often does not make more likely than it says."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from traffic_project import answer, ask, inputs

from tidemill.api.project import Project
from tidemill.config import make_config
from tidemill.data.rewards import split_of
from tidemill.data.settled import settled_labels
from tidemill.monitor.live_quality import Judged, agreement, judged, mean_interval
from tidemill.monitor.triggers import Look, Quality, triggers_of
from tidemill.monitor.triggers.quality import surely_past
from tidemill.records import JSON, Deployment, Feedback, Prediction, new_id
from tidemill.store import create_store
from tidemill.tasks import get_task

HOUR = 3600.0


class Run:
    def __init__(self, project: Project, **settings: Any) -> None:
        given: dict[str, Any] = {"floor": 0.8, "least": 50, "response": 0.5, "action": "cycle"}
        given |= {"rest": HOUR, **settings}
        store, label = project.store, project.task.label
        self.trigger = Quality(store, lambda: settled_labels(store, label), "classification", **given)
        self.memory: JSON = {}
        self.now = time.time()

    def look(self, later: float = 0.0) -> Look:
        self.now += later
        found = self.trigger.look(self.memory, self.now)
        self.memory = found.memory
        return found


def test_it_waits_for_labels_then_shows_quality_with_its_interval(project: Project) -> None:
    run = Run(project)
    assert run.look().waiting == "0 of 50 audited labels"
    given = ask(project, inputs(200, seed=1), audited=True)
    answer(project, given[:20], right=0.9)
    assert run.look().waiting.startswith("20 of 50 audited labels: live accuracy 90.0 % (")
    answer(project, given[20:120], right=0.9)
    look = run.look()
    assert look.reason is None and look.waiting.endswith("of 120 labels, floor 80.0 %")
    found = look.found
    assert found["value"] == pytest.approx(0.9) and 0.8 < found["low"] < 0.9 < found["high"] < 0.96
    assert (found["metric"], found["labels"], found["floor"]) == ("accuracy", 120, 0.8)


def test_it_fires_once_while_quality_is_under_the_floor(project: Project) -> None:
    run = Run(project, action="rollback")
    answer(project, ask(project, inputs(100, seed=1), audited=True), right=0.5)
    first = run.look()
    assert first.reason is not None and first.action == "rollback"
    assert first.reason.startswith("live accuracy 50.0 % (") and first.reason.endswith("floor 80.0 %, under the floor")
    assert run.look(2 * HOUR).reason is None, "nothing new"
    answer(project, ask(project, inputs(100, seed=2), audited=True), right=0.5)
    again = run.look(2 * HOUR)
    assert again.reason is None and again.waiting.endswith("under the floor still, which it has acted on")
    answer(project, ask(project, inputs(600, seed=3), audited=True), right=0.95)
    assert "95.0 %" in run.look().waiting
    answer(project, ask(project, inputs(600, seed=4), audited=True), right=0.5)
    assert run.look(-1.5 * HOUR - 3 * HOUR).reason is not None, "it had been better, and a clock set back is no rest"


def test_answers_to_some_questions_alone_prove_nothing(project: Project) -> None:
    run = Run(project)
    given = ask(project, inputs(300, seed=1), audited=True)
    answer(project, given[:100], right=0.3)
    look = run.look()
    assert look.reason is None
    assert look.waiting.endswith("but only 33 % of the audit's questions are answered, of 50 % that are needed")
    answer(project, given[100:160], right=0.3)
    assert run.look().reason is not None


def test_it_rests_between_two_firings_and_a_new_deployment_starts_anew(project: Project) -> None:
    run = Run(project)
    answer(project, ask(project, inputs(100, seed=1), audited=True), right=0.5)
    assert run.look().reason is not None
    project.promote(project.model().id, reason="once more")
    assert run.look().waiting == "0 of 50 audited labels", "what another deployment answered does not count"
    answer(project, ask(project, inputs(100, seed=2), audited=True), right=0.5)
    assert run.look().waiting.endswith("but it rests")
    answer(project, ask(project, inputs(100, seed=3), audited=True), right=0.5)
    assert run.look(2 * HOUR).reason is not None


def test_without_a_floor_it_measures_and_never_fires(project: Project) -> None:
    run = Run(project, floor=None)
    answer(project, ask(project, inputs(100, seed=1), audited=True), right=0.1)
    look = run.look()
    assert look.reason is None and not run.trigger.fires and look.waiting.startswith("live accuracy 10.0 % (")


def test_only_what_was_drawn_and_asked_for_counts_and_once_a_key(project: Project) -> None:
    drawn = ask(project, inputs(60, seed=1), audited=True)
    answer(project, drawn[1:], right=1.0)
    answer(project, ask(project, inputs(60, seed=2)), right=0.0)
    project.feedback(drawn[0].id, "no" if drawn[0].answer["label"] == "yes" else "yes", author="eve")  # volunteered
    repeated = [dataclasses.replace(p, id=f"{p.id}x") for p in drawn[:20]]
    others = [dataclasses.replace(p, id=f"{p.id}y", inputs={**p.inputs, "age": 1.0}) for p in drawn[20:40]]
    foreign = [dataclasses.replace(p, id=f"{p.id}z", model_id="model_other") for p in drawn[40:]]
    project.store.insert(*repeated, *others, *foreign)
    settled = settled_labels(project.store, project.task.label)
    found = judged(project.store, settled, project.champion_deployment(), "classification")
    assert len(found) == 59
    assert set(found.weights) == {2.0} and np.nanmean(found.values) == 1.0


def test_rows_of_one_caller_are_one_draw(project: Project) -> None:
    for number, right in enumerate((1.0, 1.0, 1.0, 0.0)):
        given = ask(project, inputs(50, seed=number), audited=True, caller=f"ship {number}")
        answer(project, given, right=right)
    settled = settled_labels(project.store, project.task.label)
    found = judged(project.store, settled, project.champion_deployment(), "classification")
    interval = mean_interval(found, 0.05, share=True)
    assert interval.value == 0.75 and interval.low < 0.2 and interval.high > 0.98, "four callers, not 200 rows"
    assert mean_interval(found, 0.05, share=True).high > 0.8 and Run(project).look().reason is None


def one_sample(rng: np.random.Generator, callers: int, rows: int, mean: float, spread: float) -> Judged:
    a = mean * spread
    chance = rng.beta(a, spread - a, callers) if np.isfinite(spread) else np.full(callers, mean)
    values = (rng.random((callers, rows)) < chance[:, None]).astype(float).ravel()
    return Judged(values, rng.choice([1.0, 2.0], callers * rows), np.repeat(np.arange(callers), rows))


@pytest.mark.parametrize(("callers", "rows", "spread"), [(60, 1, np.inf), (200, 1, np.inf), (25, 12, 6.0)])
@pytest.mark.parametrize("mean", [0.9, 0.6])
def test_intervals_cover_what_they_promise(callers: int, rows: int, spread: float, mean: float) -> None:
    rng = np.random.default_rng(0)
    found = [mean_interval(one_sample(rng, callers, rows, mean, spread), 0.05, share=True) for _ in range(400)]
    assert np.mean([i.low <= mean <= i.high for i in found]) > 0.93


def test_intervals_of_errors_of_numbers_cover_too() -> None:
    rng = np.random.default_rng(0)
    samples = [Judged(rng.exponential(2.0, 150), np.ones(150), np.arange(150)) for _ in range(400)]
    found = [mean_interval(sample, 0.05, share=False) for sample in samples]
    assert np.mean([i.low <= 2.0 <= i.high for i in found]) > 0.92


def test_certainty_is_not_claimed_where_there_is_none() -> None:
    def interval(*values: float) -> tuple[float, float, float]:
        found = mean_interval(Judged(np.array(values), np.ones(len(values)), np.arange(len(values))), 0.05, share=True)
        return found.value, found.low, found.high

    assert interval(*[1.0] * 30) == (1.0, pytest.approx(0.025 ** (1 / 30)), 1.0)
    assert interval(*[0.0] * 30) == (0.0, 0.0, pytest.approx(1 - 0.025 ** (1 / 30)))
    assert np.isnan(interval()).all() and np.isnan(interval(1.0)[1:]).all() and np.isnan(interval(np.nan)).all()


def test_looking_often_does_not_alarm_more_often_than_it_says() -> None:
    """Quality stands exactly at the floor, and is looked at after each 20 labels, forty times."""
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(150):
        values = (rng.random(800) < 0.8).astype(float)
        samples = [values[max(0, n - 500) : n] for n in range(60, 801, 20)]
        alarms += any(
            surely_past(Judged(v, np.ones(len(v)), np.arange(len(v))), 0.8, test, ceiling=False)
            for test, v in enumerate(samples, 1)
        )
    assert alarms <= 150 * 0.08
    low = Judged((rng.random(100) < 0.5).astype(float), np.ones(100), np.arange(100))
    assert surely_past(low, 0.8, 20, ceiling=False), "and what has fallen far is noticed at the twentieth look"
    far = Judged(rng.exponential(5.0, 100), np.ones(100), np.arange(100), share=False)
    assert surely_past(far, 3.0, 5, ceiling=True) and not surely_past(far, 6.0, 5, ceiling=True)


@pytest.mark.parametrize(
    ("given", "label", "expected"),
    [
        ({"label": None, "guess": "a"}, "a", None),
        ({"labels": []}, [], 1.0),
        ({"labels": ["a"]}, [], 0.0),
        ({"label": "a"}, ["a"], None),
        ({"label": "a"}, 3.0, None),
    ],
)
def test_agreement_of_answers_with_labels(given: JSON, label: Any, expected: float | None) -> None:
    assert agreement(given, label) == expected


@pytest.mark.parametrize("scale", [1.0, 20.0])
def test_the_rewards_of_choices_are_their_quality(tmp_path: Path, scale: float) -> None:
    """Clicks, or euros: no audit draws choices, since each is drawn at random already."""
    config = make_config(
        task="contextual-bandit", data=["log.csv"], target="click", triggers={"quality": 0.5 * scale, "drift": "ignore"}
    )
    task = get_task("contextual-bandit")
    with contextlib.closing(create_store(tmp_path / ".tidemill")) as store:
        first = Deployment(id="deploy_1", name="default", model_id="model_1", action="promote", reason="first")
        store.deploy(first)
        (trigger,) = [t for t in triggers_of(config, store, task, lambda: pytest.fail("not asked")) if t.heavy]
        assert trigger.look({}, time.time()).waiting == "0 of 50 rewards"
        choices = [
            Prediction(
                id=new_id("pred"),
                deployment=first.id,
                model_id=first.model_id,
                key="0" * 16,
                caller=f"caller {number}",
                inputs={"age": 30.0},
                answer={"action": "news", "propensity": 0.4, "propensities": {"news": 0.4, "sport": 0.6}},
            )
            for number in range(600)
        ]
        store.insert(*choices)
        judging = [c for c in choices if split_of(c.id, config.splits.validation, config.splits.reference) != "train"]
        assert len(judging) > 80
        earned = dict(zip([c.id for c in judging], np.arange(len(judging)) % 10 < 3, strict=True))
        store.add_feedback(
            [
                Feedback(
                    id=(i := new_id("fb")),
                    subject=c.id,
                    kind="reward",
                    value=scale * float(earned.get(c.id, True)),
                    author="shop",
                    key=i,
                )
                for c in choices
            ]
        )
        look = trigger.look({}, time.time())
    found = look.found
    assert (found["metric"], found["labels"]) == ("reward", len(judging))
    mean = scale * float(np.mean([*earned.values()]))
    assert found["value"] == pytest.approx(mean) and found["high"] < 0.5 * scale
    assert look.reason is not None and look.reason.startswith(f"live reward {mean:.4g} (")
    assert look.reason.endswith(f" of {len(judging)} rewards, floor {0.5 * scale:.4g}, under the floor")
