"""Sources of several files, archives, databases, saved sets, texts, metadata and mixed encodings."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sqlite3
import sys
import tarfile
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from tidemill.data.sources import Limits, Source, Summary, open_source
from tidemill.errors import ExtraMissingError, SourceError, TooLargeError


def everything(source: Source) -> tuple[dict[str, list[object]], list[int], list[tuple[str, str]]]:
    columns: dict[str, list[object]] = {}
    splits: list[int] = []
    faults: list[tuple[str, str]] = []
    for batch in source.batches(7):
        for name, column in batch.columns.items():
            assert len(column) == len(batch) == len(batch.origin)
            columns.setdefault(name, []).extend(
                column.tolist() if isinstance(column, np.ndarray) else column.to_pylist()
            )
        splits += batch.split.tolist()
        faults += [(f.origin, f.what) for f in batch.faults]
    return columns, splits, faults


def png(value: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (4, 4), value).save(buffer, "PNG")
    return buffer.getvalue()


def tar(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


# --- patterns


def test_pattern_reads_files_in_order_with_splits_from_folders_and_names(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        for part in (2, 1):
            text = "".join(f'{{"a": "{split}{part}", "label": {i % 2}}}\n' for i in range(3))
            (tmp_path / split / f"part-{part}.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    columns, splits, _ = everything(open_source(f"{tmp_path}/**/*.jsonl.gz"))
    assert columns["a"][::3] == ["train1", "train2", "test1", "test2"] and splits == [0] * 6 + [2] * 6


def test_pattern_refuses_what_differs_and_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("a,b\n" + "1,x\n" * 9)
    (tmp_path / "two.csv").write_text("a,c\n" + "1,x\n" * 9)
    with pytest.raises(SourceError, match=r"two\.csv.*lacks 'b' and has 'c' besides"):
        open_source(f"{tmp_path}/*.csv")
    with pytest.raises(SourceError, match=r"no file matches.*one\.csv"):
        open_source(f"{tmp_path}/on*.csb")
    with pytest.raises(SourceError, match=r"no such file.*one\.csv"):
        open_source(tmp_path / "onne.csv")


# --- archives


@pytest.mark.parametrize(
    ("name", "mode"), [("a.tar", "w"), ("a.tar.gz", "w:gz"), ("a.tar.bz2", "w:bz2"), ("a.txz", "w:xz")]
)
def test_tar_of_tables(tmp_path: Path, name: str, mode: str) -> None:
    files = {f"set/{s}.csv": ("a,label\n" + f"{s},1\n" * 5).encode() for s in ("train", "test")}
    source = open_source(tar(tmp_path / name, files, mode))
    columns, splits, _ = everything(source)
    assert columns["a"] == ["train"] * 5 + ["test"] * 5 and splits == [0] * 5 + [2] * 5
    folder = source._folder  # type: ignore[attr-defined]
    del source
    assert not folder.exists()


def test_zip_of_a_table_of_texts_and_tar_of_images(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        archive.writestr("rows.jsonl", '{"a": 1, "label": "x"}\n' * 3)
    assert everything(open_source(tmp_path / "t.zip"))[0]["label"] == ["x"] * 3
    source = open_source(tar(tmp_path / "i.tar", {f"{c}/{i}.png": png(i) for c in "ab" for i in range(2)}))
    assert everything(source)[0]["label"] == ["a", "a", "b", "b"]
    source = open_source(tar(tmp_path / "x.tar", {f"{c}/{i}.txt": b"hello" for c in "ab" for i in range(2)}))
    assert everything(source)[0] == {"text": ["hello"] * 4, "label": ["a", "a", "b", "b"]}


def test_archives_that_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with pytest.raises(SourceError, match=r"'\.\./evil\.csv' leads out"):
        open_source(tar(path, {"../evil.csv": b"a,b\n"}))
    with pytest.raises(SourceError, match=r"'in\.zip' is an archive within"):
        open_source(tar(path, {"in.zip": b"PK"}))
    for kind, words in ((tarfile.SYMTYPE, "a link"), (tarfile.LNKTYPE, "a link"), (tarfile.CHRTYPE, "a device")):
        with tarfile.open(path, "w") as archive:
            info = tarfile.TarInfo("odd.csv")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        with pytest.raises(SourceError, match=rf"'odd\.csv' is {words}"):
            open_source(path)
    with pytest.raises(TooLargeError, match="unpacks to"):
        open_source(tar(path, {"a.csv": b"1,2\n" * 9000}), limits=Limits(max_archive_bytes=1000))
    with pytest.raises(TooLargeError, match="200 times"):
        open_source(tar(tmp_path / "a.tar.gz", {"a.csv": bytes(8 << 20)}, "w:gz"))
    with pytest.raises(SourceError, match="nothing in the archive"):
        open_source(tar(path, {"a.exe": b"x"}))
    path.write_bytes(tar(tmp_path / "b.tar", {"a.csv": b"1,2\n" * 9000}).read_bytes()[:9000])
    with pytest.raises(SourceError, match="cannot be unpacked"):
        open_source(path)


# --- databases


def database(path: Path, rows: int) -> Path:
    with sqlite3.connect(path) as db:
        db.execute("create table t (n, word, mixed)")
        db.executemany(
            "insert into t values (?, ?, ?)",
            ((None if i < 3000 else i, f"w{i % 3}", i if i < rows // 2 else f"x{i}") for i in range(rows)),
        )
    db.close()
    return path


def test_query_of_100k_rows_keeps_one_type_a_column(tmp_path: Path) -> None:
    path = database(tmp_path / "a.db", 100_000)
    source = open_source(f"sql:sqlite:///{path}#SELECT n, word, mixed FROM t ORDER BY rowid")
    tables = [b.columns for b in source.batches()]
    assert {str(t["n"].type) for t in tables} == {"int64"} and {str(t["mixed"].type) for t in tables} == {
        "large_string"
    }
    assert sum(len(t["n"]) for t in tables) == 100_000 and sum(t["n"].null_count for t in tables) == 3000
    assert tables[0]["mixed"][1].as_py() == "1" and tables[-1]["mixed"][-1].as_py() == "x99999"
    summary = source.summary()
    assert summary.rows == 100_000 and summary.column("word").values == ("w0", "w1", "w2")
    again = open_source(f"sql:sqlite:///{path}#SELECT n, word, mixed FROM t ORDER BY rowid").fingerprint()
    assert source.fingerprint() == again
    with sqlite3.connect(path) as db:
        db.execute("update t set word = 'new' where n = 5000")
    db.close()
    assert open_source(f"sql:sqlite:///{path}#SELECT n, word, mixed FROM t ORDER BY rowid").fingerprint() != again


def test_queries_that_fail_say_so_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = database(tmp_path / "a.db", 5000)
    url = f"sql:sqlite:///{path}"
    half = "SELECT CASE WHEN rowid > 4500 THEN json_extract('{broken', '$.a') ELSE n END AS n, word FROM t"
    for query, words in (
        (half, r"failed after 4,096 rows: malformed JSON"),
        ("SELECT a FROM nowhere", "no such table: nowhere"),
        ("nowhere", "no such table: nowhere"),
        ("DELETE FROM t", "begins with 'DELETE'"),
        ("WITH x AS (SELECT 1) DELETE FROM t", "readonly|attempt to write"),
        ("SELECT * FROM t WHERE n = -1", "no rows"),
        ("", "no query"),
    ):
        with pytest.raises(SourceError, match=words):
            open_source(f"{url}#{query}").fingerprint()
    with pytest.raises(SourceError, match="no such database file"):
        open_source(f"sql:sqlite:///{tmp_path}/none.db#t").fingerprint()
    assert not (tmp_path / "none.db").exists()
    with pytest.raises(SourceError, match="no database 'nosuch'"):
        open_source("sql:nosuch://h/d#t").fingerprint()
    with pytest.raises(SourceError, match="no database URL") as caught:
        open_source("sql:ann:topsecret@h#t")
    assert "topsecret" not in str(caught.value)
    with pytest.raises(SourceError, match="TIDEMILL_TEST_URL is not set"):
        open_source("sql:${TIDEMILL_TEST_URL}#t")
    monkeypatch.setenv("TIDEMILL_TEST_URL", f"sqlite:///{path}")
    assert len(everything(open_source("sql:${TIDEMILL_TEST_URL}#t"))[1]) == 5000
    assert everything(open_source(f"{url}#SELECT word, '12:30 :x' AS word FROM t LIMIT 1"))[0] == {
        "word": ["w0"], "word_2": ["12:30 :x"],
    }  # fmt: skip


def test_missing_driver_names_the_extra_and_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ExtraMissingError, match=r"tidemill\[postgres\]") as caught:
        open_source("sql:postgresql://ann:topsecret@db.example/shop?sslpassword=deepsecret#t").fingerprint()
    assert "secret" not in str(caught.value)


# --- Hugging Face


def test_saved_sets(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["neg", "pos"]),
            "tags": datasets.List(datasets.ClassLabel(names=["x", "y"])),
            "photo": datasets.Image(),
        }
    )
    rows = {
        "text": ["good", "bad", "?"],
        "label": [1, 0, -1],
        "tags": [[0, 1], [], None],
        "photo": [{"bytes": png(i), "path": None} for i in range(3)],
    }
    one = datasets.Dataset.from_dict(rows, features=features)
    datasets.disable_progress_bars()
    datasets.DatasetDict(train=one, validation=one, test=one).save_to_disk(tmp_path / "all")
    source = open_source(tmp_path / "all")
    columns, splits, _ = everything(source)
    assert columns["label"][:3] == ["pos", "neg", None] and columns["tags"][:3] == [["x", "y"], [], None]
    assert np.array(columns["photo"][2]).max() == 2 and splits == [0] * 3 + [1] * 3 + [2] * 3
    summary = source.summary()
    assert summary.column("tags").lists and summary.column("tags").members == ("x", "y")
    assert Summary.from_json(json.loads(json.dumps(summary.to_json()))) == summary
    one.save_to_disk(tmp_path / "one")
    assert everything(open_source(tmp_path / "one"))[1] == [-1] * 3
    next((tmp_path / "one").glob("*.arrow")).write_bytes(b"nothing")
    with pytest.raises(SourceError, match="incomplete or damaged"):
        open_source(tmp_path / "one")


def test_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasets")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(SourceError, match=r"cannot be reached.*saved folders and local files"):
        open_source("hf:owner/name")
    with pytest.raises(SourceError, match="no id of the Hugging Face hub"):
        open_source("hf:a/b/c/d")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ExtraMissingError, match=r"tidemill\[datasets\]"):
        open_source("hf:owner/name")


# --- texts and encodings


def test_texts_in_class_folders(tmp_path: Path) -> None:
    for name, data in {
        "train/pos/1.txt": b"fine", "train/neg/2.txt": "d\xe9j\xe0 vu".encode("latin-1"),
        "test/pos/3.txt": b"\xef\xbb\xbfok",
        "test/neg/4.txt": "酒店很好，早餐也不错".encode("gb18030"), "train/neg/5.txt": bytes(range(256)),
    }.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    columns, splits, faults = everything(open_source(tmp_path))
    assert columns == {"text": ["酒店很好，早餐也不错", "ok", "déjà vu", "fine"], "label": ["neg", "pos", "neg", "pos"]}
    assert splits == [2, 2, 0, 0] and [f[0] for f in faults] == ["test/neg/4.txt", "train/neg/2.txt", "train/neg/5.txt"]


def test_single_rows_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    review = "酒店的房间很干净，早餐也不错"
    lines = [f"{i % 2},{review}{i}".encode("gb18030" if i % 5 == 4 else "utf-8") for i in range(50)]
    path.write_bytes(b"label,text\n" + b"\n".join(lines))
    columns, _, faults = everything(open_source(path))
    assert columns["text"] == [f"{review}{i}" for i in range(50)]
    assert len(faults) == 10 and faults[0] == ("a.csv, row 5", "the row is no UTF-8 and was read as gb18030")
    lines = [f"größe {i},{i}".encode("utf-8" if i == 7 else "cp1252") for i in range(50)]
    path.write_bytes(b"text,n\n" + b"\n".join(lines))
    columns, _, faults = everything(open_source(path))
    assert columns["text"] == [f"größe {i}" for i in range(50)] and [f[0] for f in faults] == ["a.csv, row 8"]
    path.write_bytes(b"sex,n\n" + "".join(f"{'女男'[i % 2]},{i}\n" for i in range(50)).encode("gb18030"))
    assert everything(open_source(path))[0]["sex"] == ["女", "男"] * 25


# --- JSON


def test_json_lists_repeated_fields_and_types_that_change(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    lines = [json.dumps({"v": i, "tags": ["b", 1] if i else []}) for i in range(20)]
    lines += [json.dumps({"v": f"x{i}", "tags": None}) for i in range(20)]
    lines += ['{"v": 1, "v": "last", "tags": "alone"}', '{"v": "caf\xe9", "tags": [[1]]}']
    path.write_bytes("\n".join(lines).encode("latin-1"))
    source = open_source(path)
    columns, _, faults = everything(source)
    assert columns["v"][:2] == [0, 1] and columns["v"][20:22] == ["x0", "x1"] and columns["v"][-2:] == ["last", "café"]
    assert columns["tags"][0] == [] and columns["tags"][1] == ["b", "1"] and columns["tags"][25] is None
    assert [f[0].rpartition(" ")[2] for f in faults] == ["41", "42", "41", "42"]
    tags = source.summary().column("tags")
    assert (tags.lists, tags.members, tags.missing) == (True, ("1", "alone", "b"), 21)


@pytest.mark.long
def test_json_lines_larger_than_memory_stream(tmp_path: Path) -> None:
    path = tmp_path / "big.jsonl"
    line = json.dumps({"text": "word " * 60, "tags": ["a", "b"], "n": 1}).encode() + b"\n"
    with path.open("wb") as file:
        for _ in range(300):
            file.write(line * ((1 << 20) // len(line)))
    before = pa.total_allocated_bytes()
    peak = 0
    for _ in open_source(path).batches():
        peak = max(peak, pa.total_allocated_bytes() - before)
    assert path.stat().st_size > 280 << 20 and peak < 64 << 20


# --- metadata


def test_images_with_metadata(tmp_path: Path) -> None:
    files = {f"train/{i}.png": png(i) for i in range(3)} | {"test/9.png": png(9)}
    files["train/metadata.csv"] = b"file_name,objects\n0.png,cat|dog\n1.png,dog\ngone.png,cat\n../x.png,cat\n"
    files["test/metadata.csv"] = b"file_name,objects\n9.png,cat\n"
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
            (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "set" / name).write_bytes(data)
    for source in (open_source(tmp_path / "set"), open_source(tmp_path / "a.zip")):
        columns, splits, faults = everything(source)
        assert columns["objects"] == ["cat", "cat|dog", "dog", None] and splits == [2, 0, 0, 0]
        assert sorted(f[0] for f in faults) == ["train/2.png", "train/gone.png", "x.png"]
        assert source.summary().target == "objects"
    (tmp_path / "set/test/metadata.csv").write_text("name,objects\n9.png,cat\n8.png,dog\n")
    with pytest.raises(SourceError, match="no column 'file_name'"):
        open_source(tmp_path / "set")


def test_cells_of_bccd_as_metadata(tmp_path: Path, data_dir: Path) -> None:
    rows = []
    for path in sorted((data_dir / "bccd/Annotations").glob("*.xml"))[:30]:
        names = sorted({n.text or "" for n in ET.parse(path).iterfind("object/name")})
        image = path.stem + ".jpg"
        (tmp_path / image).write_bytes((data_dir / "bccd/JPEGImages" / image).read_bytes())
        rows.append(json.dumps({"file_name": image, "cells": names}))
    (tmp_path / "metadata.jsonl").write_text("\n".join(rows))
    source = open_source(tmp_path)
    cells = source.summary().column("cells")
    assert cells.lists and cells.members == ("Platelets", "RBC", "WBC") and not everything(source)[2]


# --- summaries


def test_separated_labels_and_what_only_looks_so(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    kinds = ["Comedy", "Drama", "War", "Crime"]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["genres", "city", "price", "text", "chinese", "mood", "code"])
        for i in range(200):
            writer.writerow(
                ["|".join(kinds[: i % 4 + 1]), f"{kinds[i % 3]}town, {'NT'[i % 2]}X", f"{i % 7},{i % 10}5",
                 f"well, it is {i}, and more of it", f"这家酒店的房间很干净{i}", "😀🎉"[i % 2] * (i // 2 + 1), f"c{i}"]
            )  # fmt: skip
    summary = open_source(path).summary()
    assert summary.column("genres").separator == "|" and summary.column("genres").members == tuple(sorted(kinds))
    assert [c.separator for c in summary.columns[1:]] == [None] * 6
    assert [c.type for c in summary.columns[3:]] == ["text", "text", "text", "category"]


def test_100k_categories_are_counted_as_many(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,label\n" + "".join(f"k{i},{i % 2}\n" for i in range(100_000)))
    column = open_source(path).summary().column("id")
    assert (column.type, column.distinct, column.values, column.members) == ("category", 1001, (), ())


# --- real data


@pytest.mark.parametrize(
    ("name", "rows", "types"),
    [
        ("ag-news", 7600, ["number", "text", "text"]),
        ("chnsenticorp-htl", 7766, ["number", "text"]),
        ("multi30k-en-de/*.en.gz", 31014, ["text"]),
        ("ml-100k/u.user", 943, ["number", "number", "category", "category", "number"]),
    ],
)
def test_real_sets(data_dir: Path, name: str, rows: int, types: list[str]) -> None:
    summary = open_source(str(data_dir / name)).summary()
    assert summary.rows == rows and [c.type for c in summary.columns] == types


def test_latin_1_and_sms(data_dir: Path) -> None:
    titles = everything(open_source(data_dir / "ml-100k/u.item"))[0]["column_2"]
    assert any("é" in str(t) for t in titles)
    sms = next(p for p in (data_dir / "sms-spam").iterdir() if "spam" in p.name.casefold())
    summary = open_source(sms).summary()
    assert summary.rows == 5574 and [c.type for c in summary.columns] == ["category", "text"]
    assert summary.target == "column_1"


def test_lists_that_are_no_target_are_no_inputs(tmp_path: Path) -> None:
    from tidemill.api import init

    path = tmp_path / "a.jsonl"
    rows = [{"x": i, "tags": ["a", "b"], "label": "yn"[i % 2]} for i in range(80)]
    path.write_text("\n".join(map(json.dumps, rows)))
    project = init(tmp_path / "project", data=str(path), target="label")
    done = project.cycle(max_trials=0, max_epochs=1)
    assert sum(done["dataset"]["counts"].values()) == 80
