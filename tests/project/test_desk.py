"""Annotators at their desk: who is asked what, several at once, and what becomes of what they say."""

from __future__ import annotations

import dataclasses
import random
import shutil
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import tidemill
from _topics import topics_project
from tidemill.annotation.agreement import summarise_agreement
from tidemill.api import Project
from tidemill.data.settled import settled_labels
from tidemill.errors import InputError, NotFoundError
from tidemill.project import agreement, desk
from tidemill.records import Annotation, LiveKey, Prediction, QueueItem, Turn, new_id

HTML = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("desk")
    rows = [f"{'late parcel' if i % 2 else 'card charged'} {i},{('delivery', 'payment')[1 - i % 2]}" for i in range(60)]
    topics_project(folder, rows).store.close()
    return folder / "p"


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Project:
    shutil.copytree(made, tmp_path / "p")
    opened = tidemill.open(tmp_path / "p")
    opened.store.delete(QueueItem, opened.store.ids(QueueItem))
    return opened


def ask(project: Project, n: int, **more: Any) -> list[str]:
    items = [
        QueueItem(
            id=new_id("ask"), subject=f"smp_{i:016x}", rank=float(i), reason=f"r{i}", inputs={"text": HTML},
            **{"purpose": "useful", "suggestion": {"label": "payment"}, "signal": "uncertain", **more},
        )
        for i in range(n)
    ]  # fmt: skip
    project.store.insert(*items)
    return [item.subject for item in items]


def settle(project: Project) -> tuple[dict[str, Any], dict[str, Any]]:
    found = settled_labels(project.store, project.task.label)
    return found.annotations, found.contradictions


def test_two_people_are_never_given_the_same_question(project: Project) -> None:
    ask(project, 40)
    given: dict[str, list[str]] = {"ann": [], "ben": []}

    def work(name: str) -> None:
        for _ in range(10):
            given[name] += [q.subject for q in desk.take(project, name, 2)]

    threads = [threading.Thread(target=work, args=(name,)) for name in given]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not set(given["ann"]) & set(given["ben"]) and len(given["ann"]) == len(given["ben"]) == 20


def test_a_lease_ends_and_the_question_comes_to_somebody_else(project: Project) -> None:
    (subject,) = ask(project, 1)
    assert [q.subject for q in desk.take(project, "ann", now=1000.0)] == [subject]
    assert desk.take(project, "ben", now=1001.0) == []
    assert [q.subject for q in desk.take(project, "ben", now=1000.0 + 16 * 60)] == [subject]
    # Ann answers all the same, and so does Ben: nothing is lost, and somebody else settles it.
    desk.answer(project, subject, "payment", author="ann")
    assert desk.answer(project, subject, "delivery", author="ben", note="<b>late</b>")["disputed"]
    assert len(project.store.find(Annotation, subject=subject)) == 2
    assert settle(project) == ({}, {subject: {"delivery": 1, "payment": 1}})
    assert desk.take(project, "ann") == [] and desk.take(project, "ben") == []
    (question,) = desk.take(project, "cem")
    assert (question.purpose, question.reason) == ("settle", "people disagree: payment (1), delivery (1)")
    assert desk.shown(project, question)["suggestion"] is None
    said = desk.answer(project, subject, "delivery", author="cem")
    assert said["purpose"] == "adjudicate" and not said["disputed"]
    assert settle(project) == ({subject: "delivery"}, {})
    assert desk.progress(project)["agreement"]["agreed"] == 0.0  # of Ann and Ben; Cem knew of both


def test_whoever_settles_a_disagreement_decides_alone(project: Project) -> None:
    (subject,) = ask(project, 1, need=3)
    for name, label in (("ann", "payment"), ("ben", "payment"), ("cem", "delivery")):
        desk.answer(project, subject, label, author=name)
    assert settle(project)[0] == {subject: "payment"}  # two of three
    ask(project, 1, purpose="settle", signal="disagreement")
    desk.answer(project, subject, "delivery", author="dee")
    assert settle(project)[0] == {subject: "delivery"}


