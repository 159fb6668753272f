"""Archives, patterns, saved sets, databases and JSON lines that are torn, damaged or not what they seem."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import shutil
import sqlite3
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from newcomer import HEADER, actions, cycle, rows, start, state, tidemill

CSV = (HEADER + rows(80)).encode()
LARGE = (HEADER + rows(20_000)).encode()
OBJECTS = [dict(zip(HEADER.strip().split(","), line.split(","), strict=True)) for line in rows(80).splitlines()]
LINES = [json.dumps(row).encode() for row in OBJECTS]


def written(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def tar(files: dict[str, bytes], mode: str = "w") -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return made.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return made.getvalue()


def damaged(data: bytes) -> bytes:
    """Some bytes in the middle are gone."""
    return data[: len(data) // 2] + bytes(100) + data[len(data) // 2 + 100 :]


FILES: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "cut.csv.gz": (gzip.compress(LARGE)[:-50], ("gzip file is truncated or damaged", "again")),
    "sum.csv.gz": (gzip.compress(CSV)[:-8] + bytes(8), ("gzip file is truncated or damaged",)),
    "more.csv.gz": (gzip.compress(CSV) + b"garbage", ("gzip file is truncated or damaged",)),
    "cut.csv.bz2": (bz2.compress(LARGE)[:-50], ("bzip2 file is truncated or damaged",)),
    "cut.csv.xz": (lzma.compress(LARGE)[:-50], ("xz file is truncated or damaged",)),
    "cut.jsonl.gz": (gzip.compress(b"\n".join(LINES * 50))[:-50], ("gzip file is truncated or damaged",)),
    "cut.zip": (zipped({"a.csv": LARGE})[:-50], ("cannot be opened", "pack it again")),
    "damaged.zip": (damaged(zipped({"a.csv": LARGE})), ("'a.csv' cannot be unpacked",)),
    "cut.tar": (tar({"a.csv": LARGE})[:50_000], ("the tar cannot be unpacked",)),
    "cut.tgz": (tar({"a.csv": LARGE}, "w:gz")[:-500], ("truncated or damaged",)),
    "away.tar": (tar({"../a.csv": CSV}), ("'../a.csv' leads out of the tar", "Do not use")),
    "away.zip": (zipped({"../a.csv": CSV}), ("'../a.csv' leads out of the zip",)),
    "bomb.zip": (zipped({"a.csv": b"a,label\n" + b"0" * 20_000_000}), ("200 times", "limits.archive_ratio")),
    "bomb.tgz": (tar({"a.csv": b"a,label\n" + b"0" * 20_000_000}, "w:gz"), ("200 times", "limits.archive_ratio")),
    "nothing.zip": (zipped({}), ("nothing in the archive",)),
    "nested.zip": (zipped({"a.zip": zipped({"a.csv": CSV})}), ("archive within the archive",)),
    "two.zip": (zipped({"a.csv": CSV, "b.csv": CSV.replace(b"tide", b"moon")}), ("lacks 'tide' and has 'moon'",)),
    "list.jsonl": (b"[" + b",".join(LINES) + b"]", ("no JSON object", "one object a line")),
    "cut.json": (b"[" + b",".join(LINES), ("the file is no JSON", "JSON Lines")),
    "torn.jsonl": (b"\n".join(line[:9] if i > 5 else line for i, line in enumerate(LINES)),
                   ("74 of 80 lines are no JSON objects",)),
    "nested.jsonl": (b"\n".join(line.replace(b'"label": ', b'"label": {"is": ').replace(b"}", b"}}") for line in LINES),
                     ("no column 'label'", "'label' holds objects or nested lists")),
    "half.parquet": (b"PAR1" + bytes(50), ("no complete Parquet file",)),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_torn_or_not_what_it_seems(name: str, tmp_path: Path) -> None:
    content, said = FILES[name]
    data = written(tmp_path / name, content)
    refused = tidemill("init", tmp_path / "project", "--data", data, "--target", "label").refusal()
    assert all(words in refused for words in (*said, name if "column" not in said[0] else "label")), refused
    assert [path.name for path in tmp_path.iterdir()] == [name], "something was unpacked or made"


PATTERNS: dict[str, tuple[dict[str, bytes], str, tuple[str, ...]]] = {
    "nothing matches": ({"a.csv": CSV}, "*.cvs", ("no file matches", "a.csv")),
    "no folder": ({"a.csv": CSV}, "none/*.csv", ("there is no folder",)),
    "all are empty": ({"a.csv": b"", "b.csv": b""}, "*.csv", ("all files that match are empty",)),
    "other columns": ({"a.csv": CSV, "b.csv": CSV.replace(b"tide", b"moon")}, "*.csv",
                      ("b.csv", "lacks 'tide' and has 'moon' besides", "not those of a.csv")),
    "several formats": ({"a.csv": CSV, "b.jsonl": LINES[0]}, "*", ("several formats: a.csv, b.jsonl",)),
    "one is binary": ({"a.csv": CSV, "b.csv": bytes(range(256)) * 40}, "*.csv", ("b.csv", "binary")),
    "archives": ({"a.zip": zipped({"a.csv": CSV}), "b.zip": zipped({"a.csv": CSV})}, "*.zip", ("2 archives",)),
}  # fmt: skip


@pytest.mark.parametrize("what", PATTERNS)
def test_a_pattern_whose_files_do_not_go_together(what: str, tmp_path: Path) -> None:
    files, pattern, said = PATTERNS[what]
    for name, data in files.items():
        written(tmp_path / "data" / name, data)
    spec = str(tmp_path / "data" / pattern)
    refused = tidemill("init", tmp_path / "project", "--data", spec, "--target", "label").refusal()
    assert all(words in refused for words in said), refused
    assert not (tmp_path / "project").exists()


def saved(folder: Path, table: pa.Table) -> Path:
    """As ``Dataset.save_to_disk`` writes it."""
    folder.mkdir(parents=True)
    with (
        pa.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb") as file,
        pa.ipc.new_stream(file, table.schema) as out,
    ):
        out.write_table(table)
    state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": None}
    written(folder / "state.json", json.dumps(state).encode())
    written(folder / "dataset_info.json", b'{"features": {}}')
    return folder


def cut(path: Path, left: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(left * len(data))])


ARROW, INFO, STATE = "data-00000-of-00001.arrow", "dataset_info.json", "state.json"
TORN: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "no rows": (lambda f: (f / "test" / ARROW).unlink(), ("incomplete or damaged", ARROW)),
    "cut rows": (lambda f: cut(f / "train" / ARROW, 0.9), ("incomplete or damaged", ARROW)),
    "empty rows": (lambda f: cut(f / "train" / ARROW, 0), ("incomplete or damaged", ARROW)),
    "cut names": (lambda f: cut(f / "train" / INFO, 0.5), ("incomplete or damaged", INFO)),
    "no state": (lambda f: (f / "train" / STATE).unlink(), ("incomplete or damaged", STATE)),
    "cut splits": (lambda f: cut(f / "dataset_dict.json", 0.7), ("incomplete or damaged", "dataset_dict.json")),
    "no split": (lambda f: shutil.rmtree(f / "test"), ("incomplete or damaged", "test")),
    "away": (lambda f: written(f / "train" / STATE, b'{"_data_files": [{"filename": "../../a.arrow"}]}'),
             ("leads out of the saved set", "Do not use")),
    "other columns": (lambda f: (shutil.rmtree(f / "test"), saved(f / "test", pa.table({"a": ["x"]}))),
                      ("not those of train", "lacks 'label', 'size', 'tide'")),
    "half of one": (lambda f: ((f / "dataset_dict.json").unlink(), (f / "train" / INFO).rename(f / INFO),
                               (f / "train" / ARROW).rename(f / ARROW)), ("incomplete or damaged", STATE)),
}  # fmt: skip


@pytest.mark.parametrize("what", TORN)
def test_a_saved_set_that_is_torn(what: str, tmp_path: Path) -> None:
    tear, said = TORN[what]
    folder = tmp_path / "set"
    for split in ("train", "test"):
        saved(folder / split, pa.Table.from_pylist(sorted(OBJECTS, key=str)).select(["label", "size", "tide"]))
    written(folder / "dataset_dict.json", b'{"splits": ["train", "test"]}')
    tear(folder)
    refused = tidemill("init", tmp_path / "project", "--data", folder, "--target", "label").refusal()
    assert all(words in refused for words in said), refused
    assert not (tmp_path / "project").exists()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A database and a project on a query of it, which has a champion."""
    folder = tmp_path_factory.mktemp("database")
    with sqlite3.connect(folder / "tides.db") as db:
        db.execute("create table tides (size real, note text, label text)")
        values = [(float(row["size"]), json.dumps({"tide": row["tide"]}), row["label"]) for row in OBJECTS * 60]
        db.executemany("insert into tides values (? + rowid / 1e6, ?, ?)".replace("rowid", "1"), values)
    db.close()
    query = "SELECT size, json_extract(note, '$.tide') AS tide, label FROM tides"
    project = start(folder / "project", f"sql:sqlite:///{folder}/tides.db#{query}")
    assert cycle(project).document["decision"]["outcome"] == "promoted"
    return folder / "tides.db", project


