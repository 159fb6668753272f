"""The doors of annotators: questions for one of them, and what they say to these.

With a token an annotator is who it was made for; without tokens, whoever the request names.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Request
from pydantic import BaseModel, Field

from tidemill.errors import NotFoundError
from tidemill.project import OpenProject, desk, guidelines
from tidemill.runtime.statements import name
from tidemill.serving.describing import errors
from tidemill.serving.schemas import Name, Strict
from tidemill.serving.service import Service
from tidemill.store.asking import waiting

MOST_ANSWERS = 500
"""Answers in one request: each is committed with what it comes to, so many take a second."""
_ANONYMOUS = "anonymous"


class QuestionsBody(Strict):
    """What ``POST /v1/questions`` takes."""

    n: Annotated[int, Field(ge=1, le=desk.MOST)] = 1
    purpose: Literal["audit", "useful"] | None = Field(default=None, description="of one queue only")
    besides: Annotated[list[str], Field(max_length=100)] = Field(
        default=[], description="ids of questions that you have already"
    )
    author: Name | None = Field(default=None, description="who is asked, where no token says it")


class AnswerItem(Strict):
    """One answer."""

    subject: Annotated[str, Field(min_length=1, max_length=200)]
    label: Any = Field(
        description="a label, a list of labels, a number, a text, or left or right: as the widget has it"
    )
    note: Annotated[str, Field(max_length=desk.MOST_NOTE)] | None = None
    question: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None, description="the id of the question, which matters where several ask about one subject"
    )


class AnswersBody(Strict):
    """What ``POST /v1/answers`` takes."""

    answers: Annotated[list[AnswerItem], Field(min_length=1, max_length=MOST_ANSWERS)]
    author: Name | None = None


class PassBody(Strict):
    """What ``POST /v1/answers/pass`` takes."""

    question: Annotated[str, Field(min_length=1, max_length=200)]
    unsure: bool = Field(default=False, description="say that you are not sure, and never be asked again")
    note: Annotated[str, Field(max_length=desk.MOST_NOTE)] | None = None
    author: Name | None = None


class UndoBody(Strict):
    """What ``POST /v1/answers/undo`` takes."""

    subject: Annotated[str, Field(max_length=200)] | None = Field(default=None, description="the last one unless given")
    author: Name | None = None


class Question(BaseModel):
    """One question."""

    id: str
    subject: str = Field(description="of a sample, a prediction or a pair: the answer names it")
    purpose: Literal["audit", "useful", "settle"]
    reason: str
    inputs: dict[str, Any]
    widget: Literal["class", "several", "number", "text", "better"]
    suggestion: dict[str, Any] | None = Field(description="what the model says, where that would sway nobody")


class Questions(BaseModel):
    """The questions, kept for the annotator for a while."""

    questions: list[Question]
    waiting: dict[str, int]


class KeptAnswer(BaseModel):
    """What became of an answer."""

    id: str
    subject: str
    label: Any
    disputed: bool = Field(description="annotators disagree, so somebody else is asked")


class KeptAnswers(BaseModel):
    """What became of the answers."""

    answers: list[KeptAnswer]


def add_questions(api: FastAPI, service: Callable[[], Service]) -> None:
    """Add the routes."""
    tags: list[str | Enum] = ["annotation"]
    statuses = (401, 413, 422, 429, 503)
    known: Any = errors(404, *statuses)

    @api.get("/v1/annotation", responses=errors(401, 404, 429, 503), summary="How annotation stands", tags=tags)
    def annotation(request: Request) -> dict[str, Any]:
        """What is asked for, what annotators should know, how many questions wait, and how far people agree."""
        project = opened(service())
        signature = project.signature
        return {
            "target": signature.target,
            "kind": signature.kind,
            "labels": list(signature.labels),
            "guidelines": guidelines.read_or_fault(project),
            **desk.progress(project, request.scope.get("tidemill.via")),
        }

    @api.post("/v1/questions", response_model=Questions, responses=known, summary="The next questions", tags=tags)
    def questions(request: Request, body: QuestionsBody) -> dict[str, Any]:
        """The most useful first, and the audit's in turn with them; nobody else is asked them for a while."""
        project = opened(service())
        asked = desk.take(project, author(request, body.author), body.n, purpose=body.purpose, besides=body.besides)
        return {"questions": [desk.shown(project, q) for q in asked], "waiting": waiting(project.store)}

    @api.post("/v1/answers", response_model=KeptAnswers, responses=known, summary="Answer", tags=tags)
    def answers(request: Request, body: AnswersBody) -> dict[str, Any]:
        """All of them or none; they are committed when this returns, whoever else has answered."""
        project = opened(service())
        who = author(request, body.author)
        places = [f"answers[{i}]" for i in range(len(body.answers))]
        with project.store.transaction():
            kept = [
                desk.answer(
                    project, one.subject, one.label, author=who, note=one.note, question=one.question, where=place
                )
                for one, place in zip(body.answers, places, strict=True)
            ]
        return {"answers": kept}

    @api.post("/v1/answers/pass", responses=known, summary="Skip, or say that one is not sure", tags=tags)
    def pass_over(request: Request, body: PassBody) -> dict[str, Any]:
        """Skipped questions may come again the next day; others are asked meanwhile."""
        who = author(request, body.author)
        return desk.pass_over(opened(service()), body.question, author=who, unsure=body.unsure, note=body.note)

    conflicting: Any = errors(404, 409, *statuses)

    @api.post("/v1/answers/undo", responses=conflicting, summary="Take back", tags=tags)
    def undo(request: Request, body: UndoBody) -> dict[str, Any]:
        """Take back what was done last, or with a subject; what was said stays on record, and counts no longer."""
        return desk.undo(opened(service()), author=author(request, body.author), subject=body.subject)


def opened(service: Service) -> OpenProject:
    """The project as whoever annotates needs it.

    Raises:
        NotFoundError: what is served has no samples.
    """
    project = service.project
    if not isinstance(project, OpenProject):
        raise NotFoundError("what is served here has no samples to label", mend="Serve a project.")
    return project


def author(request: Request, named: str | None) -> str:
    """Who answers."""
    via = request.scope.get("tidemill.via")
    return via if via is not None else name({"author": named}, "author", "body") or _ANONYMOUS
