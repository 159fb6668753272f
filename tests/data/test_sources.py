"""Sources: what is sniffed, what is refused, what is repaired and counted."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tidemill.data.sources import Batch, Limits, Source, Summary, merge, open_source
from tidemill.errors import SourceError, TooLargeError


def everything(source: Source) -> tuple[dict[str, list[object]], list[int], list[str], list[tuple[str, str]]]:
    """All rows of a source: values by column, splits, origins, faults."""
    columns: dict[str, list[object]] = {}
    splits: list[int] = []
    origins: list[str] = []
    faults: list[tuple[str, str]] = []
    for batch in source.batches(7):
        assert len({len(c) for c in batch.columns.values()} | {len(batch.split), len(batch.origin)}) == 1
        for name, column in batch.columns.items():
            columns.setdefault(name, []).extend(
                column.tolist() if isinstance(column, np.ndarray) else column.to_pylist()
            )
        splits += batch.split.tolist()
        origins += batch.origin.to_pylist()
        faults += [(f.origin, f.what) for f in batch.faults]
    return columns, splits, origins, faults


def png(value: int = 0, size: tuple[int, int] = (4, 4), mode: str = "L") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, value if mode == "L" else (value, 0, 255 - value)).save(buffer, "PNG")
    return buffer.getvalue()


# --- text tables


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_delimiter_and_encoding_are_sniffed_and_said(tmp_path: Path, delimiter: str, encoding: str) -> None:
    rows = [["name", "age", "label"], *[[f"Zoë {i}", str(20 + i), "ja" if i % 2 else "nein"] for i in range(40)]]
    path = tmp_path / "people.csv"
    path.write_text("\n".join(delimiter.join(r) for r in rows) + "\n", encoding=encoding)
    source = open_source(path)
    columns, _, origins, faults = everything(source)
    assert columns["name"] == [f"Zoë {i}" for i in range(40)]
    assert columns["age"] == [str(20 + i) for i in range(40)]
    assert origins[39] == "people.csv, row 40"
    assert not faults
    assert encoding in source.notes[0] and "header" in source.notes[0]
    summary = source.summary()
    assert [(c.name, c.type) for c in summary.columns] == [
        ("name", "category"),
        ("age", "number"),
        ("label", "category"),
    ]
    assert summary.column("age").integers
    assert summary.target == "label" and summary.rows == 40


def test_chinese_in_gb18030(tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv"
    lines = ["label,review", *[f"{i % 2},酒店的房间很干净，早餐也不错，第{i}次入住" for i in range(50)]]
    path.write_bytes("\n".join(lines).encode("gb18030"))
    source = open_source(path)
    assert "gb18030" in source.notes[0]
    assert everything(source)[0]["review"][3] == "酒店的房间很干净，早餐也不错，第3次入住"


def test_wrong_bytes_are_replaced_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    good = "".join(f"größe {i},{i}\n" for i in range(100)).encode()
    path.write_bytes(b"text,n\n" + good + "größer à".encode()[:-1] + b",100\n\xff\xfe,101\n")
    columns, _, _, faults = everything(open_source(path))
    assert columns["text"][-2:] == ["größer \ufffd", "\ufffd\ufffd"] and columns["text"][7] == "größe 7"
    what = "bytes that are no text in this encoding were replaced by \ufffd"
    assert faults == [("a.csv, row 101", what), ("a.csv, row 102", what)]


def test_ragged_rows_are_left_out_and_counted_with_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    lines = ["a,b"] + [f"{i},x" for i in range(1, 31)]
    lines[5] = "5,x,surplus"
    lines[30] = "30"
    path.write_text("\n".join(lines) + "\n")
    columns, _, origins, faults = everything(open_source(path))
    assert columns["a"] == [str(i) for i in range(1, 30) if i != 5]
    assert origins[3:5] == ["a.csv, row 4", "a.csv, row 6"]
    assert [f[0] for f in faults] == ["a.csv, row 5", "a.csv, row 30"]


def test_a_table_of_ragged_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n" + "1,2\n" * 3000 + "1,2,3\n" * 9000)
    with pytest.raises(SourceError, match="another number of fields"):
        everything(open_source(path))


def test_quotes_newlines_and_repeated_names(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,text,text\n" + "".join(f'{i},"one, two\nthree ""{i}""","z{i % 2}"\n' for i in range(20)))
    source = open_source(path)
    columns, _, _, faults = everything(source)
    assert list(columns) == ["id", "text", "text_2"]
    assert columns["text"][4] == 'one, two\nthree "4"' and not faults