def test_a_query_that_fails_half_way_leaves_the_champion(database: tuple[Path, Path]) -> None:
    path, project = database
    before = state(project)
    with sqlite3.connect(path) as db:
        db.execute("update tides set note = '{broken' where rowid = 4500")
    refused = cycle(project).refusal()
    assert "the query failed after 4,096 rows: malformed JSON" in refused and "nothing was written" in refused
    assert tidemill("predict", "size=4", "tide=neap", "-C", project).document["predictions"][0]["label"] == "flood"
    assert state(project) == before
    with sqlite3.connect(path) as db:
        db.execute('update tides set note = \'{"tide": "neap"}\' where rowid = 4500')
    db.close()
    assert cycle(project).code == 0


QUERIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "no table": ("tidse", ("no such table: tidse",)),
    "no rows": ("SELECT * FROM tides WHERE size > 1e9", ("no rows",)),
    "no SQL": ("SELECT FROM WHERE", ("syntax error",)),
    "something written": ("DELETE FROM tides", ("begins with 'DELETE'", "only reads")),
    "something written behind": ("WITH a AS (SELECT 1) DELETE FROM tides", ("readonly",)),
    "two at once": ("SELECT * FROM tides; DELETE FROM tides", ("one statement at a time",)),
    "no query": ("", ("no query", "sql:URL#QUERY")),
    "no target": ("SELECT size, note FROM tides", ("no column 'label'",)),
}


