"""``tidemill label-studio``: config, export, import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tidemill.cli.command import Command, register
from tidemill.cli.commands.feedback import Author, default_author
from tidemill.cli.session import Session
from tidemill.cli.show import layout

NAME = "label-studio"
PANEL = "Feed back"

File = Annotated[Path, typer.Argument(metavar="FILE", help="The file.")]


By = Annotated[
    Literal["class", "several", "number", "text", "better"] | None,
    typer.Option(
        "--widget",
        help="text, or better (which of two answers is): questions asked by hand. Else the project's own.",
    ),
]


def config(session: Session, file: File, widget: By = None) -> None:
    """Write the labelling configuration for a project of Label Studio.

    It asks what the page and the command `label` ask: one of the labels, several, or a number. Questions that somebody
    asked by hand, for a text or which of two answers is better, take a project of their own over there.
    """
    from tidemill.project.studio import write_config

    session.answer(write_config(session.project, file, widget), layout.pairs)


def export(
    session: Session,
    file: File,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, metavar="N", help="At most N questions.")] = 200,
    purpose: Annotated[
        Literal["audit", "useful"] | None,
        typer.Option("--purpose", help="audit: what judges models; useful: what teaches most. Unless given, both."),
    ] = None,
    widget: By = None,
    accounts: Annotated[
        bool,
        typer.Option(
            "--accounts",
            help="Answers as annotations, too, where the author is the address of an account over there.",
        ),
    ] = False,
) -> None:
    """Write the next questions as tasks of Label Studio.

    With the model's suggestion as prediction, but for audits, and with what annotators have said so far, in the task's
    data under tidemill_answers.
    """
    from tidemill.project.studio import export_tasks

    done = export_tasks(session.project, file, limit, purpose, widget=widget, accounts=accounts)
    session.answer(done, layout.pairs)


def import_(session: Session, file: File, author: Author = None) -> None:
    """Take the annotations of an export as answers.

    An export in the format JSON. All of it is checked first; whoever completed an annotation is its author, and of
    several by one person the newest counts. What is imported again changes nothing, also where they have corrected it
    here.
    """
    from tidemill.project.studio import import_export

    session.answer(import_export(session.project, file, author=author or default_author()), layout.pairs)


COMMANDS = (
    Command(run=config, panel=PANEL, examples=("label-studio config label.xml",)),
    Command(run=export, panel=PANEL, examples=("label-studio export tasks.json -n 500",)),
    Command(run=import_, panel=PANEL, examples=("label-studio import export.json",)),
)


def build() -> typer.Typer:
    """The group with its three commands."""
    app = typer.Typer(name=NAME, no_args_is_help=True, help="Ask in Label Studio, and take its answers.")
    for command in COMMANDS:
        register(app, command)
    return app