def test_overlap_asks_so_many_people_and_agreement_is_told(project: Project) -> None:
    subjects = ask(project, 4, need=2)
    for subject in subjects:
        desk.answer(project, subject, "payment", author="ann")
    assert desk.take(project, "ann") == []
    assert len(desk.take(project, "ben", 10)) == 4 and desk.take(project, "cem") == []
    for subject in subjects[:3]:
        desk.answer(project, subject, "payment", author="ben")
    desk.answer(project, subjects[3], "delivery", author="ben")
    told = desk.progress(project, "ben")
    assert told["agreement"] == {
        "questions": 4,
        "annotators": 2,
        "agreed": 0.75,
        "krippendorff": 0.0,
        "fleiss": pytest.approx(-1 / 7),
        "pairs": [{"annotators": ["ann", "ben"], "questions": 4, "agreed": 0.75, "cohen": 0.0}],
    }
    assert told["mine"] == {"author": "ben", "answered": 4, "skipped": 0, "unsure": 0}


def test_audits_and_others_come_in_turn_and_audits_show_no_suggestion(project: Project) -> None:
    ask(project, 4)
    audits = [
        QueueItem(
            id=new_id("ask"), subject=f"smp_a{i:015x}", purpose="audit", rank=float(i), reason="drawn", inputs={},
            suggestion={"label": "payment"},
        )
        for i in range(4)
    ]  # fmt: skip
    project.store.insert(*audits)
    purposes = [question.purpose for question in desk.take(project, "ann", 6)]
    assert purposes == ["useful", "audit"] * 3
    shown = [desk.shown(project, q) for q in project.store.find(QueueItem)]
    assert all((q["suggestion"] is None) == (q["purpose"] == "audit") for q in shown)


def test_skipping_not_being_sure_and_undoing(project: Project) -> None:
    first, second, third = ask(project, 3)
    questions = desk.take(project, "ann", 3)
    desk.pass_over(project, questions[0].id, author="ann")
    desk.pass_over(project, questions[1].id, author="ann", unsure=True, note="blurred")
    assert desk.take(project, "ann", besides=[questions[2].id]) == []
    assert [q.subject for q in desk.take(project, "ben", 3)] == [first, second]  # Ann keeps the third
    assert project.store.find(Turn, state="unsure")[0].note == "blurred"
    desk.answer(project, third, "payment", author="ann", note="clear")
    assert settle(project)[0] == {third: "payment"}
    back = desk.undo(project, author="ann")
    assert (back["subject"], back["label"], back["note"]) == (third, "payment", "clear")
    assert back["question"]["id"] == questions[2].id and settle(project)[0] == {}
    assert len(project.store.find(Annotation, subject=third)) == 2, "what was said stays on record"
    desk.answer(project, third, "delivery", author="ann")
    assert settle(project)[0] == {third: "delivery"}
    assert desk.undo(project, author="ann", subject=second)["label"] is None
    with pytest.raises(NotFoundError):
        desk.undo(project, author="nobody")


def test_what_is_no_answer_is_refused_and_loses_nothing(project: Project) -> None:
    (subject,) = ask(project, 1)
    desk.answer(project, subject, "payment", author="ann")
    for label in ("refund", ["payment"], {"a": 1}, HTML):
        with pytest.raises(InputError):
            desk.answer(project, subject, label, author="ann")
    with pytest.raises(InputError):
        desk.answer(project, subject, "delivery", author="ann", note="x" * 5000)
    for note in ("a\0", "\ud800"):
        with pytest.raises(InputError):
            desk.answer(project, subject, "delivery", author="ann", note=note)
    with pytest.raises(InputError):
        desk.answer(project, "smp_\0", "delivery", author="ann")
    for unknown in ("smp_ffffffffffffffff", "smp_fffffffffffffffg", "pred_1", HTML):
        with pytest.raises(NotFoundError):
            desk.answer(project, unknown, "payment", author="ann")
    with pytest.raises(NotFoundError):
        desk.pass_over(project, "fb_1", author="ann")
    assert settle(project)[0] == {subject: "payment"}


