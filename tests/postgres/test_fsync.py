"""Below the server, at its C library: fsync has returned before an acknowledgement, and what fails is told."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from _postgres import Server
from tidemill.errors import StoreError
from tidemill.records import Feedback, new_id
from tidemill.store import FeedbackWriter, Store, create_store, open_store

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None, reason="needs Linux and a C compiler for the shim"
)
SHIM = Path(__file__).parents[1] / "store" / "sync_shim.c"


class Watched(Server):
    """A server that waits for its disk as any does, and whose every fsync is noted in :attr:`log`.

    Attributes:
        log: one line a sync, and what :meth:`note` adds.
        fail: while this file exists, fsync fails.
        full: while it exists, no table finds room.
    """

    def __init__(self) -> None:
        # After a crash it would sync each of its thousand files; one call for all of them takes less than a minute.
        super().__init__("recovery_init_sync_method=syncfs")
        library = self.folder / "sync_shim.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, SHIM, "-ldl"], check=True)
        library.chmod(0o755)
        self.log, self.fail, self.full = self.folder / "syncs", self.folder / "fail", self.folder / "full"
        self.log.touch()
        self.log.chmod(0o666)
        names = {"LD_PRELOAD": library, "SYNC_LOG": self.log, "SYNC_FAIL": self.fail, "DISK_FULL": self.full}
        self.environment |= {name: str(path) for name, path in names.items()}

    def note(self, text: str) -> None:
        with self.log.open("ab", buffering=0) as file:
            file.write(text.encode() + b"\n")


@pytest.fixture(scope="module")
def server() -> Iterator[Watched]:
    made = Watched()
    with contextlib.closing(made):
        made.start()
        yield made


@pytest.fixture
def store(server: Watched, tmp_path: Path) -> Iterator[Store]:
    with create_store(tmp_path / ".tidemill", server.url(server.make_database())) as made:
        yield made


def feedback(size: int = 1) -> Feedback:
    identifier = new_id(Feedback.prefix)
    return Feedback(id=identifier, subject=identifier, kind="comment", value=os.urandom(size).hex(), key=identifier)


def without_sync(server: Watched) -> int:
    """How many acknowledgements came before a sync of the server's log of what is committed."""
    missing, synced = 0, False
    for line in server.log.read_text().splitlines():
        if line == "submit":
            synced = False
        elif line.startswith("sync") and "/pg_wal/" in line:
            synced = True
        elif line == "acknowledged":
            missing += not synced
    return missing


def test_fsync_returns_before_every_acknowledgement(store: Store, server: Watched) -> None:
    writer = FeedbackWriter(store)
    for _ in range(40):
        server.note("submit")
        assert writer.submit(feedback()).result().status == "accepted"
        server.note("acknowledged")
    writer.close()
    assert server.log.read_text().count("acknowledged") == 40 and without_sync(server) == 0

    server.log.write_text("")  # the same where nobody waits for the disk: this test would have seen it
    name = str(sa.make_url(store.database.url or "").database)
    with server.connect(name) as connection:
        connection.execute("SET synchronous_commit = off")
        for number in range(40):
            server.note("submit")
            connection.execute("INSERT INTO facts VALUES (%s, 'x')", [str(number)])
            server.note("acknowledged")
    assert without_sync(server) > 20


def test_after_a_failed_fsync_nothing_is_acknowledged_until_the_server_has_recovered(
    store: Store, server: Watched
) -> None:
    writer = FeedbackWriter(store)
    kept = [writer.submit(feedback()).result().feedback.id for _ in range(5)]
    server.fail.touch()
    with pytest.raises(StoreError, match=r"connection to the database was lost"):
        writer.submit(feedback()).result()
    refused = 0
    for _ in range(10):
        with pytest.raises(StoreError, match=r"connection to the database was lost|cannot be reached"):
            writer.submit(feedback()).result()
        refused += 1
    server.fail.unlink()
    assert "PANIC" in server.said(), "it ends its processes, since it cannot know what its disk holds"
    # Where reading its log failed, too, the server says for ever that it is in recovery: somebody has to restart it.
    server.kill()
    server.start()
    kept.append(writer.submit(feedback()).result().feedback.id)
    writer.close()
    assert refused == 10 and set(kept) <= {f.id for f in store.find(Feedback)}


def test_a_full_disk_is_told_and_feedback_goes_on_when_there_is_room(store: Store, server: Watched) -> None:
    writer = FeedbackWriter(store)
    kept = [writer.submit(feedback()).result().feedback.id]
    server.full.touch()
    refused = None
    deadline = time.monotonic() + 60
    while refused is None and time.monotonic() < deadline:
        item = feedback(4000)
        try:
            writer.submit(item).result()
            kept.append(item.id)
        except StoreError as error:
            refused = str(error)
    server.full.unlink()
    assert refused is not None and "disk of the database is full, so nothing was written" in refused
    assert "Free some space" in refused
    kept.append(writer.submit(feedback(4000)).result().feedback.id)
    writer.close()
    with open_store(store.root, store.database.url) as again:
        assert sorted(f.id for f in again.find(Feedback)) == sorted(kept)
