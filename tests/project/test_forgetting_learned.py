"""A class learned from a person's pictures goes with them: the mean of a few pictures is nearly one of them."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _person import NAME, rooms, traces
from sklearn.datasets import load_digits

import tidemill
from tidemill.data.learned import learned_labels
from tidemill.errors import NotReadyError
from tidemill.records import Annotation, Erasure, StateSnapshot
from tidemill.runtime.classes import Classes


def pictures(digit: int, start: int = 0, count: int = 5) -> list[dict[str, Any]]:
    images, labels = load_digits(return_X_y=True)
    pixels = (images.reshape(-1, 8, 8) * 15.9375).astype(np.uint8)[labels == digit]
    return [{"image": one.tolist()} for one in pixels[start : start + count]]


@pytest.fixture(scope="module")
def _taught(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A model of the digits from 0 to 7, taught an eight by one person, and then a nine by another."""
    folder = tmp_path_factory.mktemp("taught")
    images, labels = load_digits(return_X_y=True)
    known = labels < 8
    pixels = (images.reshape(-1, 8, 8) * 15.9375).astype(np.uint8)
    np.savez(folder / "digits.npz", image=pixels[known], digit=labels[known].astype(str))
    project = tidemill.init(
        folder / "p", data=folder / "digits.npz", target="digit", recipes={"include": [], "exclude": ["naive-bayes"]}
    )
    with contextlib.closing(project.store):
        project.cycle(max_trials=0, seed=0)
        told = {
            name: project.learn_class(name, pictures(int(name)), author=who)
            for name, who in (("8", NAME), ("9", "bob"))
        }
    assert all(one["state"] for one in told.values()), told
    return folder, told


@pytest.fixture
def told(_taught: tuple[Path, dict[str, Any]]) -> dict[str, Any]:
    return _taught[1]


@pytest.fixture
def project(_taught: tuple[Path, dict[str, Any]], tmp_path: Path) -> Iterator[tidemill.Project]:
    opened = tidemill.open(shutil.copytree(_taught[0], tmp_path / "home") / "p")
    with contextlib.closing(opened.store):
        yield opened


def blobs(project: tidemill.Project) -> set[str]:
    return {path.name for path in (project.store.root / "blobs").rglob("*") if path.is_file()}


def answered(project: tidemill.Project) -> set[str]:
    return set(project.predict(pictures(8, 50, 1))[0]["scores"]) - set("01234567")


def test_one_picture_takes_every_snapshot_that_knows_it(project: tidemill.Project, told: dict[str, Any]) -> None:
    store, model = project.store, project.champion_deployment().model_id
    first, second = (store.get(StateSnapshot, told[name]["state"]) for name in "89")
    one = told["8"]["samples"][0]
    prototype = Classes.from_bytes(store.blobs.get(first.blob)).new[0].tobytes()
    assert rooms(traces(store.root, prototype)) == {"blobs"}
    named = [
        {"id": first.id, "model": model, "classes": ["8"], "champion": False},
        {"id": second.id, "model": model, "classes": ["8", "9"], "champion": True},
    ]
    planned = project.forget(ids=[one], dry_run=True)
    assert planned["states"] == named and blobs(project) == {first.blob, second.blob}
    assert answered(project) == {"8", "9"}

    done = project.forget(ids=[one])
    assert done["states"] == named and blobs(project) == set()
    force = project.champion_deployment()
    assert (force.model_id, force.state_id) == (model, None) and "erased" in force.reason
    assert answered(project) == set()
    left = store.get(StateSnapshot, second.id)
    assert left.erased and one not in json.dumps(left.facts)
    assert traces(store.root, prototype) == set()
    assert set(store.find(Erasure)[0].models) >= {first.id, second.id}
    assert project.trace(second.id)["record"]["blob"] == ""


def test_what_was_learned_before_stays_in_force(project: tidemill.Project, told: dict[str, Any]) -> None:
    first = project.store.get(StateSnapshot, told["8"]["state"])
    done = project.forget(author="bob")
    assert [(s["id"], s["champion"]) for s in done["states"]] == [(told["9"]["state"], True)]
    assert project.champion_deployment().state_id == first.id and blobs(project) == {first.blob}
    assert answered(project) == {"8"}
    assert project.rollback()["state_id"] is None, "and not what was erased"
    with pytest.raises(NotReadyError, match="no model before"):
        project.rollback()


def test_a_snapshot_that_does_not_serve_goes_without_a_deployment(
    project: tidemill.Project, told: dict[str, Any]
) -> None:
    project.rollback()
    project.rollback()
    force = project.champion_deployment()
    done = project.forget(ids=[told["8"]["samples"][0]])
    assert [s["champion"] for s in done["states"]] == [False, False] and blobs(project) == set()
    assert project.champion_deployment() == force


def test_the_label_by_which_it_was_taught_takes_it_along(project: tidemill.Project, told: dict[str, Any]) -> None:
    label = project.store.find(Annotation, subject=told["9"]["samples"][0])[0]
    assert [s["id"] for s in project.forget(ids=[label.id])["states"]] == [told["9"]["state"]]


def test_what_is_left_of_a_class_is_taught_again_and_its_name_goes_with_the_last(
    project: tidemill.Project, told: dict[str, Any]
) -> None:
    samples = told["9"]["samples"]
    project.forget(ids=samples[:1])
    assert learned_labels(project.store) == ("8", "9"), "four of them still train"
    assert project.learn_class("9", pictures(9), author="bob")["state"] is not None
    again = {s.id for s in project.store.find(StateSnapshot)} - {one["state"] for one in told.values()}
    assert {s["id"] for s in project.forget(author="bob")["states"]} == {told["9"]["state"], *again}
    assert learned_labels(project.store) == ("8",), "or the next model had a class without rows"


KILLED = """
import json, shutil, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import _person
_person.WATCHED = ("forgetting/learned.py", "store/blobs.py", "stages/deploy.py")
import tidemill.project.forgetting
folder = Path(sys.argv[2])
whole = shutil.copytree(folder, folder.parent / "whole")
counted = folder.parent / "calls"
_person.in_child(lambda: counted.write_text(str(_person.calls(lambda: _person.forget(whole)))) * 0)
done = []
total = int(counted.read_text())
for n in range(total // 12, total + 1, total // 6):
    copy = shutil.copytree(folder, folder.parent / f"killed{n}")
    done.append([str(copy), _person.in_child(lambda: _person.calls(lambda: _person.forget(copy), n) * 0)])
print(json.dumps(done))
"""


def test_a_kill_in_the_middle_is_gone_on_with(project: tidemill.Project) -> None:
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(project.dir)]
    done = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout)
    assert {status for _, status in done} == {-9}
    begun = 0
    for folder, _ in done:
        opened = tidemill.open(folder)  # goes on
        with contextlib.closing(opened.store):
            if opened.store.count(Erasure):
                begun += 1
                assert blobs(opened) == set() and opened.champion_deployment().state_id is None
                assert all(s.erased for s in opened.store.find(StateSnapshot))
    assert begun > 3
