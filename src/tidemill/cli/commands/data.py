"""``tidemill data``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tidemill.cli.command import Command
from tidemill.cli.session import Session
from tidemill.cli.show import layout
from tidemill.cli.show.data import page


def data(
    session: Session,
    version: Annotated[
        str | None, typer.Option("--version", metavar="ID", help="A dataset version; the last cycle's unless given.")
    ] = None,
    against: Annotated[
        str | None, typer.Option("--against", metavar="ID", help="The version to compare it with; the one before it.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", metavar="", help="Do not look for doubtful labels, if that was not done yet.")
    ] = False,
    html: Annotated[Path | None, typer.Option("--html", metavar="PATH", help="Write one self-contained page.")] = None,
    open_: Annotated[bool, typer.Option("--open", metavar="", help="Open the page in the browser.")] = False,
) -> None:
    """Show what is in the data.

    Distributions, missing values, doubtful labels, near copies, and drift between training and test and between
    versions, here or as one self-contained HTML page. Doubtful labels are looked for once in a version, which may take
    a minute.
    """
    if html is None and not open_:
        found = session.project.data(version, against=against, search=not quick, say=session.note)
        session.answer(found, page)
        return
    path = session.project.data_html(
        html or _default(session, version), version, against=against, search=not quick, say=session.note
    )
    session.answer({"html": str(path)}, lambda found: layout.line(found["html"]))
    if open_:
        typer.launch(Path(path).absolute().as_uri())


def _default(session: Session, version: str | None) -> Path:
    return Path(session.project.dir) / ".tidemill" / f"data-{version or 'newest'}.html"


COMMAND = Command(run=data, panel="Look", examples=("data", "data --open", "data --html data.html --against data_ID"))
