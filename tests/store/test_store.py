"""The verbs of the store, over every kind of record."""

from __future__ import annotations

import dataclasses
import sqlite3
import threading
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tidemill import records
from tidemill.errors import BusyError, ConflictError, InputError, NotFoundError
from tidemill.records import (
    Decision,
    Deployment,
    Generation,
    Model,
    Prediction,
    QueueItem,
    Record,
    Run,
    Step,
    new_id,
)
from tidemill.store import Store, open_store
from tidemill.store.tables import kinds

VALUES: dict[Any, Any] = {
    str: "naïve ☃",
    int: 2**53 + 1,
    float: 0.1,
    bool: True,
    tuple: ("a", "b"),
    dict: {"a": [1, {"b": None}]},
}


def filled(kind: type[Record]) -> Record:
    """A record of *kind* with a value in every field."""
    values: dict[str, Any] = {}
    for name, hint in typing.get_type_hints(kind).items():
        if name == "prefix":
            continue
        parts = typing.get_args(hint) if typing.get_origin(hint) is types.UnionType else (hint,)
        first = next(part for part in parts if part is not types.NoneType)
        origin = typing.get_origin(first)
        values[name] = typing.get_args(first)[0] if origin is typing.Literal else VALUES.get(origin or first, [1, 2.5])
    return kind(**{**values, "id": new_id(kind.prefix)})


def emptied(record: Record) -> Record:
    """The same with ``None`` wherever that is allowed, and with empty JSON."""
    hints = typing.get_type_hints(type(record))
    nothing = {n: None for n, hint in hints.items() if hint is Any or types.NoneType in typing.get_args(hint)}
    return dataclasses.replace(record, **nothing)


def deployment(**fields: Any) -> Deployment:
    defaults: dict[str, Any] = {"name": "default", "model_id": "model_1", "action": "promote", "reason": "better"}
    return Deployment(**{"id": new_id("deploy"), **defaults, **fields})


def generation(number: int, **fields: Any) -> Generation:
    return Generation(id=new_id("gen"), number=number, alpha=0.05, **fields)


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_every_kind_comes_back_as_it_went(store: Store, kind: type[Record]) -> None:
    record = filled(kind)
    store.insert(record)
    assert store.get(kind, record.id) == record
    changed = emptied(record)
    store.update(changed)
    with open_store(store.root, store.database.url) as other:
        assert other.find(kind) == [changed]
    assert store.count(kind) == 1 and store.exists(kind, record.id)
    assert store.delete(kind, [record.id, "run_nobody"]) == 1
    assert not store.exists(kind, record.id)


def test_the_store_keeps_every_kind_of_record() -> None:
    defined = {v for v in vars(records).values() if isinstance(v, type) and issubclass(v, Record) and v is not Record}
    assert set(kinds()) == defined and len(defined) >= 14


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_many_at_once_come_back_as_they_went(store: Store, kind: type[Record]) -> None:
    unique = {"key", "number", "digest", "cycle_id", "prediction", "trigger", "neighbour", "question"}
    made = []
    for number in range(310):
        record = filled(kind)
        changed = {n: number if n == "number" else f"{n} {number}" for n in unique if hasattr(record, n)}
        made.append(dataclasses.replace(emptied(record) if number % 2 else record, **changed))
    store.insert(*made)
    assert store.find(kind) == made


@pytest.mark.parametrize("on", ["sqlite"])
def test_many_at_once_go_where_a_statement_takes_few_values(
    store: Store, make_prediction: Callable[..., Prediction]
) -> None:
    made = [make_prediction() for _ in range(300)]
    with store.database.transaction() as connection:
        driver: Any = connection.connection.driver_connection
        before = driver.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 999)  # as SQLite had before 3.32
        store.insert(*made)
        driver.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, before)
    assert store.find(Prediction) == made


def test_what_cannot_be_stored_among_many_is_refused_with_them(
    store: Store, make_prediction: Callable[..., Prediction]
) -> None:
    for wrong in ({"inputs": {"image": object()}}, {"caller": "\ud800"}, {"caller": "a\0b"}):
        with pytest.raises(InputError, match="cannot be stored"):
            store.insert(*(make_prediction() for _ in range(120)), make_prediction(**wrong))
    with pytest.raises(InputError, match="cannot be stored"):
        store.insert(*(generation(number) for number in range(20)), generation(2**63))
    with pytest.raises(ConflictError, match="exists already"):
        store.insert(*(generation(number) for number in range(120)), generation(7))
    assert store.count(Prediction) == 0 and store.count(Generation) == 0


