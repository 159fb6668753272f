"""``tidemill export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tidemill.cli import complete
from tidemill.cli.command import Command
from tidemill.cli.session import Session
from tidemill.cli.show import layout


def export(
    session: Session,
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="The model's id, or `champion`.", autocompletion=complete.models)
    ],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to write; must be new or empty.")],
) -> None:
    """Copy a model's package to a folder.

    There it answers without project and server: `tidemill.load(DIR).predict(...)`.
    """
    session.answer(session.project.export(None if model == "champion" else model, folder), layout.pairs)


COMMAND = Command(run=export, panel="Use", examples=("export champion ./digits-model",))
