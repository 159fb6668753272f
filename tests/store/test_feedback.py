"""Feedback is written once by its key, and the newest statement of an author is in force."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tidemill.errors import InputError, StoreError
from tidemill.records import Feedback, Member, episode_of, pair_of
from tidemill.store import FeedbackWriter, Store

Make = Callable[..., Feedback]


def test_the_same_key_and_body_give_the_first_result_again(store: Store, make_feedback: Make) -> None:
    older = make_feedback(value="a", created=1.0)
    first = make_feedback(key="k", value={"b": 1, "a": [1.0, None]}, created=2.0)
    assert store.add_feedback([older])[0].status == "accepted"
    accepted = store.add_feedback([first])[0]
    assert (accepted.status, accepted.feedback, accepted.superseded) == ("accepted", first, older.id)
    again = make_feedback(key="k", value={"a": [1.0, None], "b": 1}, created=3.0)
    repeated = store.add_feedback([again])[0]
    assert (repeated.status, repeated.feedback, repeated.superseded) == ("repeated", first, older.id)
    assert repeated.feedback.asked is first.asked
    assert store.count(Feedback) == 2


@pytest.mark.parametrize(
    "change",
    [{"value": "c"}, {"value": None}, {"subject": "pred_2"}, {"author": "bob"}, {"kind": "comment"}, {"asked": True}],
)
def test_the_same_key_with_another_body_is_a_conflict(
    store: Store, make_feedback: Make, change: dict[str, Any]
) -> None:
    first = make_feedback(key="k")
    store.add_feedback([first])
    beside = make_feedback(subject="pred_9")
    outcomes = store.add_feedback([make_feedback(**{"key": "k", **change}), beside])
    assert [o.status for o in outcomes] == ["conflict", "accepted"]
    assert outcomes[0].feedback == first
    assert store.find(Feedback) == [first, beside]


@pytest.mark.parametrize("value", [4, 1.0, 0.1, 2**63 - 1, 1e300, True, False, "4", "1.0", "", "null", [1.0, "é"], {}])
def test_a_value_comes_back_as_it_was_said(store: Store, make_feedback: Make, value: Any) -> None:
    item = make_feedback(value=value)
    store.add_feedback([item])
    stored = store.get(Feedback, item.id)
    assert stored == item and type(stored.value) is type(value)
    assert store.add_feedback([item])[0].status == "repeated"


def test_true_is_not_one(store: Store, make_feedback: Make) -> None:
    store.add_feedback([make_feedback(key="k", value=True)])
    assert store.add_feedback([make_feedback(key="k", value=1)])[0].status == "conflict"


def test_repeats_within_one_group(store: Store, make_feedback: Make) -> None:
    first = make_feedback(key="k")
    outcomes = store.add_feedback([first, make_feedback(key="k"), make_feedback(key="k", value="z")])
    assert [(o.status, o.feedback) for o in outcomes] == [("accepted", first), ("repeated", first), ("conflict", first)]
    assert store.find(Feedback) == [first]


def test_keys_of_two_tokens_are_apart_and_a_renewed_token_may_repeat(store: Store, make_feedback: Make) -> None:
    theirs = make_feedback(key="order-7", value="a", via="shop a")
    ours = make_feedback(key="order-7", value="b", via="shop b", subject="pred_8")
    later = make_feedback(key="order-7", value="c", via="shop b", subject="pred_8")
    statuses = [o.status for o in store.add_feedback([theirs, ours, later])]
    assert statuses == ["accepted", "accepted", "conflict"]
    again = [dataclasses.replace(one, id=f"fb_{i}") for i, one in enumerate((theirs, ours))]
    outcomes = store.add_feedback([*again, dataclasses.replace(again[0], id="fb_9", via="shop a, renewed")])
    assert [o.status for o in outcomes] == ["repeated"] * 3
    assert [o.feedback.id for o in outcomes] == [theirs.id, ours.id, theirs.id]
    assert store.add_feedback([later])[0].status == "conflict" and store.count(Feedback) == 2


def in_force(store: Store) -> list[Feedback]:
    return store.find(Feedback, superseded_by=None)


@pytest.mark.parametrize("groups", [1, 3])
def test_a_newer_statement_supersedes_the_older_in_one_group_or_in_several(
    store: Store, make_feedback: Make, groups: int
) -> None:
    chain = [
        make_feedback(kind="correction", value="b", created=1.0),
        make_feedback(kind="confirmation", value=None, created=2.0),
        make_feedback(kind="correction", value="c", created=3.0),
    ]
    outcomes = store.add_feedback(chain) if groups == 1 else [store.add_feedback([item])[0] for item in chain]
    assert [o.superseded for o in outcomes] == [None, chain[0].id, chain[1].id]
    stored = store.find(Feedback)
    assert [f.superseded_by for f in stored] == [chain[1].id, chain[2].id, None]
    assert [dataclasses.replace(f, superseded_by=None) for f in stored] == chain


def test_others_subjects_authors_and_families_stand_beside_one_another(store: Store, make_feedback: Make) -> None:
    items = [
        make_feedback(),
        make_feedback(author="bob"),
        make_feedback(subject="pred_2"),
        make_feedback(kind="rating", value=4),
        make_feedback(kind="comment", value="odd"),
    ]
    assert {o.superseded for o in store.add_feedback(items)} == {None}
    assert in_force(store) == items
    newer = make_feedback(kind="rating", value=5)
    assert store.add_feedback([newer])[0].superseded == items[3].id
    assert in_force(store) == [*items[:3], items[4], newer]


def test_what_arrives_late_does_not_supersede_what_was_said_later(store: Store, make_feedback: Make) -> None:
    later, earlier = make_feedback(created=20.0), make_feedback(created=10.0)
    store.add_feedback([later])
    outcome = store.add_feedback([earlier])[0]
    assert outcome.status == "accepted" and outcome.superseded is None
    assert outcome.feedback.superseded_by == later.id
    assert in_force(store) == [later]


def test_pairs_and_episodes_are_superseded_late_and_out_of_order_like_predictions(
    store: Store, make_feedback: Make
) -> None:
    pair = {"subject": pair_of("pred_2", "pred_1"), "kind": "preference", "predictions": ("pred_1", "pred_2")}
    game = {"subject": episode_of("game 7"), "kind": "reward"}
    items = [
        make_feedback(**pair, value={"over": "pred_2"}, created=30.0),
        make_feedback(**game, value=3.0, predictions=("pred_1", "pred_3"), created=30.0),
        make_feedback(**pair, value={"over": "pred_1"}, created=20.0),
        make_feedback(**game, value=2.0, predictions=("pred_3", "pred_4"), created=20.0),
        make_feedback(**(game | {"kind": "rating"}), value=1.0, created=10.0),
    ]
    store.add_feedback(items[:3])
    outcomes = store.add_feedback(items)
    assert [o.status for o in outcomes] == ["repeated"] * 3 + ["accepted"] * 2
    assert {f.id for f in in_force(store)} == {items[0].id, items[1].id, items[4].id}
    members = [(m.subject, m.prediction) for m in store.find(Member)]
    assert members == [(pair["subject"], f"pred_{n}") for n in (1, 2)] + [
        (game["subject"], f"pred_{n}") for n in (1, 3, 4)
    ], "each is noted once, also those that late statements name"


def test_with_another_token_nobody_takes_back_what_an_author_said(store: Store, make_feedback: Make) -> None:
    mine, theirs = make_feedback(via="shop", created=1.0), make_feedback(via="stolen", created=2.0)
    assert [o.superseded for o in store.add_feedback([mine, theirs, make_feedback(created=3.0)])] == [None] * 3
    newer = make_feedback(via="shop", created=4.0)
    assert store.add_feedback([newer])[0].superseded == mine.id
    assert theirs in in_force(store)
    again = dataclasses.replace(newer, id="fb_again", via="renewed")
    assert store.add_feedback([again])[0].status == "repeated", "a request may be repeated with a new token"


def test_many_handed_over_at_once_are_one_commit(
    store: Store, make_feedback: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups: list[int] = []
    entered, go = threading.Event(), threading.Event()
    real = store.add_feedback

    def add(items: list[Feedback]) -> Any:
        groups.append(len(items))
        entered.set()
        assert go.wait(20)
        return real(items)

    monkeypatch.setattr(store, "add_feedback", add)
    writer = FeedbackWriter(store)
    first = writer.submit(make_feedback(subject="pred_0"))
    assert entered.wait(20)
    several = writer.submit_all([make_feedback(subject=f"pred_{n}") for n in range(1, 190)])
    lone = writer.submit(make_feedback(subject="pred_190"))
    many = writer.submit_all([make_feedback(subject=f"pred_{n}") for n in range(191, 500)])
    go.set()
    assert [o.feedback.subject for o in several.result()] == [f"pred_{n}" for n in range(1, 190)]
    assert [o.feedback.subject for o in many.result()] == [f"pred_{n}" for n in range(191, 500)]
    assert (first.result().status, lone.result().feedback.subject) == ("accepted", "pred_190")
    writer.close()
    assert groups == [1, 190, 309], "a group is never cut in two, and one that is full waits for no more"


def test_a_group_of_thousands(store: Store, make_feedback: Make) -> None:
    items = [make_feedback(subject=f"pred_{i % 700}", created=float(i)) for i in range(1500)]
    assert {o.status for o in store.add_feedback(items)} == {"accepted"}
    assert in_force(store) == items[-700:]
    assert {o.status for o in store.add_feedback(items)} == {"repeated"}


def test_two_processes_with_the_same_keys_write_each_once(store: Store) -> None:
    code = """
