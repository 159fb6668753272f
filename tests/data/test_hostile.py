"""Files that nobody writes by accident: what a fuzzer found, in small."""

from __future__ import annotations

import io
import os
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tidemill.data.sources import Limits, open_source
from tidemill.errors import SourceError


def refused(path: Path, match: str) -> None:
    with pytest.raises(SourceError, match=match):
        for _ in open_source(path, limits=Limits(max_archive_bytes=1_000_000)).batches():
            pass


@pytest.mark.parametrize(
    ("array", "match"),
    [
        (np.array([1j, 2j]), "values of type complex128"),
        (np.zeros(2, "V3"), "values of type"),
        (np.zeros(2, np.longdouble), "values of type"),
        (np.zeros(2, "M8"), "values of type datetime64"),
        (np.array([0x110000, 65], np.uint32).view("U1"), "no characters"),
        (np.array([0xD800, 65], np.uint32).view("U1"), "no characters"),
    ],
)
def test_arrays_that_are_no_columns(array: np.ndarray, match: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=array, y=np.array([0, 1]))
    refused(tmp_path / "a.npz", match)


def test_arrays_of_the_other_byte_order(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "a.npz", a=np.array([1.5, 2], ">f8"), t=np.array(["ebb", "flöd"], ">U4"), y=np.array([0, 258], ">i4")
    )
    (batch,) = open_source(tmp_path / "a.npz").batches()
    assert {name: column.to_pylist() for name, column in batch.columns.items()} == {
        "a": [1.5, 2.0], "t": ["ebb", "flöd"], "label": [0, 258],
    }  # fmt: skip


@pytest.mark.parametrize(
    "header", [b"{'descr': (\n", b"{" * 900, b"{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}"]
)
def test_array_headers_that_are_none(header: bytes, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header)
    refused(tmp_path / "a.npz", "no NumPy array")


def zipped(path: Path, name: str, content: bytes = b"a,b\n1,2\n", method: int = zipfile.ZIP_DEFLATED) -> Path:
    info = zipfile.ZipInfo("placeholder")
    info.filename = name
    info.compress_type = method
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, content)
    return path


def test_members_without_a_name(tmp_path: Path) -> None:
    refused(zipped(tmp_path / "a.zip", ""), "no name of a file")
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("x")
        info.pax_headers = {"path": "a\0b.csv"}
        archive.addfile(info, io.BytesIO())
    refused(tmp_path / "a.tar", "no name of a file")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_that_unpack_to_any_size_at_once(method: int, tmp_path: Path) -> None:
    """A kilobyte of bzip2 unpacks to twenty megabytes in one step, whatever size the zip announced."""
    refused(zipped(tmp_path / "a.zip", "a.csv", method=method), "Pack it again as an ordinary zip")


def test_a_member_that_is_damaged_is_not_taken_for_a_full_disk(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", "a.csv", b"a,b\n" + b"1,2\n" * 100)
    content = bytearray(path.read_bytes())
    content[45] ^= 0xFF
    path.write_bytes(content)
    refused(path, "cannot be unpacked")


def test_names_that_are_no_utf_8(tmp_path: Path) -> None:
    for label in (b"gut", b"sch\xf6n"):
        folder = tmp_path / "texts" / os.fsdecode(label)
        folder.mkdir(parents=True)
        (folder / "1.txt").write_text("text")
    refused(tmp_path / "texts", r"the name 'sch\\udcf6n/1.txt' is no UTF-8")


def test_parquet_whose_pages_are_damaged(tmp_path: Path) -> None:
    column = pa.array([b"\x89PNG" * 50] * 20)
    pq.write_table(pa.table({"image": column}), tmp_path / "a.parquet", compression="none", use_dictionary=False)
    content = bytearray((tmp_path / "a.parquet").read_bytes())
    content[4:20] = bytes(16)
    (tmp_path / "a.parquet").write_bytes(content)
    refused(tmp_path / "a.parquet", "damaged after row 0")


def test_an_idx_header_that_promises_more_than_the_file_holds(tmp_path: Path) -> None:
    head = b"\0\0\x08\x03" + struct.pack(">III", 2**32 - 1, 4, 4)
    (tmp_path / "x-images-idx3-ubyte").write_bytes(head + bytes(16))
    with pytest.raises(SourceError, match="truncated"):
        open_source(tmp_path / "x-images-idx3-ubyte")
