"""``tidemill trace``."""

from __future__ import annotations

from typing import Annotated

import typer

from tidemill.cli.command import Command
from tidemill.cli.session import Session
from tidemill.cli.show import trees


def trace(
    session: Session,
    identifier: Annotated[str, typer.Argument(metavar="ID", help="Any id: pred_…, model_…, run_…, cycle_…, fb_…")],
) -> None:
    """Show where anything came from.

    The whole line of any id: prediction, model, run, dataset version, samples and feedback, and the cycle.
    """
    session.answer(session.project.trace(identifier), trees.tree)


COMMAND = Command(run=trace, panel="Look", examples=("trace pred_01k…", "trace model_01k… --json"))
