"""Whose word counts for how much: shown on a real model's answers to digits, of which the truth is known."""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from tidemill.config import FeedbackPolicy
from tidemill.data.ballots import CROWD, Vote, count
from tidemill.data.fit import MOST_FIT, Ordinary, fit, ordinary, tolerance
from tidemill.data.trust import Voice, Weighed, Word, weigh
from tidemill.records import JSON

POLICY = FeedbackPolicy()
HOUR = 3600.0


@functools.cache
def answered() -> tuple[list[JSON], list[str], Ordinary]:
    """Answers of a model that learned from 145 digits to all others, the true labels, and what is ordinary for it."""
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    learned, asked = order[:145], order[145:]
    model = LogisticRegression(max_iter=300).fit(digits.data[learned] / 16, digits.target[learned])
    chances = model.predict_proba(digits.data[asked] / 16)
    answers: list[JSON] = [
        {"label": str(row.argmax()), "scores": {str(digit): float(p) for digit, p in enumerate(row)}} for row in chances
    ]
    return answers, [str(digit) for digit in digits.target[asked]], ordinary(answers)


def places(right: bool) -> list[int]:
    answers, truths, _ = answered()
    return [i for i, (a, t) in enumerate(zip(answers, truths, strict=True)) if (a["label"] == t) == right]


def other(label: str) -> str:
    return str((int(label) + 1) % 10)


def say(author: str, place: int, label: str, *, hour: float = 0.0, annotator: bool = False) -> Word:
    answers, _, usual = answered()
    return Word(
        Voice(author, annotator=annotator), f"key {place}", label, hour * HOUR, fit(answers[place], label, usual)
    )


def honest(author: str, where: Sequence[int], hour: float = 0.0) -> list[Word]:
    return [say(author, place, answered()[1][place], hour=hour) for place in where]


def wrong(author: str, where: Sequence[int], hour: float = 0.0) -> list[Word]:
    return [say(author, place, other(answered()[1][place]), hour=hour) for place in where]


def believed(words: Sequence[Word], which: Callable[[Word], bool], policy: FeedbackPolicy = POLICY) -> float:
    """The share of some words that would train."""
    weighed = weigh(words, policy)
    chosen = [weight.odds + word.fit > 0 for word, weight in zip(words, weighed.weights, strict=True) if which(word)]
    return sum(chosen) / len(chosen)


def by(author: str) -> Callable[[Word], bool]:
    return lambda word: word.voice.author.startswith(author)


def test_the_first_corrections_of_one_honest_author_are_believed() -> None:
    for some in (1, 5, 100):
        words = honest("ann", places(right=False)[:some])
        assert believed(words, by("ann")) == 1.0
    weighed = weigh(words, POLICY)
    assert weighed.standing == {Voice("ann"): "trusted"} and weighed.trust[Voice("ann")] > 0.9


def test_a_burst_of_wrong_corrections_is_not_and_does_not_hurt_the_honest() -> None:
    words = [*wrong("eve", places(right=True)[:300]), *honest("ann", places(right=False)[:100])]
    assert believed(words, by("eve")) < 0.02 and believed(words, by("ann")) == 1.0
    assert weigh(words, POLICY).standing == {Voice("ann"): "trusted", Voice("eve"): "doubted"}


