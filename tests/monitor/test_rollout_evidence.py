"""What counts in a roll-out: audited answers by both models, with labels that were asked for and can be believed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tidemill.config import Config, FeedbackPolicy, make_config
from tidemill.metrics import row_scores
from tidemill.monitor.rollout_evidence import Doubts, gather, labelled
from tidemill.monitor.rollout_start import judge_of, new_rollout
from tidemill.monitor.rollout_steps import MOST, step
from tidemill.records import JSON, Annotation, Deployment, Feedback, LiveKey, Prediction, QueueItem, Rollout, new_id
from tidemill.stages.deploy import begin_rollout
from tidemill.store import Store, create_store, new_prediction_id
from tidemill.tasks import Task, get_task

CHAMPION, CHALLENGER = "model_old", "model_new"
ONE_VOTE_EACH = FeedbackPolicy(trust=False)
SURE = {"label": "a", "score": 0.99, "scores": {"a": 0.99, "b": 0.01}}


class Rolled:
    """A store in which a roll-out is under way."""

    def __init__(self, store: Store, task: str = "tabular-classification", **settings: Any) -> None:
        self.store = store
        self.task: Task = get_task(task)
        self.config: Config = make_config(task=task, data=["a.csv"], target="y", **settings)
        self.given("before")  # what was answered before it counts for nothing
        store.deploy(
            Deployment(id=new_id("deploy"), name="default", model_id=CHAMPION, action="promote", reason="first")
        )
        judge = judge_of(self.task, self.config, 4.0)
        made = new_rollout(store, self.config, judge, champion=CHAMPION, challenger=CHALLENGER, reason="a test")
        self.rollout = begin_rollout(store, made)

    def given(
        self,
        key: str,
        champion: JSON | str = "a",
        challenger: JSON | str | None = "b",
        *,
        by: str = CHAMPION,
        split: str = "recent-test",
        **fields: Any,
    ) -> Prediction:
        """An answer that was given, and what the other model would have said."""
        answers = {CHAMPION: answered(champion), CHALLENGER: None if challenger is None else answered(challenger)}
        (other,) = set(answers) - {by}
        shadow = {"model_id": other, "answer": answers[other]}
        base = {"id": new_prediction_id(self.store.secret), "model_id": by, "inputs": {"x": 1}, "audited": True}
        base["deployment"] = self.rollout.id if by == CHALLENGER else "deploy_x"
        made = Prediction(
            key=key,
            answer=answers[by] or {},
            shadow=None if answers[other] is None else shadow,
            **{**base, "audit_probability": 0.5, **fields},
        )
        self.store.insert(made)
        if not self.store.find(LiveKey, key=key):
            self.store.insert(LiveKey(id=new_id("key"), key=key, split=split, probability=0.5, drawn=True))  # type: ignore[arg-type]
        return made

    def said(self, about: Prediction, label: Any, author: str = "ann", *, asked: bool = True, **fields: Any) -> None:
        item = Feedback(
            id=new_id("fb"),
            subject=about.id,
            kind="correction",
            value=label,
            author=author,
            asked=asked,
            key=new_id("k"),
            **fields,
        )
        self.store.add_feedback([item])

    def noted(self, about: Prediction, label: Any, author: str = "cid", purpose: Any = "audit") -> None:
        """What an annotator answered."""
        made = Annotation(id=new_id("label"), subject=about.id, label=label, author=author, purpose=purpose)
        self.store.insert(made)

    def labels(self, policy: FeedbackPolicy = ONE_VOTE_EACH) -> dict[str, Any]:
        weights = Doubts(policy).weights(self.store, self.rollout, self.task.label, 1, sure=True)
        rows, _ = labelled(self.store, self.rollout, self.task.label, weights)
        return {row.prediction.id: row.label for row in rows}

    def evidence(self, policy: FeedbackPolicy = ONE_VOTE_EACH) -> JSON:
        return gather(self.store, self.rollout, self.task.label, Doubts(policy), now=time.time())


def answered(answer: JSON | str) -> JSON:
    """One of two labels at 75 %, unless it is a whole answer."""
    if not isinstance(answer, str):
        return answer
    return {
        "label": answer,
        "score": 0.75,
        "scores": {label: 0.75 if label == answer else 0.25 for label in ("a", "b")},
    }


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with contextlib.closing(create_store(tmp_path / "store")) as made:
        yield made


@pytest.fixture
def rolled(store: Store) -> Rolled:
    return Rolled(store)


def test_only_asked_labels_of_audited_answers_by_both_models_count(rolled: Rolled) -> None:
    counts = [rolled.given("01"), rolled.given("02", by=CHALLENGER)]
    left_out = [
        rolled.store.find(Prediction)[0],
        rolled.given("03", challenger=None),
        rolled.given("04", audited=False),
        rolled.given("05", split="train"),
        rolled.given("06", by=CHALLENGER, model_id="model_other"),
    ]
    for prediction in [*counts, *left_out]:
        rolled.said(prediction, "b")
    rolled.said(rolled.given("07"), "b", asked=False)
    assert rolled.labels() == {p.id: "b" for p in counts}
    evidence = rolled.evidence()
    assert (evidence["labels"]["rows"], evidence["asked"], evidence["responded"]) == (2, 4, 2)
    assert evidence["answered"] == 6, "of those after its beginning, all that both answered or the canary gave"


def test_authors_are_outvoted_change_their_minds_and_may_be_doubted(rolled: Rolled) -> None:
    torn, clear, doubtful = rolled.given("01"), rolled.given("02"), rolled.given("03")
    rolled.said(torn, "a", "ann")
    rolled.said(torn, "b", "bob")
    for author, label in (("ann", "a"), ("bob", "b"), ("eve", "a"), ("eve", "b")):
        rolled.said(clear, label, author)
    rolled.said(doubtful, "a", "eve")
    assert rolled.labels() == {clear.id: "b", doubtful.id: "a"}
    rolled.noted(torn, "a")
    assert rolled.labels()[torn.id] == "a"


def test_whoever_is_asked_because_annotators_disagree_decides(rolled: Rolled) -> None:
    torn = rolled.given("01")
    for author in ("ann", "bob", "cid"):
        rolled.noted(torn, "b", author)
    rolled.noted(torn, "a", "dan", "adjudicate")
    assert rolled.labels() == {torn.id: "a"}
    assert rolled.labels(FeedbackPolicy()) == {torn.id: "a"}


@pytest.mark.parametrize("annotated", [True, False])
def test_many_new_names_do_not_outvote_one_who_is_known(store: Store, annotated: bool) -> None:
    """Two names nobody has heard of speak for the challenger on each answer, an hour from the next, by one token."""
    rolled = Rolled(store, rollout={"policy": "canary", "canary_rows": 10})
    now = time.time()
    if not annotated:  # a user who has proved to know
        for n in range(60):
            earlier = rolled.given(f"e{n:03}", SURE, None, audited=False, split="train")
            rolled.said(earlier, "a", "ann", asked=False, via="shop", created=now + n)
    given = [rolled.given(f"{n:03}", SURE, by=(CHAMPION, CHALLENGER)[n % 2], caller=f"c{n}") for n in range(60)]
    for n, about in enumerate(given):
        if annotated:
            rolled.noted(about, "a")
        else:
            rolled.said(about, "a", "ann", via="shop", created=now + 3600 * n)
        for name in ("x", "y"):
            rolled.said(about, "b", f"{name} {n}", via="shop", created=now + 3600 * n)
    assert set(rolled.labels(FeedbackPolicy()).values()) == {"a"}
    ended = step(store, rolled.rollout, rolled.task.label, Doubts(FeedbackPolicy()), now=now)
    assert (ended.status, store.champion().model_id) == ("rolled-back", CHAMPION), ended.reason  # type: ignore[union-attr]


def test_authors_whose_word_has_proved_wrong_decide_nothing(rolled: Rolled) -> None:
    """Eve has contradicted the annotator, and every answer that the model was sure of, before."""
    for n in range(60):
        earlier = rolled.given(f"e{n:03}", SURE, None, audited=False, split="train")
        rolled.said(earlier, "b", "eve", asked=False)
        rolled.noted(earlier, "a", purpose="useful")
    rolled.said(rolled.given("01"), "b", "eve")
    assert rolled.evidence()["labels"]["rows"] == 1
    doubting = rolled.evidence(FeedbackPolicy())
    assert (doubting["labels"], doubting["doubted"]) == (None, 1)


def test_the_callers_are_the_clusters(rolled: Rolled) -> None:
    for n in range(6):
        rolled.said(rolled.given(f"0{n}", caller="ann" if n < 3 else None), "b")
    rolled.said(rolled.given("05", inputs={"x": 2}), "a")
    found = rolled.evidence()["labels"]
    assert (found["rows"], found["callers"], found["weight"], found["total"]) == (7, 4, 14, 10)
    assert found["tt"] == 6**2 + 2**2 + 2**2, "one of the last caller's two answers is better, the other worse"


def test_what_is_said_before_its_prediction_is_there_counts_too(rolled: Rolled) -> None:
    identifier = new_prediction_id(rolled.store.secret)
    item = Feedback(id=new_id("fb"), subject=identifier, kind="correction", value="b", asked=True, key="k")
    rolled.store.add_feedback([item])
    before = rolled.evidence()
    assert before["labels"] is None and before["statements"] == 1
    rolled.rollout = step(rolled.store, rolled.rollout, rolled.task.label, Doubts(ONE_VOTE_EACH), now=time.time())
    rolled.given("01", id=identifier)
    assert rolled.evidence()["labels"]["rows"] == 1


def test_a_number_is_scored_by_the_spread_of_the_training_rows(store: Store) -> None:
    rolled = Rolled(store, "tabular-regression")
    for n, (champion, challenger, right) in enumerate([(1.0, 2.0, 2.0), (5.0, 4.0, 8.0), (3.0, 3.0, 3.0)]):
        rolled.said(rolled.given(f"0{n}", {"value": champion}, {"value": challenger}), right)
    evidence = rolled.evidence()
    assert evidence["judge"]["metric"] == "r2"
    gaps = np.array([1.0, -7.0, 0.0]) / 4.0
    assert evidence["labels"]["total"] == pytest.approx(2 * gaps.sum())
    assert evidence["labels"]["span"] == pytest.approx(7 / 4)
    assert (evidence["scores"]["better"], evidence["scores"]["worse"]) == (1, 1)


def test_several_labels_are_scored_by_what_they_have_in_common(store: Store) -> None:
    rolled = Rolled(store, "text-multi-label")
    scores = {"x": 0.6, "y": 0.2, "z": 0.6}
    some, none = {"labels": ["x", "z"], "scores": scores}, {"labels": [], "scores": scores}
    rolled.said(rolled.given("01", some, none), ["x"])
    rolled.said(rolled.given("02", some, none), [])
    evidence = rolled.evidence()
    assert evidence["judge"]["metric"] == "f1_samples"
    assert evidence["labels"]["total"] == pytest.approx(2 * (0.0 - 2 / 3 + 1.0 - 0.0))


def test_prices_are_scored_as_the_gate_scores_them(store: Store) -> None:
    rolled = Rolled(store, decision={"costs": {"a": {"b": 4.0}}, "abstain_cost": 1.0})
    silent = {"label": None, "abstained": True, "guess": "a", "score": 0.5, "scores": {"a": 0.5, "b": 0.5}}
    rolled.said(rolled.given("01", "b", silent), "a")
    rolled.said(rolled.given("02", "b", silent), "b")
    evidence = rolled.evidence()
    assert evidence["judge"]["metric"] == "utility"
    assert evidence["labels"]["total"] == pytest.approx(2 * ((4 - 1) / 4 + (0 - 1) / 4))


def test_a_label_that_neither_model_knows_is_wrong_for_both(rolled: Rolled) -> None:
    for n in range(4):
        rolled.said(rolled.given(f"0{n}"), "new")
    evidence = rolled.evidence()
    assert (evidence["labels"]["total"], evidence["scores"]["champion"]) == (0, 0)
    assert row_scores("accuracy", np.array([2]), np.array([[0.75, 0.25, 0.0]])).tolist() == [0.0]


def test_a_step_asks_for_labels_writes_down_what_it_saw_and_advances(store: Store) -> None:
    rolled = Rolled(store, rollout={"policy": "shadow", "shadow_rows": 30, "max_for": "1h"})
    doubts, now = Doubts(ONE_VOTE_EACH), time.time()
    made = [rolled.given(f"{n:03}") for n in range(20)]
    known, again = rolled.given("900", split="train"), rolled.given("000", inputs={"x": 2})
    rolled.said(made[3], "a")
    first = step(store, rolled.rollout, rolled.task.label, doubts, now=now)
    assert (first.status, first.phase, first.evidence["answered"]) == ("running", "shadow", 22)
    asked = store.find(QueueItem, purpose="audit")
    assert [q.subject for q in sorted(asked, key=lambda q: q.rank)] == [p.id for p in made if p is not made[3]]
    assert not {known.id, again.id} & {q.subject for q in asked} and "to judge a roll-out" in asked[0].reason
    for n in range(10):
        rolled.given(f"{n:03}", by=CHALLENGER)
    second = step(store, first, rolled.task.label, doubts, now=now + 1)
    assert (second.status, second.phase) == ("running", "canary")
    assert second.reason.startswith("Both models answered 32 times, and none failed")
    assert store.count(QueueItem) == len(asked), "one question a key"
    third = step(store, second, rolled.task.label, doubts, now=now + 3599)
    assert third.status == "running" and third.evidence["elapsed"] == pytest.approx(3599, abs=5)
    last = step(store, third, rolled.task.label, doubts, now=now + 3605)
    assert (last.status, last.finished is not None) == ("rolled-back", True)
    assert last.reason.startswith("The time is over, and nothing is proven")
    assert store.champion().model_id == CHAMPION  # type: ignore[union-attr]


def test_no_more_questions_wait_than_people_can_answer(rolled: Rolled) -> None:
    rolled.store.insert(
        *(
            QueueItem(id=new_id("ask"), subject=f"smp_{n}", purpose="audit", rank=0.0, reason="earlier", inputs={})
            for n in range(MOST - 3)
        )
    )
    for n in range(6):
        rolled.given(f"0{n}")
    doubts = Doubts(ONE_VOTE_EACH)
    first = step(rolled.store, rolled.rollout, rolled.task.label, doubts, now=time.time())
    assert rolled.store.count(QueueItem, done=False) == MOST
    done = rolled.store.find(QueueItem, reason="earlier", limit=2)
    rolled.store.delete(QueueItem, [item.id for item in done])
    step(rolled.store, first, rolled.task.label, doubts, now=time.time())
    assert rolled.store.count(QueueItem, done=False) == MOST
    assert {r.status for r in rolled.store.find(Rollout)} == {"running"}
