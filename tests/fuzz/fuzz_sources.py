"""What a team points Tidemill at: tables, arrays, pictures, archives."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import itertools
import json
import lzma
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from fuzz_base import Decoder, join, named, real, refusing, split
from PIL import Image

from tidemill.data.sources import Limits, open_source

LIMITS = Limits(max_image_pixels=100_000, max_archive_bytes=1_000_000, max_file_bytes=1_000_000, max_field_bytes=2000)
_PACKERS: tuple[Callable[[bytes], bytes], ...] = (bytes, gzip.compress, bz2.compress, lzma.compress)
_TABLES = (".csv", ".tsv", ".txt", "")
_NOT_MADE = (ValueError, OverflowError, OSError, zipfile.BadZipFile, tarfile.TarError)
"""What the standard library says when an input makes no archive that could be read."""


def read(path: Path) -> None:
    """All of a source, and whether it kept its limits and its word."""
    source = open_source(path, limits=LIMITS)
    summary = source.summary()
    json.dumps(summary.to_json(), allow_nan=False)
    rows = faults = 0
    for batch in source.batches(64):
        rows, faults = rows + len(batch), faults + len(batch.faults)
        assert len(batch.origin) == len(batch) and set(batch.split.tolist()) <= {-1, 0, 1, 2}
        for name, column in batch.columns.items():
            assert len(column) == len(batch), name
            if isinstance(column, np.ndarray) and column.ndim == 4:
                assert column.dtype == np.uint8 and column.shape[1] * column.shape[2] <= LIMITS.max_image_pixels
            elif isinstance(column, pa.Array) and pa.types.is_large_string(column.type):
                assert (pc.max(pc.binary_length(column)).as_py() or 0) <= LIMITS.max_field_bytes, name
    assert summary.rows in (None, rows) or (faults and rows < summary.rows), (
        summary.rows,
        rows,
    )  # a picture is damaged


@refusing
def table(data: bytes, folder: Path) -> None:
    """The first byte tells suffix and packer."""
    kind = data[0] if data else 0
    path = folder / f"rows{_TABLES[kind // 4 % 4]}"
    path.write_bytes(_PACKERS[kind % 4](data[1:]))
    read(path)


def tables() -> Iterator[bytes]:
    """Real tables of several dialects, and some that were made to be odd."""
    found = real(
        "adult-census/adult-train.csv", "california-housing/housing.csv", "ag-news/test.csv", "ml-100k/u.data",
        "chnsenticorp-htl/ChnSentiCorp_htl_all.csv", "ml-100k/u.item", "open-bandit-men/random/men.csv", size=1200,
    )  # fmt: skip
    made = [
        b"a,b\n1,2\n3,4\n",
        'größe;"b ""x"""\n1,5;"zwei\nZeilen"\n'.encode("latin-1"),
        "a\tb\n1\t\U0001f30a\n".encode("utf-16"),
        b"\xef\xbb\xbfday,label\n2024-01-31T12:00:00Z,yes\n31.01.2024,no\n",
        b"sep=;\na;b\n1;\n",
        b"tags,split\na|b,train\nc,test\n",
        b'"' * 50,
        b"a,a,\n1,2,3\n" * 20,
    ]
    for number, content in enumerate([*found, *made]):
        yield bytes([number % 16]) + content


