"""``tidemill models``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tidemill.cli.command import Command
from tidemill.cli.session import Session
from tidemill.cli.show import layout, units
from tidemill.cli.show.comparison import unseen, unseen_columns


def models(session: Session) -> None:
    """List the models, the newest first.

    The champion has a star.
    """
    names = session.project.metrics
    session.answer(session.project.models(), lambda rows: _view(rows, names))


def _view(rows: list[dict[str, Any]], names: Sequence[str]) -> Any:
    if not rows:
        return layout.line("no models yet; `tidemill cycle` makes some")
    return layout.table(
        ["", "model", "recipe", *unseen_columns(names), ">size", "made"],
        [
            (
                "★" if m["champion"] else "",
                m["id"],
                m["recipe"],
                *unseen(m["metrics"], names),
                units.size(m["size_bytes"]),
                units.ago(m["created"]),
            )
            for m in rows
        ],
    )


COMMAND = Command(run=models, panel="Look", examples=("models",))
