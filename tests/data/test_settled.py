"""Settled labels: one vote an author, ties go to labelling, audited keys judge only by answers that were asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tidemill.data.settled import settled_labels
from tidemill.records import Annotation, Feedback, LiveKey, Prediction, new_id
from tidemill.store import Store, create_store
from tidemill.tasks import get_task

LABEL_OF = get_task("tabular-classification").label


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with create_store(tmp_path / ".tidemill") as store:
        yield store


def predict(store: Store, key: str, label: str = "a", *, split: str | None = "train", probability: float = 0.1) -> str:
    audited = split not in (None, "train")
    prediction = Prediction(
        id=new_id("pred"),
        deployment="default",
        model_id="model_1",
        key=key,
        inputs={"x": 1},
        answer={"label": label},
        audited=audited,
        audit_probability=probability,
    )
    store.insert(prediction)
    if split is not None and not store.find(LiveKey, key=key):
        store.insert(LiveKey(id=new_id("key"), key=key, split=split, probability=probability, drawn=audited))  # type: ignore[arg-type]
    return prediction.id


def say(
    store: Store, subject: str, value: Any, author: str = "ann", *, asked: bool = False, kind: str = "correction"
) -> None:
    store.add_feedback(
        [
            Feedback(
                id=new_id("fb"),
                subject=subject,
                kind=kind,
                value=value,
                author=author,
                asked=asked,
                key=new_id("k"),  # type: ignore[arg-type]
            )
        ]
    )


def test_corrections_and_confirmations_become_labels(store: Store) -> None:
    say(store, predict(store, "k1"), "b")
    say(store, predict(store, "k2"), None, kind="confirmation")
    say(store, predict(store, "k3"), "nice", kind="comment")
    settled = settled_labels(store, LABEL_OF)
    assert [(s.prediction.key, s.label, s.split, s.weight) for s in settled.live] == [
        ("k1", "b", "train", 1.0),
        ("k2", "a", "train", 1.0),
    ]
    assert settled.statements == 2


def test_the_newest_word_of_an_author_counts(store: Store) -> None:
    subject = predict(store, "k1")
    say(store, subject, "b")
    say(store, subject, "c")
    assert settled_labels(store, LABEL_OF).live[0].label == "c"


def test_the_same_inputs_share_their_votes(store: Store) -> None:
    first, second = predict(store, "k1"), predict(store, "k1")
    say(store, first, "b", "ann")
    say(store, second, "c", "bob")
    say(store, second, "c", "cem")
    settled = settled_labels(store, LABEL_OF)
    assert [(s.prediction.id, s.label) for s in settled.live] == [(first, "c")]


def test_a_tie_is_a_contradiction_and_settles_nothing(store: Store) -> None:
    subject = predict(store, "k1")
    say(store, subject, "b", "ann")
    say(store, subject, "c", "bob")
    settled = settled_labels(store, LABEL_OF)
    assert settled.live == []
    assert settled.contradictions == {subject: {"b": 1, "c": 1}}


def test_an_annotator_settles_it(store: Store) -> None:
    subject = predict(store, "k1")
    say(store, subject, "b", "ann")
    say(store, subject, "c", "bob")
    store.insert(Annotation(id=new_id("label"), subject=subject, label="c", author="eve", purpose="settle"))
    assert settled_labels(store, LABEL_OF).live[0].label == "c"


def test_volunteered_corrections_never_judge(store: Store) -> None:
    audited = predict(store, "k1", split="recent-test", probability=0.25)
    say(store, audited, "b")
    settled = settled_labels(store, LABEL_OF)
    assert settled.live == [] and settled.audited == 1 and settled.answered == 0

    say(store, audited, "b", "asked-user", asked=True)
    settled = settled_labels(store, LABEL_OF)
    assert [(s.split, s.weight) for s in settled.live] == [("recent-test", 4.0)]
    assert settled.answered == 1


def test_claiming_to_be_asked_does_not_help_where_nobody_asked(store: Store) -> None:
    say(store, predict(store, "k1"), "b", asked=True)
    assert settled_labels(store, LABEL_OF).live[0].split == "train"


def test_labels_of_imported_samples(store: Store) -> None:
    store.insert(
        Annotation(id=new_id("label"), subject="smp_1", label="a", author="ann", purpose="useful"),
        Annotation(id=new_id("label"), subject="smp_2", label="a", author="ann", purpose="useful"),
        Annotation(id=new_id("label"), subject="smp_2", label="b", author="bob", purpose="useful"),
    )
    settled = settled_labels(store, LABEL_OF)
    assert settled.annotations == {"smp_1": "a"}
    assert settled.contradictions == {"smp_2": {"a": 1, "b": 1}}


def test_what_is_said_later_is_not_seen_by_a_resumed_cycle(store: Store) -> None:
    subject = predict(store, "k1")
    say(store, subject, "b")
    before = store.find(Feedback)[0].created
    say(store, predict(store, "k2"), "c")
    assert [s.label for s in settled_labels(store, LABEL_OF, until=before).live] == ["b"]


def test_equal_sets_of_labels_are_equal_votes(store: Store) -> None:
    label_of = get_task("text-multi-label").label
    subject = predict(store, "k1")
    say(store, subject, ["war", "drama"], "ann")
    say(store, subject, ["drama", "war", "war"], "bob")
    say(store, subject, [], "cem")
    assert [s.label for s in settled_labels(store, label_of).live] == [["drama", "war"]]

    torn = predict(store, "k2")
    say(store, torn, ["war"], "ann")
    say(store, torn, [], "bob")
    settled = settled_labels(store, label_of)
    assert len(settled.live) == 1 and settled.statements == 5
    assert settled.contradictions == {torn: {"war": 1, "none of them": 1}}


@pytest.mark.parametrize(
    ("said", "settled"),
    [([2.5], 2.5), ([3, 3.0, 9], 3.0), ([1.0, 2.0, 50.0], 2.0), ([1.0, 2.0, 3.0, 50.0], 2.5), ([1.0, 2.0], None)],
)
def test_numbers_settle_by_the_most_frequent_else_by_their_median(
    store: Store, said: list[float], settled: float | None
) -> None:
    subject = predict(store, "k1")
    for place, value in enumerate(said):
        say(store, subject, 1000.0 + place, f"author {place}")  # an older statement of the same author, replaced
        say(store, subject, value, f"author {place}")
    found = settled_labels(store, get_task("tabular-regression").label)
    assert [s.label for s in found.live] == ([] if settled is None else [settled])
    assert (found.contradictions == {subject: {"1": 1, "2": 1}}) == (settled is None)


def test_lists_and_numbers_of_annotators(store: Store) -> None:
    for subject, label in (("smp_1", ["b", "a"]), ("smp_2", 3), ("smp_3", True)):
        store.insert(Annotation(id=new_id("label"), subject=subject, label=label, author="ann", purpose="useful"))
    assert settled_labels(store, LABEL_OF).annotations == {"smp_1": ["a", "b"], "smp_2": 3.0, "smp_3": True}