def test_which_of_two_is_better_and_a_text(project: Project) -> None:
    store = project.store
    ids = sorted(f"pred_{i}" for i in range(2))
    store.insert(
        *(
            Prediction(id=i, deployment="d", model_id="m", key=i, inputs={"text": "a"}, answer={"label": label})
            for i, label in zip(ids, ("payment", "delivery"), strict=True)
        )
    )
    pair = project.ask([ids[1], ids[0]], reason="which one?")
    assert (pair["widget"], pair["inputs"]["left"], pair["inputs"]["right"]) == ("better", "payment", "delivery")
    with pytest.raises(InputError):
        desk.answer(project, pair["subject"], "payment", author="ann")
    desk.answer(project, pair["subject"], "right", author="ann")
    (said,) = project.feedback_list(kind="preference")["statements"]
    assert said["value"] == {"over": ids[0]} and said["author"] == "ann"
    assert project.ask([ids[0]], widget="text")["widget"] == "text"
    desk.answer(project, ids[0], "it names a card", author="ann")
    (kept,) = store.find(Annotation, subject=ids[0])
    assert kept.note == "it names a card" and kept.label is None and settle(project)[0] == {}


def test_a_new_ranking_keeps_what_people_look_at_and_have_begun(project: Project) -> None:
    project.store.insert(
        *(
            Prediction(
                id=f"pred_{i}", deployment="d", model_id="m", key=f"{i:016x}", inputs={"text": f"late card {i}"},
                answer={"label": "payment", "score": 0.5, "scores": {"payment": 0.5, "delivery": 0.5}},
            )
            for i in range(3)
        )
    )  # fmt: skip
    project.requeue()
    (question,) = desk.take(project, "ann", purpose="useful")
    begun = ask(project, 1, need=2, given=1)[0]
    counts = project.requeue()
    assert counts["useful"] >= 3 and project.store.exists(QueueItem, question.id)
    assert question.id not in {q.id for q in desk.take(project, "ben", 20, purpose="useful")}
    assert begun in {q.subject for q in project.store.find(QueueItem, done=False)}


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """So many rows without a label that each ranking asks for others."""
    folder = tmp_path_factory.mktemp("unlabelled")
    words = ["late", "parcel", "card", "charged", "wrong", "street", "refund", "door"]
    topics = {0: "delivery", 1: "payment"}
    rows = [f"{words[i % 8]} {words[i // 8 % 8]} {i},{topics.get(i % 16, '')}" for i in range(1600)]
    topics_project(folder, rows).store.close()
    return folder / "p"


def test_a_new_ranking_takes_nothing_off_a_screen_and_refuses_no_answer(unlabelled: Path, tmp_path: Path) -> None:
    shutil.copytree(unlabelled, tmp_path / "p")
    project = tidemill.open(tmp_path / "p")
    exported = {q["subject"] for q in project.questions(500)}
    kept = desk.take(project, "ann", 20)
    late = desk.take(project, "ben", 20, now=1000.0)  # whose lease is long over
    for _ in range(3):
        project.requeue()
    waiting = {q.id for q in project.store.find(QueueItem, done=False)}
    assert {q.id for q in kept} <= waiting
    gone = [q for q in late if q.id not in waiting]
    never = exported - {q.subject for q in project.store.find(QueueItem)} - {q.subject for q in late}
    assert gone and never, "this is no test"
    for question in (*kept, *late):
        assert desk.answer(project, question.subject, "payment", author="ann")["id"]
    lines = "".join(f'{{"subject": "{subject}", "label": "delivery"}}\n' for subject in never)
    (tmp_path / "answers.jsonl").write_text(lines)
    assert project.answers_import(tmp_path / "answers.jsonl", author="cem") == {"answers": len(never)}
    assert desk.pass_over(project, gone[0].id, author="ben", unsure=True, note="torn")["state"] == "unsure"
    assert [t.note for t in project.store.find(Turn, state="unsure")] == ["torn"]
    assert desk.pass_over(project, new_id("ask"), author="ben")["state"] == "skipped"
    # Two disagree on what no question asks for any more: somebody else is shown it.
    subject = next(iter(never))
    assert desk.answer(project, subject, "payment", author="ann")["disputed"]
    (question,) = project.store.find(QueueItem, subject=subject, done=False)
    assert question.purpose == "settle" and question.inputs["text"]


