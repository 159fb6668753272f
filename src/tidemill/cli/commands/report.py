"""``tidemill report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tidemill.cli.command import Command
from tidemill.cli.session import Session
from tidemill.cli.show import layout, reports


def report(
    session: Session,
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="A model's id; the champion unless given.")
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="PATH", help="Write one self-contained page.")] = None,
    open_: Annotated[bool, typer.Option("--open", metavar="", help="Open the page in the browser.")] = False,
) -> None:
    """Show how good a model is.

    Metrics with intervals, slices and mistakes, here or as one self-contained HTML page.
    """
    if html is None and not open_:
        session.answer(session.project.report(model), reports.report)
        return
    path = session.project.report_html(html or _default(session, model), model)
    session.answer({"html": str(path)}, lambda data: layout.line(data["html"]))
    if open_:
        typer.launch(Path(path).absolute().as_uri())


def _default(session: Session, model: str | None) -> Path:
    folder = Path(session.project.dir) / ".tidemill"
    return folder / f"report-{model or 'champion'}.html"


COMMAND = Command(run=report, panel="Look", examples=("report", "report --html report.html", "report --open"))
