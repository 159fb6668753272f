"""Columns on disk: what was appended is what is read, and a torso is never taken for whole."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest

from tidemill.data import storage
from tidemill.data.arrays import Ragged
from tidemill.data.storage import ColumnsWriter, is_complete, new_folder, open_array, open_columns, save_array
from tidemill.errors import StoreError


def test_chunks_of_all_kinds_come_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    chunks = []
    with ColumnsWriter(tmp_path) as writer:
        for n in (3, 0, 5):
            chunk = {
                "image": rng.integers(0, 255, (n, 2, 3, 1), np.uint8),
                "../n": rng.normal(size=n),
                "text": Ragged.from_strings(["é" * i for i in range(n)]),
            }
            writer.append(chunk)
            chunks.append(chunk)
    columns = open_columns(tmp_path, writer.kinds)
    assert np.array_equal(columns["image"], np.concatenate([c["image"] for c in chunks]))
    assert np.array_equal(columns["../n"], np.concatenate([c["../n"] for c in chunks]))
    assert [columns["text"][i] for i in range(8)] == ["", "é", "éé", "", "é", "éé", "ééé", "éééé"]
    assert columns["text"].take(np.array([7, 1]))[0] == "éééé"
    assert {p.parent for p in tmp_path.rglob("*")} == {tmp_path}


@pytest.mark.parametrize("shape", [(0,), (1,), (0, 4), (3, 2, 2)])
def test_arrays_are_plain_npy_files(tmp_path: Path, shape: tuple[int, ...]) -> None:
    values = np.arange(int(np.prod(shape)), dtype=np.int32).reshape(shape)
    save_array(tmp_path / "a.npy", values)
    assert np.array_equal(np.load(tmp_path / "a.npy"), values)
    assert np.array_equal(open_array(tmp_path / "a.npy"), values)


def test_damaged_and_missing_arrays_say_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be read"):
        open_array(tmp_path / "a.npy")
    save_array(tmp_path / "a.npy", np.arange(1000))
    with (tmp_path / "a.npy").open("r+b") as file:
        file.truncate(500)
    with pytest.raises(StoreError, match="cannot be read"):
        open_array(tmp_path / "a.npy")


def test_an_interrupted_folder_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "part"
    with pytest.raises(KeyboardInterrupt), new_folder(target) as folder:
        (folder / "half").write_text("x")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    with new_folder(target) as folder:
        storage.write_manifest(folder, {"rows": 1})
    assert is_complete(target) and storage.read_manifest(target) == {"rows": 1}
    with new_folder(target) as folder:  # someone else was faster: theirs stays
        storage.write_manifest(folder, {"rows": 2})
    assert storage.read_manifest(target) == {"rows": 1} and len(list(tmp_path.iterdir())) == 1


def test_a_torso_is_replaced_and_a_damaged_manifest_refused(tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "column0.npy").write_bytes(b"half")
    with pytest.raises(StoreError, match="incomplete"):
        storage.read_manifest(tmp_path / "part")
    with new_folder(tmp_path / "part") as folder:
        storage.write_manifest(folder, {})
    assert [p.name for p in (tmp_path / "part").iterdir()] == ["manifest.json"]


def test_a_full_disk_says_so_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage.os, "fsync", full)
    with pytest.raises(StoreError, match="No space left") as caught, new_folder(tmp_path / "part") as folder:
        save_array(folder / "a.npy", np.arange(10))
    assert "Free disk space" in str(caught.value)
    assert list(tmp_path.iterdir()) == []