def test_a_question_that_goes_while_it_is_answered_takes_no_answer_with_it(project: Project) -> None:
    (subject,) = ask(project, 1)
    desk.take(project, "ann")
    held = threading.Event()

    def rank() -> None:
        with project.store.transaction():
            project.store.delete(QueueItem, project.store.ids(QueueItem))
            held.set()
            time.sleep(0.3)

    thread = threading.Thread(target=rank)
    thread.start()
    held.wait()
    desk.answer(project, subject, "payment", author="ann")
    thread.join()
    assert settle(project)[0] == {subject: "payment"}


def test_a_correction_of_an_audit_still_judges_models_and_a_volunteered_label_never_does(project: Project) -> None:
    for i, name in enumerate(("drawn", "told")):
        key = f"{i:016x}"
        project.store.insert(
            Prediction(
                id=f"pred_{name}", deployment="d", model_id="m", key=key, inputs={"text": "a"},
                answer={"label": "payment"}, audited=True, audit_probability=0.05,
            ),
            LiveKey(id=new_id("key"), key=key, split="recent-test", probability=0.05, drawn=True),
        )  # fmt: skip
    question = QueueItem(
        id=new_id("ask"), subject="pred_drawn", purpose="audit", rank=0.0, reason="drawn", inputs={"text": "a"}
    )
    project.store.insert(question)

    def judging() -> list[tuple[str, str]]:
        return [(s.label, s.split) for s in settled_labels(project.store, project.task.label).live]

    desk.answer(project, "pred_told", "delivery", author="ann")  # of her own accord, and the same again
    assert desk.answer(project, "pred_told", "payment", author="ann")["purpose"] == "useful" and not judging()
    assert [q.id for q in desk.take(project, "ann")] == [question.id]
    for label in ("payment", "delivery", "payment"):
        assert desk.answer(project, "pred_drawn", label, author="ann")["purpose"] == "audit"
        assert judging() == [(label, "recent-test")]
    desk.undo(project, author="ann")
    assert not judging()
    desk.answer(project, "pred_drawn", "payment", author="ann")
    # Ben saw it too, and answers after her: both were asked. Who then corrects herself settles nothing alone.
    assert desk.answer(project, "pred_drawn", "delivery", author="ben")["disputed"]
    assert desk.answer(project, "pred_drawn", "payment", author="ann")["purpose"] == "audit" and not judging()
    # Asked by hand what she has answered as an audit, she still judges by it.
    project.ask(["pred_drawn"])
    assert desk.answer(project, "pred_drawn", "payment", author="ann")["purpose"] == "audit"
    # A word of hers that nobody asked for stays one, though it was asked of others meanwhile.
    project.store.insert(dataclasses.replace(question, id=new_id("ask"), subject="pred_told"))
    assert desk.answer(project, "pred_told", "payment", author="ben")["purpose"] == "audit"
    assert desk.answer(project, "pred_told", "delivery", author="ann")["purpose"] == "useful"
    assert judging() == [("payment", "recent-test")]


