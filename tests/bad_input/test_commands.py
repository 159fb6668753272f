"""Commands in the wrong place, with wrong rows, or while something else goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from newcomer import HEADER, cycle, rows, start, state, tidemill

from tidemill.project import OpenProject
from tidemill.records import Annotation


@pytest.mark.parametrize("command", ["cycle", "status", "predict size=1", "gate", "label", "serve", "feedback add a b"])
def test_outside_a_project(command: str, tmp_path: Path) -> None:
    message = tidemill(*command.split(), cwd=tmp_path).refusal()
    assert "no tidemill.yaml" in message
    assert "tidemill init" in message


@pytest.mark.parametrize("place", ["gone", "file.csv"])
def test_a_folder_that_is_no_project(place: str, tmp_path: Path) -> None:
    (tmp_path / "file.csv").write_text("a\n")
    assert "holds no tidemill.yaml" in tidemill("cycle", "-C", tmp_path / place).refusal()


def test_init_where_a_file_stands(tmp_path: Path) -> None:
    data = tmp_path / "tides.csv"
    data.write_text(HEADER + rows(40), "utf-8")
    for folder in (data, data / "deeper"):
        assert "Not a directory" in tidemill("init", folder, "--data", data).refusal()
    assert data.read_text("utf-8") == HEADER + rows(40)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nobody may write there, root included where it can mount."""
    if os.geteuid() != 0:
        for place in (folder, *(p for p in folder.rglob("*") if p.is_dir())):
            place.chmod(0o500)
        yield
        for place in (folder, *(p for p in folder.rglob("*") if p.is_dir())):
            place.chmod(0o700)
        return
    if subprocess.run(["mount", "--bind", folder, folder], capture_output=True, check=False).returncode:
        pytest.skip("root that may not mount can write everywhere")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_folder_that_may_not_be_written(trained: Path) -> None:
    before = state(trained)
    with read_only(trained):
        assert "you may write" in cycle(trained).refusal()
        assert "you may write" in tidemill("status", "-C", trained).refusal()  # SQLite's log needs it even to read
        data = trained.parent / "tides.csv"
        assert "cannot be written" in tidemill("init", trained / "inner", "--data", data).refusal()
    assert state(trained) == before


def test_a_second_cycle_is_told_who_holds_the_first(trained: Path) -> None:
    program = (
        "import sys, pathlib; from tidemill.project import OpenProject\n"
        "with OpenProject(pathlib.Path(sys.argv[1])).store.lock('cycle'): print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(trained)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "held\n"
        before = state(trained)
        message = cycle(trained).refusal()
        assert f"process {holder.pid}" in message
        assert "Wait until it has finished" in message
        assert state(trained) == before
    finally:
        holder.communicate("")
    assert cycle(trained).code == 0


ROWS: dict[str, tuple[str, bytes, tuple[str, ...]]] = {
    "ragged": ("csv", b"size,tide\n1,neap\n2,neap,3\n", ("row 2",)),
    "wrong-column": ("csv", b"siez,tide\n1,neap\n2,neap\n", ("siez", "Did you mean 'size'?")),
    "infinite": ("csv", b"size,tide\n1,neap\ninf,neap\n", ("row 2", "not finite")),
    "empty-cell": ("csv", b"size,tide\n1,neap\n,neap\n", ("row 2", "no value")),
    "text": ("csv", b"size,tide\n1,neap\n2,neap\nbig,neap\n", ("row 3", "big")),
    "wrong-bytes": ("jsonl", b'{"size": 1, "tide": "neap"}\n\xff\n', ("line 2", "UTF-8")),
    "nan": ("jsonl", b'{"size": 1, "tide": "neap"}\n{"size": NaN, "tide": "neap"}\n', ("line 2", "not finite")),
    "nested": ("jsonl", b"[" * 100_000, ("line 1", "nested too deeply")),
    "long-number": ("jsonl", b'{"size": ' + b"1" * 5000 + b"}", ("line 1",)),
    "no-object": ("jsonl", b"[1]\n", ("line 1", "JSON object")),
    "empty": ("csv", b"", ("the file is empty",)),
}


@pytest.mark.parametrize("name", ROWS)
def test_rows_that_cannot_be_answered_are_named_by_where_they_stand(name: str, kept: Path, tmp_path: Path) -> None:
    suffix, content, said = ROWS[name]
    file = tmp_path / f"{name}.{suffix}"
    file.write_bytes(content)
    message = tidemill("predict", "--file", file, "-C", kept).refusal()
    assert all(words in message for words in (*said, file.name)), message


def test_a_bad_row_far_down_is_named_by_its_number_in_the_file(kept: Path, tmp_path: Path) -> None:
    """Rows are answered by the hundred, and the number used to be that within the hundred."""
    file = tmp_path / "long.csv"
    file.write_text("size,tide\n" + "1,neap\n" * 700 + "inf,neap\n", "utf-8")
    assert "row 701" in tidemill("predict", "--file", file, "-C", kept).refusal()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("size=nan", "tide=neap"), "no value"),
        (("size=1e999", "tide=neap"), "not finite"),
        (("size=big", "tide=neap"), "not a number"),
        (("siez=1", "tide=neap"), "Did you mean 'size'?"),
        (("size=1",), "missing"),
        (("size=1", "size=2"), "given twice"),
        (("size",), "not NAME=VALUE"),
        (("size=1", "tide=neap", "--model", "model_none"), "no model"),
    ],
)
def test_one_row_that_cannot_be_answered(arguments: tuple[str, ...], said: str, kept: Path) -> None:
    assert said in tidemill("predict", *arguments, "-C", kept).refusal()


