"""``tidemill.yaml`` with faults, and changed between cycles."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path

import pytest
from newcomer import HEADER, cycle, quick, rows, start, state, tidemill

from tidemill.project import OpenProject
from tidemill.records import Cycle, new_id


def change(project: Path, old: str, new: str) -> None:
    config = project / "tidemill.yaml"
    text = config.read_text("utf-8")
    assert old in text
    config.write_text(text.replace(old, new, 1), "utf-8")


FAULTY = """\
schema: 1
tsak: tabular-classification
data:
  - path: ../tides.csv
target: label
gate:
  alhpa: 0.05
  margin: -3
serve:
  prot: 8000
"""


@pytest.mark.parametrize("command", ["cycle", "status", "plan", "predict size=1 tide=neap", "doctor", "gc", "label"])
def test_all_faults_are_told_at_once_and_nothing_is_touched(command: str, kept: Path) -> None:
    before = state(kept)
    right = (kept / "tidemill.yaml").read_text("utf-8")
    (kept / "tidemill.yaml").write_text(FAULTY, "utf-8")
    lines = tidemill(*command.split(), "-C", kept).refusal().splitlines()
    for line, words in zip(
        lines,
        ("yaml:1: task is missing", "yaml:2: unknown key tsak; did you mean task?",
         "yaml:7: unknown key gate.alhpa; did you mean alpha?", "yaml:8: gate.margin must be at least 0",
         "yaml:10: unknown key serve.prot; did you mean port?"),
        strict=True,
    ):  # fmt: skip
        assert words in line
    (kept / "tidemill.yaml").write_text(right, "utf-8")
    assert state(kept) == before


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "task is missing"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"a: [1\nb: 2", "is not YAML"),
        (b"- a\n- b\n", "must be keys with values"),
        (b"a: &a [x, x]\n" + b"".join(b"b%d: &b%d [*a, *a]\n" % (i, i) for i in range(30)), "the alias *a"),
        (b"[" * 5000, "nested too deeply"),
    ],
)
def test_a_file_that_is_no_configuration(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "tidemill.yaml").write_bytes(content)
    assert said in tidemill("cycle", "-C", tmp_path).refusal()
    assert [p.name for p in tmp_path.iterdir()] == ["tidemill.yaml"]


def test_editors_find_the_schema_beside_the_file(kept: Path) -> None:
    first = (kept / "tidemill.yaml").read_text("utf-8").splitlines()[0]
    path = kept / first.partition("$schema=")[2]
    schema = json.loads(path.read_text("utf-8"))
    assert schema["additionalProperties"] is False
    assert "alpha" in schema["$defs"]["Gate"]["properties"]


CHANGES = {
    "a column is ignored": ("# ignore: []", "ignore: [tide]", "reads 'tide', which the data has no more"),
    "another target": (
        "target: label",
        "target: tide",
        "answers 'label' (classification), and the target now is 'tide'",
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_champion_that_cannot_be_compared_stays_until_someone_decides(what: str, trained: Path) -> None:
    """It used to end every further cycle in a crash."""
    old, new, said = CHANGES[what]
    change(trained, old, new)
    before = state(trained)["champion"]
    decision = cycle(trained).document["decision"]
    assert decision["outcome"] == "refused"
    assert said in decision["reason"]
    assert "tidemill promote" in decision["reason"]
    assert state(trained)["champion"] == before
    assert tidemill("gate", "-C", trained).document["replayed"]
    assert tidemill("promote", decision["challenger_id"], "--reason", "new inputs", "-C", trained).code == 0
    assert cycle(trained).document["decision"]["champion_id"] == decision["challenger_id"]


def test_a_renamed_column_of_the_source(trained: Path) -> None:
    data = trained.parent / "tides.csv"
    original = data.read_text("utf-8")
    data.write_text(original.replace("tide", "moon", 1), "utf-8")
    assert "reads 'tide'" in cycle(trained).document["decision"]["reason"]
    data.write_text(original, "utf-8")
    decision = cycle(trained).document["decision"]
    assert "cannot be compared" not in decision["reason"]
    # The dataset version of the first cycle is found again, and is the one that answers are checked against.
    assert [f.name for f in OpenProject(trained).signature.inputs] == ["size", "tide"]


def test_a_lost_package_does_not_end_the_loop(trained: Path) -> None:
    shutil.rmtree(next((trained / ".tidemill" / "models").glob("model_*")).parent)
    assert "no such folder" in tidemill("predict", "size=1", "tide=neap", "-C", trained).refusal()
    decision = cycle(trained).document["decision"]
    assert "its package cannot be read" in decision["reason"]
    assert tidemill("promote", decision["challenger_id"], "--reason", "the old one is lost", "-C", trained).code == 0
    assert tidemill("predict", "size=1", "tide=neap", "-C", trained).code == 0


@pytest.mark.parametrize(("old", "new", "said"), [
    ("target: label", "target: lable", "Did you mean 'label'?"),
    ("task: tabular-classification", "task: tabular-clasification", "Did you mean 'tabular-classification'?"),
    ("task: tabular-classification", "task: image-classification", "no column of images"),
    ("exclude: [lightgbm,", "exclude: [lightgmb,", "there is no recipe 'lightgmb'"),
    ("# ignore: []", "ignore: [tied]", "Did you mean 'tide'?"),
    ("# inputs: null", "inputs: [moon]", "there is no column 'moon'"),
])  # fmt: skip
def test_names_that_nothing_has(old: str, new: str, said: str, trained: Path) -> None:
    before = state(trained)["champion"]
    change(trained, old, new)
    assert said in cycle(trained).refusal()
    change(trained, new, old)
    assert state(trained)["champion"] == before
    assert cycle(trained).code == 0


def test_an_interrupted_cycle_is_not_gone_on_with_under_other_settings(trained: Path) -> None:
    project = OpenProject(trained)
    with contextlib.closing(project.store) as store:
        limits = {"budget": None, "max_trials": 0, "max_epochs": None}
        kept = Cycle(id=new_id("cycle"), status="stopped", trigger="asked", seed=0, plan={**limits, "settings": "old"})
        store.insert(kept)
        done = cycle(trained)
        assert done.code == 0, done.out
        assert done.document["cycle"] != kept.id
        closed = store.get(Cycle, kept.id)
    assert (closed.status, closed.error) == ("failed", "tidemill.yaml was changed since")
    assert "beginning anew" in done.err


def test_a_checkout_without_its_state_begins_anew(trained: Path) -> None:
    """``.tidemill`` is not kept under version control."""
    shutil.rmtree(trained / ".tidemill")
    assert tidemill("status", "-C", trained).document["champion"] is None
    assert cycle(trained).document["decision"]["outcome"] == "promoted"


def test_init_that_was_interrupted_is_finished_by_the_next(tmp_path: Path) -> None:
    (tmp_path / "tides.csv").write_text(HEADER + rows(60), "utf-8")
    project = start(tmp_path / "project", tmp_path / "tides.csv")
    (project / "tidemill.yaml").unlink()  # it is written last
    start(project, tmp_path / "tides.csv")
    assert cycle(project).code == 0


def test_init_does_not_take_over_what_another_project_learned(trained: Path) -> None:
    before = state(trained)
    right = (trained / "tidemill.yaml").read_text("utf-8")
    again = ("init", trained, "--data", trained.parent / "tides.csv")
    assert "there is a project already" in tidemill(*again).refusal()
    (trained / "tidemill.yaml").unlink()
    assert "Put tidemill.yaml back" in tidemill(*again).refusal()
    assert not (trained / "tidemill.yaml").exists()
    (trained / "tidemill.yaml").write_text(right, "utf-8")
    assert state(trained) == before


def test_a_project_that_was_moved_says_where_it_looks_for_its_data(trained: Path, tmp_path: Path) -> None:
    moved = tmp_path / "far" / "away" / "project"
    shutil.move(trained, moved)
    assert tidemill("predict", "size=1", "tide=neap", "-C", moved).code == 0
    message = cycle(moved).refusal()
    assert "no such file" in message
    assert "stands under `data`" in message
    change(moved, "../tides.csv", str(trained.parent / "tides.csv"))
    quick(moved)
    assert cycle(moved).code == 0
