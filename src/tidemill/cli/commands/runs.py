"""``tidemill runs``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tidemill.cli.command import Command
from tidemill.cli.session import Session
from tidemill.cli.show import layout, units


def runs(
    session: Session,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, metavar="N", help="The newest N.")] = 20,
) -> None:
    """List the runs, the newest first.

    What was trained, how it went, and what it took.
    """
    metric = session.project.task.metric
    session.answer(session.project.runs()[:limit], lambda rows: _view(rows, metric))


def _view(rows: list[dict[str, Any]], metric: str) -> Any:
    if not rows:
        return layout.line("no runs yet; `tidemill cycle` makes some")
    return layout.table(
        ["run", "recipe", "kind", "status", f">validation {metric}", ">took", "started"],
        [
            (
                r["id"],
                r["recipe"],
                r["kind"],
                r["status"],
                units.quality(r["metrics"].get("validation", {}).get(metric), metric),
                units.seconds(r["seconds"]),
                units.ago(r["created"]),
            )
            for r in rows
        ],
    )


COMMAND = Command(run=runs, panel="Look", examples=("runs", "runs -n 5 --json"))
