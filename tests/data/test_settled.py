"""Settled labels: one vote an author, ties go to labelling, audited keys judge only by answers that were asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tidemill.config import FeedbackPolicy
from tidemill.data.settled import Tried, settled_labels
from tidemill.records import Annotation, Feedback, LiveKey, Prediction, Token, new_id
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
    store: Store,
    subject: str,
    value: Any,
    author: str = "ann",
    *,
    asked: bool = False,
    kind: str = "correction",
    via: str | None = None,
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
                via=via,
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


def seen(store: Store, number: int, label: str, sure: float) -> str:
    """A prediction of a model that answered *label*, so surely."""
    subject = predict(store, f"seen {number}", label)
    other = {"a": "b", "b": "a"}[label]
    answer = {"label": label, "scores": {label: sure, other: 1 - sure}}
    store.update(replace(store.get(Prediction, subject), answer=answer))
    return subject


def test_what_hardly_can_be_right_is_held_back_with_the_reason_until_an_annotator_says_so(store: Store) -> None:
    with store.transaction():
        sure = [seen(store, number, "a", 0.999) for number in range(40)]
        torn = [seen(store, 100 + number, "a", 0.6) for number in range(10)]
        for subject in sure:
            say(store, subject, "b", "eve")
        for subject in torn:
            say(store, subject, "b", "ann")
    settled = settled_labels(store, LABEL_OF)
    assert {s.prediction.id for s in settled.live} == set(torn) and set(settled.held) == set(sure)
    reason = "an author stated 40 labels within an hour, and few of them fit what is known"
    assert set(settled.held.values()) == {reason}
    eve = next(author for author in settled.authors if author.voice.author == "eve")
    assert (eve.standing, eve.statements, eve.held) == ("doubted", 40, 40) and eve.trust < 0.3

    for subject in sure[:30]:
        store.insert(Annotation(id=new_id("label"), subject=subject, label="b", author="eva", purpose="settle"))
    settled = settled_labels(store, LABEL_OF)
    assert settled.held == {} and len(settled.live) == 50, "thirty of them were right, so the others are believed"
    eve = next(author for author in settled.authors if author.voice.author == "eve")
    assert (eve.standing, eve.settled, eve.agreed) == ("trusted", 30, 30)


def test_where_every_author_has_one_vote_nothing_is_held_back(store: Store) -> None:
    with store.transaction():
        for number in range(40):
            say(store, seen(store, number, "a", 0.999), "b", "eve")
    settled = settled_labels(store, LABEL_OF, policy=FeedbackPolicy(trust=False))
    assert len(settled.live) == 40 and settled.held == {} and settled.limited == {}


def test_a_token_that_may_label_speaks_as_an_annotator_and_no_other_one_in_its_name(store: Store) -> None:
    for name, scopes in (("desk", ("label", "feedback")), ("shop", ("feedback",))):
        store.insert(Token(id=new_id("tok"), name=name, scopes=scopes, digest=name))
    for number in range(10):
        seen(store, 100 + number, "a", 0.6)  # what is ordinary for this model
    subject = seen(store, 0, "a", 0.999)
    say(store, subject, "b", "eva", via="shop")
    assert settled_labels(store, LABEL_OF).live == []
    say(store, subject, "b", "eva", via="desk")
    settled = settled_labels(store, LABEL_OF)
    assert [s.label for s in settled.live] == ["b"]
    assert [(a.voice.via, a.standing) for a in settled.authors] == [("", "annotator"), ("shop", "new")]
    say(store, subject, "a", "eva", via="shop")
    assert [s.label for s in settled_labels(store, LABEL_OF).live] == ["b"], "nobody else takes back what it said"


def test_on_audited_inputs_only_those_vote_who_were_asked_and_all_of_an_authors_answers_count_or_none(
    store: Store,
) -> None:
    with store.transaction():
        for number in range(40):
            seen(store, 100 + number, "a", 0.6)  # what is ordinary for this model
            say(store, seen(store, number, "a", 0.999), "b", "eve")
    audited = [predict(store, f"drawn {n}", split="recent-test") for n in range(3)]
    say(store, audited[0], "a", "ann", asked=True)
    say(store, audited[0], "b", "ben")
    say(store, audited[0], "b", "cem")
    say(store, audited[1], "a", "eve", asked=True)
    settled = settled_labels(store, LABEL_OF)
    assert [(s.prediction.id, s.label) for s in settled.live] == [(audited[0], "a"), (audited[1], "a")]
    assert (settled.answered, settled.audited) == (2, 3) and len(settled.held) == 40
    (doubt,) = settled.doubts
    assert len(doubt.samples) == 41
    harmful = settled_labels(store, LABEL_OF, tried=Tried(harmful=[doubt.mark]))
    assert [s.prediction.id for s in harmful.live] == [audited[0]] and audited[1] in harmful.held
    harmless = settled_labels(store, LABEL_OF, tried=Tried(released=[doubt.mark]))
    assert len(harmless.live) == 42 and harmless.held == {} and harmless.doubts == []


def test_the_word_of_few_does_not_outweigh_everything_else(store: Store) -> None:
    with store.transaction():
        for number in range(150):
            say(store, predict(store, f"k{number}"), "b", f"author {number % 60}")
    settled = settled_labels(store, LABEL_OF, imported=200.0)
    assert {round(s.weight, 4) for s in settled.live} == {round(100 / 150, 4)}
    assert settled.limited == {"labels of authors who are not trusted yet weigh 0.67 each": 150}
    assert {s.weight for s in settled_labels(store, LABEL_OF, imported=4000.0).live} == {1.0}
    wide = FeedbackPolicy(newcomers=2.0)
    assert {s.weight for s in settled_labels(store, LABEL_OF, imported=200.0, policy=wide).live} == {1.0}


def test_a_resumed_cycle_sees_what_was_replaced_since(store: Store) -> None:
    subject = predict(store, "k1")
    say(store, subject, "b")
    before = store.find(Feedback)[0].created
    say(store, subject, "c")
    assert [s.label for s in settled_labels(store, LABEL_OF, until=before).live] == ["b"]
    assert [s.label for s in settled_labels(store, LABEL_OF).live] == ["c"]


def test_a_confirmation_of_no_answer_settles_nothing(store: Store) -> None:
    """It was taken while its prediction was only in the journal."""
    subject = predict(store, "k1")
    answer = {"label": None, "abstained": True, "guess": "a", "score": 0.6, "scores": {"a": 0.6, "b": 0.4}}
    store.update(replace(store.get(Prediction, subject), answer=answer))
    say(store, subject, None, kind="confirmation")
    settled = settled_labels(store, LABEL_OF)
    assert settled.live == [] and settled.statements == 0 and settled.held == {}


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
