"""``tidemill rollback``."""

from __future__ import annotations

from typing import Annotated

import typer

from tidemill.cli.command import Command
from tidemill.cli.commands.feedback import default_author
from tidemill.cli.commands.promote import view
from tidemill.cli.session import Session


def rollback(
    session: Session,
    reason: Annotated[str | None, typer.Option("--reason", help="Why, for whoever reads the history.")] = None,
) -> None:
    """Put the former champion back.

    A running service swaps without a restart, in all its processes within a second. During a roll-out its challenger is
    taken back, and the champion stays. A second rollback goes back one further.
    """
    session.answer(session.project.rollback(reason=reason, author=default_author()), view)


COMMAND = Command(run=rollback, panel="Use", examples=("rollback", 'rollback --reason "worse on mobile"'))