import pathlib, sys
from tidemill.records import Feedback, new_id
from tidemill.store import FeedbackWriter, open_store
with open_store(pathlib.Path(sys.argv[1]), sys.argv[2] or None) as store:
    writer = FeedbackWriter(store)
    print("ready", flush=True)
    sys.stdin.readline()
    futures = [
        writer.submit(Feedback(id=new_id("fb"), subject=f"pred_{i}", kind="correction", value="b", key=f"k{i}"))
        for i in range(400)
    ]
    print(*[f.result().status for f in futures])
    writer.close()
"""
    command = [sys.executable, "-c", code, str(store.root), store.database.url or ""]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(2)]  # type: ignore[call-overload]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    told = [process.communicate()[0].split() for process in processes]
    assert [sorted(pair) for pair in zip(*told, strict=True)] == [["accepted", "repeated"]] * 400
    assert store.count(Feedback) == 400


def test_an_acknowledgement_comes_after_the_commit(store: Store, make_feedback: Make) -> None:
    events: list[str] = []
    real = store.database._engine.dialect.do_commit

    def do_commit(connection: Any) -> None:
        real(connection)
        events.append("committed")

    store.database._engine.dialect.do_commit = do_commit
    writer = FeedbackWriter(store)
    for _ in range(5):
        future = writer.submit(make_feedback())
        future.add_done_callback(lambda _: events.append("acknowledged"))
        future.result()
    writer.close()
    assert events == ["committed", "acknowledged"] * 5


def test_what_gathers_is_one_commit(store: Store, make_feedback: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    groups: list[int] = []
    entered, go = threading.Event(), threading.Event()
    real = store.add_feedback

    def add(items: list[Feedback]) -> Any:
        groups.append(len(items))
        entered.set()
        assert go.wait(20)
        return real(items)

    monkeypatch.setattr(store, "add_feedback", add)
    writer = FeedbackWriter(store)
    first = writer.submit(make_feedback())
    assert entered.wait(20)
    others = [writer.submit(make_feedback()) for _ in range(50)]
    given_up = writer.submit(make_feedback(subject="pred_2"))
    assert given_up.cancel()
    go.set()
    assert {f.result().status for f in (first, *others)} == {"accepted"}
    writer.close()
    assert groups == [1, 50]
    assert store.count(Feedback, subject="pred_2") == 0, "whoever gave up in time is left out"


def test_what_is_not_json_does_not_fail_its_neighbours(store: Store, make_feedback: Make) -> None:
    writer = FeedbackWriter(store)
    with pytest.raises(InputError, match="not JSON"):
        writer.submit(make_feedback(value={1, 2}))
    assert writer.submit(make_feedback()).result().status == "accepted"
    writer.close()
    with pytest.raises(StoreError, match="closed"):
        writer.submit(make_feedback())


FULL_DISK = """
import pathlib, resource, sys
from tidemill.errors import StoreError
from tidemill.records import Feedback, new_id
from tidemill.store import FeedbackWriter, open_store
root = pathlib.Path(sys.argv[1])
store = open_store(root)
writer = FeedbackWriter(store)
def feedback():
    return Feedback(id=new_id("fb"), subject=new_id("pred"), kind="comment", value="x" * 5000, key=new_id("k"))
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, ((root / "store.db-wal").stat().st_size + 300_000, hard))
acknowledged, refused = [], None
while refused is None:
    item = feedback()
    try:
        writer.submit(item).result()
        acknowledged.append(item.id)
    except StoreError as error:
        refused = str(error)
