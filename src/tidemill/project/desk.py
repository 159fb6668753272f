"""The annotators' desk: who is asked what, what they say, and what several of them come to.

A question is kept for whoever looks at it (a lease), so that two people do not answer the same one by chance; where
both do all the same, both answers are kept, and somebody else settles what they disagree on.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, Literal

from tidemill.annotation.agreement import disputed, same
from tidemill.annotation.widgets import Widget, parse_answer, widget_of
from tidemill.config import parse_duration
from tidemill.data.assigned import fold_journal
from tidemill.data.targets import readable
from tidemill.errors import ConflictError, InputError, NotFoundError
from tidemill.project.agreement import standing
from tidemill.project.labels import answer_spec, inputs_of, require_subject
from tidemill.project.opened import OpenProject
from tidemill.records import JSON, PAIR, Annotation, Feedback, Prediction, QueueItem, Turn, new_id, pair_of, to_json
from tidemill.store.asking import keep, lately, next_questions, waiting

PURPOSES = ("audit", "settle", "useful")
SKIPPED = 12 * 3600.0
"""Seconds after which a question that somebody skipped may be asked of the same person again."""
MOST = 20
"""Questions that one person may keep at once."""
CLOSE = 0.05
"""Two numbers that differ by less than this share are no disagreement."""
MOST_NOTE = 4000


def take(
    project: OpenProject,
    author: str,
    n: int = 1,
    *,
    purpose: str | None = None,
    besides: Collection[str] = (),
    now: float | None = None,
) -> list[QueueItem]:
    """The next questions for *author*, kept for a while from everybody else.

    The audit's questions and the others come in turn, by ``annotation.audit_share``.

    Args:
        project: whose.
        author: who is asked.
        n: how many, at most :data:`MOST`.
        purpose: ``audit`` or ``useful``; both unless given.
        besides: ids of questions that *author* has before them already.
        now: UTC seconds; the clock's unless given.
    """
    now = time.time() if now is None else now
    store, policy = project.store, project.config.annotation
    until = now + parse_duration(policy.lease)
    given: list[QueueItem] = []
    with store.transaction():
        before = lately(store, author)
        most = min(n, MOST)
        ahead: dict[str, list[QueueItem]] = {}

        def first_of(purposes: Sequence[str]) -> QueueItem | None:
            """What waits first in these queues; each is asked once."""
            for one in purposes:
                if one not in ahead:
                    ahead[one] = next_questions(store, author, (one,), now, limit=most, besides=besides)
            heads = [ahead[one][0] for one in purposes if ahead[one]]
            return min(heads, key=lambda q: (q.purpose != "settle", q.rank), default=None)

        while len(given) < most:
            found = first_of(_turn_of(purpose, [*(q.purpose for q in reversed(given)), *before], policy.audit_share))
            if found is None and purpose is None:
                found = first_of(PURPOSES)
            if found is None:
                break
            given.append(ahead[found.purpose].pop(0))
            keep(store, found, author, until)
    return given


def _turn_of(purpose: str | None, before: Sequence[str], share: float) -> tuple[str, ...]:
    """The purposes of which the next question is, after those that were given lately."""
    if purpose is not None:
        return ("audit",) if purpose == "audit" else ("settle", "useful")
    audits = sum(one == "audit" for one in before)
    return ("audit",) if math.floor((len(before) + 1) * share) > audits else ("settle", "useful")


def answer(
    project: OpenProject,
    subject: str,
    label: Any,
    *,
    author: str,
    note: str | None = None,
    question: str | None = None,
    where: str | None = None,
) -> JSON:
    """Keep what *author* says about a sample, a prediction or a pair, whoever else has answered meanwhile.

    Args:
        project: whose.
        subject: what the answer is about.
        label: as the widget of the question has it.
        author: who says so.
        note: what they add.
        question: the id of the question that was shown. Several may be asked about a subject; without the id it is the
            one for the task's own label where there is such a one.
        where: the place of the answer, for messages.

    Returns:
        The record's fields, at least ``id``, ``subject``, ``label``, ``author`` and ``purpose``; and ``disputed``:
        whether annotators now disagree about it, so that somebody else is asked.

    Raises:
        InputError: the task has no such label, or the note is too long.
        NotFoundError: nobody asked about *subject*, and it is no prediction and no sample; or it was erased.
    """
    require_storable(subject, "subject", where)
    require_storable(question or "", "question", where)
    note = checked_note(note, where)
    require_subject(project, subject, where)
    spec, kind = answer_spec(project), project.signature.kind
    with project.store.transaction():  # a new ranking must not take the questions away meanwhile
        questions = project.store.find(QueueItem, subject=subject)
        widget = _widget(kind, subject, questions, question)
        value = parse_answer(widget, spec, label, where=where)
        alike = [q for q in questions if widget_of(kind, q) == widget]
        asked = sorted((q for q in alike if not q.done), key=lambda q: q.id != question)
        if widget == "better":
            return _prefer(project, subject, value, author, note, asked)
        if widget == "text":
            require_storable(value, "answer", where)
            note, value = (value if note is None else f"{value}\n\n{note}"), None
        return _keep(project, subject, value, author, note, asked, alike)


def _widget(kind: str, subject: str, questions: Sequence[QueueItem], shown: str | None) -> Widget:
    """The widget by which an answer was given: that of the question which was *shown*, where it is known."""
    own: Widget = "better" if subject.startswith(PAIR) else widget_of(kind)
    if shown is not None:  # what is asked by hand outlasts every ranking, so one that is gone asked for a label
        return next((widget_of(kind, q) for q in questions if q.id == shown), own)
    ways = [widget_of(kind, q) for q in questions if not q.done] or [widget_of(kind, q) for q in questions] or [own]
    return own if own in ways else ways[-1]


def _keep(
    project: OpenProject,
    subject: str,
    value: Any,
    author: str,
    note: str | None,
    asked: Sequence[QueueItem],
    ever: Sequence[QueueItem],
) -> JSON:
    """Keep a label, or a remark in its place; it replaces what the author said of that kind before.

    Args:
        asked: the questions that it answers.
        ever: all that were ever asked in this way about the subject, the newest last.
    """
    store = project.store
    before = store.find(Annotation, subject=subject, author=author, superseded_by=None)
    older = [one for one in before if one.remark == (value is None)]
    annotation = Annotation(
        id=new_id(Annotation.prefix),
        subject=subject,
        label=value,
        author=author,
        purpose=_purpose(asked, older, ever[-1] if ever else None),
        note=note,
    )
    for one in older:
        store.update(dataclasses.replace(one, superseded_by=annotation.id))
    store.insert(annotation)
    replaced = {one.id for one in older}
    turns = store.find(Turn, subject=subject, author=author, state="answered")
    for turn in turns:
        if turn.answer in replaced:  # so that it is the correction which is taken back
            store.update(dataclasses.replace(turn, answer=annotation.id, until=annotation.created))
    spoken = any(one.label is not None for one in older)
    for waits in asked:
        again = spoken or waits.id in {turn.question for turn in turns}
        given = waits.given if again else waits.given + 1
        store.update(dataclasses.replace(waits, given=given, done=given >= waits.need))
        keep(store, waits, author, annotation.created, state="answered", answer=annotation.id)
    torn = _adjudicate(project, subject, ever[-1] if ever else None) if value is not None else False
    return {**to_json(annotation), "disputed": torn}


def require_storable(text: str, what: str, where: str | None = None) -> None:
    """Refuse what no database here can hold.

    Raises:
        InputError: it holds the character NUL, or half of a pair of surrogates.
    """
    if "\0" in text or (not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text)):
        raise InputError(f"the {what} holds what is no text", where=where, mend="Remove its control characters.")


def checked_note(note: Any, where: str | None) -> str | None:
    """A note, without blanks around it.

    Raises:
        InputError: it is no text, or too long.
    """
    if note is None:
        return None
    if not isinstance(note, str):
        raise InputError("the note is no text", where=where, mend="Put it in quotes.")
    require_storable(note, "note", where)
    if len(note) > MOST_NOTE:
        raise InputError(f"the note has {len(note):,} characters", where=where, mend=f"Use at most {MOST_NOTE:,}.")
    return note.strip() or None


def _purpose(
    asked: Sequence[QueueItem], older: Sequence[Annotation], before: QueueItem | None
) -> Literal["audit", "useful", "settle", "adjudicate", "import"]:
    """What an answer counts for: models are judged only by what was asked for.

    Args:
        asked: the questions that it answers.
        older: what the author said before, which it replaces. A word that was asked for stays one when it is corrected,
            and a volunteered one never becomes one by that.
        before: the newest question about the subject, which may be answered by others already.
    """
    mine = older[-1].purpose if older else None
    if mine == "adjudicate":
        return mine
    spoken = any(one.label is not None for one in older)  # then somebody else is to settle what they disagree on
    meant = [q for q in asked if not (spoken and _disagreed(q))]
    if meant:
        found = "adjudicate" if _disagreed(meant[0]) else meant[0].purpose
        if found != "adjudicate" and any(q.purpose == "audit" for q in meant):
            found = "audit"
    elif mine is not None:
        return mine
    else:
        found = "useful" if before is None else before.purpose
    return mine if found == "useful" and mine in ("audit", "settle") else found


def _disagreed(question: QueueItem) -> bool:
    return question.purpose == "settle" and question.signal == "disagreement"


def _prefer(
    project: OpenProject, subject: str, side: str, author: str, note: str | None, asked: Sequence[QueueItem]
) -> JSON:
    """Keep which of two answers is better: the feedback that it is."""
    store = project.store
    one, other = subject.split(":")[1:]
    better, worse = (one, other) if side == "left" else (other, one)
    identifier = new_id(Feedback.prefix)
    said = Feedback(
        id=identifier,
        subject=pair_of(one, other),
        kind="preference",
        value={"over": worse},
        author=author,
        asked=False,
        key=identifier,
        predictions=(better, worse),
    )
    store.add_feedback([said])
    for question in asked:
        store.update(dataclasses.replace(question, given=question.given + 1, done=question.given + 1 >= question.need))
        keep(store, question, author, said.created, state="answered", note=note, answer=said.id)
    kept = {"id": said.id, "subject": subject, "label": side, "author": author, "note": note}
    return {**kept, "purpose": "useful", "disputed": False}


def _adjudicate(project: OpenProject, subject: str, known: QueueItem | None) -> bool:
    """Ask somebody else where annotators disagree; whether they do."""
    store = project.store
    said = [a for a in store.find(Annotation, subject=subject, superseded_by=None) if a.label is not None]
    if any(a.purpose == "adjudicate" for a in said) or len(said) < 2:
        return False
    labels = [a.label for a in said]
    if project.signature.kind == "regression":
        if len(labels) > 2 or math.isclose(labels[0], labels[1], rel_tol=CLOSE):
            return False  # of three numbers or more the median counts
    elif not disputed(labels):
        return False
    votes = Counter(map(same, labels))
    shown = {same(label): readable(label) for label in labels}
    reason = "people disagree: " + ", ".join(f"{shown[label]} ({n})" for label, n in votes.most_common())
    waits = store.find(QueueItem, subject=subject, purpose="settle", done=False)
    if waits:
        store.update(dataclasses.replace(waits[0], reason=reason, signal="disagreement"))
        return True
    inputs = known.inputs if known is not None else inputs_of(project, subject)
    if inputs is None:  # neither the question nor the sample is there any more, so nobody can be shown it
        return True
    store.insert(
        QueueItem(
            id=new_id(QueueItem.prefix),
            subject=subject,
            purpose="settle",
            rank=0.0,
            reason=reason,
            inputs=inputs,
            signal="disagreement",
        )
    )
    return True


def pass_over(
    project: OpenProject, question: str, *, author: str, unsure: bool = False, note: str | None = None
) -> JSON:
    """Leave a question to others: for a while, or because *author* is not sure and says so.

    A question that waits no longer is left already, so that a page which stood open goes on.

    Raises:
        NotFoundError: *question* is no id of a question.
    """
    store = project.store
    require_storable(question, "question")
    note = checked_note(note, None)
    state: Literal["unsure", "skipped"] = "unsure" if unsure else "skipped"
    until = time.time() + SKIPPED
    with store.transaction():
        found = store.find(QueueItem, id=question, limit=1)
        mine = store.find(Turn, question=question, author=author, limit=1)
        if found:
            keep(store, found[0], author, until, state=state, note=note)
        elif mine:
            store.update(dataclasses.replace(mine[0], state=state, until=until, note=note or mine[0].note))
        elif not question.startswith(f"{QueueItem.prefix}_"):
            raise NotFoundError(
                f"there is no question {question!r:.60}", mend="Name the id that the question was given with."
            )
    return {"question": question, "state": state}


def undo(project: OpenProject, *, author: str, subject: str | None = None) -> JSON:
    """Take back what *author* did last, or with *subject*, and give the question again.

    Returns:
        ``{"question", "label", "note"}``: what was asked, and what was said, to begin from.

    Raises:
        NotFoundError: there is nothing to take back.
        ConflictError: the answer cannot be taken back here: what is better of two is said again instead.
    """
    store = project.store
    require_storable(subject or "", "subject")
    equals: JSON = {"author": author} | ({} if subject is None else {"subject": subject})
    done_before = [t for t in store.find(Turn, newest_first=True, limit=200, **equals) if t.state != "open"]
    if not done_before:
        raise NotFoundError("there is nothing to take back", mend="Answer a question first.")
    done = max(done_before, key=_moment)
    said = None
    with store.transaction():
        question = next(iter(store.find(QueueItem, id=done.question, limit=1)), None)
        if done.state == "answered" and done.answer is not None:
            if not done.answer.startswith(Annotation.prefix):
                raise ConflictError(
                    "a preference cannot be taken back", mend="Say which one is better; that replaces it."
                )
            said = store.get(Annotation, done.answer)
            _retract(project, said)
            if question is not None:
                given = max(0, question.given - 1)
                question = dataclasses.replace(question, given=given, done=given >= question.need)
                store.update(question)
        until = time.time() + parse_duration(project.config.annotation.lease)
        store.update(dataclasses.replace(done, state="open", until=until, answer=None))
    return {
        "question": None if question is None else shown(project, question),
        "subject": done.subject,
        "label": None if said is None else said.label,
        "note": done.note if said is None else said.note,
    }


def _moment(turn: Turn) -> float:
    """When something was done: what is skipped is kept until later."""
    return turn.until - SKIPPED if turn.state in ("skipped", "unsure") else turn.until


def _retract(project: OpenProject, said: Annotation) -> None:
    """Take an answer back: it stays on record, and a newer statement of nothing replaces it."""
    store = project.store
    if said.superseded_by is not None:
        return
    nothing = Annotation(
        id=new_id(Annotation.prefix),
        subject=said.subject,
        label=None,
        author=said.author,
        purpose=said.purpose,
        note="" if said.remark else None,
    )
    store.update(dataclasses.replace(said, superseded_by=nothing.id))
    store.insert(nothing)
    for one in store.find(QueueItem, subject=said.subject, purpose="settle", done=False, signal="disagreement"):
        left = store.find(Annotation, subject=said.subject, superseded_by=None)
        if not disputed([a.label for a in left if a.label is not None]):
            store.delete(QueueItem, [one.id])


_WITHOUT_ANSWER = {
    "uncertain": "the model is not sure",
    "disagreement": "models disagree",
    "balance": "few of its kind are known",
}
"""What is said of questions whose own reason tells the model's answer, to whom it shall not sway."""