def test_no_header_and_a_name_for_the_target(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("".join(f"{i},{i * 0.5},{'ab'[i % 2]}\n" for i in range(30)))
    assert [c.name for c in open_source(path).summary().columns] == ["column_1", "column_2", "column_3"]
    named = open_source(path, target="kind")
    assert [c.name for c in named.summary().columns] == ["column_1", "column_2", "kind"]
    assert named.summary().target == "kind"
    assert any("'column_3' is taken for 'kind'" in note for note in named.notes)


def test_split_column(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("x,y,split\n" + "".join(f"{i},{i % 2},{['train', 'val', 'test'][i % 3]}\n" for i in range(30)))
    source = open_source(path)
    columns, splits, _, _ = everything(source)
    assert "split" not in columns and splits == [0, 1, 2] * 10
    assert source.summary().splits == ("train", "validation", "test")


def test_unclosed_quote_and_long_field(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('a,b\n"1","2"\n"3","' + "x" * (9 << 20))
    with pytest.raises(SourceError, match=r"never closed|longer than"):
        everything(open_source(path))
    path.write_text("a,b\n" + "1,x\n" * 20 + "2," + "y" * 5000 + "\n3,z\n")
    columns, _, _, faults = everything(open_source(path, limits=Limits(max_field_bytes=1000)))
    assert columns["a"] == ["1"] * 20 + ["3"]
    assert faults[0][0] == "a.csv, row 21" and "longer than" in faults[0][1]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.csv", b"", "the file is empty"),
        ("blank.csv", b"  \n \n", "white space"),
        ("header.csv", b"a,b,label\n", "no rows"),
        ("noise.csv", bytes(range(256)) * 50 + bytes(200), "binary"),
        ("broken.parquet", b"PAR1 nothing", "Parquet"),
        ("broken.npz", b"PK\x03\x04 nothing", "zip"),
        ("broken.zip", b"PK\x03\x04 nothing", "zip"),
        ("broken.json", b"[1, 2", "no JSON"),
        ("list.json", b'{"a": 1}', "list of objects"),
        ("none.jsonl", b"[1]\n2\n", "no JSON object"),
        ("cut.csv.gz", gzip.compress(b"a,b\n" + b"1,2\n" * 9000, mtime=0)[:-20], "truncated"),
        ("x-images-idx3-ubyte", b"\0\0\x08\x03\0\0\0\x02", "header"),
    ],
)  # fmt: skip
def test_unreadable_files_say_so(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SourceError, match=message) as caught:
        open_source(path).summary()
    assert name in str(caught.value) and caught.value.exit_code == 2


def test_missing_file_folder_without_data_and_unknown_set(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        open_source(tmp_path / "nowhere.csv")
    with pytest.raises(SourceError, match="nothing in the folder"):
        open_source(tmp_path)
    with pytest.raises(SourceError, match="Did you mean sklearn:digits"):
        open_source("sklearn:digit")
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    (tmp_path / "b.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(SourceError, match="several formats"):
        open_source(tmp_path)


def test_gzip_bomb_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 4_000_000, mtime=0))
    with pytest.raises(TooLargeError, match="200 times"):
        open_source(path).summary()


# --- JSON and Parquet


def test_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows: list[object] = [
        {"n": i, "ok": i % 2 == 0, "text": f"t{i}", "label": "ab"[i % 2], "more": {"a": [i]}} for i in range(20)
    ]
    lines = [json.dumps(r) for r in rows]
    lines[3] = "{broken"
    lines.insert(10, "")
    path.write_text("\n".join(lines))
    source = open_source(path)
    columns, _, origins, faults = everything(source)
    assert columns["n"][:4] == [0.0, 1.0, 2.0, 4.0] and len(columns["n"]) == 19
    assert "more" not in columns and any("more" in n for n in source.notes)
    assert faults == [("rows.jsonl, line 4", "the line is no JSON object and was left out")]
    assert origins[-1] == "rows.jsonl, row 21"
    assert [c.type for c in source.summary().columns] == ["number", "category", "category", "category"]


def test_parquet_with_types_images_and_splits(tmp_path: Path) -> None:
    table = pa.table(
        {
            "photo": [{"bytes": png(i), "path": f"{i}.png"} for i in range(9)] + [{"bytes": b"no image", "path": ""}],
            "when": pa.array(range(10), pa.timestamp("s")),
            "kind": pa.array(["a", "b"] * 5).dictionary_encode(),
            "n": pa.array([1.5, None] * 5),
        }
    )
    pq.write_table(table, tmp_path / "train-00000-of-00001.parquet")
    pq.write_table(table.slice(0, 4), tmp_path / "test-00000-of-00001.parquet")
    source = open_source(tmp_path)
    columns, splits, _, faults = everything(source)
    assert len(columns["photo"]) == 13 and splits.count(2) == 4
    assert np.array(columns["photo"][5]).max() == 5
    assert [f[0] for f in faults] == ["train-00000-of-00001.parquet, row 10"]
    assert {c.name: c.type for c in source.summary().columns} == {
        "photo": "image", "when": "date", "kind": "category", "n": "number",
    }  # fmt: skip


# --- images


def image_zip(path: Path, names: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in names.items():
            archive.writestr(name, data)
    return path


def test_folder_and_zip_of_images_give_the_same(tmp_path: Path) -> None:
    files = {f"{s}/{c}/{i}.png": png(40 * i, mode="RGB") for s in ("train", "test") for c in "ab" for i in range(3)}
    files["train/unlabelled/9.png"] = png(200, mode="RGB")
    files["train/a/broken.png"] = png(1)[:40]
    files["notes.txt"] = b"hello"
    root = tmp_path / "set"
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    folder = open_source(root)
    zipped = open_source(image_zip(tmp_path / "set.zip", files))
    a, b = everything(folder), everything(zipped)
    assert a == b
    assert a[0]["label"].count(None) == 1 and a[1].count(0) == 7 and a[1].count(2) == 6
    assert a[3] == [("train/a/broken.png", "the image could not be read and was left out")]
    assert folder.summary().column("image").shape == (4, 4, 3)
    assert folder.summary().column("label").values == ("a", "b")


def test_mixed_sizes_are_scaled_and_said(tmp_path: Path) -> None:
    files = {f"{'ab'[i % 2]}/{i}.png": png(9, (300 + i, 200)) for i in range(5)}
    source = open_source(image_zip(tmp_path / "a.zip", files))
    assert source.summary().column("image").shape == (85, 128, 1)
    assert any("scaled" in note for note in source.notes)
    assert everything(source)[0]["image"][0][0][0] == [9]


def test_path_that_escapes_its_zip(tmp_path: Path) -> None:
    for name in ("../evil.png", "/etc/evil.png", "a/../../evil.png", "..\\evil.png", "C:\\evil.png"):
        with pytest.raises(SourceError, match="leads out of the zip"):
            open_source(image_zip(tmp_path / "a.zip", {"a/1.png": png(), name: png()}))


def test_zip_bomb_is_refused_before_unpacking(tmp_path: Path) -> None:
    bomb = image_zip(tmp_path / "a.zip", {"a/1.png": png() + bytes(30 << 20)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(TooLargeError, match="over 200 times"):
        open_source(bomb)
    many = image_zip(tmp_path / "b.zip", {f"a/{i}.png": png() + bytes(900) for i in range(50)})
    with pytest.raises(TooLargeError, match="unpacks to"):
        open_source(many, limits=Limits(max_archive_bytes=20_000))


def test_zip_whose_directory_lies(tmp_path: Path) -> None:
    path = image_zip(tmp_path / "a.zip", {"a/1.png": png(), "b/2.png": png(2, (64, 64), "RGB")}, zipfile.ZIP_DEFLATED)
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02")  # the directory entry of b/2.png: claim that it unpacks to 20 bytes
    data[at + 24 : at + 28] = struct.pack("<I", 20)
    path.write_bytes(data)
    columns, _, _, faults = everything(open_source(path))
    assert len(columns["image"]) == 1 and faults[0][0] == "b/2.png"


def test_hundred_megapixels_and_links_out_of_the_folder(tmp_path: Path) -> None:
    huge = bytearray(png())
    huge[16:24] = struct.pack(">II", 10_000, 10_000)
    import zlib

    huge[29:33] = struct.pack(">I", zlib.crc32(bytes(huge[12:29])))
    root = tmp_path / "set"
    (root / "a").mkdir(parents=True)
    for i in range(3):
        (root / "a" / f"{i}.png").write_bytes(png(i))
    (root / "a" / "huge.png").write_bytes(huge)
    (tmp_path / "secret.png").write_bytes(png(77))
    (root / "a" / "link.png").symlink_to(tmp_path / "secret.png")
    columns, _, _, faults = everything(open_source(root))
    assert len(columns["image"]) == 3
    assert [f[0] for f in faults] == ["a/huge.png", "a/link.png"]


# --- arrays


def test_npz_of_keras_and_unlabelled(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "a.npz"
    x = rng.integers(0, 255, (30, 5, 6), np.uint8)
    y = np.arange(30) % 3
    y[10:] = -1
    np.savez_compressed(path, x_train=x, y_train=y, x_test=x[:4], y_test=y[:4])
    source = open_source(path)
    columns, splits, _, _ = everything(source)
    assert np.array_equal(np.array(columns["image"])[:30, ..., 0], x)
    assert columns["label"][:12] == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, None, None]
    assert splits == [0] * 30 + [2] * 4
    assert any("-1" in note for note in source.notes)
    assert source.summary().column("label").missing == 20


def test_npz_of_floats_strings_and_columns(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.linspace(0, 1, 2 * 16).reshape(2, 4, 4), labels=np.array(["cat", ""]))
    columns, _, _, _ = everything(open_source(tmp_path / "a.npz"))
    assert np.array(columns["image"]).max() == 255 and columns["label"] == ["cat", ""]
    np.savez(tmp_path / "b.npz", x=np.arange(6.0).reshape(3, 2), age=np.array([1, 2, 3]), y=np.array([0, 1, -1]))
    columns, _, _, _ = everything(open_source(tmp_path / "b.npz"))
    assert columns == {"x_0": [0, 2, 4], "x_1": [1, 3, 5], "age": [1, 2, 3], "label": [0, 1, None]}


def test_npz_that_holds_python_objects_or_differing_lengths(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.array([{}, None], object), allow_pickle=True)
    with pytest.raises(SourceError, match="Python objects"):
        open_source(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", x=np.zeros((3, 2)), y=np.zeros(4))
    with pytest.raises(SourceError, match="differ in length"):
        open_source(tmp_path / "b.npz")


def test_truncated_idx_says_so(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 0x803, 5, 4, 4) + bytes(70))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, 5) + bytes(5))
    with pytest.raises(SourceError, match="truncated"):
        everything(open_source(tmp_path))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, 6) + bytes(6))
    with pytest.raises(SourceError, match="6 labels for 5 images"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    ("name", "rows"), [("digits", 1797), ("iris", 150), ("wine", 178), ("breast_cancer", 569), ("diabetes", 442)]
)
def test_scikit_learns_sets(name: str, rows: int) -> None:
    source = open_source(f"sklearn:{name}")
    summary = source.summary()
    assert summary.rows == rows == len(everything(source)[1])
    assert summary.column(summary.target) is not None
    assert Summary.from_json(json.loads(json.dumps(summary.to_json()))) == summary