@pytest.mark.parametrize("what", QUERIES)
def test_a_query_that_cannot_be_used(what: str, database: tuple[Path, Path], tmp_path: Path) -> None:
    query, said = QUERIES[what]
    path, _ = database
    before = path.read_bytes()
    spec = f"sql:sqlite:///{path}#{query}"
    refused = tidemill("init", tmp_path / "project", "--data", spec, "--target", "label").refusal()
    assert all(words in refused for words in said), refused
    assert not (tmp_path / "project").exists() and path.read_bytes() == before


@pytest.mark.parametrize("content", [b"no database at all" * 99, "half", "damaged"], ids=["other", "half", "damaged"])
def test_a_database_that_is_none(content: bytes | str, database: tuple[Path, Path], tmp_path: Path) -> None:
    whole = database[0].read_bytes()
    torn = {"half": whole[: len(whole) // 2], "damaged": whole[:8192] + b"\xff" * (len(whole) - 8192)}
    path = written(tmp_path / "torn.db", torn[content] if isinstance(content, str) else content)
    spec = f"sql:sqlite:///{path}#tides"
    refused = tidemill("init", tmp_path / "project", "--data", spec, "--target", "label").refusal()
    assert "malformed" in refused or "not a database" in refused, refused
    assert not (tmp_path / "project").exists()


def test_lines_of_json_that_are_broken_are_repaired_or_left_out_and_said(tmp_path: Path) -> None:
    lines = list(LINES)
    lines[10:16] = [
        lines[10][:20],
        lines[11] + lines[12],
        b'{"size": NaN, "tide": "neap", "label": "ebb"}',
        b'{"size": 1.5, "tide": "ne\\ud83dap", "label": "ebb"}',
        b'{"size": 9, "size": 1.5, "tide": "neap", "label": "ebb", "moon": "full"}',
        b'{"size": [1.5], "tide": {"is": "neap"}, "label": "ebb"}',
    ]
    data = written(tmp_path / "tides.jsonl", b"\n".join(lines)[:-9])
    project = start(tmp_path / "project", data)
    done = cycle(project)
    assert done.document["decision"]["outcome"] == "promoted", done.out
    told = {
        what: [example.partition(":")[0] for example in examples] for what, (_, examples) in actions(project).items()
    }
    for number, what in (
        (11, "the line is no JSON object and was left out"),
        (12, "the line is no JSON object and was left out"),
        (80, "the line is no JSON object and was left out"),
        (13, "NaN and infinite numbers, which JSON has not, were taken for missing"),
        (14, "halves of characters were replaced by �"),
        (15, "a field that stands twice in the line was read as its last value"),
        (16, "a list or object where other lines have a value was taken for missing"),
    ):
        assert f"tides.jsonl, line {number}" in told[what], told
    assert sum(done.document["dataset"]["counts"].values()) == 80 - 3


def test_files_of_a_pattern_in_another_order_and_empty_ones(tmp_path: Path) -> None:
    written(tmp_path / "data" / "a.csv", CSV)
    lines = [",".join(line.split(",")[::-1]) for line in (HEADER.strip() + "\n" + rows(40, seed=1)).splitlines()]
    written(tmp_path / "data" / "b.csv", "\n".join(lines).encode())
    written(tmp_path / "data" / "c.csv", b"")
    project = start(tmp_path / "project", str(tmp_path / "data" / "*.csv"))
    done = cycle(project)
    assert done.document["decision"]["outcome"] == "promoted", done.out
    assert sum(done.document["dataset"]["counts"].values()) == 120
    from tidemill.project import OpenProject

    dataset = OpenProject(project).dataset
    assert dataset is not None and "1 empty files are left aside" in dataset.report["notes"]
