"""A backup holds everything, is made while the project lives, and comes back whole or not at all."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

import tidemill
from _postgres import Server
from tidemill.errors import BusyError, ConfigError, ConflictError, InputError, StoreError, TidemillError
from tidemill.project import backup as backing
from tidemill.project.archive import HEADER, ArchiveWriter, members
from tidemill.project.restoring import restore, with_store
from tidemill.records import Cycle, Feedback, LiveKey, Prediction, Run, new_id
from tidemill.store import FeedbackWriter, JournalWriter, Store, fold, new_prediction_id, portable

ROWS = [{"size": 0.5, "kind": "ebb"}, {"size": 3.0, "kind": "flood"}]
LEFT_OUT = ("console", "progress.json", "features", "locks", "studies", "work", "store.db", "journal", "backups.json")


def rows(store: Store) -> dict[str, list[Any]]:
    """Every row of every table, numbers included."""
    with store.database.snapshot() as connection:
        found = {str(t.name): [row for part in portable.dump(connection, t) for row in part] for t in portable.tables()}
    assert sum(map(len, found.values())) > 50
    return found


def files(root: Path) -> dict[str, bytes]:
    """Everything durable that is no table."""
    paths = {str(p.relative_to(root)): p for p in root.rglob("*") if p.is_file()}
    return {name: path.read_bytes() for name, path in paths.items() if not name.startswith(LEFT_OUT)}


@pytest.fixture
def archive(lived: tidemill.Project, tmp_path: Path) -> Path:
    lived.backup(tmp_path / "parcels.tar.zst")
    return tmp_path / "parcels.tar.zst"


@pytest.fixture
def new_url(request: pytest.FixtureRequest) -> Callable[[], str]:
    """Makes an empty database in PostgreSQL."""
    server: Server = request.getfixturevalue("postgres")
    return server.make


def same(one: tidemill.Project, other: tidemill.Project) -> None:
    assert rows(one.store) == rows(other.store)
    assert files(one.store.root) == files(other.store.root) and len(files(one.store.root)) > 20
    assert one.predict(ROWS) == other.predict(ROWS)
    assert one.champion == other.champion and one.store.secret == other.store.secret
    assert all(check["ok"] for check in other.doctor() if not check["check"].startswith(("store", "source")))


def test_every_row_file_and_answer_comes_back(lived: tidemill.Project, tmp_path: Path) -> None:
    said = lived.backup(tmp_path)
    path = Path(said["path"])
    assert path.parent == tmp_path and path.name.startswith("parcels-2") and path.name.endswith(".tar.zst")
    assert said["bytes"] == path.stat().st_size and said["rows"]["predictions"] == 20
    assert stat.S_IMODE(path.stat().st_mode) == 0o600, "the secret is in it"
    back = tidemill.restore(path, tmp_path / "home" / "again")
    with contextlib.closing(back.store):
        same(lived, back)
        assert stat.S_IMODE((back.store.root / "secret").stat().st_mode) == 0o600
        assert (back.dir / "tidemill.yaml").read_bytes() == (lived.dir / "tidemill.yaml").read_bytes()
        assert (back.dir / "own" / "recipes.py").read_text() == "# none yet\n"
        assert back.cycle(max_trials=0)["decision"]["outcome"] in {"promoted", "refused"}


def test_a_project_moves_to_postgresql_and_back(
    lived: tidemill.Project, archive: Path, tmp_path: Path, new_url: Callable[[], str]
) -> None:
    url = new_url()
    there = tidemill.restore(archive, tmp_path / "home" / "there", store=url)
    with contextlib.closing(there.store):
        same(lived, there)
        assert there.config.store == url and not (there.store.root / "store.db").exists()
        text = (there.dir / "tidemill.yaml").read_text("utf-8")
        assert text == with_store((lived.dir / "tidemill.yaml").read_text("utf-8"), url)
        before = rows(there.store)
        there.backup(tmp_path / "from-there")
        there.feedback(there.store.find(Prediction)[0].id, "yes", author="later")
        (newest,) = there.store.find(Feedback, newest_first=True, limit=1)
        assert newest.author == "later", "numbers go on after those that were restored"
    with pytest.raises(ConflictError, match=r"database holds a store already.*--store sqlite"):
        restore(tmp_path / "from-there", tmp_path / "home" / "back")
    assert not (tmp_path / "home" / "back").exists()
    other = tidemill.restore(tmp_path / "from-there", tmp_path / "home" / "other", store=new_url())
    back = tidemill.restore(tmp_path / "from-there", tmp_path / "home" / "back", store="sqlite")
    with contextlib.closing(back.store), contextlib.closing(other.store):
        assert back.config.store is None and rows(back.store) == rows(other.store) == before
        same(lived, back)


def prediction(store: Store, **fields: Any) -> Prediction:
    identifier = new_prediction_id(store.secret)
    defaults: dict[str, Any] = {"deployment": "default", "model_id": "model_1", "key": "00", "inputs": {}, "answer": {}}
    return Prediction(id=identifier, **{**defaults, **fields})


def test_a_fresh_checkout_makes_its_tables_where_the_settings_say(
    lived: tidemill.Project, tmp_path: Path, new_url: Callable[[], str]
) -> None:
    url = new_url()
    text = with_store((lived.dir / "tidemill.yaml").read_text("utf-8"), url)
    for name in ("one", "two"):
        (tmp_path / "home" / name).mkdir()
        (tmp_path / "home" / name / "tidemill.yaml").write_text(text, "utf-8")
    with contextlib.closing(tidemill.open(tmp_path / "home" / "one").store) as store:
        assert store.count(Prediction) == 0 and not (store.root / "store.db").exists()
    with pytest.raises(StoreError, match=r"belongs to another project.*restore the project from a backup"):
        tidemill.open(tmp_path / "home" / "two")


def test_what_stands_only_in_the_journal_is_kept(
    lived: tidemill.Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [prediction(lived.store, inputs={"size": float(i)}) for i in range(6)]
    writer = JournalWriter(lived.store.root)
    writer.submit(*made[:3]).result()
    monkeypatch.setattr(backing, "fold_journal", lambda _store: busy())
    lived.backup(tmp_path / "archive")
    writer.submit(*made[3:]).result()
    writer.close()
    back = tidemill.restore(tmp_path / "archive", tmp_path / "home" / "again")
    with contextlib.closing(back.store):
        assert not back.store.exists(Prediction, made[0].id) and fold(back.store) == 3
        assert [back.store.get(Prediction, p.id) for p in made[:3]] == made[:3]
        assert back.store.count(Prediction) == 23


def busy() -> int:
    raise BusyError("another process folds")


class Users:
    """Threads that predict, give feedback and fold without pause, and note what was acknowledged."""

    def __init__(self, store: Store) -> None:
        self.predicted: list[str] = []
        self.said: list[str] = []
        self.failures: list[BaseException] = []
        self._store = store
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._loop, args=(w,)) for w in (self._predict, self._say, self._fold)]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Users:
        while len(self.predicted) < 10 or len(self.said) < 10:
            assert not self.failures
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _loop(self, work: Callable[[], Iterator[None]]) -> None:
        try:
            for _ in work():
                if self._stop.is_set():
                    break
        except BaseException as error:
            self.failures.append(error)

    def _predict(self) -> Iterator[None]:
        writer = JournalWriter(self._store.root)
        number = 0
        while True:
            number += 1
            made = prediction(self._store, key=f"{number % 40:016x}")
            writer.submit(made).result()
            self.predicted.append(made.id)
            yield

    def _say(self) -> Iterator[None]:
        writer = FeedbackWriter(self._store)
        while True:
            key = new_id("key")
            writer.submit(Feedback(id=new_id("fb"), subject=f"s{key}", kind="rating", value=1.0, key=key)).result()
            self.said.append(key)
            yield

    def _fold(self) -> Iterator[None]:
        while True:
            fold(self._store)
            time.sleep(0.02)
            yield


@pytest.mark.parametrize("on", ["sqlite", "postgresql"])
def test_a_backup_made_while_the_project_is_used_is_one_moment(
    on: str, lived: tidemill.Project, archive: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if on == "postgresql":
        url = request.getfixturevalue("new_url")()
        lived = tidemill.restore(archive, tmp_path / "home" / "there", store=url)
    with contextlib.closing(lived.store):
        with Users(lived.store) as users:
            for number in range(2):
                before = list(users.predicted), list(users.said)
                lived.backup(tmp_path / f"archive-{number}")
                after = set(users.predicted), set(users.said)
        assert users.failures == []
    back = tidemill.restore(tmp_path / "archive-1", tmp_path / "home" / "again", store="sqlite")
    with contextlib.closing(back.store):
        fold(back.store)
        made = back.store.find(Prediction, model_id="model_1")
        ids = [p.id for p in made]
        said = [f.key for f in back.store.find(Feedback, kind="rating")]
        assert set(before[0]) <= set(ids) and set(before[1]) <= set(said), "what was acknowledged before is in it"
        assert len(set(ids) - after[0]) <= 1 and len(set(said) - after[1]) <= 1, "and nothing of afterwards"
        assert len(ids) == len(set(ids)) and back.store.count(LiveKey) == len({p.key for p in made})


def test_a_killed_backup_leaves_no_archive_and_the_next_one_tidies_up(lived: tidemill.Project, tmp_path: Path) -> None:
    large = lived.store.root / "blobs" / "large"
    with large.open("wb") as file:
        file.truncate(2 << 30)  # takes seconds to read
    code = "import sys, tidemill; tidemill.open(sys.argv[1]).backup(sys.argv[2])"
    target = tmp_path / "target" / "parcels.tar.zst"
    with subprocess.Popen([sys.executable, "-c", code, str(lived.dir), str(target)]) as process:
        while not list(target.parent.glob(".*.part")):
            assert process.poll() is None, "it ended too soon"
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    assert [path.suffix for path in target.parent.iterdir()] == [".part"]
    large.unlink()
    lived.backup(target)
    assert list(target.parent.iterdir()) == [target]
    assert backing.verify(target)["rows"]["predictions"] == 20


def test_a_killed_restore_leaves_no_project_and_the_next_one_tidies_up(lived: tidemill.Project, tmp_path: Path) -> None:
    with (lived.store.root / "blobs" / "large").open("wb") as file:
        file.truncate(400 << 20)
    lived.backup(tmp_path / "archive")
    place = tmp_path / "home" / "again"
    code = "import sys, tidemill; tidemill.restore(sys.argv[1], sys.argv[2])"
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "archive"), str(place)]) as process:
        while not list(place.glob(".tidemill-restoring-*/blobs/large")):
            assert process.poll() is None, "it ended too soon"
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    assert [path.name.partition("-")[0] for path in place.iterdir()] == [".tidemill"], "a draft, and nothing else"
    with pytest.raises(TidemillError):
        tidemill.open(place)
    back = tidemill.restore(tmp_path / "archive", place)
    with contextlib.closing(back.store):
        assert rows(back.store) == rows(lived.store)
        assert sorted(path.name for path in place.iterdir()) == [".tidemill", "own", "tidemill.yaml"]


def contents(path: Path) -> dict[str, str]:
    """What an archive holds, when all of it is as it was written."""
    found = {member.name: member.sha256() for member in members(path)}
    assert len(found) > 30
    return found


def test_whatever_byte_is_altered_or_missing_it_is_told_and_nothing_is_made(archive: Path, tmp_path: Path) -> None:
    content, whole = archive.read_bytes(), contents(archive)
    damaged = tmp_path / "damaged"
    unnoticed = 0
    places = [*range(4, 400, 37), *range(400, len(content), len(content) // 60), len(content) - 1]
    for place in places:
        damaged.write_bytes(content[:place])
        with pytest.raises((StoreError, InputError), match="torn or was altered") as told:
            backing.verify(damaged)
        assert str(damaged) in str(told.value) and "\n" not in str(told.value)
        altered = bytearray(content)
        altered[place] ^= 0x10
        damaged.write_bytes(altered)
        try:
            assert contents(damaged) == whole, "a bit that says nothing"
            unnoticed += 1
        except (StoreError, InputError) as error:
            assert str(damaged) in str(error) and error.mend and "\n" not in str(error)
    assert unnoticed < len(places) / 10
    damaged.write_bytes(content[: len(content) // 2])
    with pytest.raises(StoreError, match=r"torn or was altered.*another copy"):
        restore(damaged, tmp_path / "home" / "again")
    assert not (tmp_path / "home" / "again").exists()
    damaged.write_bytes(content + b"more")
    with pytest.raises(StoreError, match="torn or was altered"):
        backing.verify(damaged)
    assert backing.verify(archive)["files"] > 30


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04" + bytes(100), b"\x28\xb5\x2f\xfdjunk" * 50])
def test_what_is_no_backup_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises((InputError, StoreError), match=r"this is no backup|torn"):
        restore(tmp_path / "file", tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_path_that_leads_to_nothing_is_told(tmp_path: Path) -> None:
    with pytest.raises(TidemillError, match="no such file"):
        restore(tmp_path / "nothing", tmp_path / "again")
    with pytest.raises(StoreError, match="cannot be read"):
        restore(tmp_path, tmp_path / "again")


def header(**changes: Any) -> bytes:
    first = {"format": "tidemill-backup", "version": 1, "project": "p", "created": 0.0, "revision": "0001"}
    return json.dumps({**first, **changes}).encode()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"version": 2, "tidemill": "9.0"}, r"newer Tidemill \(9\.0, archives of version 2\)"),
        ({"revision": "9999", "tidemill": "9.0"}, r"newer Tidemill \(9\.0, tables of revision 9999\)"),
        ({"format": "other"}, "no backup"),
        ({"project": "../p"}, "no folder's"),
    ],
)
def test_an_archive_of_another_kind_or_time_is_refused(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    with ArchiveWriter(tmp_path / "a") as writer:
        writer.add(HEADER, header(**changes))
        writer.finish()
    with contextlib.chdir(tmp_path), pytest.raises(InputError, match=told):
        restore(tmp_path / "a")


@pytest.mark.parametrize(
    "name",
    [
        "state/../../evil",
        "/etc/evil",
        "../evil",
        "evil",
        "state/./evil",
        "state//evil",
        "state",
        "state/a\\b",
        "else/x",
    ],
)
def test_a_name_that_leads_out_of_the_archive_is_refused(tmp_path: Path, name: str) -> None:
    with ArchiveWriter(tmp_path / "a") as writer:
        writer.add(HEADER, header())
        writer.add(name, b"evil")
        writer.finish()
    (tmp_path / "home").mkdir()
    with pytest.raises(InputError, match="leads out of it"):
        restore(tmp_path / "a", tmp_path / "home" / "again")
    assert {path.name for path in tmp_path.rglob("*")} == {"a", "home"}


@pytest.mark.parametrize("name", ["state/store.db", "state/store.db-wal", "state/locks/cycle.lock"])
def test_a_file_that_no_backup_holds_is_refused(tmp_path: Path, name: str) -> None:
    with ArchiveWriter(tmp_path / "a") as writer:
        writer.add(HEADER, header())
        writer.add(name, b"evil")
        writer.finish()
    with pytest.raises(InputError, match="it holds"):
        restore(tmp_path / "a", tmp_path / "again")


def test_links_and_doubles_are_refused(archive: Path, tmp_path: Path) -> None:
    """Made with the system's tar, as whoever means harm would."""
    folder = tmp_path / "unpacked"
    folder.mkdir()
    subprocess.run(["tar", "--zstd", "-xf", archive, "-C", folder], check=True)
    (folder / "state" / "link").symlink_to("/etc/passwd")
    names = ["tidemill-backup.json", "state/link"]
    subprocess.run(["tar", "--zstd", "-cf", tmp_path / "links", "-C", folder, *names], check=True)
    with pytest.raises(InputError, match="'state/link' in it is no plain file"):
        restore(tmp_path / "links", tmp_path / "again")
    with ArchiveWriter(tmp_path / "doubles") as writer:
        writer.add(HEADER, header())
        for _ in range(2):
            writer.add("state/secret", b"00" * 32)
        writer.finish()
    with pytest.raises(InputError, match="stands where nothing may"):
        restore(tmp_path / "doubles", tmp_path / "again")