def test_find_by_values_sets_and_absence(store: Store) -> None:
    runs = [
        dataclasses.replace(filled(Run), cycle_id=c, seed=s) for c, s in [("c1", 1), ("c1", 2), ("c2", 1), (None, 3)]
    ]
    store.insert(*runs)
    assert store.find(Run, cycle_id="c1") == runs[:2]
    assert store.find(Run, cycle_id="c1", seed=2) == [runs[1]]
    assert store.find(Run, cycle_id=None) == [runs[3]]
    assert store.find(Run, cycle_id={"c2", "c1"}, newest_first=True, limit=2) == [runs[2], runs[1]]
    assert store.find(Run, seed=[]) == []
    assert store.count(Run, seed=(1, 3)) == 3


def test_find_with_more_values_than_a_statement_takes(store: Store) -> None:
    made = [generation(number) for number in range(1300)]
    store.insert(*made)
    wanted = [made[i].id for i in range(1299, 0, -1)]
    assert store.find(Generation, id=wanted) == made[1:]
    assert store.find(Generation, id=wanted, newest_first=True, limit=2) == [made[1299], made[1298]]
    assert store.count(Generation, id=wanted, alpha=0.05) == 1299
    assert store.delete(Generation, wanted) == 1299


def test_find_and_count_by_time(store: Store) -> None:
    made = [generation(number, created=float(number)) for number in range(1200)]
    store.insert(*made)
    assert store.find(Generation, created_after=3.0, created_before=6.0) == made[4:6]
    assert store.count(Generation, created_after=999.0) == 200
    assert store.ids(Generation, created_before=600.0, id=[g.id for g in made[::-1]]) == [g.id for g in made[:600]]
    assert store.ids(Generation, created_after=4.0, number={4, 5, 6}) == [made[5].id, made[6].id]


def test_a_field_may_be_called_kind(store: Store) -> None:
    run = filled(Run)
    store.insert(run)
    assert store.find(Run, kind=run.kind) == [run] and store.count(Run, kind="trial") == 0


def test_find_in_the_order_of_a_field(store: Store) -> None:
    ranks = (3.0, 1.0, 2.0, 1.0)
    items = [dataclasses.replace(filled(QueueItem), id=new_id("ask"), rank=rank) for rank in ranks]
    store.insert(*items)
    assert store.find(QueueItem, order_by="rank", limit=3) == [items[1], items[3], items[2]]


def test_texts_are_in_the_order_of_their_characters_and_what_is_not_set_comes_first(store: Store) -> None:
    names = ["Z", "a", None, "É", "e", "𝄞", "B"]
    runs = [dataclasses.replace(filled(Run), id=new_id("run"), error=name) for name in names]
    store.insert(*runs)
    expected = [None, "B", "Z", "a", "e", "É", "𝄞"]
    assert [r.error for r in store.find(Run, order_by="error")] == expected
    assert [r.error for r in store.find(Run, order_by="error", newest_first=True)] == expected[::-1]
    every = [r.id for r in runs] + [f"run_{i}" for i in range(600)]
    assert [r.error for r in store.find(Run, order_by="error", id=every)] == expected


def test_a_field_that_cannot_be_searched_names_the_nearest(store: Store) -> None:
    with pytest.raises(InputError, match="cycle_id"):
        store.find(Run, cycle="c1")
    with pytest.raises(InputError, match="cannot be searched by 'metrics'"):
        store.find(Run, metrics={})


def test_a_missing_id_says_what_it_is_instead(store: Store) -> None:
    run = filled(Run)
    store.insert(run)
    with pytest.raises(NotFoundError, match="That is the id of a run; give the id of a model"):
        store.get(Model, run.id)
    with pytest.raises(NotFoundError, match=f"Did you mean {run.id}"):
        store.get(Run, run.id[:-1])
    with pytest.raises(NotFoundError, match="begin with `run_`"):
        store.update(dataclasses.replace(run, id="run_1"))


def test_an_insert_that_conflicts_leaves_nothing(store: Store) -> None:
    first = generation(1)
    store.insert(first)
    with pytest.raises(ConflictError):
        store.insert(generation(2), filled(Run), generation(1))
    assert store.find(Generation) == [first] and store.count(Run) == 0


def test_transactions_nest_and_roll_back_whole(store: Store) -> None:
    def outer_fails() -> None:
        with store.transaction():
            store.insert(generation(1))
            with store.transaction():
                store.insert(generation(2))
            assert store.count(Generation) == 2, "a transaction sees its own rows"
            with open_store(store.root, store.database.url) as other:
                assert other.count(Generation) == 0, "and nobody else does"
            raise KeyError

    with pytest.raises(KeyError):
        outer_fails()
    assert store.count(Generation) == 0

    with store.transaction():
        store.insert(generation(3))
        with pytest.raises(ConflictError):
            store.insert(generation(4), generation(3))
    assert [g.number for g in store.find(Generation)] == [3]