@pytest.mark.parametrize("each", [1, 6, 25])
def test_nor_is_one_from_many_fresh_authors(each: int) -> None:
    """Whether each of them says a thing once, some things, or enough to be judged alone."""
    where = places(right=True)
    words = [word for n in range(300 // each) for word in wrong(f"sybil {n}", where[n * each : (n + 1) * each])]
    assert believed(words, by("sybil")) < 0.03
    mixed = [*words, *honest("ann", places(right=False)[:60], hour=5.0)]
    assert believed(mixed, by("ann")) == 1.0


def test_many_fresh_authors_who_agree_on_a_lie_count_hardly_more_than_one() -> None:
    answers, truths, usual = answered()
    where = [place for place in places(right=True) if fit(answers[place], other(truths[place]), usual) < -0.7][:6]
    lies = [word for n in range(50) for word in wrong(f"sybil {n}", where)]
    weighed = weigh(lies, POLICY)
    for place in where:
        votes = [
            Vote(word.voice, word.label, weight)
            for word, weight in zip(lies, weighed.weights, strict=True)
            if word.key == f"key {place}"
        ]
        found = count(votes)
        assert len(votes) == 50 and found.odds <= CROWD * max(0.0, weighed.weights[0].odds)
        assert found.odds + max(word.fit for word in lies if word.key == f"key {place}") < 0

    ann = honest("ann", places(right=False)[:100])
    with_ann = [*ann, *honest("ann", where), *lies]
    weighed = weigh(with_ann, POLICY)
    for place in where:
        votes = [
            Vote(w.voice, w.label, weight)
            for w, weight in zip(with_ann, weighed.weights, strict=True)
            if w.key == f"key {place}"
        ]
        assert count(votes).label == answered()[1][place], "one who is trusted outweighs fifty who are not"


def test_a_good_name_covers_no_burst() -> None:
    first = honest("ann", places(right=False)[:100])
    after = wrong("ann", places(right=True)[:300], hour=50.0)
    words = [*first, *after]
    chosen = {id(word) for word in after}
    assert believed(words, lambda word: id(word) in chosen) < 0.05
    assert believed(words, lambda word: id(word) not in chosen) == 1.0


def test_agreeing_with_the_model_earns_no_trust() -> None:
    right = places(right=True)
    words = [*honest("eve", right[:500]), *wrong("eve", right[500:529], hour=9.0)]  # one fewer than a burst
    weighed = weigh(words, POLICY)
    assert weighed.standing[Voice("eve")] != "trusted"
    assert believed(words, lambda word: word.when > 0) < 0.2


def test_annotators_decide_who_is_believed() -> None:
    """Twenty answers about 60 labels that hardly fit decide whether the others are believed, too."""
    where = places(right=True)[:60]
    words = wrong("eve", where)
    against = [say("ada", place, answered()[1][place], annotator=True) for place in where[:20]]
    agreeing = [say("ada", place, other(answered()[1][place]), annotator=True) for place in where[:20]]
    assert believed([*words, *against], by("eve")) < 0.1
    assert believed([*words, *agreeing], by("eve")) > 0.3
    assert weigh([*words, *agreeing], POLICY).standing[Voice("ada", annotator=True)] == "annotator"


def test_another_token_is_another_author() -> None:
    words = honest("ann", places(right=False)[:60])
    stolen = [
        Word(Voice("ann", via="shop"), w.key, w.label, w.when, w.fit) for w in wrong("ann", places(right=True)[:60])
    ]
    weighed = weigh([*words, *stolen], POLICY)
    assert weighed.standing == {Voice("ann"): "trusted", Voice("ann", via="shop"): "doubted"}


def test_whoever_gives_no_name_is_never_trusted() -> None:
    words = honest("anonymous", places(right=False)[:100])
    assert believed(words, by("anonymous")) == 1.0
    assert weigh(words, POLICY).standing == {Voice("anonymous"): "new"}


def test_the_outcome_does_not_depend_on_the_order_of_arrival() -> None:
    right = places(right=True)
    words = [
        *honest("ann", places(right=False)[:80]),
        *wrong("eve", right[:90]),
        *(word for n in range(40) for word in wrong(f"sybil {n}", right[n * 3 : n * 3 + 3])),
        *(say("ada", place, answered()[1][place], annotator=True) for place in right[:12]),
    ]
    expected = dict(zip(words, weigh(words, POLICY).weights, strict=True))
    for seed in range(3):
        shuffled = random.Random(seed).sample(words, len(words))
        found: Weighed = weigh(shuffled, POLICY)
        assert all(expected[word].odds == weight.odds for word, weight in zip(shuffled, found.weights, strict=True))
        assert all(expected[word] == weight for word, weight in zip(shuffled, found.weights, strict=True))


def test_nothing_said_is_nothing_weighed() -> None:
    assert weigh([], POLICY) == Weighed([], {}, {})


NUMBERS: list[JSON] = [{"value": float(v), "interval": [v - 2.0, v + 2.0], "level": 0.9} for v in range(0, 100, 5)]
SEVERAL: list[JSON] = [
    {"labels": ["cat"], "scores": {"cat": 0.9, "dog": 0.1, "owl": 0.02}},
    {"labels": [], "scores": {"cat": 0.3, "dog": 0.05, "owl": 0.01}},
]


def test_a_number_fits_when_it_lies_near_for_such_inputs() -> None:
    usual = ordinary(NUMBERS)
    near, far = fit(NUMBERS[3], 17.5, usual), fit(NUMBERS[3], 60.0, usual)
    assert near > 0 > far and far == -MOST_FIT and fit(NUMBERS[3], 15.0, usual) == 0.0
    assert tolerance(NUMBERS[3], usual) == 1.0


def test_several_labels_fit_by_those_that_were_changed() -> None:
    usual = ordinary(SEVERAL)
    assert fit(SEVERAL[1], ["cat"], usual) > fit(SEVERAL[1], ["owl"], usual)
    assert fit(SEVERAL[0], ["cat"], usual) == fit(SEVERAL[1], [], usual) == 0.0


def test_an_answer_without_probabilities_says_nothing_of_a_label() -> None:
    for answer in ({"label": "a"}, {"label": "a", "scores": None}, {"label": "a", "scores": [0.1, 0.9]}, {}):
        assert fit(answer, "b", ordinary([answer])) == 0.0


def test_a_label_that_the_model_does_not_know_fits_where_it_was_in_doubt() -> None:
    answers, _, usual = answered()
    sure = max(answers, key=lambda a: max(a["scores"].values()))
    torn = min(answers, key=lambda a: max(a["scores"].values()))
    assert fit(torn, "a letter", usual) > 0 > fit(sure, "a letter", usual)


def test_hard_traffic_is_not_taken_for_what_is_ordinary() -> None:
    answers, truths, _ = answered()
    hard = [answers[i] for i in places(right=False)]
    by_traffic, by_test_set = ordinary(hard), ordinary(hard, sure=0.95)
    assert by_test_set.other < by_traffic.other
    place = places(right=False)[0]
    assert fit(answers[place], truths[place], by_test_set) > fit(answers[place], truths[place], by_traffic) > -math.inf


def test_votes_of_the_same_weight_need_a_clear_majority() -> None:
    def vote(author: str, label: Any) -> Vote:
        return Vote(Voice(author), label)

    assert count([vote("a", "x"), vote("b", "y")]).label is None
    assert count([vote("a", "x"), vote("b", "y"), vote("c", "y")]).label == "y"
    assert count([vote("a", 1.0), vote("b", 1.0), vote("c", 7.0)]).label == 1.0
    assert count([vote("a", "x"), vote("b", "y")]).counts == {"x": 1, "y": 1}
