"""``tidemill doctor``."""

from __future__ import annotations

from typing import Any

from tidemill.cli.command import Command
from tidemill.cli.session import Session
from tidemill.cli.show import layout
from tidemill.errors import NotFoundError

EXIT_UNWELL = 1


def doctor(session: Session) -> None:
    """Check the installation and the project.

    Says how to mend what is wrong, and exits with 1 then. Works without a project, too.
    """
    from tidemill.project.housekeeping import doctor as check

    try:
        project = session.project
    except NotFoundError:
        if session.folder is not None:
            raise
        project = None
    data = check(project)
    session.exit_code = 0 if all(check["ok"] for check in data) else EXIT_UNWELL
    session.answer(data, _view)


def _view(checks: list[dict[str, Any]]) -> Any:
    def row(check: dict[str, Any]) -> tuple[Any, ...]:
        found = check["detail"] if check["ok"] else f"{check['detail']}\n{check['mend'] or ''}"
        return layout.mark(check["ok"]), check["check"], found.strip()

    return layout.table(["", "check", "found"], [row(check) for check in checks])


COMMAND = Command(run=doctor, panel="Begin", examples=("doctor",))