def test_threads_take_turns(store: Store) -> None:
    def work(start: int) -> None:
        for number in range(start, start + 25):
            with store.transaction():
                store.insert(generation(number))

    threads = [threading.Thread(target=work, args=(1000 * i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.count(Generation) == 200


def test_a_snapshot_sees_what_was_there_when_it_began(store: Store) -> None:
    store.insert(generation(1))
    counted = sa.text("SELECT count(*) FROM generations")
    with store.database.snapshot() as connection:
        with open_store(store.root, store.database.url) as other:
            other.insert(generation(2))
            assert other.count(Generation) == 2, "nobody waits for it"
        assert connection.execute(counted).scalar_one() == 1
    with store.database.snapshot() as connection:
        assert connection.execute(counted).scalar_one() == 2


def test_what_a_transaction_read_is_true_until_it_commits(store: Store) -> None:
    """Two connections that read, add one and write, as two processes would: no addition is lost."""
    store.insert(generation(1, spent=0.0))

    def add() -> None:
        with open_store(store.root, store.database.url) as other:
            for _ in range(25):
                with other.transaction():
                    (found,) = other.find(Generation)
                    other.update(dataclasses.replace(found, spent=found.spent + 1.0))

    threads = [threading.Thread(target=add) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.find(Generation)[0].spent == 50.0


def test_deploy_is_one_transaction_and_moves_the_revision(store: Store) -> None:
    decision = dataclasses.replace(filled(Decision), outcome="promoted")
    with open_store(store.root, store.database.url) as follower:
        assert follower.champion() is None and follower.revision() == 0
        first = deployment(decision_id=decision.id)
        store.deploy(first, decision)
        seen = follower.revision()
        assert follower.champion() == first and seen > 0
        with pytest.raises(ConflictError):
            store.deploy(deployment(model_id="model_2"), decision)  # the same decision twice
        assert follower.champion() == first and follower.revision() == seen
        store.deploy(deployment(name="canary"))
        assert follower.champion() == first and follower.revision() == seen
        store.deploy(deployment(model_id="model_2"))
        assert follower.revision() > seen


def test_the_champion_is_the_last_one_also_when_the_clock_went_back(store: Store) -> None:
    store.deploy(deployment(created=2_000_000_000.0))
    last = deployment(model_id="model_2", created=1_000_000_000.0, id="deploy_0")
    store.deploy(last)
    assert store.champion() == last


def test_a_step_is_begun_once(store: Store) -> None:
    step = store.begin_step("cycle_1", "train", "token-1")
    assert step.status == "started" and step.token == "token-1"
    with open_store(store.root, store.database.url) as other:
        assert other.begin_step("cycle_1", "train", "token-2") == step
        done = other.finish_step(step, {"run": "run_1"})
    assert done.status == "done" and done.finished is not None
    assert store.begin_step("cycle_1", "train", "token-3") == done
    assert store.begin_step("cycle_2", "train", "token-4").token == "token-4"
    assert store.count(Step) == 2


def test_a_value_that_cannot_be_stored_is_refused(store: Store, make_prediction: Callable[..., Prediction]) -> None:
    with pytest.raises(InputError, match="cannot be stored"):
        store.insert(make_prediction(inputs={"image": object()}))
    with pytest.raises(InputError, match="cannot be stored"):
        store.insert(make_prediction(caller="\ud800"))
    with pytest.raises(InputError, match="character NUL"):
        store.insert(make_prediction(), make_prediction(caller="a\0b"))
    with pytest.raises(InputError, match="cannot be stored"):
        store.insert(generation(2**63))
    assert store.count(Prediction) == 0


def test_a_writer_that_keeps_the_lock_is_named(store: Store) -> None:
    wait = "PRAGMA busy_timeout=50" if store.database.is_sqlite else "SET lock_timeout = 50"
    with store.database.reading() as connection:  # the same connection serves the next transaction
        connection.exec_driver_sql(wait)
    with open_store(store.root, store.database.url) as other, other.transaction():
        with pytest.raises(BusyError, match="another process"):
            store.insert(generation(1))
        assert store.count(Generation) == 0, "readers are not held up"


@pytest.mark.parametrize("on", ["sqlite"])
def test_a_commit_is_synchronous(store: Store) -> None:
    with store.database.transaction() as connection:
        assert connection.execute(sa.text("PRAGMA synchronous")).scalar() == 2  # FULL
        assert connection.execute(sa.text("PRAGMA journal_mode")).scalar() == "wal"


def test_usage_counts_bytes_by_folder(store: Store) -> None:
    name = store.blobs.put(b"x" * 1000)
    Path(store.root / "packages").mkdir()
    Path(store.root / "packages" / "model.onnx").write_bytes(b"y" * 70)
    usage = store.usage()
    assert usage["blobs"] == 1000 == store.blobs.path(name).stat().st_size
    assert usage["packages"] == 70 and usage["other"] == 64
    if store.database.is_sqlite:
        assert usage["database"] >= (store.root / "store.db").stat().st_size
    else:
        before = usage["database"]
        store.insert(*(generation(number) for number in range(1000)))
        assert before > 0 and store.usage()["database"] > before + 50_000