assert len(acknowledged) > 5, acknowledged
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
item = feedback()
writer.submit(item).result()
writer.close()
assert {f.id for f in store.find(Feedback)} == {*acknowledged, item.id}
store.close()
print(refused)
"""


@pytest.mark.parametrize("on", ["sqlite"])
def test_when_files_cannot_grow_feedback_is_refused_and_later_accepted_again(store: Store, make_feedback: Make) -> None:
    store.add_feedback([make_feedback()])
    store.delete(Feedback, [f.id for f in store.find(Feedback)])
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(store.root)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "the disk" in done.stdout and "space" in done.stdout


@pytest.mark.parametrize("on", ["sqlite"])
def test_a_full_disk_is_told(store: Store, make_feedback: Make) -> None:
    with store.database.transaction() as connection:  # the same connection serves the next transaction
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreError, match=r"disk is full.*Free some space"):
        store.add_feedback([make_feedback(subject=f"pred_{i}", value="x" * 5000) for i in range(20)])
    assert store.count(Feedback) == 0
    with store.database.reading() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
    assert store.add_feedback([make_feedback()])[0].status == "accepted"


def test_the_character_nul_is_refused_where_it_cannot_be_kept_and_kept_where_it_can(
    store: Store, make_feedback: Make
) -> None:
    writer = FeedbackWriter(store)
    with pytest.raises(InputError, match="author: the character NUL stands in it"):
        writer.submit(make_feedback(author="ann\0"))
    within = make_feedback(kind="comment", value={"text": "one\0two", "path": "C:\\u0000"})
    assert writer.submit(within).result().status == "accepted"
    writer.close()
    assert store.find(Feedback) == [within]


def test_a_lone_piece_does_not_wait_for_a_group(
    store: Store, make_feedback: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("the writer slept"))
    writer = FeedbackWriter(store)
    assert writer.submit(make_feedback()).result().status == "accepted"
    writer.close()