@refusing
def lines(data: bytes, folder: Path) -> None:
    """The first byte tells whether it is a line a row, or one document, and the packer."""
    kind = data[0] if data else 0
    path = folder / ("rows.jsonl" if kind // 4 % 2 else "rows.json")
    path.write_bytes(_PACKERS[kind % 4](data[1:]))
    read(path)


def documents() -> Iterator[bytes]:
    """JSON and JSON lines, also almost JSON."""
    rows = [{"a": 1, "b": "x", "tags": ["u", "v"]}, {"a": None, "b": "ü", "tags": []}, {"a": 1e300, "b": True}]
    for content in real("instructions-alpaca/alpaca_en_demo.json", "preferences-dpo/kto_en_demo.json", size=2000):
        yield b"\0" + content
    yield b"\0" + json.dumps(rows).encode()
    yield b"\x04" + b"\n".join(json.dumps(row).encode() for row in rows)
    yield b"\x04" + b"{'a': 1, 'b': NaN,}\n{\"a\": 0x10}\n[1]\n"
    yield b"\x00" + json.dumps({"data": rows, "n": 3}).encode()
    yield b"\x05" + b'{"a": ' + b"[" * 200 + b"]" * 200 + b"}\n"
    yield b"\x04" + b'{"text": "\\ud83d\\ude00 \\ud800", "n": 123456789012345678901234567890}\n'


@refusing
def idx(data: bytes, folder: Path) -> None:
    """Images and labels, either of them perhaps packed."""
    flags, *parts = split(data)
    kind = flags[0] if flags else 0
    for name, part, packed in zip(("images-idx3", "labels-idx1"), parts, (kind & 1, kind & 2), strict=False):
        path = folder / f"train-{name}-ubyte{'.gz' * bool(packed)}"
        path.write_bytes(gzip.compress(part) if packed else part)
    if parts:
        read(next(folder.glob("train-images*")) if kind & 4 else folder)


def idx_files() -> Iterator[bytes]:
    """Three small images with labels; floats; four dimensions; a lie about how many there are."""
    pixels, labels = bytes(range(48)), b"\0\0\x08\x01\0\0\0\x03\x01\x02\x00"
    good = b"\0\0\x08\x03\0\0\0\x03\0\0\0\x04\0\0\0\x04" + pixels
    yield from (join(bytes([kind]), good, labels) for kind in (0, 3, 4, 7))
    yield join(b"\0", good)
    yield join(b"\0", b"\0\0\x0d\x03\0\0\0\x01\0\0\0\x02\0\0\0\x02" + bytes(16), b"\0\0\x0c\x01\0\0\0\x01\0\0\0\x07")
    yield join(
        b"\0", b"\0\0\x08\x04\0\0\0\x01\0\0\0\x02\0\0\0\x02\0\0\0\x03" + bytes(12), b"\0\0\x09\x01\0\0\0\x01\xff"
    )
    yield join(b"\0", b"\0\0\x08\x03\xff\xff\xff\xff\0\0\0\x04\0\0\0\x04" + pixels, b"\0\0\x08\x01\xff\xff\xff\xff")


@refusing
def npz(data: bytes, folder: Path) -> None:
    """As it is, or made of arrays."""
    _write_zip(data, folder / "arrays.npz", suffix=".npy")
    read(folder / "arrays.npz")


def npz_files() -> Iterator[bytes]:
    """Arrays of many types and shapes, one archive each as it is and in parts."""
    x = np.arange(48, dtype=np.uint8).reshape(3, 4, 4)
    for arrays in (
        {"x": x, "y": np.array([0, 1, 2])},
        {"x_train": x[:2], "y_train": np.array(["a", "b"]), "x_test": x[:1], "y_test": np.array(["a"])},
        {"images": x.astype(np.float32) / 48, "labels": np.array([-1, 0, 1])},
        {"data": np.arange(6.0).reshape(3, 2), "split": np.array(["train", "test", ""]), "y": np.array([b"u"] * 3)},
        {
            "when": np.array(["2024-01-01"] * 2, "M8[s]"),
            "z": np.array([1j, 2]),
            "s": np.zeros(2, "V3"),
            "f": x[:2, 0, 0],
        },
        {"single": np.float64(1), "empty": np.zeros((0, 3)), "half": np.zeros(0, np.float16)},
    ):
        whole = io.BytesIO()
        np.savez_compressed(whole, **arrays)
        yield b"\0" + whole.getvalue()
        parts = []
        for name, array in arrays.items():
            part = io.BytesIO()
            np.save(part, array)
            parts.append(b"\0" + name.encode() + b"\n" + part.getvalue())
        yield b"\1" + join(*parts)


@refusing
def packed(data: bytes, folder: Path) -> None:
    """A zip: as it is, or made of files."""
    _write_zip(data, folder / "set.zip")
    read(folder / "set.zip")


@refusing
def taken(data: bytes, folder: Path) -> None:
    """A tar: as it is, or made of files; the first byte tells the packer, too."""
    kind = data[0] if data else 0
    content = data[1:]
    if kind & 1:
        whole = io.BytesIO()
        try:
            with tarfile.open(
                fileobj=whole, mode="w", format=(tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)[kind >> 1 & 1]
            ) as archive:
                for flags, name, inside in map(named, split(content)):
                    info = tarfile.TarInfo(name)
                    info.size = len(inside)
                    info.type = bytes([48 + flags % 8])
                    info.linkname = "../outside" if flags & 7 else ""
                    archive.addfile(info, io.BytesIO(inside))
        except _NOT_MADE:
            return
        content = whole.getvalue()
    path = folder / "set.tar"
    path.write_bytes(_PACKERS[kind >> 2 & 3](content))
    read(path)


def archives(make: Callable[[dict[str, bytes]], bytes], kinds: tuple[int, ...]) -> Iterator[bytes]:
    """Archives of pictures, tables and texts, as they are and in parts; some lead outside, some hold others."""
    small = _picture("PNG")
    for files in (
        {"train/cat/1.png": small, "train/dog/2.png": small, "metadata.csv": b"file_name,label\ntrain/cat/1.png,cat\n"},
        {"d/rows.csv": b"a,b\n1,2\n3,4\n", "d/.hidden": b"x", "__MACOSX/x": b""},
        {"pos/1.txt": b"good", "neg/2.txt": "schön".encode(), "neg/3.txt": b"\xff\xfe"},
        {"../evil.csv": b"a\n1\n", "/abs.csv": b"a\n1\n"},
        {"inner.zip": b"PK\5\6" + bytes(18)},
        {"x-images-idx3-ubyte": b"\0\0\x08\x03\0\0\0\1\0\0\0\2\0\0\0\2" + bytes(4)},
        {"rows.jsonl": b'{"a": 1, "label": "u"}\n{"a": 2, "label": "v"}\n'},
    ):
        whole = make(files)
        parts = join(*(b"\0" + name.encode() + b"\n" + content for name, content in files.items()))
        for kind in kinds:
            yield bytes([kind]) + (parts if kind & 1 else whole)


def _zipped(files: dict[str, bytes]) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return whole.getvalue()


def _tarred(files: dict[str, bytes]) -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return whole.getvalue()


def _write_zip(data: bytes, path: Path, suffix: str = "") -> None:
    content = data[1:]
    if data and data[0] & 1:
        whole = io.BytesIO()
        with contextlib.suppress(*_NOT_MADE), zipfile.ZipFile(whole, "w") as archive:
            for flags, name, inside in map(named, split(content)):
                info = zipfile.ZipInfo(name + suffix)
                info.compress_type = (0, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)[flags & 3]
                info.external_attr = (0o120777, 0o100644, 0o060644, 0)[flags >> 2 & 3] << 16 if flags & 12 else 0
                archive.writestr(info, inside)
        content = whole.getvalue()
    path.write_bytes(content)


@refusing
def parquet(data: bytes, folder: Path) -> None:
    """As it is; what is native of it is not watched by the fuzzer."""
    path = folder / "rows.parquet"
    path.write_bytes(data)
    read(path)


def parquet_files() -> Iterator[bytes]:
    """Columns of many types; images as bytes; none at all."""
    picture = _picture("PNG")
    for columns in (
        {"a": pa.array([1, None, 3]), "b": pa.array(["x", "y", None]), "c": pa.array([1.5, float("nan"), 0])},
        {"image": pa.array([{"bytes": picture, "path": "1.png"}] * 2), "label": pa.array([0, 1])},
        {"image": pa.array([picture, b"none"]), "tags": pa.array([["u"], []])},
        {"t": pa.array([0, 1], pa.timestamp("ns", "UTC")), "d": pa.array([1, 2]).cast(pa.decimal128(30, 2))},
        {"m": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())), "e": pa.array(["u"]).dictionary_encode()},
        {"n": pa.nulls(2), "time": pa.array([1, 2], pa.time32("s")), "du": pa.array([1, 2], pa.duration("s"))},
    ):
        whole = io.BytesIO()
        pq.write_table(pa.table(columns), whole, compression="none")
        yield whole.getvalue()


