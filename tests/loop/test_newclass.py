"""A class more from five samples: learned in a snapshot, judged, served, undone, and folded into the next cycle."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import tidemill
from tidemill.cli.main import main
from tidemill.data.settled import settled_labels
from tidemill.errors import ConflictError, InputError, PackageError
from tidemill.gate import replay
from tidemill.records import Annotation, Dataset, Decision, Deployment, Prediction, StateSnapshot
from tidemill.runtime.classes import Classes

KNOWN, NEW, NEXT = range(8), 8, 9


def digits() -> tuple[np.ndarray, np.ndarray]:
    images, labels = load_digits(return_X_y=True)
    return (images.reshape(-1, 8, 8) * 15.9375).astype(np.uint8), labels


def samples(digit: int, start: int, count: int) -> list[dict[str, Any]]:
    images, labels = digits()
    return [{"image": image.tolist()} for image in images[labels == digit][start : start + count]]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tidemill.Project]:
    """A network that knows the digits from 0 to 7."""
    folder = tmp_path_factory.mktemp("newclass")
    images, labels = digits()
    known = np.isin(labels, KNOWN)
    np.savez(folder / "digits.npz", image=images[known], digit=labels[known].astype(str))
    recipes = {"include": ["naive-bayes", "cnn"]}
    project = tidemill.init(folder / "project", data=folder / "digits.npz", target="digit", recipes=recipes)
    project.cycle(max_epochs=12, seed=0)
    assert project.model().recipe == "cnn"
    yield project
    project.store.close()


@pytest.fixture(scope="module")
def learned(project: tidemill.Project) -> dict[str, Any]:
    """What became of five eights; the tests below follow in order."""
    return project.learn_class("8", samples(NEW, 0, 5), author="ada")


def share(project: tidemill.Project, digit: int, label: str | None = None) -> float:
    rows = samples(digit, 50, 60)
    return float(np.mean([answer["label"] == (label or str(digit)) for answer in project.predict(rows)]))


def test_a_class_is_learned_and_answered(project: tidemill.Project, learned: dict[str, Any]) -> None:
    assert learned["decision"]["outcome"] == "promoted", learned["decision"]["reason"]
    assert project.champion_deployment().state_id == learned["state"]
    assert share(project, NEW) > 0.6
    assert np.mean([share(project, digit) for digit in KNOWN]) > 0.9
    answer = project.predict(samples(NEW, 120, 1))[0]
    assert set(answer["scores"]) == {*map(str, KNOWN), "8"} and sum(answer["scores"].values()) == pytest.approx(
        1, abs=1e-5
    )


def test_the_decision_says_what_was_shown_and_is_replayed(project: tidemill.Project, learned: dict[str, Any]) -> None:
    decision = project.store.get(Decision, learned["decision"]["id"])
    assert "the old classes lose" in decision.reason and "of 5 samples were recognised" in decision.reason
    assert replay(decision.evidence).outcome == "promoted" and project.gate()["replayed"]
    assert project.trace(learned["state"])["record"]["facts"]["labels"] == ["8"]
    worse = {**decision.evidence, "class": {"name": "8", "samples": 5, "recognised": 2}}
    assert replay(worse).outcome == "refused"


def test_between_the_old_classes_nothing_changes(project: tidemill.Project, learned: dict[str, Any]) -> None:
    rows = samples(3, 0, 20)
    model = project.open_model(project.model())
    before, after = model.predict(rows), project.predict(rows)
    for old, new in zip(before, after, strict=True):
        odds = new["scores"]["3"] / new["scores"]["5"]
        assert odds == pytest.approx(old["scores"]["3"] / old["scores"]["5"], rel=1e-2)


def test_a_second_class_joins_the_first(project: tidemill.Project, learned: dict[str, Any]) -> None:
    before = share(project, NEW)
    told = project.learn_class("9", samples(NEXT, 0, 5), author="ada")
    if told["decision"]["outcome"] == "promoted":
        snapshot = project.store.get(StateSnapshot, told["state"])
        assert snapshot.parent == learned["state"] and snapshot.facts["labels"] == ["8", "9"]
        assert share(project, NEXT) > 0.5 and share(project, NEW) > before - 0.2
        project.rollback(reason="one class is enough here")
    assert project.champion_deployment().state_id == learned["state"]


def test_rolling_back_takes_the_class_away_and_nothing_else(project: tidemill.Project, learned: dict[str, Any]) -> None:
    model = project.champion_deployment().model_id
    back = project.rollback(reason="to see")
    assert back["model_id"] == model and back["state_id"] is None and share(project, NEW) == 0.0
    again = project.store.get(Deployment, learned["deployment"])
    made = Deployment(id=f"{again.id[:-1]}x", name="default", model_id=model, action="promote", reason="back")
    project.store.deploy(dataclasses.replace(made, state_id=learned["state"]))
    assert share(project, NEW) > 0.6


def test_what_makes_no_class_is_refused(project: tidemill.Project, learned: dict[str, Any]) -> None:
    before = project.store.count(Decision), project.store.count(Prediction)
    with pytest.raises(ConflictError, match="knows the class '8' already"):
        project.learn_class("8", samples(NEW, 10, 5))
    with pytest.raises(ConflictError, match="knows the class '3' already"):
        project.learn_class("3", samples(3, 10, 5))
    with pytest.raises(InputError, match=r"1 samples are given.*better 5"):
        project.learn_class("9", samples(NEXT, 0, 1))
    with pytest.raises(InputError, match="a sample is given twice"):
        project.learn_class("9", samples(NEXT, 0, 2) * 2)
    with pytest.raises(InputError, match="no name of a class"):
        project.learn_class(" ", samples(NEXT, 0, 5))
    with pytest.raises(InputError, match=r"image"):
        project.learn_class("9", [{"picture": 1}] * 5)
    assert (project.store.count(Decision), project.store.count(Prediction)) == before


def test_noise_is_no_class(project: tidemill.Project, learned: dict[str, Any]) -> None:
    """Five samples of old classes under one new name: either they are not recognised, or old ones would suffer."""
    mixed = [samples(digit, 5, 1)[0] for digit in (0, 1, 2, 3, 4)]
    told = project.learn_class("soup", mixed, author="mallory")
    assert told["decision"]["outcome"] == "refused" and told["state"] is None and told["samples"] == []
    assert project.champion_deployment().state_id == learned["state"]


def test_a_snapshot_that_was_damaged_is_refused(project: tidemill.Project, learned: dict[str, Any]) -> None:
    content = project.store.blobs.get(project.store.get(StateSnapshot, learned["state"]).blob)
    assert Classes.from_bytes(content).labels == ("8",)
    for broken in (b"", content[:40], content[:-8], content.replace(b'"1"', b'"9"', 1), b"\xff" * 64):
        with pytest.raises(PackageError, match="the learned classes cannot be read"):
            Classes.from_bytes(broken)


def test_the_command_reads_images(
    project: tidemill.Project, learned: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    files = []
    for number, sample in enumerate(samples(NEXT, 20, 5)):
        files.append(tmp_path / f"nine{number}.png")
        Image.fromarray(np.array(sample["image"], np.uint8)).save(files[-1])
    rows = tmp_path / "more.jsonl"
    png = io.BytesIO()
    Image.fromarray(np.array(samples(NEXT, 30, 1)[0]["image"], np.uint8)).save(png, "png")
    rows.write_text(json.dumps({"image": base64.b64encode(png.getvalue()).decode()}) + "\n", encoding="utf-8")
    with pytest.raises(SystemExit) as left:
        main(["learn-class", "9", *map(str, [*files, rows]), "-C", str(project.dir), "--json"])
    told = json.loads(capfd.readouterr().out)
    assert "of 6 samples" in json.dumps(told) or told["decision"]["outcome"] == "promoted"
    assert (left.value.code == 0) == (told["deployment"] is not None)
    with pytest.raises(SystemExit) as missing:
        main(["learn-class", "9", str(tmp_path / "nobody.png"), "-C", str(project.dir)])
    assert missing.value.code == 2 and "there is no such file" in capfd.readouterr().err


def test_the_next_cycle_trains_on_the_samples(project: tidemill.Project, learned: dict[str, Any]) -> None:
    settled = settled_labels(project.store, project.task.label, policy=project.config.feedback)
    labels = [sample.label for sample in settled.live if sample.prediction.id in learned["samples"]]
    assert labels == ["8"] * 5 and project.store.count(Annotation, author="ada") >= 5
    project.cycle(max_epochs=2, seed=1)
    newest = project.store.find(Dataset, newest_first=True, limit=1)[0]
    assert "8" in newest.signature["labels"]
    trained = project.models()[0]
    assert "8" in project.predict(samples(NEW, 0, 1), model=trained["id"])[0]["scores"]
