"""What annotators ask of the tables, on either database."""

from __future__ import annotations

from typing import Any

from tidemill.records import Annotation, QueueItem, Turn, new_id
from tidemill.store import Store
from tidemill.store.asking import keep, lately, next_questions, waiting


def question(rank: float, purpose: str = "useful", **more: Any) -> QueueItem:
    return QueueItem(
        id=new_id("ask"),
        subject=new_id("smp"),
        purpose=purpose,  # type: ignore[arg-type]
        rank=rank,
        reason="a test",
        inputs={"text": "t"},
        **more,
    )


def test_the_next_question_is_the_first_that_nobody_keeps(store: Store) -> None:
    second, first, held = question(2.0), question(1.0), question(5.0, "settle")
    done, other = question(0.0, done=True), question(0.0, "audit")
    store.insert(second, first, held, done, other)
    both = ("settle", "useful")
    assert next_questions(store, "ann", both, 100.0, limit=9) == [held, first, second]
    assert next_questions(store, "ann", both, 100.0, besides=[held.id, first.id]) == [second]
    keep(store, first, "ben", 200.0)
    assert next_questions(store, "ann", ("useful",), 100.0) == [second]
    assert next_questions(store, "ben", ("useful",), 100.0) == [first]
    assert next_questions(store, "ann", ("useful",), 201.0) == [first]
    assert waiting(store) == {"audit": 1, "settle": 1, "useful": 2}


def test_who_has_spoken_is_asked_again_only_where_the_label_is_doubted(store: Store) -> None:
    spoken, doubted = question(1.0), question(2.0, "settle", signal="doubtful")
    store.insert(
        spoken,
        doubted,
        *(
            Annotation(id=new_id("ann"), subject=one.subject, label="a", author="ann", purpose="useful")
            for one in (spoken, doubted)
        ),
    )
    assert next_questions(store, "ann", ("settle", "useful"), 1.0, limit=2) == [doubted]
    assert next_questions(store, "ben", ("settle", "useful"), 1.0, limit=2) == [doubted, spoken]


def test_a_question_that_is_kept_again_has_one_turn_with_its_note(store: Store) -> None:
    one, two = question(1.0), question(2.0, "audit")
    store.insert(
        one,
        two,
        Turn(id=new_id("turn"), question=one.id, subject=one.subject, author="ann", state="skipped", until=50.0,
             note="odd"),
    )  # fmt: skip
    assert next_questions(store, "ann", ("useful",), 49.0) == []
    assert next_questions(store, "ann", ("useful",), 51.0) == [one]
    keep(store, one, "ann", 90.0)
    keep(store, two, "ann", 91.0)
    keep(store, one, "ann", 92.0)
    turn = store.find(Turn, question=one.id)
    assert [(t.state, t.until, t.note) for t in turn] == [("open", 92.0, "odd")]
    assert lately(store, "ann") == ["audit", "useful"] and lately(store, "ann", 1) == ["audit"]
    assert lately(store, "ben") == []
