"""Blobs are whole, named by what they hold, and stored once."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from tidemill.errors import NotFoundError, StoreError
from tidemill.store import Store, seam


@pytest.fixture
def on() -> str:
    return "sqlite"  # no table has a part in it


def test_content_is_stored_once_under_its_hash(store: Store) -> None:
    content = os.urandom(5000)
    name = store.blobs.put(content)
    assert name == hashlib.sha256(content).hexdigest()
    written = store.blobs.path(name).stat().st_mtime_ns
    assert store.blobs.put(content) == name and store.blobs.path(name).stat().st_mtime_ns == written
    assert store.blobs.get(name) == content
    assert [p.name for p in (store.root / "blobs").rglob("*") if p.is_file()] == [name]
    assert store.blobs.get(store.blobs.put(b"")) == b""


def test_a_blob_is_synced_before_it_gets_its_name(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    real_sync, real_replace = seam.sync, Path.replace
    monkeypatch.setattr(seam, "sync", lambda fd: (real_sync(fd), events.append("sync")))
    monkeypatch.setattr(Path, "replace", lambda *a: (real_replace(*a), events.append("named")))
    monkeypatch.setattr(seam, "sync_folder", lambda folder: events.append(f"folder {folder.name}"))
    name = store.blobs.put(b"content")
    assert events == ["sync", "named", f"folder {name[:2]}", "folder blobs"]


def test_a_full_disk_leaves_nothing_behind(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(seam, "sync", full)
    with pytest.raises(StoreError, match="No space left"):
        store.blobs.put(b"content")
    assert [p for p in (store.root / "blobs").rglob("*") if p.is_file()] == []


def test_a_damaged_blob_is_told_and_healed_by_putting_it_again(store: Store) -> None:
    name = store.blobs.put(b"content")
    store.blobs.path(name).write_bytes(b"conten")
    with pytest.raises(StoreError, match="damaged"):
        store.blobs.get(name)
    assert store.blobs.put(b"content") == name
    assert store.blobs.get(name) == b"content"


@pytest.mark.parametrize("name", ["", "../../secret", "A" * 64, "/etc/passwd", "0" * 64])
def test_a_name_that_is_no_blob_is_refused(store: Store, name: str) -> None:
    with pytest.raises(NotFoundError):
        store.blobs.get(name)
