"""The journal keeps what it acknowledged, and the ingester makes exactly one row of each record."""

from __future__ import annotations

import dataclasses
import errno
import os
import random
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import sqlalchemy as sa

from tidemill.errors import InputError, StoreError
from tidemill.records import LiveKey, Prediction
from tidemill.store import Journal, JournalWriter, Store, damaged, fold, ingest, seam, segments
from tidemill.store.payloads import written
from tidemill.store.tables import journal_offsets

Make = Callable[..., Prediction]


def segment_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.journal"))


def payloads(folder: Path) -> list[bytes]:
    return [e.payload for path in segment_files(folder) for e in segments.entries(path.read_bytes(), 8)]


def write_segment(store: Store, content: bytes, name: str = "predictions-seg_1-1.journal") -> Path:
    """A segment whose writer is gone."""
    path = store.root / "journal" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(segments.HEADER + content)
    return path


def frames(predictions: list[Prediction]) -> bytes:
    return b"".join(segments.frame(written(p)) for p in predictions)


def positions(store: Store) -> dict[str, int]:
    with store.database.reading() as connection:
        return {row[0]: row[1] for row in connection.execute(sa.select(journal_offsets))}


class Disk:
    """Watches the seam, and fails it when told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[str] = []
        self.write_error: OSError | None = None
        self.sync_error: OSError | None = None
        self.room: int | None = None
        real_write, real_sync, real_folder = seam.write, seam.sync, seam.sync_folder

        def write(descriptor: int, content: memoryview | bytes) -> int:
            if self.write_error is not None:
                raise self.write_error
            if self.room is not None:
                if self.room == 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                content = content[: self.room]
                self.room -= len(content)
            done = real_write(descriptor, content)
            self.events.append("write")
            return done

        def sync(descriptor: int) -> None:
            if self.sync_error is not None:
                raise self.sync_error
            real_sync(descriptor)
            self.events.append("sync")

        def sync_folder(folder: Path) -> None:
            real_folder(folder)
            self.events.append(f"sync {folder.name}")

        monkeypatch.setattr(seam, "write", write)
        monkeypatch.setattr(seam, "sync", sync)
        monkeypatch.setattr(seam, "sync_folder", sync_folder)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def test_fsync_of_file_and_folder_comes_before_the_acknowledgement(tmp_path: Path, disk: Disk) -> None:
    journal = Journal(tmp_path / "journal", "p")
    assert disk.events == ["write", "sync", "sync journal", f"sync {tmp_path.name}"]
    disk.events.clear()
    for _ in range(20):
        future = journal.append([b"a", b"b"])
        future.add_done_callback(lambda _: disk.events.append("acknowledged"))
        future.result()
    journal.close()
    assert disk.events == ["write", "sync", "acknowledged"] * 20


def test_what_gathers_while_a_group_is_written_is_the_next_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path, "p")
    entered, go, syncs = threading.Event(), threading.Event(), []

    def sync(descriptor: int) -> None:
        syncs.append(descriptor)
        entered.set()
        assert go.wait(20)

    monkeypatch.setattr(seam, "sync", sync)
    first = journal.append([b"0"])
    assert entered.wait(20)
    others = [journal.append([str(i).encode()]) for i in range(1, 100)]
    assert not first.done()
    go.set()
    for future in (first, *others):
        future.result()
    journal.close()
    assert len(syncs) == 2
    assert payloads(tmp_path) == [str(i).encode() for i in range(100)]


def test_after_a_failed_fsync_nothing_is_acknowledged(tmp_path: Path, disk: Disk) -> None:
    journal = Journal(tmp_path, "p")
    journal.append([b"kept"]).result()
    disk.sync_error = OSError(errno.EIO, os.strerror(errno.EIO))
    with pytest.raises(StoreError, match="nothing more is acknowledged"):
        journal.append([b"lost"]).result()
    disk.sync_error = None  # the next fsync would succeed, and prove nothing
    with pytest.raises(StoreError, match="nothing more is acknowledged"):
        journal.append([b"refused"])
    journal.close()
    assert payloads(tmp_path)[0] == b"kept" and b"refused" not in payloads(tmp_path)


def test_those_who_waited_behind_a_failed_fsync_are_refused_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path, "p")
    entered, go = threading.Event(), threading.Event()

    def sync(_descriptor: int) -> None:
        entered.set()
        assert go.wait(20)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(seam, "sync", sync)
    futures = [journal.append([b"0"])]
    assert entered.wait(20)
    futures += [journal.append([b"1"]), journal.append([b"2"])]
    go.set()
    for future in futures:
        with pytest.raises(StoreError, match="fsync failed"):
            future.result()
    journal.close()


def test_a_full_disk_is_told_and_writing_goes_on_when_there_is_room(
    store: Store, make_prediction: Make, disk: Disk
) -> None:
    writer = JournalWriter(store.root)
    made = [make_prediction() for _ in range(4)]
    writer.submit(made[0]).result()
    disk.room = 100  # a short write, then none
    with pytest.raises(StoreError, match=r"No space left on device.*Free some space"):
        writer.submit(made[1]).result()
    with pytest.raises(StoreError, match="No space left"):
        writer.submit(made[1]).result()
    disk.room = None
    writer.submit(made[2], made[3]).result()
    writer.close()
    assert fold(store) == 3
    assert store.find(Prediction) == [made[0], made[2], made[3]]
    assert segment_files(store.root / "journal") == [] and damaged(store) == []


def test_a_journal_that_cannot_begin_says_so(tmp_path: Path, disk: Disk) -> None:
    disk.write_error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(StoreError, match="segment cannot be made"):
        Journal(tmp_path, "p")


def test_segments_are_closed_by_size_and_nothing_is_lost_between_them(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "p", segment_bytes=4000)
    sent = [bytes([i]) * 300 for i in range(100)]
    for payload in sent:
        journal.append([payload]).result()
    journal.close()
    assert 8 <= len(segment_files(tmp_path)) <= 10
    assert payloads(tmp_path) == sent


def test_closing_writes_what_waits_and_then_refuses(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "p")
    futures = [journal.append([str(i).encode()]) for i in range(500)]
    journal.close()
    assert all(future.done() and future.exception() is None for future in futures)
    assert len(payloads(tmp_path)) == 500
    with pytest.raises(StoreError, match="closed"):
        journal.append([b"late"])
    journal.close()


def test_what_is_not_json_is_refused_alone(store: Store, make_prediction: Make) -> None:
    writer = JournalWriter(store.root)
    with pytest.raises(InputError, match="not JSON"):
        writer.submit(make_prediction(inputs={"x": object()}))
    writer.submit(make_prediction()).result()
    writer.close()
    assert fold(store) == 1


def test_what_no_table_could_hold_is_not_journaled(store: Store, make_prediction: Make) -> None:
    writer = JournalWriter(store.root)
    with pytest.raises(InputError, match="caller: the character NUL stands in it"):
        writer.submit(make_prediction(), make_prediction(caller="someone\0"))
    kept = make_prediction(inputs={"note": "one\0two"})
    writer.submit(kept).result()
    writer.close()
    assert fold(store) == 1 and store.find(Prediction) == [kept]


def test_a_torn_tail_is_left_out_at_every_length(store: Store, make_prediction: Make) -> None:
    whole, torn = make_prediction(), make_prediction()
    content, tail = frames([whole]), frames([torn])
    for cut in range(0, len(tail), 7 if store.database.is_sqlite else 41):
        write_segment(store, content + tail[:cut])
        fold(store)
        assert [p.id for p in store.find(Prediction)] == [whole.id], f"cut after {cut} bytes"
    write_segment(store, content + tail[: len(tail) // 2] + bytes(512))  # a loss of power may leave zeros
    write_segment(store, content + bytes(4096), name="predictions-seg_2-1.journal")
    assert fold(store) == 0
    assert segment_files(store.root / "journal") == []
    assert [p.id for p in store.find(Prediction)] == [whole.id]


def test_whatever_is_altered_no_other_payload_is_read() -> None:
    draw = random.Random(3)
    sent = [draw.randbytes(draw.randrange(120)) for _ in range(30)]
    content = segments.HEADER + b"".join(map(segments.frame, sent))
    for _ in range(400):
        altered = bytearray(content[: draw.randrange(8, len(content))])
        for _ in range(draw.randrange(4)):
            altered[draw.randrange(len(altered))] ^= 1 << draw.randrange(8)
        read = [e.payload for e in segments.entries(bytes(altered), 8, closed=True)]
        wanted = iter(sent)
        assert all(payload in wanted for payload in read), "a payload that was never written, or out of order"
        opened = [e.payload for e in segments.entries(bytes(altered), 8)]
        assert opened == sent[: len(opened)], "while a writer lives, nothing behind a fault is read"


def test_a_record_altered_on_disk_costs_only_itself_and_its_segment_is_kept(
    store: Store, make_prediction: Make
) -> None:
    made = [make_prediction() for _ in range(6)]
    parts = [frames([p]) for p in made]
    altered = bytearray(b"".join(parts))
    altered[len(parts[0]) + len(parts[1]) + 40] ^= 1  # in the payload of the third
    position = sum(map(len, parts[:4]))
    altered[position + 4 : position + 8] = struct.pack("<I", 2**31)  # the length of the fifth
    path = write_segment(store, bytes(altered))
    assert fold(store) == 4
    assert store.find(Prediction) == [made[0], made[1], made[3], made[5]]
    assert damaged(store) == [path.with_suffix(".damaged")]
    assert fold(store) == 0


def test_rows_and_position_commit_together(
    store: Store, make_prediction: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [make_prediction() for _ in range(5)]
    path = write_segment(store, frames(made))
    real = Store.insert

    def insert(self: Store, *records: Any) -> None:
        real(self, *records)
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "insert", insert)
    with pytest.raises(KeyboardInterrupt):
        fold(store)
    monkeypatch.undo()
    assert store.count(Prediction) == 0 and store.count(LiveKey) == 0 and positions(store) == {}

    monkeypatch.setattr(Path, "unlink", lambda _path: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        fold(store)
    monkeypatch.undo()
    assert store.find(Prediction) == made and positions(store) == {path.name: path.stat().st_size}
    assert fold(store) == 0
    assert store.count(Prediction) == 5 and positions(store) == {} and not path.exists()


def test_a_segment_that_came_back_is_folded_once(store: Store, make_prediction: Make) -> None:
    made = [make_prediction() for _ in range(3)]
    for _ in range(2):  # its removal was lost with the power
        write_segment(store, frames(made))
        fold(store)
    assert store.find(Prediction) == made and store.count(LiveKey) == 3


def test_what_another_model_would_have_answered_finds_its_prediction(store: Store, make_prediction: Make) -> None:
    first, second, alone = (make_prediction() for _ in range(3))
    shadow = {"model_id": "model_2", "answer": {"label": "naïve ☃", "score": 0.5}}
    writer = JournalWriter(store.root)
    writer.submit(first, alone).result()
    assert fold(store) == 2
    writer.submit(second).result()
    writer.add_shadows({second.id: shadow, first.id: shadow, "pred_that_was_erased": shadow}).result()
    writer.submit(second).result()  # a request that was sent again
    assert fold(store) == 1
    writer.close()
    assert fold(store) == 0 and segment_files(store.root / "journal") == []
    expected = {first.id: shadow, second.id: shadow, alone.id: None}
    assert {p.id: p.shadow for p in store.find(Prediction)} == expected
    assert damaged(store) == []


def test_a_living_writer_keeps_its_segment_and_is_followed(store: Store, make_prediction: Make) -> None:
    writer = JournalWriter(store.root)
    made = []
    for _ in range(5):
        made.append(make_prediction())
        writer.submit(made[-1]).result()
        assert fold(store) == 1
        assert len(segment_files(store.root / "journal")) == 1
    writer.close()
    assert fold(store) == 0
    assert segment_files(store.root / "journal") == []
    assert store.find(Prediction) == made


def test_several_ingesters_beside_several_writers_make_one_row_each(store: Store, make_prediction: Make) -> None:
    writers = [JournalWriter(store.root) for _ in range(2)]
    stop = threading.Event()
    failures: list[BaseException] = []
    folded: list[int] = []

    def ingest() -> None:
        try:
            while not stop.is_set():
                folded.append(fold(store))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=ingest) for _ in range(2)]
    for thread in threads:
        thread.start()
    made = [make_prediction() for _ in range(600)]
    futures = [writers[i % 2].submit(p) for i, p in enumerate(made)]
    for future in futures:
        future.result()
    stop.set()
    for thread in threads:
        thread.join()
    for writer in writers:
        writer.close()
    folded.append(fold(store))
    assert failures == [] and sum(folded) == 600
    assert {p.id for p in store.find(Prediction)} == {p.id for p in made} and store.count(Prediction) == 600


def test_an_ingester_that_is_far_behind_gives_others_their_turn(
    store: Store, make_prediction: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "_TURN", 0.0)
    made = [make_prediction() for _ in range(3000)]
    for number in range(3):
        write_segment(store, frames(made[1000 * number : 1000 * (number + 1)]), f"predictions-seg_{number}-1.journal")
    seen: list[int] = []
    with ThreadPoolExecutor(2) as pool:
        folds = [pool.submit(fold, store) for _ in range(2)]
        while not all(one.done() for one in folds):
            with store.lock("ingest", wait=30):
                seen.append(store.count(Prediction))
            time.sleep(0.05)
    assert sum(one.result() for one in folds) == 3000 and [p.id for p in store.find(Prediction)] == [p.id for p in made]
    assert len({count for count in seen if 0 < count < 3000}) > 2, "the lock was given back in the midst of it"
    assert segment_files(store.root / "journal") == damaged(store) == [] and positions(store) == {}


def test_a_record_altered_is_known_however_many_turns_it_takes(
    store: Store, make_prediction: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "_TURN", 0.0)
    content = bytearray(frames([make_prediction() for _ in range(1500)]))
    content[len(content) // 2] ^= 1
    path = write_segment(store, bytes(content))
    assert fold(store) == 1499
    assert damaged(store) == [path.with_suffix(".damaged")]


def test_inputs_come_out_of_the_tables_as_they_went_into_the_journal(store: Store, make_prediction: Make) -> None:
    said = {
        "text": "é\n\0 – \ud7ff",
        "inputs": [{"answer": "\n"}],
        "number": 1e-300,
        "picture": np.eye(2, dtype=np.uint8),
    }
    made = make_prediction(inputs=said)
    write_segment(store, frames([made]))
    assert fold(store) == 1
    (found,) = store.find(Prediction)
    assert found == dataclasses.replace(made, inputs={**said, "picture": [[1, 0], [0, 1]]})


def test_segments_of_earlier_versions_are_folded(store: Store, make_prediction: Make) -> None:
    made = make_prediction(inputs={"text": "a line\nand another"})
    write_segment(store, segments.frame(orjson.dumps(made)))
    assert fold(store) == 1
    assert store.find(Prediction) == [made]


def test_a_record_of_a_newer_version_is_named_and_kept(store: Store, make_prediction: Make) -> None:
    known = make_prediction()
    path = write_segment(store, frames([known]) + segments.frame(b'{"id":"pred_x","mood":"good"}'))
    with pytest.raises(StoreError, match=r"no prediction that this version knows.*Update Tidemill"):
        fold(store)
    assert path.exists()


def test_a_key_gets_its_split_at_first_sight_for_good(store: Store, make_prediction: Make) -> None:
    keys = {name: f"{i:016x}" for i, name in enumerate(["plain", "audited", "trained", "later"])}
    asked: list[str] = []

    def assigned(given: Any) -> set[str]:
        asked.extend(given)
        return {keys["trained"]} & set(given)

    audited = {"audited": True, "audit_probability": 0.05}
    first = [
        make_prediction(key=keys["plain"], audit_probability=0.05),
        make_prediction(key=keys["audited"], **audited),
        make_prediction(key=keys["audited"]),
        make_prediction(key=keys["trained"], **audited),
        make_prediction(key=keys["later"]),
    ]
    write_segment(store, frames(first))
    assert fold(store, assigned=assigned) == 5
    write_segment(store, frames([make_prediction(key=keys["later"], **audited)]), name="predictions-seg_2-1.journal")
    assert fold(store, assigned=assigned) == 1
    found = {k.key: k for k in store.find(LiveKey)}
    assert len(found) == 4
    assert found[keys["plain"]].split == "train" and found[keys["plain"]].probability == 0.05
    assert found[keys["audited"]].split in {"recent-validation", "recent-test"}
    assert found[keys["trained"]].split == "train", "what trains already never judges"
    assert found[keys["later"]].split == "train", "first sight decides"
    assert {name for name in keys if found[keys[name]].drawn} == {"audited", "trained"}
    assert sorted(asked) == sorted(keys.values()), "a known key is not asked for again"


def test_batches_shrink_when_they_hold_the_lock_too_long() -> None:
    from tidemill.store.ingest import _Pace

    pace = _Pace()
    pace.learn(0.4, 200)
    assert pace.records == 16
    for _ in range(10):
        pace.learn(0.001, pace.records)
    assert pace.records == 500
