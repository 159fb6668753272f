"""Rows to answer, from arguments, JSON lines and files."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tidemill.cli.inputs import from_arguments, from_file, from_lines
from tidemill.config import make_config
from tidemill.data.schema import Field, Signature
from tidemill.errors import InputError, NotReadyError

TABLE = Signature(
    inputs=(
        Field(name="age", type="number", optional=True),
        Field(name="job", type="category"),
    ),
    target="income",
    kind="classification",
    labels=("high", "low"),
)
PICTURE = Signature(
    inputs=(Field(name="image", type="image", shape=(8, 8, 1)),), target="label", kind="classification", labels=("a",)
)
CONFIG = make_config(task="t", data="a.csv", target="income", ignore=["id"])


@pytest.fixture
def png(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    Image.fromarray(np.full((8, 8), 7, np.uint8)).save(path)
    return path


def test_arguments_become_one_row() -> None:
    assert from_arguments(["age=39.5", "job=State-gov"], TABLE) == {"age": 39.5, "job": "State-gov"}
    assert from_arguments(["age=", "job=a=b"], TABLE) == {"age": None, "job": "a=b"}
    assert from_arguments(["jbo=x"], TABLE) == {"jbo": "x"}  # the model names the nearest field


def test_an_image_is_named_by_its_path(png: Path) -> None:
    assert (
        from_arguments([f"image={png}"], PICTURE) == from_arguments([str(png)], PICTURE) == {"image": png.read_bytes()}
    )


@pytest.mark.parametrize(
    ("values", "what"),
    [
        (["age=old"], "'old' is not a number"),
        (["age=1", "age=2"], "given twice"),
        (["nonsense"], "not NAME=VALUE"),
    ],
)
def test_arguments_that_do_not_fit(values: list[str], what: str) -> None:
    with pytest.raises(InputError, match=what) as caught:
        from_arguments(values, TABLE)
    assert caught.value.mend


def test_an_image_that_is_not_there() -> None:
    with pytest.raises(InputError, match="no such image file"):
        from_arguments(["image=nothing.png"], PICTURE)
    with pytest.raises(NotReadyError):
        from_arguments(["a=1"], None)


def test_json_lines(png: Path) -> None:
    lines = io.BytesIO(b'{"age": 1, "job": "x"}\n\n{"age": null, "job": "y"}\n')
    rows = list(from_lines(lines, TABLE, "stdin"))
    assert rows == [{"age": 1, "job": "x"}, {"age": None, "job": "y"}]
    assert [row.origin for row in rows] == ["stdin, line 1", "stdin, line 3"]
    (row,) = from_lines([b'{"image": "a.png"}'], PICTURE, "rows", png.parent)
    assert row["image"] == png.read_bytes()
    (row,) = from_lines([b'{"image": "data:image/png;base64,xx"}'], PICTURE, "rows")
    assert row["image"].startswith("data:")


@pytest.mark.parametrize("line", [b"{", b"[1]", b"7"])
def test_lines_that_are_no_rows(line: bytes) -> None:
    with pytest.raises(InputError) as caught:
        list(from_lines([b'{"age": 1}\n', line], TABLE, "stdin"))
    assert caught.value.where == "stdin, line 2"


def test_a_csv_file_without_its_target_and_ignored_columns(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("id,age,job,income\n1, 39 ,State-gov,low\n2,?,Private,high\n3,,Private,low\n", encoding="utf-8")
    rows = list(from_file(str(path), TABLE, CONFIG))
    assert rows == [
        {"age": 39.0, "job": "State-gov"},
        {"age": None, "job": "Private"},
        {"age": None, "job": "Private"},
    ]
    assert "2" in str(rows[1].origin)


def test_jsonl_and_parquet_files(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "rows.jsonl").write_text('{"id": 1, "age": 2, "job": "x", "income": "low"}\n', encoding="utf-8")
    assert list(from_file(str(tmp_path / "rows.jsonl"), TABLE, CONFIG)) == [{"age": 2, "job": "x"}]
    pq.write_table(pa.table({"age": [1.5, None], "job": ["x", "y"]}), tmp_path / "rows.parquet")
    assert list(from_file(str(tmp_path / "rows.parquet"), TABLE, CONFIG)) == [
        {"age": 1.5, "job": "x"},
        {"age": None, "job": "y"},
    ]


def test_a_damaged_row_is_not_left_out_in_silence(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("age,job\n1,x\n2,y,z,w\n3,z\n", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        list(from_file(str(path), TABLE, CONFIG))
    assert caught.value.where is not None and "2" in caught.value.where


def test_a_folder_of_images(tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / "set" / label).mkdir(parents=True)
        Image.fromarray(np.full((8, 8), 9, np.uint8)).save(tmp_path / "set" / label / "1.png")
    config = make_config(task="t", data="a", target="label")
    rows = list(from_file(str(tmp_path / "set"), PICTURE, config))
    assert [np.asarray(row["image"]).shape for row in rows] == [(8, 8, 1)] * 2
    assert all(set(row) == {"image"} for row in rows)