def test_what_is_there_is_never_overwritten(lived: tidemill.Project, archive: Path, tmp_path: Path) -> None:
    with pytest.raises(ConflictError, match="something is there already"):
        lived.backup(archive)
    with pytest.raises(ConflictError, match="holds a project's state already"):
        restore(archive, lived.dir)
    place = tmp_path / "home" / "again"
    place.mkdir()
    shutil.copy(lived.dir / "tidemill.yaml", place)  # a fresh checkout: the same, so it is no obstacle
    (place / "own").mkdir()
    (place / "own" / "recipes.py").write_text("# mine\n")
    with pytest.raises(ConflictError, match=r"recipes.py: a file of another content.*move that file aside"):
        restore(archive, place)
    assert sorted(path.name for path in place.iterdir()) == ["own", "tidemill.yaml"]
    (place / "own" / "recipes.py").unlink()
    with contextlib.closing(tidemill.restore(archive, place).store) as store:
        assert rows(store) == rows(lived.store)
    with pytest.raises(InputError, match=r"within \.tidemill would be lost"):
        lived.backup(lived.store.root / "a")


def test_the_environment_and_the_command_must_not_differ(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEMILL_STORE", f"sqlite:///{tmp_path / 'tables.db'}")
    with pytest.raises(ConfigError, match=r"TIDEMILL_STORE: it names another database"):
        restore(archive, tmp_path / "home" / "again", store="sqlite")
    with contextlib.closing(tidemill.restore(archive, tmp_path / "home" / "again").store) as store:
        assert (tmp_path / "tables.db").is_file() and not (store.root / "store.db").exists()


def test_a_full_disk_is_told_and_leaves_nothing(lived: tidemill.Project, archive: Path, tmp_path: Path) -> None:
    code = """
import resource, sys, tidemill
from pathlib import Path
from tidemill.errors import StoreError
project = tidemill.open(sys.argv[1])
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
for work in (lambda: project.backup(sys.argv[3]), lambda: tidemill.restore(sys.argv[2], sys.argv[4])):
    try:
        work()
    except StoreError as error:
        print(error)
"""
    targets = [tmp_path / "full" / "a", tmp_path / "full" / "again"]
    arguments = [sys.executable, "-c", code, lived.dir, archive, *targets]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert "the backup cannot be written (File too large)" in done.stdout
    assert "the project cannot be written (File too large)" in done.stdout
    assert list((tmp_path / "full").iterdir()) == []


def test_one_at_a_time_and_nothing_is_removed_meanwhile(lived: tidemill.Project, tmp_path: Path) -> None:
    with lived.store.lock("backup"):
        with pytest.raises(BusyError, match="busy with 'backup'"):
            lived.backup(tmp_path / "a")
        with pytest.raises(BusyError, match="a backup is being made"):
            lived.gc()
    assert not (tmp_path / "a").exists()


def test_a_cycle_that_was_under_way_begins_anew(lived: tidemill.Project, tmp_path: Path) -> None:
    cycle = Cycle(id=new_id("cycle"), status="running", trigger="asked", seed=0, plan={})
    lived.store.insert(cycle, dataclasses.replace(lived.store.find(Run)[0], id=new_id("run"), status="running"))
    lived.backup(tmp_path / "a")
    told = restore(tmp_path / "a", tmp_path / "home" / "again")
    assert told["notes"] == [f"{cycle.id} was under way when the backup was made; the next cycle begins anew"]
    with contextlib.closing(tidemill.open(tmp_path / "home" / "again").store) as store:
        assert store.get(Cycle, cycle.id).status == "failed" and store.find(Run, status="running") == []


def test_a_source_that_lies_elsewhere_is_named(lived: tidemill.Project, archive: Path, tmp_path: Path) -> None:
    (note,) = restore(archive, tmp_path / "far" / "away" / "again")["notes"]
    assert note.startswith("the source /") and "is not there" in note


RELEASED = Path(__file__).parents[1] / "fixtures" / "stores"


@pytest.mark.parametrize("revision", sorted(path.stem for path in RELEASED.glob("*.json")))
def test_the_backup_of_every_released_revision_is_restored(
    revision: str, lived: tidemill.Project, archive: Path, tmp_path: Path
) -> None:
    kept = json.loads((RELEASED / f"{revision}.json").read_text("utf-8"))
    with ArchiveWriter(tmp_path / "old") as writer:
        writer.add(HEADER, header(revision=revision))
        writer.add("project/tidemill.yaml", (lived.dir / "tidemill.yaml").read_bytes())
        for name, row in kept.items():
            sink = pa.BufferOutputStream()
            pq.write_table(pa.Table.from_pylist([{"seq": 1, **row}]), sink)
            writer.add(f"tables/{name}/000000.parquet", bytes(sink.getvalue()))
        writer.add("state/secret", (lived.store.root / "secret").read_bytes())
        writer.finish()
    told = restore(tmp_path / "old", tmp_path / "home" / "again")
    assert told["rows"] == dict.fromkeys(kept, 1)
    with contextlib.closing(tidemill.open(tmp_path / "home" / "again").store) as store:
        assert store.get(Prediction, "pred_kept").caller == kept["predictions"]["caller"]


@pytest.mark.parametrize(
    ("name", "columns"),
    [("runs", ["seq", "x); DROP TABLE runs --"]), ("other", ["a"]), ("alembic_version", ["version_num"])],
)
def test_a_table_or_column_of_nobody_is_refused(
    lived: tidemill.Project, tmp_path: Path, name: str, columns: list[str]
) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({column: [1] for column in columns}), sink)
    with ArchiveWriter(tmp_path / "a") as writer:
        writer.add(HEADER, header())
        writer.add("project/tidemill.yaml", (lived.dir / "tidemill.yaml").read_bytes())
        writer.add(f"tables/{name}/000000.parquet", bytes(sink.getvalue()))
        writer.add("state/secret", b"00" * 32)
        writer.finish()
    with pytest.raises(InputError, match=f"a table '{name}' that stores of its revision do not have"):
        restore(tmp_path / "a", tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_texts_that_postgresql_cannot_hold_are_repaired_and_counted(
    lived: tidemill.Project, tmp_path: Path, new_url: Callable[[], str]
) -> None:
    with lived.store.database.transaction() as connection:  # as an older version could write it
        connection.execute(sa.text("UPDATE feedback SET author = 'a' || char(0) || 'b' WHERE seq <= 2"))
    lived.backup(tmp_path / "a")
    told = restore(tmp_path / "a", tmp_path / "home" / "again", store=new_url())
    assert told["notes"] == ["2 texts held the character NUL, for which PostgreSQL has no place: it was replaced"]
    with contextlib.closing(tidemill.open(tmp_path / "home" / "again").store) as store:
        assert store.count(Feedback, author="a\ufffdb") == 2
        assert "\0" in store.find(Prediction)[0].inputs["kind"], "within JSON it has a place"


@pytest.mark.long
def test_memory_does_not_grow_with_what_is_kept(lived: tidemill.Project, tmp_path: Path) -> None:
    code = """
import resource, sys, tidemill
project = tidemill.open(sys.argv[1])
start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
project.backup(sys.argv[2])
tidemill.restore(sys.argv[2], sys.argv[3])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) // 1024)
"""

    def grown(name: str) -> int:
        arguments = [sys.executable, "-c", code, str(lived.dir), str(tmp_path / name), str(tmp_path / "home" / name)]
        return int(subprocess.run(arguments, capture_output=True, text=True, check=True).stdout)

    small = grown("small")
    with (lived.store.root / "blobs" / "large").open("wb") as file:
        for _ in range(600):
            file.write(os.urandom(1 << 20))
    for _ in range(200):
        lived.store.insert(*(prediction(lived.store, inputs={"text": os.urandom(1000).hex()}) for _ in range(1000)))
    assert grown("large") < small + 200, "MB, for 600 MB of files and 400 MB of rows"
