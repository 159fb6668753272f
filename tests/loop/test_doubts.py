"""Labels that are probably wrong are asked about after a cycle, though nobody has looked for them."""

from __future__ import annotations

from pathlib import Path

import pytest

import tidemill
from tidemill.data.dataset import open_dataset
from tidemill.loop import refit
from tidemill.monitor.label_errors import DOUBTS, known_label_errors
from tidemill.project import desk
from tidemill.records import Dataset, QueueItem

WORDS = {"delivery": "late parcel", "payment": "card charged"}
FLIPPED = (12, 31, 58, 77, 103, 146)


def project(folder: Path, *, check: bool = True) -> tidemill.Project:
    """Two hundred texts, of which a few have the wrong label."""
    lines = ["text,topic"]
    for i in range(200):
        label = sorted(WORDS)[i % 2]
        lines.append(f"{WORDS[label]} number {i},{sorted(WORDS)[1 - i % 2] if i in FLIPPED else label}")
    (folder / "a.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    made = tidemill.init(
        folder / "p",
        data=folder / "a.csv",
        target="topic",
        task="text-classification",
        recipes={"include": ["ridge"]},
        annotation={"check_labels": check},
    )
    made.cycle(max_trials=0, max_epochs=1)
    return made


def wrong(made: tidemill.Project, *splits: str) -> set[str]:
    """Ids of the samples whose label was flipped."""
    record = made.store.find(Dataset)[0]
    dataset = open_dataset(made.store.root, record)
    rows = [int(row) for split in splits for row in dataset.rows(split)]
    return {dataset.sample_id(row) for row in rows if int(dataset.origin(row).rsplit(" ", 1)[1]) - 1 in FLIPPED}


def doubted(made: tidemill.Project) -> list[QueueItem]:
    return made.store.find(QueueItem, done=False, signal="doubtful")


def test_a_cycle_asks_about_labels_that_its_own_scores_doubt(tmp_path: Path) -> None:
    with project(tmp_path).store as store:
        made = tidemill.open(tmp_path / "p")
        asked = doubted(made)
        flipped = wrong(made, "train", "validation")
        assert len(flipped) >= 4 and {q.subject for q in asked} == flipped
        assert {q.purpose for q in asked} == {"settle"} and all("the data says" in q.reason for q in asked)
        known = known_label_errors(store.root, store.find(Dataset)[0])
        assert known is not None and known["by"]["folds"] == 5 and known["rows"] == known["of"]
        assert made.data(search=False)["label_errors"]["suspected"] == len(flipped)
        # The answer settles it, so that it is asked no more.
        (subject, *_) = flipped
        desk.answer(made, subject, "payment", author="ann")
        made.requeue()
        assert {q.subject for q in doubted(made)} == flipped - {subject}
        made.store.close()


def test_where_validation_rows_suffice_these_alone_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refit, "ENOUGH", 10)
    made = project(tmp_path)
    known = known_label_errors(made.store.root, made.store.find(Dataset)[0])
    assert known is not None and known["by"]["folds"] == 1 and known["rows"] < known["of"]
    assert {q.subject for q in doubted(made)} <= wrong(made, "validation")
    made.store.close()


def test_nobody_is_asked_where_that_is_not_wanted(tmp_path: Path) -> None:
    made = project(tmp_path, check=False)
    assert doubted(made) == []
    assert not list(made.store.root.rglob(DOUBTS))
    made.store.close()
