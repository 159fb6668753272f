"""``tidemill runs``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from tidemill.cli.command import Command
from tidemill.cli.session import Session
from tidemill.cli.show import layout, units
from tidemill.cli.show.comparison import unseen, unseen_columns


def runs(
    session: Session,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, metavar="N", help="The newest N.")] = 20,
) -> None:
    """List the runs, the newest first.

    What was trained, how it went, and what it took.
    """
    names = session.project.metrics
    session.answer(session.project.runs()[:limit], lambda rows: _view(rows, names))


def _view(rows: list[dict[str, Any]], names: Sequence[str]) -> Any:
    if not rows:
        return layout.line("no runs yet; `tidemill cycle` makes some")
    return layout.table(
        ["run", "recipe", "kind", "status", *unseen_columns(names), ">took", "started"],
        [
            (
                r["id"],
                r["recipe"],
                r["kind"],
                r["status"],
                *unseen(r["metrics"], names),
                units.seconds(r["seconds"]),
                units.ago(r["created"]),
            )
            for r in rows
        ],
    )


COMMAND = Command(run=runs, panel="Look", examples=("runs", "runs -n 5 --json"))