def test_what_is_asked_by_hand_outlasts_a_ranking_and_is_answered_by_its_own_answer(project: Project) -> None:
    store = project.store
    store.insert(
        Prediction(
            id="pred_1", deployment="d", model_id="m", key="1" * 16, inputs={"text": "late card"}, audited=True,
            answer={"label": "payment", "score": 0.5, "scores": {"payment": 0.5, "delivery": 0.5}},
            audit_probability=0.05,
        ),
        Prediction(
            id="pred_2", deployment="d", model_id="m", key="2" * 16, inputs={"text": "late parcel"},
            answer={"label": "payment", "score": 0.5, "scores": {"payment": 0.5, "delivery": 0.5}},
        ),
        LiveKey(id=new_id("key"), key="1" * 16, split="recent-test", probability=0.05, drawn=True),
    )  # fmt: skip
    project.requeue()
    (audit,) = store.find(QueueItem, subject="pred_1", done=False)
    text, plain = project.ask(["pred_1"], widget="text"), project.ask(["pred_2"], reason="is it?")
    for _ in range(2):
        project.requeue()
    assert {q.id: q.ask for q in store.find(QueueItem, subject="pred_1")} == {audit.id: None, text["id"]: "text"}
    (asked,) = store.find(QueueItem, subject="pred_2", done=False)
    assert (asked.id, asked.reason, asked.rank) == (plain["id"], "is it?", -1.0)

    def waiting() -> set[str]:
        return {q.id for q in store.find(QueueItem, subject="pred_1", done=False)}

    desk.answer(project, "pred_1", "payment", author="ann", question=audit.id)
    assert waiting() == {text["id"]}
    said = desk.answer(project, "pred_1", "it names a card", author="ann", question=text["id"])
    assert (said["label"], said["note"], waiting()) == (None, "it names a card", set())
    assert [s.label for s in settled_labels(store, project.task.label).live] == ["payment"], (
        "a text takes no label back"
    )
    desk.undo(project, author="ann")
    assert waiting() == {text["id"]}
    assert [s.label for s in settled_labels(store, project.task.label).live] == ["payment"]
    desk.answer(project, "pred_1", "delivery", author="ann", question=audit.id)  # corrected while the text is open
    assert waiting() == {text["id"]}
    for words in ("a card", "a card and a street"):
        desk.answer(project, "pred_1", words, author="ann", question=text["id"])
    again = project.ask(["pred_1"], widget="text")
    desk.answer(project, "pred_1", "nothing more", author="ann", question=again["id"])
    assert waiting() == set()
    assert desk.answer(project, "pred_1", "payment", author="ann")["purpose"] == "audit"  # by a program that names none
    assert desk.answer(project, "pred_1", "payment", author="ben", question=new_id("ask"))["label"] == "payment"
    said_now = [a.note for a in store.find(Annotation, subject="pred_1", superseded_by=None) if a.remark]
    assert said_now == ["nothing more"]


def test_progress_counts_what_is_in_force_and_is_kept_where_very_much_was_said(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(0)
    said, turns, expected = [], [], dict[str, dict[str, str]]()
    answered: Counter[str] = Counter()
    for i in range(600):
        subject, author = f"smp_{rng.randrange(300):016x}", rng.choice(["ann", "ben", "cem", ""])
        label = rng.choice(["payment", "delivery", None])
        replaced, settles = rng.random() < 0.2, rng.random() < 0.1
        if author in expected.get(subject, {}) and not replaced:
            continue
        said.append(
            Annotation(
                id=new_id("label"), subject=subject, label=label, author=author,
                purpose="adjudicate" if settles else "useful", superseded_by="label_1" if replaced else None,
            )
        )  # fmt: skip
        state: Any = rng.choice(["open", "answered", "skipped", "unsure"])
        turns.append(
            Turn(
                id=new_id("turn"), question=f"ask_{i}", subject=subject, author=author or None, until=1.0, state=state
            )
        )  # fmt: skip
        if label is not None and author and not replaced:
            answered[author] += 1
            if not settles:
                expected.setdefault(subject, {})[author] = label
    project.store.insert(*said, *turns)
    told = desk.progress(project, "ben")
    assert told["agreement"] == summarise_agreement(expected, "classification")
    assert told["agreement"]["questions"] > 20 and len(told["agreement"]["pairs"]) == 3
    assert {a["author"]: a["answered"] for a in told["authors"]} == answered
    skipped = Counter(t.author for t in turns if t.state == "skipped" and t.author)
    assert {a["author"]: a["skipped"] for a in told["authors"]} == skipped
    assert told["mine"]["author"] == "ben"

    monkeypatch.setattr(agreement, "AT_ONCE", -1.0)
    (subject,) = ask(project, 1)
    desk.answer(project, subject, "payment", author="dee")
    until = time.monotonic() + 10
    while desk.progress(project, "dee")["mine"] is None and time.monotonic() < until:
        time.sleep(0.02)  # found in the background
    assert desk.progress(project, "dee")["mine"]["answered"] == 1
    project.forget(author="dee")
    assert desk.progress(project, "dee")["mine"] is None, "a name does not outlast its erasure"
