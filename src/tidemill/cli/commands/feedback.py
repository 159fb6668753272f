"""``tidemill feedback``: add, import, export."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tidemill.cli.command import Command, register
from tidemill.cli.session import Session
from tidemill.cli.show import layout
from tidemill.errors import InputError

PANEL = "Feed back"

Author = Annotated[str | None, typer.Option("--author", help="Who says it; your login name unless given.")]


def add(
    session: Session,
    prediction: Annotated[str, typer.Argument(metavar="PREDICTION", help="The prediction's id.")],
    value: Annotated[
        str | None, typer.Argument(metavar="VALUE", help="The right label, a rating or a comment; none: it was right.")
    ] = None,
    kind: Annotated[
        Literal["confirmation", "correction", "rating", "comment"] | None,
        typer.Option("--kind", help="What it is; a correction with a VALUE, a confirmation without."),
    ] = None,
    author: Author = None,
    asked: Annotated[bool, typer.Option("--asked", metavar="", help="It answers an audit request.")] = False,
    key: Annotated[
        str | None, typer.Option("--key", help="An idempotency key: the same statement twice counts once.")
    ] = None,
) -> None:
    """Say what was right or wrong about a prediction."""
    outcome = session.project.feedback(
        prediction,
        value=_value(kind, value),
        kind=kind or ("confirmation" if value is None else "correction"),
        author=author or default_author(),
        asked=asked,
        key=key,
    )
    session.answer(outcome, _said)


def import_(
    session: Session,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON lines, a statement a line.")],
) -> None:
    """Add every statement of a file.

    A line is {"prediction": ID, "kind": …, "value": …, "author": …, "key": …}. With keys, running it twice changes
    nothing; when a line is faulty, none is written.
    """
    session.answer(session.project.feedback_import(file), layout.pairs)


def export(
    session: Session,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.")],
) -> None:
    """Write all feedback as JSON lines."""
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


def _value(kind: str | None, value: str | None) -> Any:
    if kind != "rating" or value is None:
        return value
    try:
        return float(value)
    except ValueError:
        raise InputError(f"a rating is a number, not {value!r}", where="VALUE", mend="Give a number.") from None


COMMANDS = (
    Command(run=add, panel=PANEL, examples=("feedback add pred_01k… 7", "feedback add pred_01k…")),
    Command(run=import_, panel=PANEL, examples=("feedback import statements.jsonl",)),
    Command(run=export, panel=PANEL, examples=("feedback export statements.jsonl",)),
)


def build() -> typer.Typer:
    """The group with its three commands."""
    app = typer.Typer(
        name="feedback", no_args_is_help=True, help="Add, import or export what users say about predictions."
    )
    for command in COMMANDS:
        register(app, command)
    return app
