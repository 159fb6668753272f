"""Labelling functions: what they vote, what their votes come to, and that a cycle learns from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tidemill
from tidemill.annotation.functions import labelling_functions, votes_of
from tidemill.annotation.label_model import SILENT, fit_label_model
from tidemill.config import make_config
from tidemill.data.arrays import Ragged
from tidemill.data.dataset import open_dataset
from tidemill.data.schema import Field, Signature
from tidemill.errors import ConfigError, InputError, TidemillError

TEXT = Signature(
    inputs=(Field(name="text", type="text"),), target="topic", kind="classification", labels=("delivery", "payment")
)


def functions(folder: Path, code: str = "", *patterns: dict[str, str]) -> list[object]:
    (folder / "labelling.py").write_text(code)
    config = make_config(task="text-classification", data=["a.csv"], target="topic", annotation={"functions": patterns})
    return list(labelling_functions(config, folder))


def test_patterns_and_python_functions_vote(tmp_path: Path) -> None:
    code = (
        "def label_short(row):\n    return 'payment' if len(row['text']) < 5 else None\n\ndef helper(row):\n    pass\n"
    )
    found = functions(tmp_path, code, {"pattern": "(?i)parcel", "label": "delivery"})
    assert [f.name for f in found] == ["(?i)parcel", "short"]  # type: ignore[attr-defined]
    columns = {"text": Ragged.from_strings(["A PARCEL", "card", None, "something else"])}
    votes = votes_of(found, TEXT, columns)  # type: ignore[arg-type]
    assert votes.tolist() == [[0, SILENT], [SILENT, 1], [SILENT, 1], [SILENT, SILENT]]


@pytest.mark.parametrize(
    ("code", "word"),
    [
        ("def label_a(row):\n    return 'rain'", "is no label"),
        ("def label_a(row):\n    return row['body']", "'body', which is no input"),
        ("def label_a(row):\n    return 1 / 0", "ZeroDivisionError"),
        ("def label_a(row:", "SyntaxError"),
    ],
)
def test_a_function_that_fails_is_named(tmp_path: Path, code: str, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        votes_of(functions(tmp_path, code), TEXT, {"text": Ragged.from_strings(["a"])})  # type: ignore[arg-type]


def test_two_of_a_name_and_a_pattern_that_is_none(tmp_path: Path) -> None:
    same = {"name": "a", "pattern": "x", "label": "payment"}
    with pytest.raises(ConfigError, match="two labelling functions"):
        functions(tmp_path, "", same, same)
    with pytest.raises(ConfigError, match="regular expression"):
        functions(tmp_path, "", {"pattern": "(", "label": "payment"})


def test_the_label_model_finds_out_who_is_right() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 3000)
    votes = np.full((3000, 5), SILENT)
    right = (0.95, 0.8, 0.75, 0.7, 0.35)
    for j, chance in enumerate(right):
        spoke = rng.random(3000) < 0.6
        wrong = (truth + rng.integers(1, 3, 3000)) % 3
        votes[spoke, j] = np.where(rng.random(3000) < chance, truth, wrong)[spoke]
    model = fit_label_model(votes, 3)
    covered = (votes != SILENT).any(axis=1)
    p = model.probabilities(votes)[covered]
    majority = np.array([np.bincount(v[v != SILENT], minlength=3).argmax() for v in votes[covered]])
    hit = p.argmax(axis=1) == truth[covered]
    assert hit.mean() > (majority == truth[covered]).mean() + 0.02
    assert np.allclose(model.right.mean(axis=1), right, atol=0.07)
    sure = p.max(axis=1) > 0.9
    assert abs(p.max(axis=1)[sure].mean() - hit[sure].mean()) < 0.05  # as often right as it says


def test_known_labels_hold_a_bad_majority_back() -> None:
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 2, 600)
    votes = np.stack([truth, 1 - truth, 1 - truth], axis=1)  # two of three are always wrong
    known = np.where(np.arange(600) < 60, truth, SILENT)
    assert (fit_label_model(votes, 2, known).probabilities(votes).argmax(axis=1) == truth).mean() == 1.0


def test_a_cycle_learns_from_functions_and_still_asks(tmp_path: Path) -> None:
    words = ("parcel late courier", "card charged twice")
    rows = [f"{words[i % 2]} number {i},{'' if i % 4 < 2 else ('delivery', 'payment')[i % 2]}" for i in range(240)]
    (tmp_path / "a.csv").write_text("text,topic\n" + "\n".join(rows) + "\n")
    project = tidemill.init(
        tmp_path / "p",
        data=tmp_path / "a.csv",
        target="topic",
        task="text-classification",
        recipes={"include": ["ridge"]},
        annotation={"functions": [{"pattern": "parcel|courier", "label": "delivery"}]},
    )
    (tmp_path / "p" / "labelling.py").write_text(
        "def label_card(row):\n    return 'payment' if 'card' in row['text'] else None\n"
    )
    project.cycle(max_trials=0, max_epochs=1)
    record = project.dataset
    assert record is not None
    told = {f["name"]: f for f in record.report["functions"]}
    assert told["card"]["right"] == 1.0 and told["card"]["judged"] > 20 and told["parcel|courier"]["rows"] > 50
    data = open_dataset(project.store.root, record)
    weak = np.flatnonzero(data.weak)
    assert len(weak) > 50 and (data.split[weak] == 0).all()
    assert (data.weight[weak] <= 1).all() and (data.weight[weak] > 0.4).all()
    assert all(data.signature.labels[data.target[row]] in ("delivery", "payment") for row in weak)
    asked = {q["subject"] for q in project.questions(500, purpose="useful")}
    assert {data.sample_id(int(row)) for row in weak} <= asked, "nobody has labelled them yet"
    # Whoever answers goes before the functions.
    subject = data.sample_id(int(weak[0]))
    other = "payment" if data.signature.labels[data.target[weak[0]]] == "delivery" else "delivery"
    project.answer(subject, other, author="ann")
    project.cycle(max_trials=0, max_epochs=1)
    newer = open_dataset(project.store.root, project.dataset)  # type: ignore[arg-type]
    row = newer.row_of(subject)
    assert not newer.weak[row] and newer.signature.labels[newer.target[row]] == other and newer.weight[row] == 1


def test_numbers_have_no_labelling_functions(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n" + "\n".join(f"{i},{i * 2}" for i in range(60)))
    project = tidemill.init(
        tmp_path / "p",
        data=tmp_path / "a.csv",
        target="y",
        task="tabular-regression",
        annotation={"functions": [{"pattern": "1", "label": "2"}]},
    )
    with pytest.raises(InputError, match="labelling functions"):
        project.cycle(max_trials=0, max_epochs=1)
    assert issubclass(InputError, TidemillError)
