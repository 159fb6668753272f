"""Labels that only the model's word speaks against: a changed world is learned, a lie about the old one is not."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tidemill
from tidemill.data.settled import Doubt
from tidemill.records import JSON, Dataset
from tidemill.stages.sift import sift
from tidemill.tasks import get_task

SHIPPED = Path(__file__).parents[2] / "docs" / "quickstart"
OTHER = {"yes": "no", "no": "yes"}


def read(path: Path) -> list[tuple[JSON, str]]:
    """Parcels with whether they were late."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = []
    for row in rows:
        label = row.pop("late").strip(" .").lower()
        numbers = {name: float(row[name]) if row[name] else None for name in ("distance_km", "weight_kg")}
        found.append(({**row, **numbers}, label))
    return found


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tidemill.Project]:
    """It has learned from parcels before a new carrier came, which is late where the others are not."""
    folder = tmp_path_factory.mktemp("sift")
    (folder / "parcels.csv").write_bytes((SHIPPED / "parcels.csv").read_bytes())
    made = tidemill.init(folder / "p", data=folder / "parcels.csv", target="late", recipes={"include": []})
    with contextlib.closing(made.store):
        made.cycle(max_trials=0)
        yield made


def released(project: tidemill.Project, *doubts: Doubt, **more: Any) -> list[str]:
    return sift(project.store, project.task, doubts, **more)


def test_what_changed_is_learned_and_lies_about_what_is_known_are_not(project: tidemill.Project) -> None:
    later = read(SHIPPED / "later.csv")
    swift = [(inputs, label) for inputs, label in later if inputs["carrier"] == "swift"]
    known = [(inputs, label) for inputs, label in later if inputs["carrier"] != "swift"]
    changed = Doubt(mark="changed", samples=swift[:400])
    true = Doubt(mark="true", samples=known[:200])
    lies = Doubt(mark="lies", samples=[(inputs, OTHER[label]) for inputs, label in known[200:500]])
    assert released(project, changed, lies, true) == ["changed", "true"]
    assert released(project, lies, true, changed) == ["changed", "true"], "in whatever order they come"


def test_many_small_lies_do_not_pass_one_by_one(project: tidemill.Project) -> None:
    known = [sample for sample in read(SHIPPED / "later.csv") if sample[0]["carrier"] != "swift"]
    doubts = [
        Doubt(mark=f"lies {n:02}", samples=[(i, OTHER[label]) for i, label in known[n * 25 : n * 25 + 25]])
        for n in range(16)
    ]
    passed = released(project, *doubts)
    assert len(passed) < 8, "each is tried together with those that have passed"


def test_what_cannot_be_told_stays_held_back(project: tidemill.Project) -> None:
    doubt = Doubt(mark="new", samples=read(SHIPPED / "later.csv")[:50])
    first = project.store.find(Dataset)[0]
    assert released(project) == []
    assert released(project, doubt, until=first.created - 1.0) == [], "before there was a version"
    strange = Doubt(mark="strange", samples=[({"colour": "red"}, "yes"), (doubt.samples[0][0], "perhaps")])
    assert released(project, strange) == ["strange"], "of which nothing would be learned"


@pytest.mark.parametrize(
    "name", ["image-classification", "text-classification", "text-multi-label", "tabular-regression"]
)
def test_every_kind_of_task_tells_its_own_labels_from_others(name: str, tmp_path: Path) -> None:
    from tidemill.testing.tasks import write_records

    task = get_task(name)
    records = [dict(record) for record in task.sample_data(0, 700)]
    data = write_records(tmp_path / "data", records[:400])
    made = tidemill.init(tmp_path / "p", data=data, task=name, target="label", recipes={"include": []})
    with contextlib.closing(made.store):
        made.cycle(max_trials=0)
        fresh = [({k: v for k, v in record.items() if k != "label"}, record["label"]) for record in records[400:]]
        if task.kind == "classification":
            labels = sorted({label for _, label in fresh})
            following = dict(zip(labels, [*labels[1:], labels[0]], strict=True))
            wrong = [(inputs, following[label]) for inputs, label in fresh]
        else:
            mixed = np.random.default_rng(0).permutation(len(fresh))
            wrong = [(inputs, fresh[other][1]) for (inputs, _), other in zip(fresh, mixed, strict=True)]
        assert released(made, Doubt(mark="right", samples=fresh)) == ["right"]
        assert released(made, Doubt(mark="wrong", samples=wrong)) == []