# --- summaries


def test_types_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    words = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog"]
    rows = [
        f"{i * 0.5},2026-01-{i % 28 + 1:02d},{['red', 'green'][i % 2]},"
        f"{' '.join(words[i % 5 :])} {i},{i or 'n/a'},{i % 2}"
        for i in range(200)
    ]
    path.write_text("price,day,colour,text,count,label\n" + "\n".join(rows))
    columns = open_source(path).summary().columns
    assert [c.type for c in columns] == ["number", "date", "category", "text", "number", "number"]
    assert columns[4].missing == 1 and columns[4].integers and not columns[0].integers
    assert columns[5].values == ("0", "1") and columns[5].counts == (100, 100)


def test_summaries_of_several_sources_merge(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,label\n" + "1.5,yes\n2,no\n" * 20)
    (tmp_path / "b.csv").write_text("x,label\n" + "3,Yes.\nred,maybe\n" * 9)
    both = merge([open_source(tmp_path / n).summary() for n in ("a.csv", "b.csv")])
    assert both.rows == 58
    assert both.column("label").values == ("maybe", "no", "yes") and both.column("label").counts == (9, 20, 29)
    assert both.column("x").type == "category"


def test_batches_are_empty_of_nothing(tmp_path: Path) -> None:
    """A batch knows its length by its splits."""
    batch = Batch({}, np.zeros(3, np.int8), pa.array(["a", "b", "c"]))
    assert len(batch) == 3
