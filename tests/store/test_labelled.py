"""What annotators did, as the tables count it, on either database."""

from __future__ import annotations

from typing import Any

from tidemill.records import Annotation, Turn, new_id
from tidemill.store import Store
from tidemill.store.labelled import count_labels, count_unanswered, shared_labels


def say(subject: str, author: str, label: Any, purpose: Any = "useful", **more: Any) -> Annotation:
    return Annotation(id=new_id("label"), subject=subject, author=author, label=label, purpose=purpose, **more)


def turn(author: str | None, state: Any) -> Turn:
    return Turn(id=new_id("turn"), question=new_id("ask"), subject="smp_1", author=author, state=state, until=1.0)


def test_only_what_is_in_force_counts(store: Store) -> None:
    store.insert(
        say("smp_1", "ann", ["a", "b"]),
        say("smp_1", "ben", ["a"]),
        say("smp_1", "cem", ["b"], "adjudicate"),
        say("smp_2", "ann", ["a"]),
        say("smp_2", "ben", ["b"], superseded_by="label_1"),
        say("smp_2", "ben", None),
        say("smp_2", "", ["b"]),
    )
    assert sorted(count_labels(store)) == [("ann", "useful", 2), ("ben", "useful", 1), ("cem", "adjudicate", 1)]
    assert shared_labels(store) == [("smp_1", "ann", ["a", "b"]), ("smp_1", "ben", ["a"])]
    store.insert(turn("ann", "skipped"), turn("ann", "skipped"), turn("ann", "unsure"), turn("ben", "open"))
    store.insert(turn(None, "skipped"))
    assert sorted(count_unanswered(store)) == [("ann", "skipped", 2), ("ann", "unsure", 1)]
