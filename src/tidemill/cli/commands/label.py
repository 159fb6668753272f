"""``tidemill label``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tidemill.cli.command import Command
from tidemill.cli.commands.feedback import Author, default_author
from tidemill.cli.session import Session
from tidemill.cli.show import layout, units
from tidemill.cli.show.answers import phrase


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
        typer.Option(
            "--from", metavar="FILE", help='Take answers from JSON lines, {"subject": ID, "label": LABEL}, or from CSV.'
        ),
    ] = None,
    open_: Annotated[
        bool, typer.Option("--open", metavar="", help="Label in the browser; serves the project if nobody does.")
    ] = False,
    author: Author = None,
) -> None:
    """Answer the questions that help most.

    Audits, on which models are judged, and samples that teach most, in turn. Shows each sample and takes one key or one
    line an answer; every answer is kept at once, with author and time. Going back and answering again supersedes; a
    note may be added. Where any number of labels is right, keys choose them and Enter confirms. Answers may also come
    by stdin, one a line. With --open all of this happens on a page in the browser.
    """
    project = session.project
    if open_:
        _open(session, author)
        return
    who = author or default_author()
    if answers is not None:
        session.answer(project.answers_import(answers, author=who), layout.pairs)
        return
    if list_ or not project.questions(1, purpose=purpose):
        session.answer(project.questions(limit, purpose=purpose), _queue)
        return
    from tidemill.cli.labelling import Dialogue, desk

    signature = project.signature
    with desk(signature.labels) as place:
        summary = Dialogue(
            labels=signature.labels,
            save=lambda q, value, note: project.answer(q["subject"], value, author=who, note=note, question=q["id"]),
            skip=lambda q, note: project.skip(q["id"], author=who, note=note),
            desk=place,
            out=session.err,
            kind=signature.kind,
        ).run(limit, lambda n, besides: project.questions(n, purpose=purpose, author=who, besides=besides))
    session.answer(summary, lambda s: layout.line(", ".join(f"{n} {what}" for what, n in s.items())))


def _open(session: Session, author: str | None) -> None:
    """Open the page of the service that runs; where none does, serve until stopped."""
    import urllib.error
    import urllib.request
    from urllib.parse import quote

    from tidemill.cli.commands.serve import notes, settings, swaps

    chosen = session.project.serve_settings()
    scheme = "https" if chosen.tls_certificate else "http"
    host = "127.0.0.1" if chosen.host in ("0.0.0.0", "::") else chosen.host  # noqa: S104 - what it listens on
    host = f"[{host}]" if ":" in host else host
    path = f"/label?as={quote(author or default_author())}"

    def show(port: int) -> None:
        url = f"{scheme}://{host}:{port}{path}"
        session.answer({"url": url}, lambda found: layout.line(found["url"]))
        typer.launch(url)

    try:
        with urllib.request.urlopen(f"{scheme}://{host}:{chosen.port}/label/progress", timeout=2):  # noqa: S310
            pass
    except (urllib.error.URLError, TimeoutError):
        given = settings(None, None, None, None, None, log_json=False)
        session.project.serve(on_ready=show, on_swap=swaps(notes(session, given)), **given)
    else:
        show(chosen.port)


def _queue(questions: list[dict[str, Any]]) -> Any:
    if not questions:
        return layout.line("nothing to label")
    return layout.table(
        [">", "for", "subject", "why", "the model says"],
        [
            (
                str(n),
                q["purpose"],
                q["subject"],
                q["reason"],
                phrase(q["suggestion"]) if q.get("suggestion") else units.NONE,
            )
            for n, q in enumerate(questions, start=1)
        ],
    )


COMMAND = Command(
    run=label,
    panel="Feed back",
    stopped="stopped; every answer so far is kept",
    examples=(
        "label",
        "label --purpose audit -n 50",
        "label --list",
        "label --from answers.csv --author ada",
        "label --open",
    ),
)
