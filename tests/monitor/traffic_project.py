"""A small project with a champion, and traffic for it that is written down without being served."""

from __future__ import annotations

import contextlib
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

import tidemill
from tidemill.api.project import Project
from tidemill.records import Annotation, LiveKey, Prediction, new_id
from tidemill.store import new_prediction_id

ROWS = 900


def inputs(rows: int, seed: int, *, age: float = 40.0, together: float = 0.9) -> list[dict[str, Any]]:
    """Requests; *together* is how much height says of reach."""
    rng = np.random.default_rng(seed)
    height = rng.normal(0, 1, rows)
    reach = together * height + np.sqrt(1 - together**2) * rng.normal(0, 1, rows)
    ages, places = rng.normal(age, 10, rows).round(2), rng.choice(["port", "lock", "weir"], rows)
    return [
        {"age": a, "height": h, "reach": r, "place": p}
        for a, h, r, p in zip(ages.tolist(), height.tolist(), reach.tolist(), places.tolist(), strict=True)
    ]


def make(folder: Path, **settings: Any) -> None:
    """A project in ``folder/p`` after one cycle, whose champion says whether somebody is older than 40."""
    late = [{**row, "late": "yes" if row["age"] > 40 else "no"} for row in inputs(ROWS, seed=0)]
    pa.csv.write_csv(pa.Table.from_pylist(late), folder / "tides.csv")
    settings = {"recipes": {"include": ["ridge"]}, **settings}
    project = tidemill.init(folder / "p", data=folder / "tides.csv", target="late", **settings)
    with contextlib.closing(project.store):
        project.cycle(max_trials=0)
        assert project.champion is not None


def ask(
    project: Project, records: list[dict[str, Any]], *, audited: bool = False, caller: str | None = None
) -> list[Prediction]:
    """Answers to requests as the champion gives them, in the tables as if they had been served."""
    deployment, predictor = project.open_champion()
    given = [
        Prediction(
            id=new_prediction_id(project.store.secret),
            deployment=deployment.id,
            model_id=deployment.model_id,
            key=uuid.uuid4().hex[:16],
            inputs=record,
            answer=answer,
            audited=audited,
            audit_probability=0.5,
            caller=caller,
        )
        for record, answer in zip(records, predictor.predict(records), strict=True)
    ]
    split: Any = "recent-test" if audited else "train"
    keys = [LiveKey(id=new_id("key"), key=p.key, split=split, probability=0.5, drawn=audited) for p in given]
    project.store.insert(*given, *keys)
    return given


def answer(project: Project, given: list[Prediction], right: float, *, seed: int = 0) -> None:
    """Label what the audit drew, so that a share *right* of the model's answers was right."""
    wrong = np.random.default_rng(seed).permutation(len(given)) >= round(right * len(given))
    other = {"yes": "no", "no": "yes"}
    labels = [other[p.answer["label"]] if w else p.answer["label"] for p, w in zip(given, wrong, strict=True)]
    project.store.insert(
        *(
            Annotation(id=new_id("label"), subject=p.id, label=label, author="ada", purpose="audit")
            for p, label in zip(given, labels, strict=True)
        )
    )