FILES: dict[str, tuple[bytes | None, str]] = {
    "unknown.jsonl": (b'{"prediction": "pred_x", "kind": "correction", "value": "ebb"}\n', "no prediction has the id"),
    "bytes.jsonl": (b"\xff\xfe{", "not UTF-8"),
    "half.jsonl": (b'{"prediction": "pred_x"', "not JSON"),
    "deep.jsonl": (b"[" * 100_000, "nested too deeply"),
    "list.jsonl": (b"[1]\n", "not a JSON object"),
    "gone.jsonl": (None, "no file"),
}


@pytest.mark.parametrize("name", FILES)
def test_feedback_files_that_cannot_be_taken(name: str, kept: Path, tmp_path: Path) -> None:
    content, said = FILES[name]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    before = state(kept)
    message = tidemill("feedback", "import", tmp_path / name, "-C", kept).refusal()
    assert said in message
    assert name in message
    assert state(kept) == before


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A project that asks for labels, and what it asks about."""
    folder = tmp_path_factory.mktemp("asking")
    text = HEADER + rows(90, lambda i: "" if i % 3 == 0 else ("ebb", "flood")[i % 2])
    (folder / "tides.csv").write_text(text, "utf-8")
    project = start(folder / "project", folder / "tides.csv")
    assert cycle(project).code == 0
    return project, [q["subject"] for q in tidemill("label", "--list", "-C", project).document]


ANSWERS: dict[str, tuple[str, str]] = {
    "an unknown label": ('{"subject": "GOOD", "label": "slack"}', "there is no label 'slack'"),
    "no label": ('{"subject": "GOOD", "lable": "ebb"}', "there is no 'label'"),
    "a null": ('{"subject": "GOOD", "label": null}', "there is no 'label'"),
    "an unknown sample": ('{"subject": "smp_0000000000000000", "label": "ebb"}', "nobody asked about"),
    "a number for an id": ('{"subject": 7, "label": "ebb"}', "'subject' is no text"),
    "an object for a note": ('{"subject": "GOOD", "label": "ebb", "note": {}}', "'note' is no text"),
}


@pytest.mark.parametrize("what", ANSWERS)
def test_one_faulty_answer_keeps_the_whole_file_out(what: str, asking: tuple[Path, list[str]], tmp_path: Path) -> None:
    project, subjects = asking
    line, said = ANSWERS[what]
    file = tmp_path / "answers.jsonl"
    good = f'{{"subject": "{subjects[0]}", "label": "ebb"}}'
    file.write_text(f"{good}\n{line.replace('GOOD', subjects[1])}\n", "utf-8")
    message = tidemill("label", "--from", file, "--author", "ada", "-C", project).refusal()
    assert said in message
    assert f"{file.name}:2" in message
    assert [q["subject"] for q in tidemill("label", "--list", "-C", project).document] == subjects


def test_the_same_file_of_answers_twice_and_an_answer_corrected(trained: Path, tmp_path: Path) -> None:
    text = HEADER + rows(90, lambda i: "" if i % 3 == 0 else ("ebb", "flood")[i % 2])
    (trained.parent / "tides.csv").write_text(text, "utf-8")
    assert cycle(trained).code == 0
    subject = tidemill("label", "--list", "-C", trained).document[0]["subject"]
    file = tmp_path / "answers.jsonl"
    file.write_text("".join(f'{{"subject": "{subject}", "label": "{tide}"}}\n' for tide in ("ebb", "flood")), "utf-8")
    for _ in range(2):
        assert tidemill("label", "--from", file, "--author", "ada", "-C", trained).code == 0
    store = OpenProject(trained).store
    [standing] = store.find(Annotation, subject=subject, superseded_by=None)
    store.close()
    assert standing.label == "flood"


def test_places_that_cannot_be_written_to(kept: Path, tmp_path: Path) -> None:
    assert "Is a directory" in tidemill("feedback", "export", tmp_path, "-C", kept).refusal()
    assert "No such file" in tidemill("feedback", "export", tmp_path / "no" / "f.jsonl", "-C", kept).refusal()
    model = OpenProject(kept).champion_deployment().model_id
    assert "not empty" in tidemill("export", model, kept, "-C", kept).refusal()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("cycle", "--budget", "fast"), "60s"),
        (("cycle", "--budget", "-5s"), "60s"),
        (("cycle", "--max-trials", "-1"), "--max-trials"),
        (("cycle", "--seed", str(2**70)), "--seed"),
        (("cycle", "--max-trial", "1"), "--max-trials"),
        (("trace", "nothing"), "model_"),
        (("promote", "model_x", "--reason", "r"), "no model"),
        (("rollback",), "before the champion"),
        (("report", "model_x"), "no model"),
        (("serve", "--host", "0.0.0.0"), "other machines"),
        (("serve", "--port", "70000"), "65535"),
        (("feedback", "add", "pred_x", "ebb"), "no prediction"),
    ],
)
def test_arguments_that_make_no_sense(arguments: tuple[str, ...], said: str, kept: Path) -> None:
    before = state(kept)
    assert said in tidemill(*arguments, "-C", kept).refusal()
    assert state(kept) == before