def shown(project: OpenProject, question: QueueItem) -> JSON:
    """A question as an annotator sees it: without the suggestion where that would sway them."""
    useful, quiet = question.purpose == "useful", project.config.annotation.suggestion == "hidden"
    return {
        **to_json(question),
        "suggestion": question.suggestion if useful and not quiet else None,
        "reason": _WITHOUT_ANSWER.get(question.signal, question.reason) if useful and quiet else question.reason,
        "widget": widget_of(project.signature.kind, question),
    }


def progress(project: OpenProject, author: str | None = None) -> JSON:
    """How the queues stand, who has done how much, and how far they agree.

    Returns:
        ``{"waiting", "authors": [{"author", "answered", "skipped", "unsure"}], "agreement", "mine"}``, as
        :func:`tidemill.project.agreement.standing` has it, which may be a little old where very much was said.
    """
    fold_journal(project.store)
    found = standing(project)
    return {
        "waiting": waiting(project.store),
        **found,
        "mine": None if author is None else next((a for a in found["authors"] if a["author"] == author), None),
    }


def ask(project: OpenProject, subjects: Sequence[str], *, widget: str | None = None, reason: str | None = None) -> JSON:
    """Put a question in the queue by hand: about a prediction, or about which of two predictions is better.

    Raises:
        InputError: more than two predictions, or another widget than ``text`` or none.
        NotFoundError: there is no such prediction.
    """
    if len(subjects) not in (1, 2) or widget not in (None, "text"):
        raise InputError("a question is about one prediction, or about which of two is better", mend="Give one or two.")
    fold_journal(project.store)
    found = [project.store.get(Prediction, subject) for subject in subjects]
    pair = len(found) == 2
    one, *_ = sorted(found, key=lambda p: p.id)
    question = QueueItem(
        id=new_id(QueueItem.prefix),
        subject=pair_of(*subjects) if pair else one.id,
        purpose="useful",
        rank=-1.0,
        reason=reason or "somebody asks",
        inputs={**one.inputs, **_sides(found)} if pair else one.inputs,
        signal="asked",
        ask="better" if pair else widget,
    )
    project.store.insert(question)
    return shown(project, question)


def _sides(found: Sequence[Prediction]) -> JSON:
    """What stands left and right: the answers in the order of their ids, as the pair has them."""
    first, second = sorted(found, key=lambda p: p.id)
    return {"left": _plain(first.answer), "right": _plain(second.answer)}


def _plain(answer: JSON) -> str:
    if "labels" in answer:
        return ", ".join(answer["labels"]) or "none"
    return str(answer.get("label") if "label" in answer else answer.get("value"))
