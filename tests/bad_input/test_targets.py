"""Targets, weights, groups and moments from which nothing can be learned, or only after a stated repair."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from newcomer import actions, cycle, start, state, tidemill

from tidemill.project import OpenProject

Column = Callable[[int], object]
LABELS = ("ebb", "flood")
TEXTS = [
    f"{('calm', 'wild')[row % 2]} {' '.join(random.Random(row).choices('abcdefgh', k=5))} {row}" for row in range(80)
]


def table(path: Path, label: Column, more: Column = lambda _: "x", n: int = 80, seed: int = 0) -> Path:
    """A table whose label may follow from its size."""
    rng = random.Random(seed)
    cells = [(f"{rng.gauss(i % 2 * 4, 1):.4f}", more(i), label(i)) for i in range(n)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("size,more,label\n" + "".join(",".join(map(str, row)) + "\n" for row in cells), "utf-8")
    return path


def objects(path: Path, label: Column) -> Path:
    path.write_text(
        "".join(json.dumps({"text": text, "label": label(i)}) + "\n" for i, text in enumerate(TEXTS)), "utf-8"
    )
    return path


def alike(path: Path) -> Path:
    path.write_text("size,more,label\n" + "".join(f"1,x,{i * 1.5}\n" for i in range(80)), "utf-8")
    return path


def side(i: int) -> str:
    return LABELS[i % 2]


NUMBER, SEVERAL = ("--task", "tabular-regression"), ("--task", "text-multi-label")
REFUSED: dict[str, tuple[Callable[[Path], Path], tuple[str, ...], tuple[str, ...]]] = {
    "words for numbers": (lambda d: table(d / "a.csv", lambda i: f"w{i}"), NUMBER, ("holds category values", "w0, w1")),
    "a few words for numbers": (lambda d: table(d / "a.csv", lambda i: f"w{i}" if i > 76 else i + 0.25), NUMBER,
                                ("for example w77, w78, w79", "Mend these")),
    "dates for numbers": (lambda d: table(d / "a.csv", lambda i: f"2026-01-{1 + i % 28:02}"), NUMBER, ("date values",)),
    "decimal commas": (lambda d: table(d / "a.csv", lambda i: f'"{i},{i % 7}5"'), NUMBER, ("with a point", "1234.5")),
    "a number for each row": (lambda d: table(d / "a.csv", lambda i: f"k{i}", n=1500), (), ("1,000 different values",)),
    "a label for each row": (lambda d: objects(d / "a.jsonl", lambda i: [f"k{i * 20 + j}" for j in range(20)]), SEVERAL,
                             ("more than 1,000 different values",)),
    "empty lists": (lambda d: objects(d / "a.jsonl", lambda _: []), (), ("no sample has a label", "--label")),
    "lists of lists": (lambda d: objects(d / "a.jsonl", lambda _: [["x"]]), (), ("nested lists", "no column 'label'")),
    "a weight that is not there": (lambda d: table(d / "a.csv", side), ("--weight", "mroe"), ("Did you mean 'more'?",)),
    "words for weights": (lambda d: table(d / "a.csv", side), ("--weight", "more"), ("are no numbers", "example x")),
    "the target as weight": (lambda d: table(d / "a.csv", side), ("--weight", "label"), ("its own weight",)),
    "a cost of an unknown label": (lambda d: table(d / "a.csv", side), ("--cost", "ebb:floodd=3"), ("'flood'",)),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_a_target_or_weight_that_init_refuses(what: str, tmp_path: Path) -> None:
    make, options, said = REFUSED[what]
    data = make(tmp_path)
    refused = tidemill("init", tmp_path / "project", "--data", data, "--target", "label", *options).refusal()
    assert all(words in refused for words in said), refused
    assert not (tmp_path / "project").exists()


SPLIT = "\nsplits:\n  policy: {}\n  key: {}"
NOTHING: dict[str, tuple[Callable[[Path], Path], tuple[str, ...], str, tuple[str, ...]]] = {
    "one number": (lambda d: table(d / "a.csv", lambda _: 3.5), NUMBER, "", ("every value to be learned is 3.5",)),
    "one set of labels": (lambda d: objects(d / "a.jsonl", lambda _: ["x", "y"]), SEVERAL, "", ("learned is x, y",)),
    "empty lists": (lambda d: objects(d / "a.jsonl", lambda _: []), (*SEVERAL, "--label", "x"), "",
                    ("learned is none of them",)),
    "one label in training": (lambda d: (table(d / "set" / "test.csv", side, seed=1),
                                         table(d / "set" / "train.csv", lambda _: "ebb"))[1].parent, (), "",
                              ("learned is ebb", "training rows in which it differs")),
    "equal inputs": (lambda d: alike(d / "a.csv"), NUMBER, "",
                     ("no row is left to learn from", "equal in content but not in label were kept: 80")),
    "weights of 0": (lambda d: table(d / "a.csv", side, lambda _: 0), ("--weight", "more"), "", ("has the weight 0",)),
    "weights below 0": (lambda d: table(d / "a.csv", side, lambda _: -1), ("--weight", "more"), "",
                        ("no row is left", "rows of a negative weight were left out: 80")),
    "groups of training and test": (lambda d: (table(d / "set" / "test.csv", side, lambda i: i % 9, seed=1),
                                               table(d / "set" / "train.csv", side, lambda i: i % 9))[1].parent, (),
                                    SPLIT.format("group", "more"),
                                    ("no row is left to learn from", "were dropped: 80", "and groups")),
    "groups by the target": (lambda d: table(d / "a.csv", side), (), SPLIT.format("group", "label"), ("the target",)),
    "groups of no column": (lambda d: table(d / "a.csv", side), (), SPLIT.format("group", "mroe"), ("'more'?",)),
    "words for moments": (lambda d: table(d / "a.csv", side), (), SPLIT.format("time", "more"),
                          ("no row has a moment in 'more'",)),
    "no moments": (lambda d: table(d / "a.csv", side, lambda _: ""), (), SPLIT.format("time", "more"),
                   ("no row has a moment in 'more'",)),
}  # fmt: skip


@pytest.mark.parametrize("what", NOTHING)
def test_data_of_which_nothing_can_be_learned(what: str, tmp_path: Path) -> None:
    make, options, splits, said = NOTHING[what]
    project = start(tmp_path / "project", make(tmp_path), *options)
    config = project / "tidemill.yaml"
    config.write_text(config.read_text("utf-8").replace("\nsplits:", splits or "\nsplits:"), "utf-8")
    before = state(project)
    refused = cycle(project).refusal()
    assert all(words in refused for words in said), refused
    assert state(project) == before


def test_a_few_bad_weights_groups_and_moments_are_repaired_and_said(tmp_path: Path) -> None:
    odd = {3: "", 4: "heavy", 5: "inf", 6: "-2"}
    project = start(tmp_path / "w", table(tmp_path / "w.csv", side, lambda i: odd.get(i, 1.5)), "--weight", "more")
    assert cycle(project).document["decision"]["outcome"] == "promoted"
    told = actions(project)
    assert told["missing weights were taken for 1"] == (3, ["w.csv, row 4", "w.csv, row 5", "w.csv, row 6"])
    assert told["rows of a negative weight were left out"] == (1, ["w.csv, row 7"])
    for policy, said in (("group", "rows without a 'more' are groups of their own"),
                         ("time", "rows without a moment in 'more' were put among the oldest")):  # fmt: skip
        cells = {3: "", 4: "NA"} if policy == "group" else {3: "", 4: "soon"}
        data = table(tmp_path / f"{policy}.csv", side, lambda i, cells=cells: cells.get(i, f"2026-01-{1 + i % 28:02}"))  # type: ignore[misc]
        project = start(tmp_path / policy, data)
        config = project / "tidemill.yaml"
        config.write_text(config.read_text("utf-8").replace("\nsplits:", SPLIT.format(policy, "more")), "utf-8")
        assert cycle(project).document["decision"] is not None
        assert actions(project)[said] == (2, [f"{policy}.csv, row 4", f"{policy}.csv, row 5"])


def test_numbers_that_are_none_are_asked_for(tmp_path: Path) -> None:
    odd = {3: "", 4: "nan", 5: "inf", 6: "about 5", 7: "1e300"}
    project = start(tmp_path / "project", table(tmp_path / "a.csv", lambda i: odd.get(i, i % 2 * 4 + i / 99), n=200))
    done = cycle(project)
    assert done.document["decision"]["outcome"] == "promoted", done.out
    told = actions(project)
    assert told["samples without a label were kept, to be asked about"][0] == 5
    assert told["infinite numbers were taken for missing"] == (1, ["a.csv, row 6: label"])
    assert told["text where a number belongs was taken for missing"] == (1, ["a.csv, row 7: label = 'about 5'"])
    assert told["numbers too large for a target were taken for missing"] == (1, ["a.csv, row 8: label"])
    assert sum(done.document["dataset"]["counts"].values()) == 200


@pytest.mark.parametrize("several", [False, True], ids=["one label", "several labels"])
def test_a_label_that_only_the_test_file_has(several: bool, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for name, third in (("train", "calm"), ("test", "new")):
        words = [("calm", "wild", third)[i % 3 if name == "test" else i % 2] for i in range(len(TEXTS))]
        rows = [{"text": f"{word} {name} {i} {text[5:]}", "label": [word] if several else word}
                for i, (word, text) in enumerate(zip(words, TEXTS, strict=True))]  # fmt: skip
        (tmp_path / "set" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    project = start(tmp_path / "project", tmp_path / "set")
    done = cycle(project)
    assert done.document["decision"]["outcome"] in ("promoted", "refused"), done.out
    what = "labels occur in the test split, but not in training: the model cannot give them"
    assert actions(project)[what] == (26, ["'new' in 26 rows"])
    assert OpenProject(project).signature.labels == ("calm", "new", "wild")


def test_an_input_that_turns_from_numbers_to_words_leaves_the_champion_answering(trained: Path) -> None:
    """Its arguments used to be read as what the column now is, which it refused."""
    data = trained.parent / "tides.csv"
    table(data, side, lambda i: ("neap", "spring")[i % 3 == 0], n=120)
    turned = data.read_text("utf-8").replace("more", "tide", 1).splitlines()
    turned[61:] = [f"w{line}" for line in turned[61:]]
    data.write_text("\n".join(turned), "utf-8")
    decision = cycle(trained).document["decision"]
    assert decision["outcome"] == "refused" and "it reads 'size' as number, which now is" in decision["reason"]
    assert actions(trained)["numbers stand among the words of 'size', so it was read as words"][0] == 60
    assert tidemill("predict", "size=4", "tide=neap", "-C", trained).document["predictions"][0]["label"] == "flood"
    challenger = ("--model", decision["challenger_id"])
    assert tidemill("predict", "size=w4", "tide=neap", *challenger, "-C", trained).code == 0


def test_a_target_that_turns_from_numbers_to_words(tmp_path: Path) -> None:
    project = start(tmp_path / "project", table(tmp_path / "a.csv", lambda i: i + 0.5 if i < 60 else f"w{i % 4}"))
    assert cycle(project).code == 0
    count, examples = actions(project)["numbers stand among the words of 'label', and each was taken for a label"]
    assert count == 60 and examples[0] == "'0.5'"


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[Path, list[str]]]]:
    """Projects that know no answer yet, and what they ask about: for a number, and for several labels."""
    folder = tmp_path_factory.mktemp("asking")
    made = {
        "number": start(folder / "number", table(folder / "a.csv", lambda _: "?"), *NUMBER),
        "labels": start(
            folder / "labels", objects(folder / "a.jsonl", lambda _: None), *SEVERAL, "--label", "x", "--label", "y"
        ),
    }
    for project in made.values():
        done = cycle(project).document
        assert done["decision"] is None and done["needs_labels"]
    yield {
        kind: (project, [question["subject"] for question in tidemill("label", "--list", "-C", project).document])
        for kind, project in made.items()
    }


STATED: dict[str, tuple[tuple[str, ...], Any]] = {
    "number": (('"high"', "true", "[1.5]", "1e999", "NaN", "1e39", '"3,5"', '{"is": 1}'), 1.5),
    "labels": (('["z"]', '["x", null]', '[["x"]]', '{"x": 1}', "3", '"xy"'), ["x"]),
}


@pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind, (values, _) in STATED.items() for value in values])
def test_an_answer_of_the_wrong_type_keeps_the_file_out(
    kind: str, value: str, asking: dict[str, tuple[Path, list[str]]], tmp_path: Path
) -> None:
    project, subjects = asking[kind]
    file = tmp_path / "answers.jsonl"
    good = json.dumps({"subject": subjects[0], "label": STATED[kind][1]})
    file.write_text(f'{good}\n{{"subject": "{subjects[1]}", "label": {value}}}\n', "utf-8")
    refused = tidemill("label", "--from", file, "--author", "ada", "-C", project).refusal()
    assert "answers.jsonl:2" in refused
    assert [question["subject"] for question in tidemill("label", "--list", "-C", project).document] == subjects


def test_a_project_that_began_without_any_number_learns_from_answers(
    asking: dict[str, tuple[Path, list[str]]], tmp_path: Path
) -> None:
    project, _ = asking["number"]
    while subjects := [question["subject"] for question in tidemill("label", "--list", "-C", project).document]:
        answers = [json.dumps({"subject": subject, "label": i / 7}) for i, subject in enumerate(subjects)]
        (tmp_path / "answers.jsonl").write_text("\n".join(answers), "utf-8")
        assert tidemill("label", "--from", tmp_path / "answers.jsonl", "--author", "ada", "-C", project).code == 0
    done = cycle(project).document
    assert done["dataset"]["counts"]["unlabelled"] == 0 and done["decision"] is not None
