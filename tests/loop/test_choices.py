"""A project of choices goes round: logs of Vowpal Wabbit with features of actions, and rewards of its own choices."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import tidemill
from tidemill.cli.program import build
from tidemill.data.arrays import Ragged
from tidemill.data.dataset import open_dataset
from tidemill.project import predicting
from tidemill.records import Dataset, Feedback, Model, Prediction, new_id


def vw_log(path: Path, rows: int) -> None:
    """Blind choices between two of three articles, of which the cheaper one is liked."""
    rng = np.random.default_rng(0)
    blocks = []
    for _ in range(rows):
        prices = {name: int(rng.integers(1, 10)) for name in rng.choice(["ale", "bun", "cod"], 2, replace=False)}
        names = list(prices)
        chosen = int(rng.integers(2))
        liked = prices[names[chosen]] == min(prices.values()) and rng.random() < 0.9
        lines = [f"shared |c hour:{rng.integers(24)}"]
        lines += [f"{'0:-1:0.5 ' if i == chosen and liked else '0:0:0.5 ' if i == chosen else ''}|a id={n} price:{p}"
                  for i, (n, p) in enumerate(prices.items())]  # fmt: skip
        blocks.append("\n".join(lines))
    path.write_text("\n\n".join(blocks) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> tidemill.Project:
    folder = tmp_path_factory.mktemp("choices")
    vw_log(folder / "log.vw", 900)
    project = tidemill.init(
        folder / "project",
        data=folder / "log.vw",
        task="contextual-bandit",
        recipes={"include": ["linear"]},
        bandit={"policy": "epsilon", "epsilon": 0.1},
    )
    first = project.cycle(seed=0)
    assert first["decision"]["outcome"] == "promoted", first["decision"]["reason"]
    return project


def answered(project: tidemill.Project, offer: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = project.predict([{"hour": 12, "actions": offer}])[0]
    return found


def test_actions_are_told_apart_by_what_describes_them(project: tidemill.Project) -> None:
    """The cheaper one is preferred, whatever it is called; one that was never seen, too."""
    offer = [{"name": "ale", "price": 9}, {"name": "bun", "price": 1}]
    assert answered(project, offer)["propensities"]["bun"] > 0.9
    turned = [{"name": "ale", "price": 1}, {"name": "bun", "price": 9}]
    assert answered(project, turned)["propensities"]["ale"] > 0.9
    new = [{"name": "ale", "price": 9}, {"name": "eel", "price": 1}]
    assert answered(project, new)["propensities"]["eel"] > 0.9


def test_rewards_of_its_own_choices_reach_the_next_cycle(project: tidemill.Project) -> None:
    """As rows with action, propensity and the features of what was chosen; some of them judge."""
    store, offer = project.store, [{"name": "ale", "price": 9}, {"name": "bun", "price": 1}]
    answer = answered(project, offer)
    model = project.champion["id"]  # type: ignore[index]
    for number in range(60):
        made = Prediction(
            id=new_id("pred"),
            created=time.time() - 5,
            deployment="deploy_1",
            model_id=model,
            key=f"{number:016x}",
            inputs={"hour": 12, "actions": offer},
            answer=answer,
        )
        store.insert(made)
        said = new_id("fb")
        store.add_feedback([Feedback(id=said, subject=made.id, kind="reward", value=1.0, key=said)])
    project.cycle(seed=0)
    dataset = store.find(Dataset, newest_first=True, limit=1)[0]
    assert dataset.counts["recent-test"] > 0 and dataset.counts["recent-validation"] > 0
    arrays = open_dataset(store.root, dataset)
    columns = arrays.columns(arrays.rows("recent-test"))
    actions, prices = columns["action"], columns["action.price"]
    assert isinstance(actions, Ragged) and {*actions.to_arrow().to_pylist()} == {answer["action"]}
    assert set(np.asarray(prices)) == {1.0 if answer["action"] == "bun" else 9.0}


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_file_is_answered_with_actions_wherever_it_is_cut(
    project: tidemill.Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """Each is drawn by its row's place: a stopped run ends as one that was not, and no block repeats another."""
    offer = [{"name": "ale", "price": 5}, {"name": "bun", "price": 5}, {"name": "cod", "price": 5}]
    source, whole, target = tmp_path / "rows.jsonl", tmp_path / f"whole{suffix}", tmp_path / f"answers{suffix}"
    source.write_text("".join(json.dumps({"hour": 12, "actions": offer}) + "\n" for _ in range(60)))
    project.predict_file(source, whole, scores=True)
    monkeypatch.setattr(predicting, "PART_ROWS", 7)
    monkeypatch.setattr(predicting, "AT_ONCE", 3)

    def stop(event: dict[str, Any]) -> None:
        if event["done"] >= 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        project.predict_file(source, target, scores=True, on_event=stop)
    assert project.predict_file(source, target, scores=True)["resumed"] > 20
    rows = [table(path) for path in (whole, target)]
    assert rows[0] == rows[1] and len(rows[0]) == 60
    asked = project.predict([{"hour": 12, "actions": offer}] * 60)
    assert [row["predicted_action"] for row in rows[0]] == [answer["action"] for answer in asked]
    for row in rows[0]:
        shares = {name: float(row[f"predicted_propensity_{name}"]) for name in ("ale", "bun", "cod")}
        assert sum(shares.values()) == pytest.approx(1)
        assert float(row["predicted_propensity"]) == shares[row["predicted_action"]]
    blocks = [tuple(row["predicted_action"] for row in rows[0][start : start + 20]) for start in (0, 20, 40)]
    assert len(set(blocks)) == 3


def table(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        found: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return found
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.mark.parametrize("command", [("report",), ("gate",), ("status",), ("models",), ("data", "--html", "data.html")])
def test_commands_speak_of_rewards(
    project: tidemill.Project, command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of them takes a choice for a label."""
    given = [str(tmp_path / part) if part.endswith(".html") else part for part in command]
    monkeypatch.chdir(project.dir)
    done = CliRunner().invoke(build(), given)
    assert done.exit_code == 0 or (command == ("gate",) and "refused" in done.output), done.output


def test_a_roll_out_speaks_of_rewards(project: tidemill.Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begun by hand, on the terms that the project's settings state; there is nothing to ask people for."""
    champion = project.champion["id"]  # type: ignore[index]
    other = next(model.id for model in project.store.find(Model) if model.id != champion)
    project.start_rollout(other, phase="canary", share=0.5)
    monkeypatch.chdir(project.dir)
    done = CliRunner().invoke(build(), ["rollout"])
    assert done.exit_code == 0 and "of 0 of 0 choices that either may have made" in done.output, done.output
    stands = project.rollout()
    assert stands is not None and (stands["kind"], stands["metric"], stands["next"]) == ("choice", "reward", "go on")
    assert "no choice that either policy may have made has a reward yet" in stands["reason"].lower()
    project.stop_rollout(reason="a test")


def test_a_report_as_a_page(project: tidemill.Project, tmp_path: Path) -> None:
    page = project.report_html(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Judged without being run" in page and "snips" in page and "calibrated" in page
