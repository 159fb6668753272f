"""Bursts of wrong corrections, by one author and by fifty fresh ones, over HTTP: the champion stands and still learns.

The digits are real, and so are the service, the cycles and the gate. The attacker knows which answers are right and
says of them what is wrong; the honest user corrects what was wrong, as users do.
"""

from __future__ import annotations

import contextlib
import json
import queue
import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import tidemill
from tidemill.data.dataset import open_dataset
from tidemill.records import Dataset, Model, Report
from tidemill.serving.server import serve

LABELLED, JUDGED = 250, 500


@contextlib.contextmanager
def served(project: tidemill.Project) -> Iterator[httpx.Client]:
    ready: queue.SimpleQueue[int] = queue.SimpleQueue()
    stop = threading.Event()
    thread = threading.Thread(target=serve, args=(project, "127.0.0.1", 0, ready.put, stop))
    thread.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{ready.get(timeout=60)}", timeout=60) as client:
            yield client
    finally:
        stop.set()
        thread.join()


def asked(client: httpx.Client, images: np.ndarray[Any, Any]) -> list[dict[str, Any]]:
    answers: list[dict[str, Any]] = []
    for start in range(0, len(images), 100):
        inputs = [{"image": image.tolist()} for image in images[start : start + 100]]
        answers += client.post("/v1/predict", json={"inputs": inputs}).raise_for_status().json()["predictions"]
    return answers


def say(client: httpx.Client, said: Sequence[dict[str, Any]]) -> None:
    body = "".join(json.dumps(one) + "\n" for one in said)
    answer = client.post("/v1/feedback/bulk", content=body, headers={"content-type": "application/x-ndjson"})
    assert answer.text.count('"status":"accepted"') == len(said)


def correct(answer: dict[str, Any], label: str, author: str) -> dict[str, Any]:
    return {"prediction": answer["id"], "kind": "correction", "value": label, "author": author}


def quality(project: tidemill.Project, model: str) -> float:
    """Of a model on the reference set, whose labels are true."""
    report = project.store.find(Report, model_id=model, split="reference", newest_first=True)[0]
    return float(report.content["metrics"]["accuracy"]["value"])


def wrong_labels(project: tidemill.Project, truths: dict[str, str]) -> tuple[int, int]:
    """Of the newest version's training samples from traffic, how many have a wrong label, and how many there are."""
    dataset = open_dataset(project.store.root, project.store.find(Dataset, newest_first=True, limit=1)[0])
    labels, rows = dataset.signature.labels, dataset.rows("train").tolist()
    said = [(truths[dataset.origin(row)], labels[dataset.target[row]]) for row in rows if dataset.origin(row) in truths]
    return sum(truth != label for truth, label in said), len(said)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray[Any, Any], list[str]]:
    """A project with a champion, and images that it has not seen, with the digits that they show."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images = (images.reshape(-1, 8, 8) * 255 / 16).round().astype(np.uint8)
    start, judge, rest = np.split(np.random.default_rng(0).permutation(len(labels)), [LABELLED, LABELLED + JUDGED])
    folder = tmp_path_factory.mktemp("attack")
    arrays = {"x_train": images[start], "y_train": labels[start], "x_test": images[judge], "y_test": labels[judge]}
    np.savez(folder / "digits.npz", **arrays)
    project = tidemill.init(
        folder / "project",
        data=folder / "digits.npz",
        target="label",
        recipes={"include": []},
        audit={"rate": 0.0},
        gate={"tests": 3},
        splits={"validation": 0.3},
    )
    with contextlib.closing(project.store):
        assert project.cycle(max_trials=0)["decision"]["outcome"] == "promoted"
    return folder / "project", images[rest], [str(label) for label in labels[rest]]


def test_wrong_corrections_in_bursts_do_no_harm_and_honest_ones_still_help(
    digits: tuple[Path, np.ndarray[Any, Any], list[str]],
) -> None:
    folder, images, shown = digits
    project = tidemill.open(folder)
    champion = project.champion_deployment().model_id
    before = quality(project, champion)
    with served(project) as client:
        answers = asked(client, images)
        truths = {answer["id"]: truth for answer, truth in zip(answers, shown, strict=True)}
        right = [(a, t) for a, t in zip(answers, shown, strict=True) if a["label"] == t]
        wrong = [(a, t) for a, t in zip(answers, shown, strict=True) if a["label"] != t]
        assert len(right) > 700 and len(wrong) > 60

        def lie(answer: dict[str, Any], truth: str, author: str) -> dict[str, Any]:
            return correct(answer, str((int(truth) + 1) % 10), author)

        # One author says it of 300 answers.
        say(client, [lie(answer, truth, "eve") for answer, truth in right[:300]])
        shutil.copytree(folder, unguarded := folder.parent / "unguarded", dirs_exist_ok=True)
        done = project.cycle(max_trials=0)
        refused(project, done, champion, before)
        lies, learned = wrong_labels(project, truths)
        assert lies <= 15, f"{lies} of {learned}"
        (eve,) = project.authors()["authors"]
        assert (eve["author"], eve["standing"], eve["statements"]) == ("eve", "doubted", 300)
        assert eve["held"] >= 285 and "within an hour" in eve["why"]
        assert sum(project.status()["live"]["held"].values()) == eve["held"]
        assert {question["purpose"] for question in project.questions(5, purpose="useful")} == {"settle"}

        # Then fifty who never said a thing before say it of 300 others.
        say(client, [lie(answer, truth, f"fresh {n % 50}") for n, (answer, truth) in enumerate(right[300:600])])
        refused(project, project.cycle(max_trials=0), champion, before)
        lies, learned = wrong_labels(project, truths)
        assert lies <= 30, f"{lies} of {learned}"

        # Two hours later an honest user corrects what was wrong, and confirms some of what was right.
        with project.store.database.transaction() as connection:
            connection.exec_driver_sql("UPDATE feedback SET created = created - 7200")
        honest = [correct(answer, truth, "ann") for answer, truth in wrong]
        honest += [{"prediction": a["id"], "kind": "confirmation", "author": "ann"} for a, _ in right[600:]]
        say(client, honest)
        done = project.cycle(max_trials=0)
        after = quality(project, done["decision"]["challenger_id"])
        assert after > before + 0.005, f"{before} before, {after} after"
        standing = {author["author"]: author["standing"] for author in project.authors()["authors"]}
        assert standing["ann"] == "trusted" and standing["eve"] == "doubted"
        report = project.store.find(Dataset, newest_first=True, limit=1)[0].report
        held = [action["what"] for action in report["actions"] if action["what"].startswith("labels are held back")]
        assert any("an author stated 300 labels within an hour" in what for what in held)
        assert any("50 new authors stated 300 labels within an hour" in what for what in held)
    project.store.close()

    # Where every author has one vote, the same lies ruin what is learned, and only the gate stands.
    config = unguarded / "tidemill.yaml"
    config.write_text(config.read_text("utf-8").replace("  # trust: true ", "  trust: false ", 1), "utf-8")
    open_ = tidemill.open(unguarded)
    with contextlib.closing(open_.store):
        done = open_.cycle(max_trials=0)
        assert quality(open_, done["decision"]["challenger_id"]) < before - 0.1
        refused(open_, done, champion, 0.0)


def refused(project: tidemill.Project, done: dict[str, Any], champion: str, least: float) -> None:
    """The champion still serves, or another one that is no worse."""
    now = project.champion_deployment().model_id
    assert quality(project, now) >= least - 0.002
    if done["decision"]["outcome"] == "refused":
        assert now == champion
    assert project.store.exists(Model, now)
