"""Erased rows keep their ids and nothing else, and neither the database's files nor the journal's keep the rest."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from _postgres import Server
from tidemill.errors import BusyError, NotFoundError
from tidemill.records import Annotation, Deployment, Erasure, Feedback, Prediction, Record, new_id
from tidemill.store import JournalWriter, Store, damaged, fold
from tidemill.store.erasing import (
    KEPT,
    blank,
    digest,
    erased_ids,
    keys_of,
    refuse_erased,
    scrub_journal,
    scrub_tables,
    signed_by,
    unname,
    with_keys,
)
from tidemill.store.writers import JOURNAL

MARK = "Zyxomma petiolatum"


def annotation(**fields: Any) -> Annotation:
    return Annotation(id=new_id("label"), subject="pred_1", label=MARK, author="ann", purpose="useful", **fields)


@pytest.mark.parametrize("kind", KEPT)
def test_a_tombstone_says_what_it_was_and_nothing_more(
    kind: type[Record], store: Store, make_prediction: Callable[..., Prediction], make_feedback: Callable[..., Feedback]
) -> None:
    made = {
        Prediction: lambda: make_prediction(caller=MARK, shadow={"answer": MARK}, propensity=0.5, audited=True),
        Feedback: lambda: make_feedback(value=MARK, author=MARK, key=MARK, via=MARK, predictions=(MARK,)),
        Annotation: lambda: annotation(note=MARK),
    }[kind]()
    other = dataclasses.replace(made, id=f"{made.id}0", **({"key": "another"} if kind is Feedback else {}))
    store.insert(made, other)
    assert blank(store, kind, [made.id, "unknown"], "gone_1") == 1
    left = store.get(kind, made.id)
    assert store.get(kind, other.id) == other
    assert left.erased and not other.erased  # type: ignore[attr-defined]
    fields = {f.name for f in dataclasses.fields(kind)}
    assert fields >= KEPT[kind]
    same = {name for name in fields if getattr(left, name) == getattr(made, name)}
    assert same == KEPT[kind] - {"superseded_by"} - ({"key"} if kind is Feedback else set())
    assert MARK not in repr(left)
    if kind is not Prediction:
        assert left.superseded_by == "gone_1"  # type: ignore[attr-defined]
    if kind is Feedback:
        assert left.key == left.id  # type: ignore[attr-defined]
        assert store.add_feedback([other])[0].status == "repeated"


def test_whoever_signed_is_found_and_can_be_unnamed(
    store: Store, make_feedback: Callable[..., Feedback], make_prediction: Callable[..., Prediction]
) -> None:
    deployed = Deployment(id=new_id("deploy"), name="default", model_id="m", action="promote", reason="r", author="ann")
    said, label = make_feedback(author="ann"), annotation()
    store.insert(deployed, said, label, make_feedback(author="anne"), make_prediction(caller="ann"))
    assert signed_by(store, "ann") == {Feedback: [said.id], Annotation: [label.id], Deployment: [deployed.id]}
    assert unname(store, Deployment, [deployed.id]) == 1
    assert store.get(Deployment, deployed.id) == dataclasses.replace(deployed, author=None)


def test_keys_lead_from_predictions_to_those_of_the_same_inputs(
    store: Store, make_prediction: Callable[..., Prediction]
) -> None:
    one, same, other = make_prediction(key="a" * 16), make_prediction(key="a" * 16), make_prediction(key="b" * 16)
    store.insert(one, same, other)
    assert keys_of(store, [one.id, other.id]) == {one.id: one.key, other.id: other.key}
    assert with_keys(store, {one.key}) == {one.id: one.key, same.id: one.key}
    blank(store, Prediction, [one.id], "gone_1")
    assert keys_of(store, [one.id]) == {} and with_keys(store, {one.key, ""}) == {same.id: one.key}


def test_what_was_erased_is_refused(store: Store) -> None:
    store.insert(Erasure(id=new_id("gone"), what="id", digest=digest(store.secret, "id pred_1"), subjects=("pred_1",)))
    gone = erased_ids(store)
    refuse_erased(gone, "pred_2")
    with pytest.raises(NotFoundError, match=r"body\.prediction: pred_1 was erased"):
        refuse_erased(gone, "pred_1", "body.prediction")


def test_a_digest_needs_the_secret(store: Store) -> None:
    others = digest(store.secret, "author bob"), digest(store.secret, "id ann"), digest(b"x", "author ann")
    assert digest(store.secret, "author ann") not in others and len(set(others)) == 3


@pytest.fixture
def files(store: Store, on: str, request: pytest.FixtureRequest) -> Callable[[], Iterator[Path]]:
    """The files of the database as they are on the disk; of PostgreSQL without its WAL."""
    if on == "sqlite":
        return lambda: store.root.glob("store.db*")
    server: Server = request.getfixturevalue("postgres")

    def written() -> Iterator[Path]:
        with server.connect() as connection:
            connection.execute("CHECKPOINT")
        return (path for path in (server.folder / "data" / "base").rglob("*") if path.is_file())

    return written


def held(files: Callable[[], Iterator[Path]], text: str) -> bool:
    return any(text.encode() in path.read_bytes() for path in files())


def test_no_page_keeps_what_was_blanked_or_deleted(
    store: Store, make_prediction: Callable[..., Prediction], files: Callable[[], Iterator[Path]]
) -> None:
    mark = f"{MARK} {store.root}"
    made = [make_prediction(inputs={"text": f"{mark} {i}"}, caller=mark) for i in range(300)]
    long = make_prediction(inputs={"text": mark + " long" * 20_000})
    gone = make_prediction(inputs={"text": f"deleted long ago {store.root}"})
    store.insert(*made, long, gone)
    store.delete(Prediction, [gone.id])
    assert held(files, mark) and held(files, gone.inputs["text"])
    kept = made.pop()
    blank(store, Prediction, [p.id for p in [*made, long]], "gone_1")
    assert held(files, f"{mark} 7")
    assert scrub_tables(store) == []
    assert not held(files, f"{mark} 7") and not held(files, f"{mark} long") and not held(files, gone.inputs["text"])
    assert held(files, f"{mark} 299") and store.get(Prediction, kept.id) == kept
    assert store.count(Prediction) == 301


def test_others_write_while_the_tables_are_written_anew(
    store: Store, make_prediction: Callable[..., Prediction], make_feedback: Callable[..., Feedback]
) -> None:
    store.insert(*(make_prediction(inputs={"text": MARK * 50}) for _ in range(500)))
    with ThreadPoolExecutor(2) as pool:
        scrubbing = pool.submit(scrub_tables, store)
        said = [store.add_feedback([make_feedback()])[0] for _ in range(20)]
        assert scrubbing.result() == []
    assert [s.status for s in said] == ["accepted"] * 20 and store.count(Feedback) == 20


def test_a_reader_who_stays_keeps_it_from_being_done(store: Store, on: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("sqlite", "postgresql"):
        monkeypatch.setattr(f"tidemill.store.{module}.BUSY_SECONDS", 0.2)
    store.insert(Erasure(id=new_id("gone"), what="id", digest=""))
    with store.database.snapshot() as connection:
        connection.exec_driver_sql("SELECT count(*) FROM erasures")
        with pytest.raises(BusyError, match="another program has been reading the database"):
            store.database.scrub([])
    store.database.scrub([])


def test_the_journal_keeps_nothing_that_the_tables_have_and_its_writer_goes_on(
    store: Store, make_prediction: Callable[..., Prediction]
) -> None:
    writer = JournalWriter(store.root)
    first, second = (make_prediction(inputs={"text": f"{MARK} {i}"}) for i in range(2))
    writer.submit(first).result()
    assert fold(store) == 1
    (segment,) = (store.root / JOURNAL).iterdir()
    before = segment.stat().st_size
    assert MARK.encode() in segment.read_bytes()
    writer.submit(second).result()
    assert scrub_journal(store) == []
    left = segment.read_bytes()
    assert f"{MARK} 0".encode() not in left and f"{MARK} 1".encode() in left, "what is in no table yet stays"
    assert left[8:before] == bytes(before - 8)
    third = make_prediction(inputs={"text": f"{MARK} 2"})
    writer.submit(third).result()
    assert fold(store) == 2 and scrub_journal(store) == []
    assert MARK.encode() not in segment.read_bytes()
    writer.close()
    assert fold(store) == 0 and damaged(store) == [] and not segment.exists()
    assert {p.id for p in store.find(Prediction)} == {first.id, second.id, third.id}


@pytest.mark.parametrize("on", ["sqlite"], indirect=True)
def test_of_a_damaged_segment_only_what_nobody_can_read_is_left(
    store: Store, make_prediction: Callable[..., Prediction]
) -> None:
    writer = JournalWriter(store.root)
    made = [make_prediction(inputs={"text": f"{MARK} {i}"}) for i in range(3)]
    for prediction in made:
        writer.submit(prediction).result()
    writer.close()
    (segment,) = (store.root / JOURNAL).iterdir()
    content = bytearray(segment.read_bytes())
    content[content.index(f"{MARK} 1".encode()) + 3] ^= 1
    segment.write_bytes(content)
    assert fold(store) == 2
    (broken,) = damaged(store)
    assert scrub_journal(store) == [broken]
    left = broken.read_bytes()
    assert f"{MARK} 0".encode() not in left and f"{MARK} 2".encode() not in left and made[1].id.encode() in left
    broken.write_bytes(left[:8] + bytes(len(left) - 8))
    assert scrub_journal(store) == []


@pytest.mark.parametrize("on", ["sqlite"], indirect=True)
def test_the_file_is_whole_and_has_no_free_page_afterwards(
    store: Store, make_prediction: Callable[..., Prediction]
) -> None:
    made = [make_prediction() for _ in range(50)]
    store.insert(*made)
    store.delete(Prediction, [p.id for p in made[:40]])
    scrub_tables(store)
    with sqlite3.connect(store.database.where) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA freelist_count").fetchone() == (0,)
