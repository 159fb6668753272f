"""Images and archives that are damaged, too large, or made to do harm."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from newcomer import actions, cycle, start, tidemill
from PIL import Image

CLASSES = ("bright", "dark")


def png(seed: int, *, bright: bool) -> bytes:
    """A small grey picture."""
    pixels = np.random.default_rng(seed).integers(0, 60, (8, 8), np.uint8) + (150 if bright else 0)
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def enormous(width: int = 10_000, height: int = 10_000) -> bytes:
    """A file of a hundred bytes that says it is a picture of 100 megapixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def pictures(n: int = 40) -> dict[str, bytes]:
    """Names and files in two class folders."""
    return {f"{CLASSES[i % 2]}/{i}.png": png(i, bright=i % 2 == 0) for i in range(n)}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def pack(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


WRONG = {
    "bright/truncated.png": png(90, bright=True)[:-40],
    "bright/enormous.png": enormous(),
    "dark/empty.png": b"",
    "dark/letter.png": b"Dear Sir or Madam",
}


@pytest.mark.parametrize("packed", [False, True])
def test_bad_images_among_many_are_left_out_counted_and_named(packed: bool, tmp_path: Path) -> None:
    """In a folder and in a zip; the folder lies beside the project, and a hidden folder above both."""
    hidden = tmp_path / ".hidden"
    hidden.mkdir()
    files = pictures() | WRONG
    data = pack(hidden / "pictures.zip", files) if packed else write(hidden / "pictures", files)
    project = start(hidden / "project", data)
    done = cycle(project)
    assert done.code == 0, done.out
    count, examples = actions(project)["the image could not be read and was left out"]
    assert count == len(WRONG)
    for name, why in zip(WRONG, ("truncated", "pixels", "no image", "no image"), strict=True):
        assert any(name in example and why in example for example in examples), examples
    assert sum(done.document["dataset"]["counts"].values()) == 40


REFUSED: dict[str, tuple[dict[str, bytes] | bytes, tuple[str, ...]]] = {
    "all-bad": ({f"{c}/{i}.png": b"\x89PNG" for c in CLASSES for i in range(4)}, ("none of the images",)),
    "all-enormous": ({f"{c}/1.png": enormous(100_000, 100_000) for c in CLASSES}, ("100000 x 100000", "50 megapixels")),
    "bomb": ({"bright/1.png": bytes(50_000_000), "dark/2.png": b"x"}, ("50,000,000 bytes", "limits.archive_ratio")),
    "escaping": ({"../../bright/1.png": b"x", "dark/2.png": b"x"}, ("leads out of the zip", "../../bright/1.png")),
    "absolute": ({"/etc/bright/1.png": b"x"}, ("leads out of the zip",)),
    "backslashes": ({"..\\..\\bright\\1.png": b"x"}, ("leads out of the zip",)),
    "nothing": ({}, ("nothing in the archive", "Pack images")),
    "a-broken-table": ({"tides.csv": b"size,label\n1,ebb\n"}, ("the same label, 'ebb'",)),
    "broken": (b"PK\x03\x04 and no more", ("cannot be opened", "again")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_archive_that_cannot_be_used_is_refused_and_nothing_is_unpacked(name: str, tmp_path: Path) -> None:
    content, said = REFUSED[name]
    path = tmp_path / "deep" / "er" / f"{name}.zip"
    path.parent.mkdir(parents=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        pack(path, content)
    message = tidemill("init", tmp_path / "deep" / "er" / "project", "--data", path).refusal()
    assert all(words in message for words in said), message
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == [path.name]


def test_the_lowest_limit_is_the_projects_own(tmp_path: Path) -> None:
    data = write(tmp_path / "pictures", pictures())
    project = start(tmp_path / "project", data)
    config = project / "tidemill.yaml"
    config.write_text(config.read_text("utf-8").replace("\nlimits:", "\nlimits:\n  image_megapixels: 0.00001"), "utf-8")
    message = cycle(project).refusal()
    assert "too many pixels" in message or "pixels" in message


def described(folder: Path, lines: list[str], n: int = 60) -> Path:
    """Images in one folder, and a metadata file of these lines."""
    write(folder, {f"{i}.png": png(i, bright=i % 2 == 0) for i in range(n)})
    (folder / "metadata.jsonl").write_text("\n".join(lines), "utf-8")
    return folder


def test_images_with_metadata_that_fits_them_in_part(tmp_path: Path) -> None:
    """Several labels an image: what is said of no image, of one twice, or in no JSON is left out and said."""
    lines = [
        json.dumps(
            {"file_name": f"{i}.png", "label": ([] if i % 5 == 0 else ["bright"]) if i % 2 == 0 else ["dark", "x"]}
        )
        for i in range(50)
    ]
    lines[9] = '{"file_name": "9.png", "label": "dark"}'
    lines[11:13] = ['{"file_name": "11.png", "lab', '{"file_name": "12.png", "label": [["bright"]]}']
    lines += ['{"file_name": "gone.png", "label": []}', '{"file_name": "../../etc/passwd", "label": ["x"]}', lines[0]]
    data = described(tmp_path / "pictures", lines)
    (data / "20.png").write_bytes(b"\x89PNG")
    project = start(tmp_path / "project", data)
    done = cycle(project)
    assert done.document["decision"] is not None, done.out
    told = {what: [example.partition(":")[0] for example in some] for what, (_, some) in actions(project).items()}
    for what, where in (
        ("a single value where other lines have lists was taken for a list of one", "metadata.jsonl, line 10"),
        ("the line is no JSON object and was left out", "metadata.jsonl, line 12"),
        ("a nested list where other lines have labels was taken for missing", "metadata.jsonl, line 13"),
        ("the metadata names an image that is not there; the row was left out", "gone.png"),
        ("the name in the metadata is no path below it", "metadata.jsonl, ../../etc/passwd"),
        ("the metadata names an image twice; its first row counts", "metadata.jsonl, 0.png"),
        ("the metadata does not name the image, which has no values but its own", "11.png"),
        ("the image could not be read and was left out", "20.png"),
        ("samples without a label were kept, to be asked about", "pictures/12.png"),
    ):
        assert where in told[what], told
    counts = done.document["dataset"]["counts"]
    assert sum(counts.values()) == 59 and counts["unlabelled"] == 12  # eleven without a row, one without a list


METADATA: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "no names": (['{"name": "1.png", "label": ["x"]}'], ("no column 'file_name'", "metadata.jsonl")),
    "no labels": (['{"file_name": "1.png", "label": [{"box": 1}]}'], ("no column besides", "nested lists")),
    "empty lists": ([f'{{"file_name": "{i}.png", "label": []}}' for i in range(60)], ("no sample has a label",)),
    "no such images": (['{"file_name": "a.png", "label": ["x"]}'], ("none of the images", "'a.png'")),
    "nothing": ([], ("the file is empty",)),
}


@pytest.mark.parametrize("what", METADATA)
def test_metadata_that_says_nothing(what: str, tmp_path: Path) -> None:
    lines, said = METADATA[what]
    data = described(tmp_path / "pictures", lines)
    refused = tidemill("init", tmp_path / "project", "--data", data, "--target", "label").refusal()
    assert all(words in refused for words in said), refused
    (data / "metadata.csv").write_text("file_name,label\n1.png,x\n")
    both = tidemill("init", tmp_path / "project", "--data", data, "--target", "label").refusal()
    assert "two metadata files" in both or what == "nothing", both
    assert not (tmp_path / "project").exists()
