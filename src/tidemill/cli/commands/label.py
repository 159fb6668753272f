"""``tidemill label``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tidemill.cli.command import Command
from tidemill.cli.commands.feedback import Author, default_author
from tidemill.cli.session import Session
from tidemill.cli.show import layout, units


def label(
    session: Session,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, metavar="N", help="At most N questions.")] = 20,
    purpose: Annotated[
        Literal["audit", "useful"] | None,
        typer.Option("--purpose", help="audit: what judges models; useful: what teaches most. Unless given, both."),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", metavar="", help="Show the queue and ask nothing.")] = False,
    answers: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help='Take answers from JSON lines: {"subject": ID, "label": LABEL}.'),
    ] = None,
    author: Author = None,
) -> None:
    """Answer the questions that help most.

    Audits, on which models are judged, and samples that teach most, in turn. Shows each sample and takes one key or one
    line an answer; every answer is kept at once, with author and time. Going back and answering again supersedes.
    Answers may also come by stdin, one a line.
    """
    project = session.project
    who = author or default_author()
    if answers is not None:
        session.answer(project.answers_import(answers, author=who), layout.pairs)
        return
    questions = project.questions(limit, purpose=purpose)
    if list_ or not questions:
        session.answer(questions, _queue)
        return
    from tidemill.cli.labelling import Dialogue, reader

    signature = project.signature
    with reader(signature.labels) as read:
        summary = Dialogue(
            labels=signature.labels,
            save=lambda subject, value: project.answer(subject, value, author=who),
            read=read,
            out=session.err,
            numbers=signature.kind == "regression",
        ).run(questions)
    session.answer(summary, lambda s: layout.line(", ".join(f"{n} {what}" for what, n in s.items())))


def _queue(questions: list[dict[str, Any]]) -> Any:
    if not questions:
        return layout.line("nothing to label")
    return layout.table(
        [">", "for", "subject", "why", "the model says"],
        [(str(n), q["purpose"], q["subject"], q["reason"], _suggested(q)) for n, q in enumerate(questions, start=1)],
    )


def _suggested(question: dict[str, Any]) -> str:
    suggestion = question.get("suggestion") or {}
    if "label" not in suggestion:
        return units.NONE
    return f"{suggestion['label']} ({units.percent(suggestion.get('score'))})"


COMMAND = Command(
    run=label,
    panel="Feed back",
    stopped="stopped; every answer so far is kept",
    examples=("label", "label --purpose audit -n 50", "label --list", "label --from answers.jsonl --author ada"),
)