@refusing
def picture_folder(data: bytes, folder: Path) -> None:
    """Pictures in folders of their classes, under suffixes that may lie, with what is said of them."""
    for flags, name, content in map(named, split(data)):
        place = folder / ("ab"[flags & 1])
        place.mkdir(exist_ok=True)
        clean = "".join(c for c in name if c.isalnum() or c in "._-")[:40] or "x"
        (place / clean).write_bytes(content)
    read(folder)


def pictures() -> Iterator[bytes]:
    """Every format, and what is none."""
    kinds = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "PPM", "TIFF")
    for first, second in itertools.pairwise([*kinds, kinds[0]]):
        yield join(
            b"\0one." + first.lower().encode() + b"\n" + _picture(first),
            b"\1two." + second.lower().encode() + b"\n" + _picture(second, mode="RGB"),
        )
    yield join(b"\0one.png\nnone", b"\0metadata.csv\nfile_name,label\none.png,x\n", b"\1three.jpg\n" + _picture("PNG"))


def _picture(kind: str, mode: str = "L") -> bytes:
    whole = io.BytesIO()
    Image.linear_gradient("L").resize((9, 7)).convert(mode).save(whole, kind)
    return whole.getvalue()


SOURCES = [
    Decoder("csv", table, tables, (b",", b"\n", b'"', b"\r\n", b"sep=", b"\xff\xfe", b"\xef\xbb\xbf", b"\0"), quick=80),
    Decoder("jsonl", lines, documents, (b'{"', b'":', b"[]", b"null", b"\n", b"NaN", b"\\u", b"1e9"), quick=300),
    Decoder(
        "idx", idx, idx_files, (b"\0\0\x08\x03", b"\0\0\x08\x01", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff"), quick=600
    ),
    Decoder(
        "npz",
        npz,
        npz_files,
        (b"\x93NUMPY\1\0", b"'descr'", b"'|O'", b"'fortran_order'", b"PK\3\4", b"(-1,)"),
        quick=500,
    ),
    Decoder(
        "zip", packed, lambda: archives(_zipped, (0, 1)), (b"PK\3\4", b"PK\1\2", b"PK\5\6", b"../", b".zip"), quick=400
    ),
    Decoder(
        "tar",
        taken,
        lambda: archives(_tarred, (0, 1, 3, 4, 5, 8, 12)),
        (b"ustar", b"PaxHeader", b"../", b"\0" * 8),
        8192,
        quick=300,
    ),
    Decoder("parquet", parquet, parquet_files, (b"PAR1", b"ARROW:schema", b"huggingface"), quick=800),
    Decoder(
        "pictures",
        picture_folder,
        pictures,
        (b"IHDR", b"IDAT", b"\xff\xd8", b"Exif\0\0", b"II*\0", b"RIFF", b"GIF89a"),
        quick=250,
    ),
]
