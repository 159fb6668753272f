"""``tidemill promote``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tidemill.cli import complete
from tidemill.cli.command import Command
from tidemill.cli.commands.feedback import default_author
from tidemill.cli.session import Session
from tidemill.cli.show import layout


def promote(
    session: Session,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The model's id.", autocompletion=complete.models)],
    reason: Annotated[str, typer.Option("--reason", help="Why, for whoever reads the history.")],
) -> None:
    """Make a model the champion by hand.

    Goes past the gate; the history keeps who and why. A roll-out ends with it.
    """
    session.answer(session.project.promote(model, reason=reason, author=default_author()), view)


def view(deployment: dict[str, Any]) -> Any:
    """Who serves from now on, and what to do if that was a mistake."""
    rows = [("champion", deployment["model_id"]), ("reason", deployment["reason"]), ("by", deployment["author"])]
    ended = deployment["rollout"]
    if ended is not None:
        rows.append(("roll-out", f"{ended['status']}, of {ended['challenger_id']}"))
        if ended["status"] == "stopped" and ended["champion_id"] == deployment["model_id"]:
            rows[1:3] = [("reason", ended["reason"]), ("by", ended["author"])]
    other = "tidemill rollback" if deployment["action"] == "promote" else "tidemill promote MODEL --reason …"
    return layout.stack(
        layout.pairs([(name, value) for name, value in rows if value]),
        layout.following(["tidemill status", f"{other}   undoes it"]),
    )


COMMAND = Command(run=promote, panel="Use", examples=('promote model_01k… --reason "checked by hand"',))
