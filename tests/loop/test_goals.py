"""A stated goal picks which candidate goes to the gate, and ``tidemill pareto`` shows what there is to pick from."""

from __future__ import annotations

from pathlib import Path

import pytest

import tidemill
from tidemill.cli.main import main
from tidemill.config import Goal, parse_goal
from tidemill.errors import ConfigError, InputError, NotReadyError, TrainingError
from tidemill.loop.goals import Point, front, over, picked
from tidemill.records import Decision, Model, Run


def point(name: str, quality: float, latency: float | None = 1.0, size: int = 1000) -> Point:
    return Point(name=name, quality=quality, latency_ms=latency, size_bytes=size)


POINTS = [
    point("small", 0.80, 1.0, 10_000),
    point("quick", 0.85, 0.5, 500_000),
    point("good", 0.95, 9.0, 3_000_000),
    point("beaten", 0.80, 9.5, 3_000_000),
    point("untimed", 0.90, None, 20_000),
]


def test_the_front_is_what_no_other_beats() -> None:
    assert front(POINTS) == [True, True, True, False, True]
    assert front([point("a", 0.5), point("b", 0.5)]) == [True, True], "equals do not beat one another"
    assert front([point("a", 0.5), point("b", 0.5, None)]) == [True, False]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("best", "good"),
        ("under 5 ms", "quick"),
        ("under 600 us", "quick"),
        ("under 2 MB", "untimed"),
        ("under 15 kB", "small"),
        ("under 5 ms and under 100 kB", "small"),
        ("Under 1 s, under 1 GB", "good"),
    ],
)
def test_a_goal_picks_the_best_that_keeps_to_it(text: str, name: str) -> None:
    assert POINTS[picked(parse_goal(text), text, POINTS)].name == name


def test_of_equally_good_ones_the_smaller_is_picked() -> None:
    assert picked(Goal(), "best", [point("a", 0.5, size=9), point("b", 0.5, size=8), point("c", 0.5, size=8)]) == 1


def test_where_nothing_keeps_to_it_each_one_is_told_why() -> None:
    with pytest.raises(TrainingError, match=r"no candidate is under 1 us: small takes 1 ms; .* untimed was not timed"):
        picked(parse_goal("under 1 us"), "under 1 us", POINTS)
    assert over(Goal(latency_ms=1.0, size_bytes=5e3), POINTS[0]) == "takes 1 ms and has 0.01 MB"


@pytest.mark.parametrize("text", ["fast", "under", "under 5", "under 5 ms 3", "under 0 ms", "under 5 ms and under 2 s"])
def test_what_is_no_goal(text: str) -> None:
    with pytest.raises(InputError, match=r"goal: .* Write best, under 5 ms"):
        parse_goal(text)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> tidemill.Project:
    folder = tmp_path_factory.mktemp("goal")
    return tidemill.init(
        folder / "project", data="sklearn:breast_cancer", target="target", recipes={"include": ["lightgbm"]}
    )


def with_goal(project: tidemill.Project, goal: str) -> tidemill.Project:
    file = project.dir / "tidemill.yaml"
    lines = [line for line in file.read_text("utf-8").splitlines() if not line.lstrip("# ").startswith("goal: ")]
    gate = lines.index("gate:")
    file.write_text("\n".join([f"goal: {goal}", *lines[:gate], *lines[gate:]]) + "\n", encoding="utf-8")
    return tidemill.open(project.dir)


def test_pareto_before_a_cycle_says_what_to_do(project: tidemill.Project) -> None:
    with pytest.raises(NotReadyError, match="tidemill cycle"):
        project.pareto()


def test_a_cycle_sends_what_the_goal_asks_for_to_the_gate(
    project: tidemill.Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = project.cycle(max_trials=0, max_epochs=30)
    found = project.pareto()
    by_name = {model["recipe"]: model for model in found["models"]}
    assert set(by_name) == {"naive-bayes", "ridge", "lightgbm"} and found["goal"] == "best"
    assert found["quality"] == "log_loss" and all(model["latency_ms"] > 0 for model in found["models"])
    qualities = [model["quality"] for model in found["models"]]
    assert qualities == sorted(qualities, reverse=True) and found["models"][0]["front"]
    (judged,) = [model["recipe"] for model in found["models"] if model["challenger"]]
    picked_first = project.store.get(Model, first["decision"]["challenger_id"]).recipe
    assert judged == picked_first == found["models"][0]["recipe"]

    # a limit between the sizes leaves the smallest alone
    sizes = sorted((model["size_bytes"], name) for name, model in by_name.items())
    limit = (sizes[0][0] + sizes[1][0]) / 2
    again = with_goal(project, f"under {limit / 1000:.3f} kB")
    done = again.cycle(max_trials=0, max_epochs=30)
    challenger = again.store.get(Model, done["decision"]["challenger_id"])
    assert challenger.recipe == sizes[0][1] and challenger.size_bytes < limit
    misses = {model["recipe"]: model["over"] for model in again.pareto()["models"]}
    assert misses[sizes[0][1]] is None and all(misses[name] for _, name in sizes[1:])

    monkeypatch.setenv("COLUMNS", "160")
    with pytest.raises(SystemExit) as left:
        main(["pareto", "-C", str(project.dir)])
    shown = capsys.readouterr().out
    assert left.value.code == 0 and "champion" in shown and "log-loss, better above" in shown
    assert "latency ←" in shown and "size ←" in shown and f"goal   under {limit / 1000:.3f} kB" in shown


def test_a_refit_that_misses_the_goal_stays_at_home(project: tidemill.Project, tmp_path: Path) -> None:
    store = project.store
    kinds = {run.id: run.kind for run in store.find(Run, kind=["train", "refit"])}
    sizes = {kinds[str(model.run_id)]: model.size_bytes for model in store.find(Model, recipe="lightgbm")}
    limit = sizes["train"] * 1.2
    assert sizes["refit"] > limit, "three ensembles are averaged"
    only = tidemill.init(
        tmp_path / "only",
        data="sklearn:breast_cancer",
        target="target",
        recipes={"include": ["lightgbm"]},
        goal=f"under {limit / 1000:.3f} kB",
    )
    done = only.cycle(max_trials=0, max_epochs=30)
    final = only.store.get(Model, only.store.find(Decision)[0].challenger_id)
    assert final.recipe == "lightgbm" and final.size_bytes < limit
    assert "the model before the refit goes to the gate" in done["notes"][0]


def test_a_goal_that_nothing_keeps_to_ends_the_cycle_with_one_message(project: tidemill.Project) -> None:
    strict = with_goal(project, "under 1 kB")
    champion = strict.champion_deployment().model_id
    with pytest.raises(TrainingError, match=r"no candidate is under 1 kB: .*has .* MB"):
        strict.cycle(max_trials=0, max_epochs=30)
    assert strict.champion_deployment().model_id == champion


def test_a_goal_with_a_fault_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="goal must be best, or limits such as under 5 ms"):
        tidemill.init(tmp_path / "p", data="sklearn:iris", target="target", goal="quick")


def test_a_budget_that_the_baselines_use_up_is_said(tmp_path: Path) -> None:
    project = tidemill.init(tmp_path / "p", data="sklearn:iris", target="target")
    done = project.cycle(budget=0.001)
    assert done["decision"] is not None
    assert done["notes"][0].startswith("a budget of 0.001 s is too short: the baselines alone")
    tried = [c["recipe"] for c in done["candidates"] if not c["baseline"] and "model" in c]
    assert len(tried) == 1
