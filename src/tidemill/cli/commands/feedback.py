"""``tidemill feedback``: add, import, export."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tidemill.cli.command import Command, register
from tidemill.cli.session import Session
from tidemill.cli.show import layout
from tidemill.errors import InputError

if TYPE_CHECKING:
    from tidemill.api import Project

NAME = "feedback"
PANEL = "Feed back"

Author = Annotated[str | None, typer.Option("--author", help="Who says it; your login name unless given.")]


def add(
    session: Session,
    prediction: Annotated[str, typer.Argument(metavar="PREDICTION", help="The prediction's id.")],
    values: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="VALUE…",
            help="The right label, labels or number, a rating or a comment; none: it was right.",
            show_default=False,
        ),
    ] = None,
    kind: Annotated[
        Literal["confirmation", "correction", "rating", "comment"] | None,
        typer.Option("--kind", help="What it is; a correction with a VALUE, a confirmation without."),
    ] = None,
    nothing: Annotated[
        bool, typer.Option("--none", metavar="", help="No label is right, where any number of them can be.")
    ] = False,
    author: Author = None,
    asked: Annotated[bool, typer.Option("--asked", metavar="", help="It answers an audit request.")] = False,
    key: Annotated[
        str | None, typer.Option("--key", help="An idempotency key: the same statement twice counts once.")
    ] = None,
) -> None:
    """Say what was right or wrong about a prediction.

    Where any number of labels is right, give all of them, or one text with commas between; what is not named is wrong.
    """
    given = list(values or ())
    if nothing and (given or kind not in (None, "correction")):
        raise InputError("values and --none exclude each other", where="--none", mend="Give the labels, or --none.")
    chosen = kind or ("correction" if given or nothing else "confirmation")
    project = session.project
    outcome = project.feedback(
        prediction,
        value=_value(project, chosen, given, nothing=nothing),
        kind=chosen,
        author=author or default_author(),
        asked=asked,
        key=key,
    )
    session.answer(outcome, _said)


def import_(
    session: Session,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON lines or CSV, a statement a line.")],
) -> None:
    """Add every statement of a file.

    A line is {"prediction": ID, "kind": …, "value": …, "author": …, "key": …}; a CSV file has these as its header, and
    several labels in one cell, with commas between. With keys, running it twice changes nothing; when a line is faulty,
    none is written. What `feedback export` wrote can be imported, too.
    """
    session.answer(session.project.feedback_import(file), layout.pairs)


def export(
    session: Session,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.")],
) -> None:
    """Write all feedback as JSON lines, or as CSV where the file is named so."""
    session.answer(session.project.feedback_export(file), layout.pairs)


def _said(outcome: dict[str, Any]) -> Any:
    feedback = outcome["feedback"]
    rows = [("feedback", feedback["id"]), ("status", outcome["status"]), ("supersedes", outcome["superseded"])]
    return layout.pairs([row for row in rows if row[1] is not None])


def default_author() -> str:
    """The login name, or ``anonymous`` where the system knows none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "anonymous"


def _value(project: Project, kind: str, given: list[str], *, nothing: bool) -> Any:
    if kind == "correction":
        return project.stated(given) if given or nothing else None
    if kind == "rating" and len(given) == 1:
        try:
            return float(given[0])
        except ValueError:
            what = f"a rating is a number, not {given[0]!r}"
            raise InputError(what, where="VALUE", mend="Give a number.") from None
    return " ".join(given) if given else None


COMMANDS = (
    Command(
        run=add,
        panel=PANEL,
        examples=(
            "feedback add pred_01k… 7",
            "feedback add pred_01k…",
            "feedback add pred_01k… drama comedy",
            "feedback add pred_01k… 203400 --author ada",
        ),
    ),
    Command(run=import_, panel=PANEL, examples=("feedback import statements.jsonl", "feedback import statements.csv")),
    Command(run=export, panel=PANEL, examples=("feedback export statements.jsonl", "feedback export statements.csv")),
)


def build() -> typer.Typer:
    """The group with its three commands."""
    app = typer.Typer(name=NAME, no_args_is_help=True, help="Add, import or export what users say about predictions.")
    for command in COMMANDS:
        register(app, command)
    return app
